//! hotpair's own tooling.
fn main() {}
