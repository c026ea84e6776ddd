//! What is said to each connection at a takeover, so that nobody waits for a timer.
//!
//! The new speaker is handed the client's acknowledgement with an open window, and sends what it was held back with, which
//! a downloading or asking client waits for. Then it is asked to repeat what it has received, by one byte of the client's
//! that it has had for long: every TCP answers that with an acknowledgement at once (RFC 9293 section 3.10.7.4, an old
//! segment), which an uploading client waits for. Two segments, because an old segment does not open a window
//! (section 3.10.7.4, SND.WL1). A connection that cannot go on is reset on both sides.
//!
//! The controller says it when it has made another member the speaker; where the kernel's latch has, the data plane says it,
//! and a controller that comes later says it once more, which changes nothing.

use crate::tcp::connection::{ANSWERED, CLOSED, Connection, HAS_BASE, STAMPS, Scene};
use crate::tcp::pure::Pure;
use crate::tcp::segment::{ACK, RST};
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::Verdict;

/// What is sent for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Nudge {
    /// To the new speaker, as if from the client; `any()` says whether.
    pub member: Pure,
    /// To the new speaker, after that, with one byte of payload; `any()` says whether.
    pub old_byte: Pure,
    /// To the client, as if from the entry address.
    pub client: Pure,
    /// To the other member, as if from the client; `any()` says whether. It may live, and nobody else would tell it.
    pub other: Pure,
}

impl Connection {
    /// What is to be sent now that `scene.speaker` speaks; `None` for a connection that is over or never began.
    #[must_use]
    pub fn nudge(&self, scene: &Scene) -> Option<Nudge> {
        let mut nudge = Nudge::default();
        self.nudged(scene, &mut nudge).then_some(nudge)
    }

    /// Notices that another member speaks, as the first segment of anybody's would, and says what is to be sent; whether
    /// anything is.
    #[inline(always)]
    pub fn turn_and_nudge(&mut self, scene: &Scene, nudge: &mut Nudge) -> bool {
        self.turn(scene);
        let tells = self.nudged(scene, nudge);
        if tells && nudge.member.flags == ACK {
            let half = self.half_mut(scene.speaker);
            half.given = later(half.given, nudge.member.ack);
        }
        tells
    }

    #[inline(always)]
    fn nudged(&self, scene: &Scene, nudge: &mut Nudge) -> bool {
        nudge.member = Pure::NOTHING;
        nudge.old_byte = Pure::NOTHING;
        nudge.client = Pure::NOTHING;
        nudge.other = Pure::NOTHING;
        if self.flags & (HAS_BASE | CLOSED) != HAS_BASE {
            return false;
        }
        let slot = scene.speaker;
        let half = self.half(slot);
        // Already turned by a packet that was faster, or not yet.
        let goes_on = if self.speaker == slot {
            self.verdict != Verdict::Lost as u32 && self.knows(slot, scene)
        } else {
            self.survives(slot, scene)
        };
        if goes_on {
            if self.flags & ANSWERED == 0 {
                // Its own acknowledgement of the SYN-ACK tells all there is to tell.
                return false;
            }
            nudge.member = Pure {
                // Not what it has acknowledged: see `tell`.
                seq: self.client.nxt,
                ack: self.acknowledged(slot),
                window: self.client.window,
                flags: ACK,
                stamped: self.flags & STAMPS,
                stamps: [self.client.stamp, half.stamp],
            };
            nudge.old_byte = nudge.member;
            nudge.old_byte.seq = half.ack.wrapping_sub(1);
            return true;
        }
        self.ended(slot, scene, &mut nudge.member);
        self.ended(slot ^ 1, scene, &mut nudge.other);
        nudge.client.seq = self.out.nxt;
        nudge.client.ack = self.client.nxt;
        nudge.client.flags = RST | ACK;
        true
    }

    /// The client's reset for a member that has this connection.
    #[inline(always)]
    fn ended(&self, slot: u32, scene: &Scene, pure: &mut Pure) {
        if self.knows(slot, scene) {
            let half = self.half(slot);
            // A reset is believed with the exact number only (RFC 5961 section 3.2).
            pure.seq = if after(self.out.ack, half.ack) { half.ack } else { self.client.nxt };
            pure.ack = half.nxt;
            pure.flags = RST | ACK;
        }
    }
}
