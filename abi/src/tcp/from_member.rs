//! What of a member's segments the client gets to hear.
//!
//! The speaker's acknowledgements are lowered to what the standby has too ([`gate`](crate::tcp::gate)); when the standby
//! catches up, its own (suppressed) segment, cut down to its header, tells the client. A FIN or RST waits for the other
//! member's.

use crate::count::Counter;
use crate::tcp::connection::{
    ANSWERED, ASKED, CLOSED, Connection, FAR, FIN_SEEN, HAS_BASE, HELD, OUT_FIN, RST_SEEN, SACKED, SYN_ACK,
    Scene, UNHEARD,
};
use crate::tcp::edit::{Edit, SACK_DROP};
use crate::tcp::pure::Pure;
use crate::tcp::segment::{ACK, FIN, PSH, RST, SYN, Segment};
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::{Verdict, Why};

/// The segment ends here.
pub const SUPPRESS: u32 = 0;
/// The client gets the segment as it is.
pub const PASS: u32 = 1;
/// The client gets the segment as the edit says.
pub const EDIT: u32 = 2;
/// The client gets the segment's header alone, as the edit says.
pub const CUT: u32 = 3;

/// [`Outcome::news`]: the standby is behind; look again after the lag limit ([`Connection::look_again`]).
pub const LATE: u32 = 1 << 0;
/// [`Outcome::news`]: the gate has opened.
pub const OPENED: u32 = 1 << 1;
/// [`Outcome::news`]: the gate has closed again.
pub const CLOSED_AGAIN: u32 = 1 << 2;

/// [`Outcome::next`]: all is decided.
pub const NOTHING: u32 = 0;
/// [`Outcome::next`]: [`Connection::speak`].
pub const SPEAK: u32 = 1;
/// [`Outcome::next`]: [`Connection::listen`].
pub const LISTEN: u32 = 2;
/// [`Outcome::next`]: [`Connection::answer`].
pub const ANSWER: u32 = 3;
/// [`Outcome::next`]: [`Connection::syn_ack`].
pub const SHAKE: u32 = 4;

/// Nobody: [`Outcome::tell_slot`] when nothing is told.
pub const NOBODY: u32 = 2;

/// What becomes of a member's segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// [`SUPPRESS`], [`PASS`], [`EDIT`] or [`CUT`].
    pub how: u32,
    /// The counter that says why.
    pub why: u32,
    /// For `EDIT` and `CUT`.
    pub edit: Edit,
    /// Which member is told something in the client's name; [`NOBODY`] for none.
    pub tell_slot: u32,
    /// What it is told.
    pub tell: Pure,
    /// [`LATE`] and the others.
    pub news: u32,
    /// [`NOTHING`], [`SPEAK`], [`LISTEN`], [`ANSWER`] or [`SHAKE`].
    pub next: u32,
    /// Whether the member says something that it has not said before.
    pub fresh: u32,
}

impl Outcome {
    /// The segment ends here, and nobody hears of it.
    #[inline(always)]
    pub const fn nothing(&mut self) {
        self.tell_slot = NOBODY;
        self.news = 0;
        self.next = NOTHING;
        self.how = SUPPRESS;
        self.why = Counter::StandbySuppressed as u32;
    }
}

/// So far an acknowledgement that a member answers with a reset may be behind the latest, bytes.
const OVERTAKEN: u32 = 0xffff;

/// The window's right edge must gain this much to be worth a segment of its own, bytes.
const WORTHWHILE: u32 = 8192;

impl Connection {
    /// A segment of the member in this slot, in the three steps that the programs take: each can stand alone under the lock,
    /// and the verifier, which walks through all combinations of one step's branches, need not combine them with the next's.
    pub fn from_member(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        self.hear(slot, segment, scene, out);
        match out.next {
            SPEAK => self.speak(slot, segment, scene, out),
            LISTEN => self.listen(slot, segment, scene, out),
            ANSWER => self.answer(slot, segment, scene, out),
            SHAKE => self.syn_ack(slot, segment, scene, out),
            _ => {}
        }
        if out.tell_slot != NOBODY {
            self.tell(out.tell_slot, scene, &mut out.tell);
        }
    }

    /// First: takes over what the segment says. [`Outcome::next`] says how to go on.
    #[inline(always)]
    pub fn hear(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        self.turn(scene);
        let speaks = slot == scene.speaker;
        out.nothing();
        out.edit.keep(segment);
        if speaks {
            out.how = PASS;
            out.why = Counter::ActiveSent as u32;
        }
        if segment.has(SYN) {
            if segment.has(ACK) {
                out.next = SHAKE;
            }
            return;
        }
        if !speaks && self.is_refused_by(segment) {
            self.judge(Verdict::Unprotected, Why::NoHandshake);
            if self.half(scene.speaker).flags & SYN_ACK != 0 {
                // Which was held for this one's.
                out.tell_slot = scene.speaker;
            }
            return;
        }
        if self.flags & HAS_BASE == 0 || !self.knows(slot, scene) {
            return;
        }
        if self.verdict == Verdict::Lost as u32 {
            self.of_the_lost(slot, speaks, segment, out);
            return;
        }
        if self.has_lost_track(slot, scene) {
            self.of_the_let_go(slot, segment, out);
            return;
        }
        out.fresh = after(segment.end(), self.half(slot).nxt) as u32;
        if segment.has(RST) {
            self.hear_reset(slot, segment, scene, out);
            return;
        }
        if self.learn(slot, segment) {
            self.watch(scene, out);
            out.next = if speaks { SPEAK } else { LISTEN };
            if !speaks && self.is_answer(slot, segment, out.fresh, scene) {
                out.next = ANSWER;
            }
        }
    }

    /// Whether this is a standby's answer to the client's SYN, that nobody listens there (RFC 9293 section 3.10.7.1).
    #[inline(always)]
    const fn is_refused_by(&self, segment: &Segment) -> bool {
        segment.has(RST | ACK)
            && self.flags & HAS_BASE == 0
            && self.verdict == Verdict::Opening as u32
            && self.created_ns != 0
            && segment.ack == self.client.isn.wrapping_add(1)
    }

    /// A member whose connection could not be carried over may only say that there is none.
    #[inline(always)]
    fn of_the_lost(&mut self, slot: u32, speaks: bool, segment: &Segment, out: &mut Outcome) {
        if !speaks {
            self.of_the_let_go(slot, segment, out);
            return;
        }
        if segment.has(RST) {
            // From a kernel that has no such connection: numbered by what the client has sent, as it must be.
            out.why = Counter::TcpReset as u32;
            return;
        }
        // Its own stream is not the client's. What the client was sent is still on its way, most likely (as `nudge` has it), unless the
        // client has spoken since (`end_half`).
        out.how = CUT;
        out.why = Counter::TcpReset as u32;
        let speaker = self.speaker;
        let half = self.half_mut(speaker);
        let spoken = half.flags & (RST_SEEN | ASKED) != 0;
        if half.flags & (RST_SEEN | ASKED) == ASKED {
            half.flags |= RST_SEEN;
            out.tell_slot = speaker;
        }
        out.edit.seq = if spoken { self.client.ack } else { self.out.nxt };
        out.edit.ack = self.client.nxt;
        out.edit.flags = RST | ACK;
        out.edit.window = 0;
        out.edit.sack = SACK_DROP;
        out.edit.stamps = [self.out.stamp, self.client.stamp];
    }

    /// A standby that lives, and need not know that the connection goes on without it, or not at all: it is told.
    #[inline(always)]
    fn of_the_let_go(&mut self, slot: u32, segment: &Segment, out: &mut Outcome) {
        if segment.has(RST) {
            return;
        }
        let half = self.half_mut(slot);
        half.ack = segment.ack;
        half.nxt = segment.end();
        out.tell_slot = slot;
    }

    /// A member resets the connection, or a segment that it was given. A kernel that does not go on with the connection numbers its reset
    /// by what it has sent, one that has no such connection by what it is given to acknowledge. Anything else answers a segment that is not
    /// of this connection (RFC 9293 section 3.5.3), and ends nothing.
    #[inline(always)]
    fn hear_reset(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        let speaks = slot == scene.speaker;
        // Not from before its first number, so that in the handshake, where a kernel resets whatever is wrong, only the right one counts.
        let acknowledged = self.acknowledged(slot);
        let begun = acknowledged.wrapping_sub(self.half(slot).isn);
        let oldest = acknowledged.wrapping_sub(if begun < OVERTAKEN { begun } else { OVERTAKEN });
        if after(oldest, segment.seq) || after(segment.seq, self.half(slot).nxt) {
            if speaks && self.flags & ANSWERED != 0 {
                // To what was given to it so numbered.
                out.edit.seq = segment.seq.wrapping_sub(self.offset(slot));
                out.how = EDIT;
            }
            return;
        }
        self.half_mut(slot).flags |= RST_SEEN;
        self.watch(scene, out);
        out.next = if speaks { SPEAK } else { LISTEN };
    }

    /// Takes over into the member's half what the segment says. Returns whether it is believed.
    #[inline(always)]
    fn learn(&mut self, slot: u32, segment: &Segment) -> bool {
        let half = self.half_mut(slot);
        let end = segment.end();
        if after(segment.seq, half.nxt.wrapping_add(FAR)) || after(half.nxt, end.wrapping_add(FAR)) {
            return false;
        }
        half.nxt = later(half.nxt, end);
        if segment.stamps_at != 0 {
            half.stamp = later(half.stamp, segment.stamps[0]);
        }
        if segment.has(FIN) && half.flags & FIN_SEEN == 0 {
            half.flags |= FIN_SEEN;
            half.fin = end.wrapping_sub(1);
        }
        if segment.has(ACK) {
            if !after(half.ack, segment.ack) {
                half.sacks = segment.sacks;
                half.sack = segment.sack;
            }
            half.ack = later(half.ack, segment.ack);
            let right = segment.ack.wrapping_add(segment.window << (half.wscale & 15));
            half.right = later(half.right, right);
        }
        true
    }

    /// A member's FIN in the client's numbering.
    #[inline(always)]
    pub(super) fn fin(&self, slot: u32) -> u32 {
        self.half(slot).fin.wrapping_sub(self.offset(slot))
    }

    /// Records what goes to the client.
    #[inline(always)]
    pub(super) fn said(&mut self, edit: &Edit, end: u32) {
        self.flags &= !UNHEARD;
        self.out.nxt = later(self.out.nxt, end);
        self.out.ack = later(self.out.ack, edit.ack);
        let right = edit.ack.wrapping_add(edit.window << (self.half(self.base).wscale & 15));
        self.out.right = later(self.out.right, right);
        self.out.stamp = later(self.out.stamp, edit.stamps[0]);
        if edit.flags & FIN != 0 {
            self.flags |= OUT_FIN;
            self.out.fin = end.wrapping_sub(1);
        }
        self.close_if_over();
    }

    /// The segment's timestamps as the client may see them: never going back, or it would take the segment for an old
    /// one (PAWS, RFC 7323 section 5).
    #[inline(always)]
    pub(super) fn stamps(&self, slot: u32, segment: &Segment) -> [u32; 2] {
        let value = segment.stamps[0].wrapping_sub(self.stamp_offset(slot));
        [later(self.out.stamp, value), segment.stamps[1]]
    }

    /// Second: a segment of the one whose answers leave.
    #[inline(always)]
    pub fn speak(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        let offset = self.offset(slot);
        let gated = self.is_gated(scene);
        let other = slot ^ 1;
        // Be the standby late or not: it may soon not be any more.
        let carried = scene.protect != 0
            && ((self.verdict ^ Verdict::InSync as u32) | (self.half(other).flags & RST_SEEN)) == 0
            && self.knows(other, scene);
        let edit = &mut out.edit;
        edit.seq = segment.seq.wrapping_sub(offset);
        edit.stamps = self.stamps(slot, segment);
        out.how = EDIT;
        // Since a takeover: it has not sent yet what the client has had from the other. So numbered, what it says would
        // be dropped as old, acknowledgement and all (RFC 9293 section 3.10.7.4, first check).
        let behind = after(self.out.nxt, self.half(slot).nxt.wrapping_sub(offset));
        if segment.has(RST) {
            if behind {
                // Exact, or it is challenged (RFC 5961 section 3.2).
                edit.seq = self.client.ack;
            }
            if carried && self.must_wait(slot, scene) {
                out.how = SUPPRESS;
                out.why = Counter::TcpCloseHeld as u32;
                return;
            }
            self.flags |= CLOSED;
            return;
        }
        if segment.has(FIN) && carried && self.flags & OUT_FIN == 0 {
            if self.half(other).flags & FIN_SEEN == 0 {
                if self.must_wait(slot, scene) {
                    edit.flags &= !FIN;
                    // So that it can send its own.
                    out.tell_slot = other;
                } else {
                    self.judge(Verdict::Diverged, Why::Close);
                }
            } else if self.fin(other) != self.fin(slot) {
                self.judge(Verdict::Diverged, Why::Close);
            }
        }
        let pure = segment.payload == 0 && edit.flags & FIN == 0;
        // The other one has been faster.
        let mut whys = [Counter::TcpAlreadyThere as u32, Counter::TcpConverted as u32];
        let mut late = !pure
            && out.fresh != 0
            && self.both_answer(scene)
            && !after(segment.end().wrapping_sub(offset), self.out.nxt);
        let again = (behind || !pure)
            && !after(segment.end().wrapping_sub(offset), self.client.ack)
            && self.has_news_for(slot, segment);
        if again {
            // The client has this already, as this member does not know.
            out.tell_slot = slot;
        } else if !pure && self.is_unproven(slot, scene) {
            if segment.has(FIN) || !self.must_wait(slot, scene) {
                // It ends where the other one went on, or never gets to where they could be compared.
                self.judge(Verdict::Lost, Why::Payload);
                self.of_the_lost(slot, true, segment, out);
                // Had it got more, it would have said so by now.
                out.edit.seq = self.client.ack;
                return;
            }
            late = true;
            whys = [Counter::TcpNotCompared as u32; 2];
        }
        if pure && behind {
            edit.seq = self.out.nxt;
        }
        let end = edit.seq.wrapping_add(segment.payload).wrapping_add(edit.flags & FIN);
        let ack = self.joint_ack(gated, scene);
        let right = self.joint_right(gated, scene);
        edit.window = self.window(ack, right);
        edit.ack = ack;
        let mut sacks = segment.sacks;
        if gated && sacks != 0 && !self.has_all_blocks(other, segment) {
            edit.sack = SACK_DROP;
            sacks = 0;
        }
        // One branch for many questions, here and below: the verifier walks through both sides of each.
        let worthwhile =
            ((ack ^ self.out.ack) | sacks | (self.flags & UNHEARD)) != 0 || after(right, self.out.right);
        if pure {
            let held = segment.has(FIN) || (gated && after(self.half(slot).ack, ack));
            if held && !worthwhile {
                // It would count as a duplicate.
                out.how = SUPPRESS;
                out.why = Counter::TcpAckHeld as u32;
                if segment.has(FIN) {
                    out.why = Counter::TcpCloseHeld as u32;
                }
                return;
            }
            if behind && !worthwhile && after(self.half(slot).given, segment.seq) {
                // It asks whether the window is open (RFC 9293 section 3.8.6.1), with an old number. Only the client can say that, and
                // does only if it is old for the client, too.
                edit.seq = edit.seq.wrapping_sub(1);
            }
        } else if again || late {
            if !worthwhile {
                out.how = SUPPRESS;
                out.why = whys[0];
                return;
            }
            out.how = CUT;
            out.why = whys[1];
            edit.seq = self.out.nxt;
            edit.flags = ACK;
        }
        let edit = out.edit;
        self.said(&edit, end);
    }

    /// Second: a segment of the standby, never heard; but what it proves may be.
    #[inline(always)]
    pub fn listen(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        let speaker = slot ^ 1;
        if segment.has(RST) {
            if self.half(speaker).flags & (HELD | RST_SEEN) == HELD | RST_SEEN {
                // The second one passes.
                self.cut(slot, segment, out);
                out.edit.flags = RST | ACK;
                self.flags |= CLOSED;
                return;
            }
            self.judge(Verdict::Diverged, Why::Reset);
        } else if segment.payload != 0 && self.may_go_on(scene) {
            // Its own acknowledgement comes with the client's next segment, which now comes.
            out.tell_slot = speaker;
        } else if self.has_news_for(slot, segment) && !self.is_deserted(scene) {
            out.tell_slot = slot;
        }
        let held = self.half(speaker);
        if held.flags & (HELD | RST_SEEN) == HELD | RST_SEEN
            && scene.now_ns.saturating_sub(held.held_ns) >= scene.close_limit_ns
        {
            // The speaker's kernel may never say it again.
            self.judge(Verdict::Diverged, Why::Close);
            self.cut(slot, segment, out);
            out.edit.flags = RST | ACK;
            self.flags |= CLOSED;
            return;
        }
        let gated = self.is_gated(scene);
        let ack = self.joint_ack(gated, scene);
        let right = self.joint_right(gated, scene);
        let mut says = ack != self.out.ack || after(right, self.out.right.wrapping_add(WORTHWHILE));
        // From nearly closed, every byte counts.
        if after(right, self.out.right) && !after(self.out.right, self.out.ack.wrapping_add(WORTHWHILE)) {
            says = true;
        }
        let mut sack = SACK_DROP;
        if gated && segment.sacks != 0 && segment.ack == ack && self.has_all_blocks(speaker, segment) {
            // What it misses, the client then sends again without waiting for a timer.
            sack = crate::tcp::edit::SACK_KEEP;
            says = true;
        }
        if gated
            && ((self.flags & SACKED) | segment.payload | (segment.ack ^ ack)) == 0
            && after(self.half(speaker).ack, ack)
        {
            // The same of a client that counts duplicates (RFC 5681 section 3.2).
            says = true;
        }
        let mut fin = 0;
        if self.half(slot).flags & FIN_SEEN != 0
            && self.half(speaker).flags & (HELD | FIN_SEEN) == HELD | FIN_SEEN
            && self.flags & OUT_FIN == 0
        {
            if self.fin(slot) != self.fin(speaker) {
                self.judge(Verdict::Diverged, Why::Close);
                fin = FIN;
            } else if self.out.nxt == self.fin(slot) {
                fin = FIN;
            }
        }
        if !says && fin == 0 {
            return;
        }
        self.cut(slot, segment, out);
        let edit = &mut out.edit;
        edit.flags = ACK | fin;
        edit.ack = ack;
        edit.window = self.window(ack, right);
        edit.sack = sack;
        let end = edit.seq.wrapping_add(fin);
        let edit = out.edit;
        self.said(&edit, end);
    }

    /// Makes the client's next segment out of a suppressed one.
    #[inline(always)]
    fn cut(&mut self, slot: u32, segment: &Segment, out: &mut Outcome) {
        out.how = CUT;
        out.why = Counter::TcpConverted as u32;
        out.edit.seq = self.out.nxt;
        out.edit.ack = self.out.ack;
        out.edit.window = 0;
        out.edit.flags = segment.flags & !PSH;
        out.edit.stamps = self.stamps(slot, segment);
        out.edit.stamps[1] = self.client.stamp;
        out.edit.sack = SACK_DROP;
    }
}
