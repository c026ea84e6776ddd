//! The gate: what the client is told to have arrived has arrived at both members, unless the standby is too late with it.

use crate::tcp::connection::{Connection, GATE_OPEN, HELD, Scene, Verdict};
use crate::tcp::from_member::{CLOSED_AGAIN, OPENED, Outcome};
use crate::tcp::pace::AHEAD;
use crate::tcp::segment::Segment;
use crate::tcp::seq::{after, earlier, later};

/// A FIN or RST waits for a standby that is late with the connection so many times the lag limit, and no longer: it may
/// never catch up.
const LATE_CLOSE: u64 = 10;

/// Round trips in which a client sends again what is missing; twice, if that is lost as well.
const RESENT: u64 = 3;

impl Connection {
    /// The gate's watchdog: a standby that has not got within the limit what the speaker had then is not waited for.
    #[inline(always)]
    pub fn watch(&mut self, scene: &Scene, out: &mut Outcome) {
        if self.verdict != Verdict::InSync as u32 {
            return;
        }
        let speaker = self.half(scene.speaker).ack;
        let standby = self.half(scene.speaker ^ 1).ack;
        if !after(speaker, standby) {
            self.behind_ns = 0;
            if self.flags & GATE_OPEN != 0 && self.unsaid(scene.speaker ^ 1) <= AHEAD {
                self.flags &= !GATE_OPEN;
                out.news |= CLOSED_AGAIN;
            }
        } else if self.behind_ns == 0 || !after(self.mark, standby) {
            self.behind_ns = scene.now_ns;
            self.mark = speaker;
            self.queue(scene, out);
        } else {
            self.open_if_late(scene, out);
        }
    }

    /// Opens the gate if the standby has been behind for longer than it may. One that says which segments it misses
    /// (RFC 2018) has the time in which the client hears that and sends them again: not to wait for it would tell the client
    /// that they have arrived, and the standby would never get them.
    #[inline(always)]
    pub fn open_if_late(&mut self, scene: &Scene, out: &mut Outcome) {
        let misses = (self.half(scene.speaker ^ 1).sacks != 0) as u64;
        let limit = scene.lag_limit_ns + misses * self.rtt_ms as u64 * RESENT * 1_000_000;
        // A planned change needs it closed, and is over soon.
        if self.behind_ns != 0
            && scene.handover == 0
            && self.flags & GATE_OPEN == 0
            && scene.now_ns.saturating_sub(self.behind_ns) >= limit
        {
            self.flags |= GATE_OPEN;
            out.news |= OPENED;
        }
    }

    /// What the client may be told to have arrived.
    #[inline(always)]
    pub(super) fn joint_ack(&self, gated: bool, scene: &Scene) -> u32 {
        let mut ack = self.half(scene.speaker).ack;
        if gated {
            ack = earlier(ack, self.half(scene.speaker ^ 1).ack);
        }
        later(self.out.ack, ack)
    }

    /// How far the client may send.
    #[inline(always)]
    pub(super) fn joint_right(&self, gated: bool, scene: &Scene) -> u32 {
        let mut right = self.half(scene.speaker).right;
        if gated {
            right = earlier(right, self.half(scene.speaker ^ 1).right);
        }
        later(self.out.right, right)
    }

    /// The window field for the client that makes this right edge, rounded down.
    #[inline(always)]
    pub(super) fn window(&self, ack: u32, right: u32) -> u32 {
        let room = right.wrapping_sub(ack);
        if room as i32 <= 0 {
            return 0;
        }
        let units = room >> (self.half(self.base).wscale & 15);
        if units > 0xffff { 0xffff } else { units }
    }

    /// Whether what the segment says to have out of order is at the other member, too.
    #[inline(always)]
    pub(super) fn has_all_blocks(&self, other: u32, segment: &Segment) -> bool {
        let half = self.half(other);
        let mut missing = 0u32;
        let mut block = 0;
        while block < 4 {
            if block < segment.sacks {
                let [left, right] = segment.sack[block as usize];
                let mut has = !after(right, half.ack) as u32;
                let mut theirs = 0;
                while theirs < 4 {
                    if theirs < half.sacks {
                        let [l, r] = half.sack[theirs as usize];
                        has |= (!after(l, left) && !after(right, r)) as u32;
                    }
                    theirs += 1;
                }
                missing |= has ^ 1;
            }
            block += 1;
        }
        missing == 0
    }

    /// Whether a FIN or RST of the speaker must wait for the standby's; begins the waiting.
    #[inline(always)]
    pub(super) fn must_wait(&mut self, slot: u32, scene: &Scene) -> bool {
        let half = self.half_mut(slot);
        if half.flags & HELD == 0 {
            half.flags |= HELD;
            half.held_ns = scene.now_ns;
            return true;
        }
        let waited = scene.now_ns.saturating_sub(half.held_ns);
        let late = self.flags & GATE_OPEN != 0;
        waited < scene.close_limit_ns && !(late && waited > LATE_CLOSE * scene.lag_limit_ns)
    }
}
