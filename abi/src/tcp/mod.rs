//! Carrying TCP connections from one member to the other: what RFC 9293 and its kin call a segment, a window and an
//! acknowledgement, and how three parties can have the same conversation when two of them number it differently.
//!
//! Everything here is a pure function of a [`connection::Connection`], a [`segment::Segment`] and a
//! [`connection::Scene`]; the eBPF programs call it under the connection's lock, the tests call it natively. Nothing here
//! may call out: the verifier allows no calls while a lock is held.
//!
//! ```text
//!   client  --  segment -->  from_client  -->  to_member(0)  -->  member 0
//!                                         -->  to_member(1)  -->  member 1
//!   client  <--  speak()  <------------------  from_member   <--  the speaker
//!           <--  cut down  <-----------------  from_member   <--  the standby
//! ```

pub mod client;
pub mod connection;
pub mod edit;
pub mod first;
pub mod from_member;
pub mod gate;
pub mod handshake;
pub mod late;
pub mod nudge;
pub mod pace;
pub mod plan;
pub mod pure;
pub mod quoted;
pub mod segment;
pub mod seq;
pub mod stream;
pub mod to_member;
pub mod verdict;

#[cfg(test)]
mod tests;
