//! A TCP as RFC 9293 and Linux have it, as small as a conversation needs: the client, and each member.
//!
//! Numbers of the stream are counted from the SYN, which is 0; what goes on the wire is what the endpoint's own first
//! number makes of them. It does what any TCP does and asserts what no TCP may ever be sent.

use hotpair_abi::tcp::segment::{ACK, FIN, PSH, RST, SYN};

use super::frame::{Frame, Layout, Says};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no connection.
    Closed,
    SynSent,
    SynReceived,
    Open,
    /// It was reset.
    Reset,
}

/// What it agrees to, and how it writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) stamps: bool,
    pub(super) sack: bool,
    pub(super) shift: Option<u32>,
    pub(super) layout: Layout,
    /// Room for what comes.
    pub(super) room: u32,
    /// The largest payload of a segment; more than a packet has, where the network card cuts it.
    pub(super) most: u32,
    /// Its first sequence number.
    pub(super) isn: u32,
    /// Its clock when it began, milliseconds.
    pub(super) clock: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) habits: Habits,
    pub(super) state: State,
    /// The peer's first number.
    pub(super) peer: u32,
    /// First byte that is not acknowledged, next to be sent, end of what the application has written.
    pub(super) una: u32,
    pub(super) nxt: u32,
    pub(super) written: u32,
    /// The application has written its last byte.
    pub(super) closing: bool,
    /// Next byte expected, and what is there beyond it.
    pub(super) rcv: u32,
    ahead: Vec<[u32; 2]>,
    /// Where the peer's stream ends.
    end: Option<u32>,
    /// Right edge that the peer has been offered.
    pub(super) edge: u32,
    /// Right edge that the peer offers, and the segment that said so.
    pub(super) may: u32,
    told_by: (u32, u32),
    peer_shift: u32,
    stamps: bool,
    sack: bool,
    scaled: bool,
    recent: u32,
    /// Something must be acknowledged.
    pub(super) due: bool,
}

fn later(a: u32, b: u32) -> u32 {
    a.max(b)
}

impl Endpoint {
    pub(super) fn new(habits: Habits) -> Endpoint {
        Endpoint {
            habits,
            state: State::Closed,
            peer: 0,
            una: 0,
            nxt: 0,
            written: 1,
            closing: false,
            rcv: 0,
            ahead: Vec::new(),
            end: None,
            edge: 0,
            may: 0,
            told_by: (0, 0),
            peer_shift: 0,
            stamps: habits.stamps,
            sack: habits.sack,
            scaled: habits.shift.is_some(),
            recent: 0,
            due: false,
        }
    }

    /// Everything it has written has arrived, its end too.
    pub(super) fn is_done(&self) -> bool {
        self.una == self.written + u32::from(self.closing)
    }

    /// Whether it has received the peer's end.
    pub(super) fn has_end(&self) -> bool {
        self.end.is_some_and(|end| self.rcv > end)
    }

    /// Bytes that it has of the peer, in order or not.
    pub(super) fn has(&self) -> u32 {
        self.rcv - u32::from(self.has_end())
            + self.ahead.iter().map(|[left, right]| right - left).sum::<u32>()
    }

    fn clock(&self, now_ms: u32) -> u32 {
        self.habits.clock.wrapping_add(now_ms)
    }

    /// A segment that begins at `at` of the stream.
    fn segment(&mut self, at: u32, payload: u32, flags: u32, now_ms: u32) -> Frame {
        let syn = flags & SYN != 0;
        let room = self.habits.room;
        self.edge = later(self.edge, self.rcv + room);
        let (open, shift) =
            (self.edge.saturating_sub(self.rcv), self.habits.shift.filter(|_| self.scaled && !syn));
        let window = (open >> shift.unwrap_or(0)).min(0xffff);
        let mut says = Says {
            seq: self.habits.isn.wrapping_add(at),
            ack: if flags & ACK != 0 { self.peer.wrapping_add(self.rcv) } else { 0 },
            flags,
            window,
            stamps: self.stamps.then(|| [self.clock(now_ms), self.recent]),
            sacks: Vec::new(),
            shift: self.habits.shift.filter(|_| syn && self.scaled),
            sack_permitted: syn && self.sack,
        };
        if self.sack && !syn {
            let blocks = self.ahead.iter().take(if self.stamps { 3 } else { 4 });
            says.sacks = blocks.map(|block| block.map(|edge| self.peer.wrapping_add(edge))).collect();
        }
        if flags & ACK != 0 {
            self.due = false;
        }
        Frame::new(&says, self.habits.layout, payload, at)
    }

    /// Opens the connection, once.
    pub(super) fn connect(&mut self, now_ms: u32) -> Option<Frame> {
        if self.state == State::Closed {
            (self.state, self.nxt) = (State::SynSent, 1);
        }
        self.greet(now_ms)
    }

    /// The SYN or the SYN-ACK, once more.
    fn greet(&mut self, now_ms: u32) -> Option<Frame> {
        match self.state {
            State::SynSent => Some(self.segment(0, 0, SYN, now_ms)),
            State::SynReceived => Some(self.segment(0, 0, SYN | ACK, now_ms)),
            State::Closed | State::Open | State::Reset => None,
        }
    }

    /// An acknowledgement as it is.
    pub(super) fn acknowledge(&mut self, now_ms: u32) -> Option<Frame> {
        (self.state == State::Open).then(|| self.segment(self.nxt, 0, ACK, now_ms))
    }

    /// The next of what is written, as far as the peer's window goes.
    pub(super) fn send(&mut self, most: u32, now_ms: u32) -> Option<Frame> {
        if self.state != State::Open {
            return None;
        }
        let at = self.nxt;
        let payload = self.may.min(self.written).saturating_sub(at).min(most).min(self.habits.most);
        let ends = self.closing && at + payload == self.written && self.may > self.written;
        if payload == 0 && !ends {
            return None;
        }
        self.nxt = at + payload + u32::from(ends);
        let flags = ACK | if payload > 0 { PSH } else { 0 } | if ends { FIN } else { 0 };
        Some(self.segment(at, payload, flags, now_ms))
    }

    /// What its timer does: the first unacknowledged segment again, or a probe of a closed window.
    pub(super) fn again(&mut self, now_ms: u32) -> Option<Frame> {
        if self.state != State::Open {
            return self.greet(now_ms);
        }
        if self.una == self.nxt {
            // A keepalive, or a probe (`tcp_xmit_probe_skb`): the byte before the next, without it.
            return Some(self.segment(self.una.wrapping_sub(1), 0, ACK, now_ms));
        }
        let payload = self.written.min(self.nxt).saturating_sub(self.una).min(self.habits.most);
        let ends = self.nxt > self.written && self.una + payload == self.written;
        let flags = ACK | if payload > 0 { PSH } else { 0 } | if ends { FIN } else { 0 };
        Some(self.segment(self.una, payload, flags, now_ms))
    }

    /// Its process is killed: the kernel resets.
    pub(super) fn abort(&mut self, now_ms: u32) -> Option<Frame> {
        if self.state != State::Open {
            return None;
        }
        let frame = self.segment(self.nxt, 0, RST | ACK, now_ms);
        self.state = State::Reset;
        Some(frame)
    }

    /// A segment arrives. Returns what must be said to it at once.
    pub(super) fn receive(&mut self, frame: &Frame, now_ms: u32) -> Option<Frame> {
        assert!(frame.is_right(), "a wrong checksum: {frame:02x?}");
        let says = frame.says();
        let has = |flags: u32| says.flags & flags == flags;
        match self.state {
            State::Closed | State::Reset if has(RST) => return None,
            State::Closed if has(SYN) && !has(ACK) => {
                self.agree(&says);
                (self.state, self.nxt) = (State::SynReceived, 1);
                return Some(self.segment(0, 0, SYN | ACK, now_ms));
            }
            State::Closed | State::Reset => return Some(stray(frame, &says)),
            State::SynSent => {
                if has(RST) && says.ack == self.habits.isn.wrapping_add(1) {
                    self.state = State::Reset;
                }
                if !has(SYN | ACK) || says.ack != self.habits.isn.wrapping_add(1) {
                    return None;
                }
                self.agree(&says);
                (self.state, self.una) = (State::Open, 1);
                (self.may, self.told_by) = (1 + says.window, (0, 1));
                return self.acknowledge(now_ms);
            }
            State::SynReceived if has(SYN) => return self.greet(now_ms),
            State::SynReceived | State::Open => {}
        }
        let at = says.seq.wrapping_sub(self.peer);
        if has(RST) {
            // RFC 5961 section 3.2
            if at == self.rcv {
                self.state = State::Reset;
                return None;
            }
            return self.acknowledge(now_ms);
        }
        if has(SYN) {
            return self.acknowledge(now_ms);
        }
        let length = frame.payload + u32::from(has(FIN));
        let behind = (at.wrapping_add(length).wrapping_sub(self.rcv) as i32) < 0;
        if behind || at.wrapping_sub(self.rcv) as i32 > self.edge.saturating_sub(self.rcv) as i32 {
            return self.acknowledge(now_ms);
        }
        if let Some([value, _]) = says.stamps.filter(|_| self.stamps) {
            if (value.wrapping_sub(self.recent) as i32) < 0 {
                // PAWS
                return self.acknowledge(now_ms);
            }
            if at <= self.rcv {
                self.recent = value;
            }
        }
        if !has(ACK) {
            return None;
        }
        let ack = says.ack.wrapping_sub(self.habits.isn);
        if self.state == State::SynReceived && ack != 1 {
            // RFC 9293 section 3.10.7.4
            return Some(stray(frame, &says));
        }
        if ack > self.nxt {
            // Whatever else it carries is dropped (`tcp_ack`).
            return self.acknowledge(now_ms);
        }
        self.state = State::Open;
        let right = ack + (says.window << self.peer_shift);
        let (by, before) = ((at, ack), self.told_by);
        if ack > self.una || by.0 > before.0 || (by.0 == before.0 && (right > self.may || says.window == 0)) {
            (self.may, self.told_by) = (right, by);
        }
        self.una = later(self.una, ack);
        if frame.payload > 0 {
            assert_eq!(frame.truth, at, "a byte at another place of the stream");
        }
        self.take(at, frame.payload, has(FIN)).then(|| self.acknowledge(now_ms)).flatten()
    }

    /// Takes payload and end. Returns whether that must be said at once.
    fn take(&mut self, at: u32, payload: u32, ends: bool) -> bool {
        if payload == 0 && !ends {
            // A probe of what is past is answered.
            return at < self.rcv;
        }
        let before = self.rcv;
        let to = at + payload;
        if ends {
            self.end = Some(to);
        }
        self.due = true;
        let new = [at.max(self.rcv), to];
        if new[0] < new[1] {
            self.ahead.push(new);
            self.ahead.sort_unstable();
            let mut joined: Vec<[u32; 2]> = Vec::new();
            for [left, right] in self.ahead.drain(..) {
                match joined.last_mut() {
                    Some(last) if left <= last[1] => last[1] = last[1].max(right),
                    _ => joined.push([left, right]),
                }
            }
            self.ahead = joined;
        }
        if let Some([left, right]) = self.ahead.first().copied()
            && left <= self.rcv
        {
            self.rcv = self.rcv.max(right);
            self.ahead.remove(0);
        }
        if self.end == Some(self.rcv) {
            self.rcv += 1;
        }
        // In order and alone: the acknowledgement may wait.
        self.rcv == before || !self.ahead.is_empty()
    }

    fn agree(&mut self, syn: &Says) {
        self.peer = syn.seq;
        self.rcv = 1;
        self.stamps &= syn.stamps.is_some();
        self.recent = syn.stamps.map_or(0, |[value, _]| value);
        self.sack &= syn.sack_permitted;
        self.scaled &= syn.shift.is_some();
        self.peer_shift = if self.scaled { syn.shift.unwrap_or(0) } else { 0 };
        self.edge = 1;
    }
}

/// What a kernel says to a segment of no connection (RFC 9293 section 3.10.7.1).
fn stray(frame: &Frame, says: &Says) -> Frame {
    let (seq, ack, flags) = if says.flags & ACK != 0 {
        (says.ack, 0, RST)
    } else {
        let counts = frame.payload + u32::from(says.flags & SYN != 0) + u32::from(says.flags & FIN != 0);
        (0, says.seq.wrapping_add(counts), RST | ACK)
    };
    Frame::new(&Says { seq, ack, flags, ..Says::default() }, Layout::Aligned, 0, 0)
}
