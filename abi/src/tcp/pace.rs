//! Nobody gets far ahead: while a standby has much to catch up with, the speaker is stopped by its window. Otherwise a
//! standby with less of a processor would fall behind for as long as a download lasts, and a takeover would have to wait
//! until it has gone through all of that.

use crate::tcp::connection::{Connection, GATE_OPEN, QUEUED, Scene};
use crate::tcp::from_member::{OPENED, Outcome};

/// Bytes that the client may have and the standby may not have sent yet. More than a segment and the rounding of any
/// window, so that who is merely held by them is never taken for late.
pub const AHEAD: u32 = 256 << 10;

impl Connection {
    /// Whether the speaker has to stop now. Returns with it whether it is to be looked at again.
    #[inline(always)]
    pub fn must_stop(&mut self, scene: &Scene) -> (bool, bool) {
        if !self.is_gated(scene) {
            self.stopped_ns = 0;
            return (false, false);
        }
        if self.stopped_ns == 0 {
            if self.unsaid(scene.speaker ^ 1) <= AHEAD {
                return (false, false);
            }
            self.stopped_ns = scene.now_ns;
        }
        // Once, or again when there was no room in the queue.
        let first = self.flags & QUEUED == 0;
        self.flags |= QUEUED;
        (true, first)
    }

    /// Whether [`Connection::must_stop`] would need the time: it notes it, or has the connection looked at again.
    #[inline(always)]
    #[must_use]
    pub const fn begins_to_stop(&self, scene: &Scene) -> bool {
        self.is_gated(scene)
            && if self.stopped_ns == 0 {
                self.unsaid(scene.speaker ^ 1) > AHEAD
            } else {
                self.flags & QUEUED == 0
            }
    }

    /// The standby has sent something: whether the speaker may go on now, and has to be told.
    #[inline(always)]
    pub fn may_go_on(&mut self, scene: &Scene) -> bool {
        if self.stopped_ns == 0 {
            return false;
        }
        if self.is_gated(scene) && self.unsaid(scene.speaker ^ 1) > AHEAD / 2 {
            self.stopped_ns = scene.now_ns;
            return false;
        }
        self.stopped_ns = 0;
        true
    }

    /// Opens the gate if the speaker is stopped and the standby has sent nothing for longer than it may.
    #[inline(always)]
    pub fn go_on_if_late(&mut self, scene: &Scene, out: &mut Outcome) {
        if self.stopped_ns != 0
            && scene.handover == 0
            && self.flags & GATE_OPEN == 0
            && scene.now_ns.saturating_sub(self.stopped_ns) >= scene.lag_limit_ns
        {
            if self.is_gated(scene) {
                out.news |= OPENED;
            }
            self.flags |= GATE_OPEN;
        }
    }
}
