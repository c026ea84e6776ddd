//! TCP connections that are carried from one member to the other: any header, and whole stories.
//!
//! A story is a client and two members that are TCPs (`endpoint.rs`), with the data plane's pure functions between them
//! (`plane.rs`), on a network that loses, doubles, delays and reorders, while members die, come and are switched. What
//! must hold is said in `story.rs` by what the three TCPs themselves know, not by what the data plane thinks.

mod any;
mod ending;
mod endpoint;
mod frame;
mod input;
mod life;
mod plane;
mod promises;
mod story;

use input::Input;
use story::Besides;

/// Two bits of the first byte say whether the others are a header, a story, or a story with wild segments in it; the others,
/// what there is in the story besides.
pub fn tcp(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let bits = input.byte();
    let besides = Besides::of(bits);
    match bits % 4 {
        0 => any::header(&mut input),
        1 => story::tell(&mut input, true, besides),
        _ => story::tell(&mut input, false, besides),
    }
}
