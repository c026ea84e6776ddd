//! The members' SYN-ACKs: both are there before the client hears one, and whose numbers it is then spoken to in.

use crate::count::Counter;
use crate::tcp::connection::{
    ANSWERED, CLOSED, Connection, HALF_SCALED, HALF_STAMPS, HAS_BASE, SACKED, SCALED, STAMPS, SYN_ACK, Scene,
};
use crate::tcp::from_member::{EDIT, Outcome, PASS, SUPPRESS};
use crate::tcp::segment::{NO_SCALE, Segment};
use crate::tcp::verdict::{Verdict, Why};

/// So long a standby has for its SYN-ACK: half of what the others wait for before they repeat theirs (RFC 6298 section 2).
const HANDSHAKE: u64 = 500_000_000;

impl Connection {
    /// Second: a SYN-ACK. Held until the other member's is there, so that no standby begins behind: the second one passes,
    /// whosever it is, and its numbering becomes the client's.
    #[inline(always)]
    pub fn syn_ack(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        let speaks = slot == scene.speaker;
        let has_base = self.flags & HAS_BASE;
        if self.created_ns < scene.since_ns[slot as usize & 1] {
            // It came after the SYN and answers its repetition: what is known is of its predecessor.
            self.judge(Verdict::Unprotected, Why::Older);
            if !speaks {
                return;
            }
        }
        let known = self.half(slot).flags & SYN_ACK != 0 && self.half(slot).isn == segment.seq;
        if has_base != 0 && !known && segment.ack != self.client.isn.wrapping_add(1) {
            // To another SYN of this port: the member has nothing of this connection any more.
            if speaks {
                // The client asks again within a second, which then begins anew.
                self.flags |= CLOSED;
                out.how = SUPPRESS;
                out.why = Counter::TcpSynAckHeld as u32;
            } else {
                self.judge(Verdict::Diverged, Why::Reset);
            }
            return;
        }
        let offered = self.flags;
        let half = self.half_mut(slot);
        let first = half.flags & SYN_ACK == 0;
        if first || (has_base == 0 && half.isn != segment.seq) {
            half.isn = segment.seq;
            half.isn_before = segment.seq;
            half.nxt = segment.seq.wrapping_add(1);
            half.ack = segment.ack;
            half.right = segment.ack.wrapping_add(segment.window);
            half.given = segment.seq;
            half.syn_stamp = segment.stamps[0];
            half.stamp = segment.stamps[0];
            half.flags = SYN_ACK;
            half.wscale = 0;
            if segment.stamps_at != 0 && offered & STAMPS != 0 {
                half.flags |= HALF_STAMPS;
            }
            if segment.wscale != NO_SCALE && offered & SCALED != 0 {
                half.flags |= HALF_SCALED;
                half.wscale = segment.wscale;
            }
        } else if half.isn != segment.seq {
            if self.flags & ANSWERED != 0 {
                return;
            }
            self.number_anew(slot, segment);
        }
        if segment.odd != 0 {
            self.judge(Verdict::Unprotected, Why::Signed);
        }
        if has_base != 0 {
            if speaks {
                // Once more: the client has not heard it, or not answered. With the first one's timestamp: what the client
                // echoes of it, both members must recognise as their own first one's.
                out.how = EDIT;
                out.edit.seq = segment.seq.wrapping_sub(self.offset(slot));
                out.edit.stamps[0] = self.out.stamp;
                // And with no more room than the first one: nothing is believed of the client beyond that.
                let room = self.out.right.wrapping_sub(segment.ack);
                if room < out.edit.window {
                    out.edit.window = room;
                }
            } else if self.flags & ANSWERED != 0 {
                out.tell_slot = slot;
            }
            return;
        }
        if scene.protect == 0 || self.verdict != Verdict::Opening as u32 {
            self.judge(Verdict::Unprotected, Why::NoStandby);
            if speaks {
                self.set_base(slot, segment);
            }
            return;
        }
        if self.half(slot ^ 1).flags & SYN_ACK != 0 {
            const SAME: u32 = HALF_STAMPS | HALF_SCALED;
            if (self.half(slot).flags ^ self.half(slot ^ 1).flags) & SAME == 0 {
                self.judge(Verdict::InSync, Why::Well);
                self.set_base(slot, segment);
                out.how = PASS;
                out.why = Counter::ActiveSent as u32;
                return;
            }
            self.judge(Verdict::Unprotected, Why::Options);
            if speaks {
                self.set_base(slot, segment);
            }
            return;
        }
        if !speaks {
            return;
        }
        if first | (scene.now_ns.wrapping_sub(self.created_ns) < HANDSHAKE) {
            // Once more so soon: the SYN has come twice, and this member answers each.
            out.how = SUPPRESS;
            out.why = Counter::TcpSynAckHeld as u32;
        } else {
            // The member has waited for a second. Better unprotected than unreachable.
            self.judge(Verdict::Unprotected, Why::NoHandshake);
            self.set_base(slot, segment);
        }
    }

    /// A member answers the same SYN with another number, before the client has answered: a SYN cookie that has become a
    /// minute older (`tcp_cookie_time`), or a server that has forgotten the first. The new one counts, but of the base the
    /// client may have heard the one before ([`Connection::settle_number`]).
    #[inline(always)]
    fn number_anew(&mut self, slot: u32, syn_ack: &Segment) {
        let half = self.half_mut(slot);
        half.isn_before = half.isn;
        half.isn = syn_ack.seq;
        half.nxt = syn_ack.seq.wrapping_add(1);
        half.given = syn_ack.seq;
        half.syn_stamp = syn_ack.stamps[0];
        half.stamp = syn_ack.stamps[0];
        if self.flags & HAS_BASE != 0 && slot == self.base {
            self.begin_out(syn_ack.seq);
            self.out.stamp = syn_ack.stamps[0];
        }
    }

    /// The client's first answer says which of the base's SYN-ACKs it has heard.
    #[inline(always)]
    pub(super) fn settle_number(&mut self, answer: &Segment) {
        let base = self.base;
        let half = self.half_mut(base);
        let before = half.isn_before;
        if before == half.isn || answer.ack != before.wrapping_add(1) {
            return;
        }
        half.isn_before = half.isn;
        half.isn = before;
        half.nxt = answer.ack;
        half.given = before;
        if answer.stamps_at != 0 {
            half.syn_stamp = answer.stamps[1];
        }
        self.begin_out(before);
    }

    /// The client is spoken to in the numbers that begin with this one.
    #[inline(always)]
    fn begin_out(&mut self, isn: u32) {
        self.client.ack = isn;
        self.client.right = isn.wrapping_add(1).wrapping_add(self.client.window);
        self.out.nxt = isn.wrapping_add(1);
    }

    #[inline(always)]
    fn set_base(&mut self, slot: u32, syn_ack: &Segment) {
        self.base = slot;
        self.flags |= HAS_BASE;
        let flags = self.half(slot).flags;
        if flags & HALF_STAMPS == 0 {
            self.flags &= !STAMPS;
        }
        if syn_ack.sack_permitted == 0 {
            self.flags &= !SACKED;
        }
        if flags & HALF_SCALED == 0 {
            self.flags &= !SCALED;
            self.client.wscale = 0;
        }
        self.begin_out(syn_ack.seq);
        self.out.ack = syn_ack.ack;
        self.out.right = syn_ack.ack.wrapping_add(syn_ack.window);
        self.out.stamp = syn_ack.stamps[0];
    }
}
