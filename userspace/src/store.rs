//! What must survive a restart and a power cut.
