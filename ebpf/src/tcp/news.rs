//! What the controller is told of a connection: that its gate has opened or closed again, and that its members differ. Of a
//! thousand connections that are late with one standby it hears of one a second; the counters have them all.

use hotpair_abi::RoleWord;
use hotpair_abi::event::{Kind, of_connection};

use crate::tcp::Scratch;
use crate::{maps, role};

/// Tells of the connection in the scratch, as its scene has it, unless the like was told of the same standby within a
/// second.
#[inline(never)]
pub fn tell(kind: Kind, id: u32, word: RoleWord, scratch: &Scratch) {
    let standby = (scratch.scene.speaker ^ 1) & 1;
    let (Some(pair), Some(member)) = (maps::pair(id), maps::member(id, standby)) else {
        return;
    };
    // SAFETY: a field of the row that `member` points to.
    let last = unsafe {
        match kind {
            Kind::GateOpened => &raw mut (*member).tcp_event_ns[0],
            Kind::GateClosed => &raw mut (*member).tcp_event_ns[1],
            _ => &raw mut (*member).tcp_event_ns[2],
        }
    };
    let now = scratch.scene.now_ns;
    if role::report_is_due(last, now) {
        role::report(now, kind, id, standby, role::tap(pair, standby), word, of_connection(&scratch.tuple));
    }
}
