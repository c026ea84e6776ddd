//! The gate: what the client is told to have arrived has arrived at both members, unless the standby is too late with it.

use crate::tcp::connection::{Connection, FAR, GATE_OPEN, HELD, RST_SEEN, SHUT, Scene};
use crate::tcp::from_member::{CLOSED_AGAIN, OPENED, Outcome};
use crate::tcp::pace::AHEAD;
use crate::tcp::segment::Segment;
use crate::tcp::seq::{after, earlier, later};
use crate::tcp::verdict::{Verdict, Why};

/// A FIN or RST waits for a standby that is late with the connection so many times the lag limit, and no longer: it may
/// never catch up.
const LATE_CLOSE: u64 = 10;

/// Round trips in which a client sends again what is missing; twice, if that is lost as well.
const RESENT: u64 = 3;

/// So much longer than one that does not receive, a standby is waited for that receives and whose service does not read: it may
/// merely be slower, or both services pause, and what is sent to it all the same it cannot keep.
const UNREAD: u64 = 15_000_000_000;

/// Windows that differ by less than this are alike, and a client with less than this to send stands still, bytes.
const LITTLE: u32 = 8192;

impl Connection {
    /// The gate's watchdog: a standby that has not got within the limit what the speaker had then is not waited for.
    #[inline(always)]
    pub fn watch(&mut self, scene: &Scene, out: &mut Outcome) {
        if self.verdict != Verdict::InSync as u32 {
            return;
        }
        let speaker = self.half(scene.speaker).ack;
        let standby = self.half(scene.speaker ^ 1).ack;
        let far = after(speaker, standby.wrapping_add(FAR)) | (self.unsaid(scene.speaker ^ 1) > FAR);
        if far && self.knows(scene.speaker ^ 1, scene) {
            // Half a round further it would be taken for level, and a whole one for where the client is.
            self.judge(Verdict::Unprotected, Why::Behind);
            return;
        }
        let late = after(speaker, standby);
        let shut = if !late & self.stops_client(scene) { SHUT } else { 0 };
        if !late && shut == 0 {
            self.behind_ns = 0;
            if self.flags & GATE_OPEN != 0 && self.unsaid(scene.speaker ^ 1) <= AHEAD {
                self.flags &= !GATE_OPEN;
                // Where there is no gate, nobody is told of one.
                if scene.gate != 0 {
                    out.news |= CLOSED_AGAIN;
                }
            }
        } else if self.behind_ns == 0 || self.flags & SHUT != shut || !after(self.mark, standby) {
            self.behind_ns = scene.now_ns;
            self.flags = self.flags & !SHUT | shut;
            // It has caught up with that, or has read something.
            self.mark = if late { speaker } else { standby.wrapping_add(1) };
            self.queue(scene, out);
        } else {
            self.open_if_late(scene, out);
        }
    }

    /// Whether the member in this slot is a standby that is so far behind that it must not hear of the connection any more: the numbers
    /// tell no longer which round they are of.
    #[inline(always)]
    #[must_use]
    pub const fn has_lost_track(&self, slot: u32, scene: &Scene) -> bool {
        (self.verdict == Verdict::Unprotected as u32)
            & (self.why == Why::Behind as u32)
            & (slot != scene.speaker)
    }

    /// Whether that is yet to be told to it, and can be.
    #[inline(always)]
    #[must_use]
    pub const fn is_to_be_let_go(&self, slot: u32, scene: &Scene) -> bool {
        self.has_lost_track(slot, scene)
            & (self.half(slot).flags & RST_SEEN == 0)
            & (scene.protect != 0)
            & self.knows(slot, scene)
    }

    /// Whether the client has used up its window, and would not have if it were the speaker's alone.
    #[inline(always)]
    const fn stops_client(&self, scene: &Scene) -> bool {
        let (speaker, standby) = (self.half(scene.speaker).right, self.half(scene.speaker ^ 1).right);
        after(speaker, standby.wrapping_add(LITTLE))
            & !after(self.out.right, self.client.nxt.wrapping_add(LITTLE))
    }

    /// Opens the gate if the standby has been behind for longer than it may. One that says which segments it misses
    /// (RFC 2018) has the time in which the client hears that and sends them again: not to wait for it would tell the client
    /// that they have arrived, and the standby would never get them.
    #[inline(always)]
    pub fn open_if_late(&mut self, scene: &Scene, out: &mut Outcome) {
        let misses = (self.half(scene.speaker ^ 1).sacks != 0) as u64;
        let unread = (self.flags & SHUT != 0) as u64;
        let limit = scene.lag_limit_ns + misses * self.rtt_ms as u64 * RESENT * 1_000_000 + unread * UNREAD;
        // A planned change needs it closed, and is over soon.
        if self.behind_ns != 0
            && scene.handover == 0
            && self.flags & GATE_OPEN == 0
            && scene.now_ns.saturating_sub(self.behind_ns) >= limit
        {
            // Who was not waited for anyhow is not said to be late.
            if self.is_gated(scene) {
                out.news |= OPENED;
            }
            self.flags |= GATE_OPEN;
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
