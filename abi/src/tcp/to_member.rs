//! What of the client's segments each member gets to hear.
//!
//! The standby is **held by its window**: it may send what the client has acknowledged, and nothing else. So its stream
//! is never ahead of the primary's, nothing of it is in flight when the primary dies, no retransmission timer runs, and
//! the one segment that opens its window at a takeover makes it go on at once, be it with an answer that it has had
//! ready for a second or with the middle of a download.

use crate::tcp::connection::{
    ANSWERED, ASKED, Connection, FIN_SEEN, HAS_BASE, RST_SEEN, STAMPS, SYN_ACK, Scene,
};
use crate::tcp::edit::{Edit, SACK_ADD, SACK_DROP};
use crate::tcp::pure::Pure;
use crate::tcp::segment::{ACK, CWR, PSH, RST, SYN, Segment};
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::Verdict;

/// Up to this shift, one unit of the client's window is less than any segment that is worth sending.
const TOO_LITTLE: u32 = 9;

/// A client that says nothing for so long waits for nothing that it would ask for again.
const SILENT: u64 = 2_000_000_000;

/// The member gets the segment as it is.
pub const AS_IS: u32 = 0;
/// The member gets the segment as the edit says.
pub const EDITED: u32 = 1;
/// As `EDITED`, and the connection is to be looked at again ([`Connection::look_again`]).
pub const EDITED_LATE: u32 = 3;
/// The member gets nothing: it does not have this connection, or not yet. What it misses the client sends again, as the
/// gate keeps it from being acknowledged.
pub const NOT_FOR_IT: u32 = 2;

impl Connection {
    /// A segment of the client on its way to the member in this slot.
    #[inline(always)]
    pub fn to_member(&mut self, slot: u32, segment: &Segment, scene: &Scene, edit: &mut Edit) -> u32 {
        self.turn(scene);
        edit.keep(segment);
        if segment.has(SYN) {
            return AS_IS;
        }
        let speaks = slot == scene.speaker;
        if self.flags & HAS_BASE == 0 || !self.knows(slot, scene) {
            return if speaks { AS_IS } else { NOT_FOR_IT };
        }
        if self.verdict == Verdict::Lost as u32 {
            return self.end_half(slot, speaks, segment, edit);
        }
        if self.has_lost_track(slot, scene) {
            return self.let_go(slot, scene, edit);
        }
        if segment.has(RST) || !segment.has(ACK) {
            return AS_IS;
        }
        if self.flags & ANSWERED == 0 {
            // Not even this segment was believed: the client is in a conversation that went before (a SYN that came late
            // has begun this one). The member's kernel tells it so (RFC 9293 section 3.10.7.4, SYN-RECEIVED).
            return if speaks { AS_IS } else { NOT_FOR_IT };
        }
        let offset = self.offset(slot);
        let ack = segment.ack.wrapping_add(offset);
        let known = self.half(slot).nxt;
        if after(segment.ack, self.out.nxt) {
            // Of what nobody has sent: not the client's (`from_client`). The member's kernel drops it (RFC 5961 section 5.2), which it
            // could not do with a number that is right.
            edit.ack = ack;
            return if speaks { EDITED } else { NOT_FOR_IT };
        }
        // Never of what it has not sent (`acknowledged`), and of what this very segment acknowledges.
        edit.ack = if after(ack, known) { known } else { ack };
        if segment.stamps_at != 0 && segment.stamps[1] != 0 {
            let echo = segment.stamps[1].wrapping_add(self.stamp_offset(slot));
            let newest = self.half(slot).stamp;
            edit.stamps[1] = if after(echo, newest) { newest } else { echo };
        }
        let mut late = false;
        // Who answers is not held by its window.
        let answers = speaks || self.both_answer(scene);
        if answers {
            if speaks {
                let (stop, begins) = self.must_stop(scene);
                late = begins;
                if stop {
                    // Rather one than zero, where that is too little for a segment as well: if it is overtaken by the word to go on,
                    // a zero would stop the member once more (`tcp_may_update_window` since Linux 6.6). Not with a request, whose
                    // answer may be as little, and which is old then.
                    edit.window =
                        (edit.window != 0 && segment.payload == 0 && self.client.wscale <= TOO_LITTLE) as u32;
                }
            }
            edit.sack_add = offset;
            if segment.sacks != 0 {
                if !Self::has_sent_all(segment, offset, known) {
                    edit.sack = SACK_DROP;
                } else if offset != 0 {
                    edit.sack = SACK_ADD;
                }
            }
        } else {
            edit.window = self.room(slot, edit.ack, false);
            if segment.sacks != 0 {
                // It has nothing in flight that a block could be about.
                edit.sack = SACK_DROP;
            }
        }
        if !speaks && segment.payload != 0 && segment.has(PSH) {
            // Makes Linux acknowledge at once (`tcp_ecn_accept_cwr`), instead of up to 40 ms later for an answer
            // that it is not going to send.
            edit.flags |= CWR;
        }
        let half = self.half_mut(slot);
        half.given = later(half.given, edit.ack);
        if late { EDITED_LATE } else { EDITED }
    }

    /// A connection that could not be carried over. The client may have challenged its reset (RFC 5961 section 3.2), which only a
    /// segment from the member can answer with the number that the client has said now: so the member is made to say something, by
    /// an old segment. If it still has its half, that becomes the reset (`of_the_lost`); if not, its kernel resets by itself. What
    /// carries more than an acknowledgement closes the member's half at once: that the client says again.
    #[inline(always)]
    fn end_half(&mut self, slot: u32, speaks: bool, segment: &Segment, edit: &mut Edit) -> u32 {
        if !speaks {
            return NOT_FOR_IT;
        }
        let half = self.half_mut(slot);
        if half.flags & RST_SEEN != 0 {
            return AS_IS;
        }
        if !segment.is_of_stream() && segment.flags & (RST | ACK) == ACK {
            half.flags |= ASKED;
            edit.seq = half.ack.wrapping_sub(1);
            return EDITED;
        }
        self.close_half(slot, edit)
    }

    /// Ends the half of a standby that [`Connection::has_lost_track`].
    #[inline(always)]
    fn let_go(&mut self, slot: u32, scene: &Scene, edit: &mut Edit) -> u32 {
        if !self.is_to_be_let_go(slot, scene) {
            return NOT_FOR_IT;
        }
        self.close_half(slot, edit)
    }

    /// Makes the segment the client's reset, with the number that the member expects.
    #[inline(always)]
    fn close_half(&mut self, slot: u32, edit: &mut Edit) -> u32 {
        let half = self.half_mut(slot);
        half.flags |= RST_SEEN;
        edit.seq = half.ack;
        edit.ack = half.nxt;
        edit.flags = RST | ACK;
        EDITED
    }

    /// Whether no SACK block is about what this member has not sent.
    #[inline(always)]
    fn has_sent_all(segment: &Segment, offset: u32, nxt: u32) -> bool {
        let mut beyond = 0;
        let mut block = 0;
        while block < 4 {
            if block < segment.sacks {
                let [_, right] = segment.sack[block as usize];
                beyond |= after(right.wrapping_add(offset), nxt) as u32;
            }
            block += 1;
        }
        beyond == 0
    }

    /// The window field for a standby that is handed this acknowledgement: as far as the client has acknowledged, and
    /// its FIN once the speaker has sent one. `asked`: it asks whether there is room, and the client has been silent for long.
    #[inline(always)]
    #[must_use]
    pub fn room(&self, slot: u32, ack: u32, asked: bool) -> u32 {
        let offset = self.offset(slot);
        let shift = self.client.wscale & 15;
        let mut edge = self.client.ack.wrapping_add(offset);
        // Down, so that nothing the client does not have can slip out. The standby may then be a little behind what it
        // could send, by less than a unit and a segment, which costs nothing.
        let mut round = 0;
        let speaker = self.half(slot ^ 1);
        if speaker.flags & FIN_SEEN != 0 {
            let fin = speaker.fin.wrapping_add(1).wrapping_sub(self.offset(slot ^ 1)).wrapping_add(offset);
            edge = later(edge, fin);
            // Behind a FIN comes nothing that could slip out.
            round = (1 << shift) - 1;
        }
        let need = edge.wrapping_sub(ack);
        if asked & (self.client.ack == self.out.nxt) & (need < 1 << shift) {
            // The client has all that was ever said. It would ask for ever for the rest of a unit, and Linux, with a
            // TCP_USER_TIMEOUT, gives such a connection up (`tcp_probe_timer`). Not before: an answer that the primary has yet to
            // give could slip out, and would be in flight when it dies.
            round = (1 << shift) - 1;
        }
        let may = self.client.right.wrapping_add(offset).wrapping_sub(ack);
        if need as i32 <= 0 || may as i32 <= 0 {
            return 0;
        }
        let need = (need + round) >> shift;
        let may = may >> shift;
        let units = if need < may { need } else { may };
        if units > 0xffff { 0xffff } else { units }
    }

    /// What the client would say to this member now: the latest acknowledgement that it can understand; before the handshake is over, its
    /// SYN once more; and of a connection that is lost, that it is over.
    #[inline(always)]
    pub fn tell(&mut self, slot: u32, scene: &Scene, pure: &mut Pure) {
        if self.flags & HAS_BASE == 0 {
            // It has answered already, and that was held: it does so again at once when it is asked again (`tcp_check_req`).
            *pure = Pure {
                seq: self.client.isn,
                ack: 0,
                window: self.client.window,
                flags: SYN,
                stamped: 0,
                stamps: [0; 2],
            };
            return;
        }
        if self.verdict == Verdict::Lost as u32 || self.has_lost_track(slot, scene) {
            // It has said what the client's reset was made of.
            let half = self.half(slot);
            *pure = Pure {
                seq: half.ack,
                ack: half.nxt,
                window: 0,
                flags: RST | ACK,
                stamped: 0,
                stamps: [0; 2],
            };
            return;
        }
        let ack = self.acknowledged(slot);
        let answers = slot == scene.speaker || self.both_answer(scene);
        let silent = scene.now_ns.saturating_sub(self.heard_ns) > SILENT;
        let asked = silent & !after(ack, self.half(slot).given);
        let window = if answers { self.client.window } else { self.room(slot, ack, asked) };
        // What it has received and not acknowledged yet is not to be seen: with a smaller number than its next one, it would
        // take this for an old segment and not look at it. With a larger one it does (RFC 9293 section 3.10.7.4).
        pure.seq = self.client.nxt;
        let half = self.half_mut(slot);
        half.given = later(half.given, ack);
        pure.ack = ack;
        pure.window = window;
        pure.flags = ACK;
        pure.stamps[1] = half.stamp;
        pure.stamps[0] = self.client.stamp;
        pure.stamped = self.flags & STAMPS;
    }

    /// Whether the client would have something to tell this member, once it has sent this segment.
    #[inline(always)]
    #[must_use]
    pub fn has_news_for(&self, slot: u32, segment: &Segment) -> bool {
        let half = self.half(slot);
        if half.flags & SYN_ACK == 0 || self.flags & ANSWERED == 0 {
            return false;
        }
        // More of its stream has arrived than it knows; or it asks: a retransmission, a keepalive, a window probe.
        after(self.acknowledged(slot), half.given) || after(half.given, segment.seq)
    }
}
