//! What a segment of the client changes.

use crate::tcp::connection::{
    ANSWERED, CLIENT_FIN, CLOSED, Connection, HAS_BASE, MAX_RTT_MS, OUT_FIN, Scene, UNHEARD,
};
use crate::tcp::segment::{ACK, FIN, RST, SYN, Segment};
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::Verdict;

/// How far behind the connection a segment may be and still be of it: the largest window (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// The largest window field.
const LARGEST_FIELD: u32 = 0xffff;

const SECOND: u64 = 1_000_000_000;

/// Less than half a round of the fastest clock that timestamps are made of: a microsecond a tick (`tcp_usec_ts`, Linux 6.7).
const HALF_ROUND: u64 = 1_800 * SECOND;

impl Connection {
    /// Whether this SYN begins a connection: on a fresh row, or anew. A SYN on a connection that lives does not: its
    /// server answers with a challenge (RFC 9293 section 3.10.7.4), and only the client's RST then ends it. One that could
    /// not be carried over does not live: the client was told so, and may use its port again. Nor does one that nobody has
    /// answered and that a member has come after: this is the first SYN that both members get.
    #[inline(always)]
    #[must_use]
    pub const fn is_begun_anew_by(&self, syn: &Segment, scene: &Scene) -> bool {
        self.created_ns == 0
            || self.flags & CLOSED != 0
            || (self.flags & HAS_BASE == 0 && (self.client.isn != syn.seq || self.is_older(scene)))
            || self.is_lost(scene)
    }

    /// Whether a member has come since it began.
    #[inline(always)]
    const fn is_older(&self, scene: &Scene) -> bool {
        (self.created_ns < scene.since_ns[0]) | (self.created_ns < scene.since_ns[1])
    }

    /// Whether it could not be carried over to whoever speaks now, be that noticed already ([`Connection::turn`]) or not.
    /// Not to be noticed by the slot alone: after two takeovers in silence that is the same again, and the member in it
    /// another. During a planned change it stays with the one who speaks ([`Connection::settle`]).
    #[inline(always)]
    #[must_use]
    pub const fn is_lost(&self, scene: &Scene) -> bool {
        self.verdict == Verdict::Lost as u32
            || (scene.handover == 0
                && self.flags & HAS_BASE != 0
                && (!self.knows(scene.speaker, scene)
                    || (self.speaker != scene.speaker && !self.survives(scene.speaker, scene))))
    }

    /// As [`Connection::from_client`], of a segment that came from this MAC.
    #[inline(always)]
    pub fn from_client_at(&mut self, segment: &Segment, mac: [u8; 6], now_ns: u64) {
        if self.from_client(segment, now_ns) {
            self.mac = mac;
        }
    }

    /// A segment of the client, other than a SYN. Returns whether it is believed: then it says where the client is to be found.
    #[inline(always)]
    pub fn from_client(&mut self, segment: &Segment, now_ns: u64) -> bool {
        if self.flags & HAS_BASE == 0 || segment.has(SYN) {
            return false;
        }
        let end = segment.end();
        // Whoever guesses addresses and ports must not be able to spoil what is known of a connection: not beyond what the
        // client was offered. (A probe of a closed window may be right there.)
        if after(segment.seq, self.out.right) || after(self.out.ack, end.wrapping_add(LARGEST_WINDOW)) {
            return false;
        }
        if segment.has(RST) {
            // Exact, as RFC 5961 section 3.2 wants it; of a client that is further than it knows, too.
            if segment.seq == self.out.ack || segment.seq == self.client.nxt {
                self.flags |= CLOSED;
            }
            return false;
        }
        let answered = self.flags & ANSWERED != 0;
        if !answered && segment.has(ACK) {
            self.settle_number(segment);
        }
        // An acknowledgement of what was never sent is nobody's, nor one that was overtaken by more than the client's largest window
        // (RFC 5961 section 5.2); and the first one is of the SYN-ACK.
        let oldest = if answered { LARGEST_FIELD << (self.client.wscale & 15) } else { u32::MAX };
        if !segment.has(ACK)
            || after(segment.ack, self.out.nxt)
            || after(self.client.ack, segment.ack.wrapping_add(oldest))
        {
            return false;
        }
        let silent = now_ns.saturating_sub(self.heard_ns);
        self.heard_ns = now_ns;
        if segment.stamps_at != 0 && !after(self.out.ack, end.wrapping_add(1)) {
            // Of a keepalive, too. After such a silence the client's clock may have gone half way round, and what it says now be
            // taken for older than what it said then.
            let stamp = later(self.client.stamp, segment.stamps[0]);
            self.client.stamp = if silent > HALF_ROUND { segment.stamps[0] } else { stamp };
        }
        if self.flags & ANSWERED != 0 && after(self.out.ack, end) {
            // All of it has arrived, and it does not know: a retransmission, a keepalive. Nothing else is taken from it, not by the
            // members' kernels either (RFC 9293 section 3.10.7.4, first check).
            self.flags |= UNHEARD;
            return true;
        }
        if !answered {
            let took_ms = now_ns.saturating_sub(self.created_ns) / 1_000_000;
            self.rtt_ms = if took_ms > MAX_RTT_MS as u64 { MAX_RTT_MS } else { took_ms as u16 };
        }
        self.flags |= ANSWERED;
        if after(self.out.ack, segment.seq) {
            // A retransmission, a probe of a closed window, a keepalive: what it was told may be lost on the way.
            self.flags |= UNHEARD;
        }
        self.client.nxt = later(self.client.nxt, end);
        if !after(self.client.ack, segment.ack) {
            self.client.ack = segment.ack;
            self.client.window = segment.window;
            let right = segment.ack.wrapping_add(segment.window << (self.client.wscale & 15));
            self.client.right = later(self.client.right, right);
        }
        if segment.has(FIN) && self.flags & CLIENT_FIN == 0 {
            self.flags |= CLIENT_FIN;
            self.client.fin = end.wrapping_sub(1);
        }
        self.close_if_over();
        true
    }

    /// Whether its row may be forgotten: nobody will speak of it any more, or if so, as of a stranger.
    #[must_use]
    pub const fn is_past(&self, scene: &Scene) -> bool {
        /// 2 MSL as Linux has it (`TCP_TIMEWAIT_LEN`).
        const TIME_WAIT: u64 = 60 * SECOND;
        /// As long as a server repeats its SYN-ACK (`tcp_synack_retries` 5).
        const HANDSHAKE: u64 = 63 * SECOND;
        /// An established connection without a word: as long as Linux's own connection tracking waits.
        const IDLE: u64 = 5 * 24 * 3600 * SECOND;
        let silent = scene.now_ns.saturating_sub(self.heard_ns);
        if self.flags & CLOSED != 0 || self.is_lost(scene) {
            silent > TIME_WAIT
        } else if self.flags & ANSWERED == 0 {
            silent > HANDSHAKE
        } else {
            silent > IDLE || self.is_deserted(scene)
        }
    }

    /// Whether the client must be gone: a server that has sent it something, be it its end, gives up much sooner if nothing comes back
    /// (`tcp_retries2`, some 15 minutes), and does not always say so.
    #[inline(always)]
    #[must_use]
    pub const fn is_deserted(&self, scene: &Scene) -> bool {
        // Who has closed gives up in a minute or two (`tcp_orphan_retries`), who has closed one way only in some 924 s.
        let limit = if self.flags & OUT_FIN != 0 { 1000 * SECOND } else { 3600 * SECOND };
        after(self.out.nxt, self.client.ack) && scene.now_ns.saturating_sub(self.heard_ns) > limit
    }

    /// Both sides have closed, and each knows of the other's.
    #[inline(always)]
    pub const fn close_if_over(&mut self) {
        const BOTH: u32 = CLIENT_FIN | OUT_FIN;
        if self.flags & BOTH == BOTH
            && after(self.client.ack, self.out.fin)
            && after(self.out.ack, self.client.fin)
        {
            self.flags |= CLOSED;
        }
    }
}
