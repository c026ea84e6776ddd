//! The agent inside a member.
fn main() {}
