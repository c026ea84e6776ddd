//! The agent inside a member: heartbeats, and what they say about the service next to it.
//!
//! Data goes one way: [`health`] and [`progress`] look at the service and write [`vitals`]; [`pulse`], on a thread of
//! its own, sends them in absolute time; [`peer`] keeps what the other member says; [`status`] shows all of it.
//!
//! The agent must never delay a heartbeat: nothing that can block runs on the pulse's thread. And it must never say
//! `serving` for a service that it was told to check and has not seen answer.

pub mod agent;
pub mod boot;
pub mod health;
pub mod options;
pub mod peer;
pub mod progress;
pub mod pulse;
pub mod say;
pub mod status;
pub mod vitals;
pub mod wire;
