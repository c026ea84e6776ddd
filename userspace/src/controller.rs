//! Drives the pairs: events in, actions out.
