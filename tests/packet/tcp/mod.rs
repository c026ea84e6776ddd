//! TCP connections that are carried on, segment by segment through the programs: what the pure functions decide
//! (`abi/src/tcp/tests`) is done to real frames, in every family and behind tags, and each of their counters rises.

pub(crate) mod conversation;
mod counters;
mod draining;
mod extended;
mod full;
mod late;
mod modes;
mod news;
mod quoted;
mod rebooted;
mod tagged;
pub(crate) mod wire;
