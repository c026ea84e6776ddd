//! A client's connection as the data plane knows it: what the client sees, and how each member numbers it.
//!
//! The client sees *one* server, in the numbering of the member whose SYN-ACK it got: the **base**. For the other member,
//! sequence numbers and timestamps differ by a constant. Every stored number is a running maximum, never an assignment:
//! segments come twice, late and in any order.

use crate::maps::Tuple;
use crate::tcp::pace::AHEAD;
use crate::tcp::segment::{EXTENDED, NO_SCALE, Segment};
use crate::tcp::seq::{after, earlier};
use crate::tcp::stream::{NO_MILESTONE, Sum};
use crate::tcp::verdict::{Verdict, Why};
use crate::{RoleWord, voice};

/// A longer round trip is taken for this one: a segment of the handshake was lost and came again.
pub const MAX_RTT_MS: u16 = 500;

/// How far from what is known a member's segment may be and still be believed: the largest window (RFC 7323 section 2.3).
pub const FAR: u32 = 1 << 30;

/// The kernel's lock, by the name under which the verifier looks for it (`struct bpf_spin_lock`).
#[allow(non_camel_case_types, reason = "the kernel finds it in the BTF by this name")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct bpf_spin_lock {
    /// The kernel's.
    pub val: u32,
}

/// [`Connection::flags`]: the client's SYN had timestamps and so does the base's SYN-ACK.
pub const STAMPS: u32 = 1 << 0;
/// [`Connection::flags`]: a SYN-ACK has gone to the client; `base` is valid.
pub const HAS_BASE: u32 = 1 << 1;
/// [`Connection::flags`]: the standby is late; the client's acknowledgements are the speaker's alone.
pub const GATE_OPEN: u32 = 1 << 2;
/// [`Connection::flags`]: the client has sent its FIN; `client.fin` is valid.
pub const CLIENT_FIN: u32 = 1 << 3;
/// [`Connection::flags`]: a FIN has gone to the client; `out.fin` is valid.
pub const OUT_FIN: u32 = 1 << 4;
/// [`Connection::flags`]: over; the tuple may be used again.
pub const CLOSED: u32 = 1 << 5;
/// [`Connection::flags`]: window scaling is in use (the client and the base have offered it).
pub const SCALED: u32 = 1 << 6;
/// [`Connection::flags`]: the client has answered the handshake.
pub const ANSWERED: u32 = 1 << 7;
/// [`Connection::flags`]: it stands in `LATE`, to be looked at again.
pub const QUEUED: u32 = 1 << 8;
/// [`Connection::flags`]: the client has sent again what it was told to have arrived: it has not heard that, and waits to.
pub const UNHEARD: u32 = 1 << 9;
/// [`Connection::flags`]: SACK is in use (the client and the base have offered it).
pub const SACKED: u32 = 1 << 10;
/// [`Connection::flags`]: the members' streams have been found equal up to somewhere.
pub const COMPARED: u32 = 1 << 11;
/// [`Connection::flags`]: `behind_ns` counts since the standby's window stops the client, and not a byte that it lacks.
pub const SHUT: u32 = 1 << 12;

/// [`Half::flags`]: its SYN-ACK was seen; `isn`, `syn_stamp` and `wscale` are valid.
pub const SYN_ACK: u32 = 1 << 0;
/// [`Half::flags`]: its FIN was seen; `fin` is valid.
pub const FIN_SEEN: u32 = 1 << 1;
/// [`Half::flags`]: it has reset the connection.
pub const RST_SEEN: u32 = 1 << 2;
/// [`Half::flags`]: its SYN-ACK carried timestamps.
pub const HALF_STAMPS: u32 = 1 << 3;
/// [`Half::flags`]: its SYN-ACK carried a window scale.
pub const HALF_SCALED: u32 = 1 << 4;
/// [`Half::flags`]: its FIN or RST is held back; `held_ns` is valid.
pub const HELD: u32 = 1 << 5;
/// [`Half::flags`]: of a connection that is lost, the client has spoken, and the member was made to answer.
pub const ASKED: u32 = 1 << 6;

/// One member's half of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Half {
    /// Sequence number of its SYN-ACK.
    pub isn: u32,
    /// Highest sequence number it has sent, its own numbering.
    pub nxt: u32,
    /// Highest acknowledgement it has sent (the client's numbering).
    pub ack: u32,
    /// Highest right edge of its receive window (the client's numbering).
    pub right: u32,
    /// Highest acknowledgement it has been handed, its own numbering.
    pub given: u32,
    /// TSval of its SYN-ACK.
    pub syn_stamp: u32,
    /// Highest TSval it has sent.
    pub stamp: u32,
    /// Sequence number of its FIN, its own numbering.
    pub fin: u32,
    /// `SYN_ACK` and the others.
    pub flags: u32,
    /// Shift of the windows it sends.
    pub wscale: u32,
    /// Blocks in `sack`.
    pub sacks: u32,
    /// SACK blocks of its latest acknowledgement (the client's numbering).
    pub sack: [[u32; 2]; 4],
    /// Sequence number of the SYN-ACK before that one, if it had another: the client may answer either.
    pub isn_before: u32,
    /// Since when its FIN or RST is held, CLOCK_BOOTTIME nanoseconds.
    pub held_ns: u64,
    /// Of what it has sent.
    pub sum: Sum,
}

/// The client's half, as seen on the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// Sequence number of its SYN.
    pub isn: u32,
    /// Highest sequence number it has sent.
    pub nxt: u32,
    /// Highest acknowledgement it has sent, the base's numbering.
    pub ack: u32,
    /// Right edge of its receive window, the base's numbering.
    pub right: u32,
    /// Window field of its latest acknowledgement, not scaled.
    pub window: u32,
    /// Shift of the windows it sends.
    pub wscale: u32,
    /// Highest TSval it has sent.
    pub stamp: u32,
    /// Sequence number of its FIN.
    pub fin: u32,
}

/// What has gone to the client, in the base's numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Out {
    /// Highest sequence number.
    pub nxt: u32,
    /// Highest acknowledgement: these bytes are promised.
    pub ack: u32,
    /// Highest right edge of the window.
    pub right: u32,
    /// Highest TSval.
    pub stamp: u32,
    /// Sequence number of the FIN.
    pub fin: u32,
    /// The lower half of the epoch whose tripped latch has last put the connection into `TURNED`. Whoever goes through the
    /// connections then writes and reads it, and without the lock.
    pub turn: u32,
}

/// Value of `CONNECTIONS`. Looked at and changed under its lock only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Connection {
    /// Held by whoever looks.
    pub lock: bpf_spin_lock,
    /// The pair.
    pub pair: u32,
    /// [`STAMPS`] and the others.
    pub flags: u32,
    /// The slot in whose numbering the client is spoken to, once `HAS_BASE`.
    pub base: u32,
    /// The slot whose answers leave: the last that was known.
    pub speaker: u32,
    /// [`Verdict`].
    pub verdict: u32,
    /// [`Why`].
    pub why: u32,
    /// What the speaker had acknowledged when the standby was last found behind.
    pub mark: u32,
    /// Since when the standby has not caught up with `mark`, CLOCK_BOOTTIME nanoseconds; 0: it is not behind.
    pub behind_ns: u64,
    /// When the SYN came, CLOCK_BOOTTIME nanoseconds.
    pub created_ns: u64,
    /// When the client was last heard, CLOCK_BOOTTIME nanoseconds.
    pub heard_ns: u64,
    /// Since when the speaker is stopped and the standby has sent nothing, CLOCK_BOOTTIME nanoseconds; 0: it is not.
    pub stopped_ns: u64,
    /// The client.
    pub client: Client,
    /// What it was told.
    pub out: Out,
    /// Both members.
    pub half: [Half; 2],
    /// Where the client's frames come from.
    pub mac: [u8; 6],
    /// How long the client took to answer the handshake, milliseconds, [`MAX_RTT_MS`] at most.
    pub rtt_ms: u16,
    /// A sum of the member that is ahead, which the other one has yet to come by.
    pub milestone: Sum,
    /// Whose it is; [`NO_MILESTONE`] for none.
    pub milestone_of: u32,
    /// How often the sums have begun anew.
    pub anew: u32,
}

const _: () = {
    assert!(size_of::<Half>() == 120);
    assert!(size_of::<Connection>() == 408);
    assert!(core::mem::offset_of!(Connection, lock) == 0);
    assert!(size_of::<Tuple>() == 48);
};

/// How long a FIN or RST of the primary waits for the standby's, nanoseconds: longer than any detection of a dead server
/// takes, and short enough for a client that waits for the end of an answer.
pub const CLOSE_LIMIT_NS: u64 = 5_000_000_000;

/// What the programs know of the pair when they look at a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scene {
    /// The slot whose answers leave.
    pub speaker: u32,
    /// Whether a standby is in service.
    pub protect: u32,
    /// Whether acknowledgements wait for it (`ack = "both"`).
    pub gate: u32,
    /// Whether what the members send is compared.
    pub compare: u32,
    /// Whether a planned change is under way.
    pub handover: u32,
    /// Whether the first answer is heard, whosever it is (`answer = "first"`).
    pub first: u32,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub now_ns: u64,
    /// Since when the present member of each slot is there, CLOCK_BOOTTIME nanoseconds: it knows no older connection.
    pub since_ns: [u64; 2],
    /// How long the standby may be behind before the gate opens, nanoseconds.
    pub lag_limit_ns: u64,
    /// How long a FIN or RST waits for the other member's, nanoseconds.
    pub close_limit_ns: u64,
}

impl Scene {
    /// Whether a standby is in service, 1 or 0. Not any more when another one speaks than the role word says, and no planned
    /// change is under way: then the kernel's latch has tripped, because the other member is dead, and there is no controller
    /// to say so.
    ///
    /// Without a branch: the verifier would walk through all that follows for each side of it.
    #[inline(always)]
    #[must_use]
    pub const fn protects(word: RoleWord, speaker: u32) -> u32 {
        let tripped = (speaker ^ word.active() as u32) & (word.handover() as u32 ^ 1);
        word.protect() as u32 & (tripped ^ 1)
    }
}

impl Connection {
    /// A row before its SYN.
    pub const FRESH: Connection = Connection {
        lock: bpf_spin_lock { val: 0 },
        pair: 0,
        flags: 0,
        base: 0,
        speaker: 0,
        verdict: 0,
        why: 0,
        mark: 0,
        behind_ns: 0,
        created_ns: 0,
        heard_ns: 0,
        stopped_ns: 0,
        client: Client { isn: 0, nxt: 0, ack: 0, right: 0, window: 0, wscale: 0, stamp: 0, fin: 0 },
        out: Out { nxt: 0, ack: 0, right: 0, stamp: 0, fin: 0, turn: 0 },
        half: [Half {
            isn: 0,
            nxt: 0,
            ack: 0,
            right: 0,
            given: 0,
            syn_stamp: 0,
            stamp: 0,
            fin: 0,
            flags: 0,
            wscale: 0,
            sacks: 0,
            sack: [[0; 2]; 4],
            isn_before: 0,
            held_ns: 0,
            sum: Sum { words: 0, running: 0, rest: 0, pos: 0, pad: 0 },
        }; 2],
        mac: [0; 6],
        rtt_ms: 0,
        milestone: Sum { words: 0, running: 0, rest: 0, pos: 0, pad: 0 },
        milestone_of: NO_MILESTONE,
        anew: 0,
    };

    /// Forgets everything and begins with a client's SYN.
    #[inline(always)]
    pub fn begin(&mut self, syn: &Segment, pair: u32, now_ns: u64) {
        self.pair = pair;
        // What stands in the queue stands there.
        self.flags &= QUEUED;
        self.base = 0;
        self.speaker = 0;
        self.verdict = Verdict::Opening as u32;
        self.why = Why::Well as u32;
        self.mark = 0;
        self.behind_ns = 0;
        self.created_ns = now_ns;
        self.heard_ns = now_ns;
        self.stopped_ns = 0;
        self.client.isn = syn.seq;
        self.client.nxt = syn.seq.wrapping_add(1);
        self.client.ack = 0;
        self.client.right = 0;
        self.client.window = syn.window;
        self.client.wscale = 0;
        if syn.wscale != NO_SCALE {
            self.client.wscale = syn.wscale;
            self.flags |= SCALED;
        }
        self.client.stamp = syn.stamps[0];
        self.client.fin = 0;
        if syn.stamps_at != 0 {
            self.flags |= STAMPS;
        }
        if syn.sack_permitted != 0 {
            self.flags |= SACKED;
        }
        self.rtt_ms = 0;
        self.half[0].flags = 0;
        self.half[1].flags = 0;
        self.half[0].held_ns = 0;
        self.half[1].held_ns = 0;
        self.half[0].sacks = 0;
        self.half[1].sacks = 0;
        self.begin_sums(0);
        if syn.odd & !EXTENDED != 0 {
            self.judge(Verdict::Unprotected, Why::Signed);
        }
    }

    /// Whether it waits for the members' SYN-ACKs, and for both.
    #[inline(always)]
    #[must_use]
    pub const fn is_only_begun(&self) -> bool {
        self.flags & HAS_BASE == 0 && self.verdict == Verdict::Opening as u32
    }

    /// A member's half.
    #[inline(always)]
    #[must_use]
    pub const fn half(&self, slot: u32) -> &Half {
        &self.half[slot as usize & 1]
    }

    /// A member's half, to change.
    #[inline(always)]
    pub const fn half_mut(&mut self, slot: u32) -> &mut Half {
        &mut self.half[slot as usize & 1]
    }

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Gives a verdict that is not taken back: the first one stands, but for `Lost`.
    #[inline(always)]
    pub const fn judge(&mut self, verdict: Verdict, why: Why) {
        if self.verdict <= Verdict::InSync as u32 || verdict as u32 == Verdict::Lost as u32 {
            self.verdict = verdict as u32;
            self.why = why as u32;
        }
    }

    /// What to add to the base's numbers to get this member's. Only once both SYN-ACKs are known.
    #[inline(always)]
    #[must_use]
    pub const fn offset(&self, slot: u32) -> u32 {
        self.half(slot).isn.wrapping_sub(self.half(self.base).isn)
    }

    /// What to add to the base's timestamps to get this member's. The exact difference of the two SYN-ACKs' stamps: a
    /// kernel may check the echoes against what it has sent.
    #[inline(always)]
    #[must_use]
    pub const fn stamp_offset(&self, slot: u32) -> u32 {
        self.half(slot).syn_stamp.wrapping_sub(self.half(self.base).syn_stamp)
    }

    /// Whether the member in this slot is the one that the connection began with, and has answered its SYN.
    #[inline(always)]
    #[must_use]
    pub const fn knows(&self, slot: u32, scene: &Scene) -> bool {
        self.half(slot).flags & SYN_ACK != 0 && self.created_ns >= scene.since_ns[slot as usize & 1]
    }

    /// Whether there is a standby that could go on with it.
    #[inline(always)]
    #[must_use]
    pub const fn is_protected(&self, scene: &Scene) -> bool {
        scene.protect != 0
            && self.verdict == Verdict::InSync as u32
            && self.flags & GATE_OPEN == 0
            && self.knows(scene.speaker ^ 1, scene)
    }

    /// Whether what the client is told waits for the standby.
    #[inline(always)]
    #[must_use]
    pub const fn is_gated(&self, scene: &Scene) -> bool {
        scene.gate != 0 && self.is_protected(scene)
    }

    /// Whether the member in this slot can go on where the client is.
    #[inline(always)]
    #[must_use]
    pub const fn survives(&self, slot: u32, scene: &Scene) -> bool {
        self.verdict == Verdict::InSync as u32
            && self.knows(slot, scene)
            && self.half(slot).flags & RST_SEEN == 0
            && !after(self.out.ack, self.half(slot).ack)
    }

    /// During a planned change, keeps the one who speaks until the other one can go on.
    #[inline(always)]
    pub const fn settle(&self, scene: &mut Scene) {
        if scene.handover != 0
            && self.flags & HAS_BASE != 0
            && self.speaker != scene.speaker
            && !self.survives(scene.speaker, scene)
        {
            scene.speaker = self.speaker;
        }
    }

    /// Whether the standby, who could go on, has to catch up first: it lacks what the client has been told to have arrived, or
    /// is far from having given the answers that the client has already.
    #[must_use]
    pub const fn is_behind(&self, scene: &Scene) -> bool {
        let standby = scene.speaker ^ 1;
        self.flags & (HAS_BASE | CLOSED) == HAS_BASE
            && self.verdict == Verdict::InSync as u32
            && self.knows(standby, scene)
            && (!self.survives(standby, scene) || self.unsaid(standby) > AHEAD / 2)
    }

    /// How many bytes that the client has acknowledged the member has not sent yet.
    #[inline(always)]
    #[must_use]
    pub const fn unsaid(&self, slot: u32) -> u32 {
        let (acknowledged, sent) = (self.client.ack.wrapping_add(self.offset(slot)), self.half(slot).nxt);
        if after(acknowledged, sent) { acknowledged.wrapping_sub(sent) } else { 0 }
    }

    /// Whether to act on this scene would make somebody the speaker again who is not any more: its role word was read before it
    /// changed, and another CPU has acted on the new one since. `now`: the role word and the tripped epoch as they are, asked for
    /// under the connection's lock, which orders that: nobody acts on an older word than who was there before. During a planned
    /// change [`Connection::settle`] knows better.
    #[inline(always)]
    #[must_use]
    pub fn turns_back(&self, scene: &Scene, now: impl FnOnce() -> (RoleWord, u64)) -> bool {
        if self.speaker == scene.speaker || scene.handover != 0 {
            return false;
        }
        let (word, tripped) = now();
        !word.handover() && voice::active(word, tripped) as u32 != scene.speaker
    }

    /// Notices that another member speaks now. Whoever cannot go on is lost.
    #[inline(always)]
    pub const fn turn(&mut self, scene: &Scene) {
        if self.speaker == scene.speaker {
            return;
        }
        if self.flags & HAS_BASE != 0 && !self.survives(scene.speaker, scene) {
            let why = if self.verdict == Verdict::InSync as u32 { Why::Behind as u32 } else { self.why };
            self.verdict = Verdict::Lost as u32;
            self.why = why;
        }
        self.speaker = scene.speaker;
        self.behind_ns = 0;
        self.stopped_ns = 0;
        self.flags &= !GATE_OPEN;
    }

    /// The client's latest acknowledgement in a member's numbering, but never of what the member has not sent: Linux
    /// drops such a segment with all its payload (`tcp_ack`, `TCP_SKB_CB(skb)->ack_seq` after `snd_nxt`).
    #[inline(always)]
    #[must_use]
    pub const fn acknowledged(&self, slot: u32) -> u32 {
        earlier(self.client.ack.wrapping_add(self.offset(slot)), self.half(slot).nxt)
    }

    /// How many bytes the standby is behind: of the client's stream, which the speaker has acknowledged, or of its own,
    /// which the client has; whichever is more.
    #[inline(always)]
    #[must_use]
    pub const fn lag(&self) -> u32 {
        let (speaker, other) = (self.half(self.speaker).ack, self.half(self.speaker ^ 1).ack);
        let unheard = if after(speaker, other) { speaker.wrapping_sub(other) } else { 0 };
        let unsaid = self.unsaid(self.speaker ^ 1);
        if unheard > unsaid { unheard } else { unsaid }
    }
}
