//! What is said to each connection at a takeover, so that nobody waits for a timer.
//!
//! The new speaker is handed the client's acknowledgement with an open window, and sends what it was held back with, which
//! a downloading or asking client waits for. Then it is asked to repeat what it has received, by one byte of the client's
//! that it has had for long: every TCP answers that with an acknowledgement at once (RFC 9293 section 3.10.7.4, an old
//! segment), which an uploading client waits for. Two segments, because an old segment does not open a window
//! (section 3.10.7.4, SND.WL1). A connection that cannot go on is reset on both sides.

use crate::tcp::connection::{ANSWERED, CLOSED, Connection, HAS_BASE, STAMPS, Scene, Verdict};
use crate::tcp::pure::Pure;
use crate::tcp::segment::{ACK, RST};
use crate::tcp::seq::after;

/// What is sent for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nudge {
    /// To the new speaker, as if from the client; `any()` says whether.
    pub member: Pure,
    /// To the new speaker, after that, with one byte of payload; `any()` says whether.
    pub old_byte: Pure,
    /// To the client, as if from the entry address.
    pub client: Pure,
}

impl Connection {
    /// What is to be sent now that `scene.speaker` speaks; `None` for a connection that is over or never began.
    #[must_use]
    pub fn nudge(&self, scene: &Scene) -> Option<Nudge> {
        if self.flags & HAS_BASE == 0 || self.flags & CLOSED != 0 {
            return None;
        }
        let slot = scene.speaker;
        let half = self.half(slot);
        let stamped = self.flags & STAMPS;
        // Already turned by a packet that was faster, or not yet.
        let goes_on = if self.speaker == slot {
            self.verdict != Verdict::Lost as u32 && self.knows(slot, scene)
        } else {
            self.survives(slot, scene)
        };
        if goes_on && self.flags & ANSWERED == 0 {
            // Its own acknowledgement of the SYN-ACK tells all there is to tell.
            return None;
        }
        if goes_on {
            let member = Pure {
                // Not what it has acknowledged: see `tell`.
                seq: self.client.nxt,
                ack: self.acknowledged(slot),
                window: self.client.window,
                flags: ACK,
                stamped,
                stamps: [self.client.stamp, half.stamp],
            };
            let old_byte = Pure { seq: half.ack.wrapping_sub(1), ..member };
            return Some(Nudge { member, old_byte, client: Pure::NOTHING });
        }
        let mut member = Pure::NOTHING;
        if self.knows(slot, scene) {
            // A reset is believed with the exact number only (RFC 5961 section 3.2).
            member.seq = if after(self.out.ack, half.ack) { half.ack } else { self.client.nxt };
            member.ack = half.nxt;
            member.flags = RST | ACK;
        }
        let client = Pure {
            seq: self.out.nxt,
            ack: self.client.nxt,
            window: 0,
            flags: RST | ACK,
            stamped: 0,
            stamps: [0; 2],
        };
        Some(Nudge { member, old_byte: Pure::NOTHING, client })
    }
}
