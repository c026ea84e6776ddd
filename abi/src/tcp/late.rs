//! The gate's watchdog, when nobody speaks: a client whose window is used up waits for an acknowledgement, the speaker has
//! given its own, and a standby that stands still gives none. Whoever began to wait is looked at again after the lag
//! limit, on the occasion of any heartbeat.

use crate::tcp::connection::{CLOSED, Connection, HAS_BASE, QUEUED, STAMPS, Scene};
use crate::tcp::from_member::{LATE, Outcome};
use crate::tcp::pure::Pure;
use crate::tcp::segment::ACK;
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::Verdict;

/// [`Connection::look_again`]: nothing waits any more.
pub const DONE: u32 = 0;
/// [`Connection::look_again`]: look again later.
pub const AGAIN: u32 = 1;
/// [`Connection::look_again`]: the client is to be told something; nothing waits any more.
pub const TELL: u32 = 2;
/// [`Connection::look_again`]: the speaker is to be told something; look again later.
pub const TELL_SPEAKER: u32 = 3;

impl Connection {
    /// Asks to be looked at again, once.
    #[inline(always)]
    pub const fn queue(&mut self, scene: &Scene, out: &mut Outcome) {
        if scene.gate != 0 && self.flags & QUEUED == 0 {
            self.flags |= QUEUED;
            out.news |= LATE;
        }
    }

    /// Looks whether the standby is late, and what the client may be told then.
    #[inline(always)]
    pub fn look_again(&mut self, scene: &Scene, out: &mut Outcome) -> u32 {
        out.news = 0;
        self.flags &= !QUEUED;
        if self.flags & (CLOSED | HAS_BASE) != HAS_BASE
            || self.speaker != scene.speaker
            || self.verdict != Verdict::InSync as u32
            || (self.behind_ns == 0 && self.stopped_ns == 0)
        {
            return DONE;
        }
        self.open_if_late(scene, out);
        self.go_on_if_late(scene, out);
        if self.is_gated(scene) {
            self.flags |= QUEUED;
            return AGAIN;
        }
        if self.stopped_ns != 0 {
            self.stopped_ns = 0;
            self.flags |= QUEUED;
            self.tell(scene.speaker, scene, &mut out.tell);
            return TELL_SPEAKER;
        }
        let ack = self.joint_ack(false, scene);
        let right = self.joint_right(false, scene);
        if ack == self.out.ack && !after(right, self.out.right) {
            return DONE;
        }
        self.out.ack = ack;
        self.out.right = later(self.out.right, right);
        // This may be the client's FIN, and the client have nothing more to say.
        self.close_if_over();
        out.tell = Pure {
            seq: self.out.nxt,
            ack,
            window: self.window(ack, right),
            flags: ACK,
            stamped: self.flags & STAMPS,
            stamps: [self.out.stamp, self.client.stamp],
        };
        TELL
    }
}
