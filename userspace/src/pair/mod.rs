//! The pure pair state machine.
