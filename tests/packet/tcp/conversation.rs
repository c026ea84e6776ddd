//! A connection between a client and both members, put through the programs segment by segment.

use hotpair::dataplane::PairSetup;
use hotpair_abi::{GATEWAY_MAC, MARK, RoleWord, Slot};

use super::wire::{self, ACK, Read, SYN, Segment, Way};
use crate::bench::{Bench, WEB, entry_v4, entry_v6, pair_mac, setup};
use crate::frames::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC};
use crate::ports::Port;
use crate::test_run::{REDIRECT, Ran};

/// The client's first sequence number, shortly before the wrap.
pub(crate) const C: u32 = 0xffff_fff0;
/// The members' first sequence numbers, more than 2^31 apart.
pub(crate) const M: [u32; 2] = [1_000, 0x9000_0000];
/// The members' clocks at the handshake.
const T: [u32; 2] = [50_000, 4_000_000_000];
/// Shift of everybody's window.
const SHIFT: u8 = 7;

/// A segment in the making; numbers relative to the sender's first one.
#[derive(Clone, Debug)]
pub(crate) struct Say {
    seq: u32,
    ack: u32,
    flags: u8,
    payload: Vec<u8>,
}

/// An acknowledgement.
pub(crate) fn say(seq: u32, ack: u32) -> Say {
    Say { seq, ack, flags: ACK, payload: Vec::new() }
}

impl Say {
    pub(crate) fn data(self, bytes: usize) -> Say {
        Say { payload: (0..bytes).map(|i| i as u8).collect(), flags: self.flags | wire::PSH, ..self }
    }

    /// With other bytes.
    pub(crate) fn other(self) -> Say {
        Say { payload: self.payload.iter().map(|byte| !byte).collect(), ..self }
    }

    pub(crate) fn with(self, flags: u8) -> Say {
        Say { flags: self.flags | flags, ..self }
    }
}

/// What becomes of a member's segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    /// What the client gets.
    pub(crate) client: Option<Vec<u8>>,
    /// What a member is told in the client's name.
    pub(crate) told: Option<Vec<u8>>,
}

/// One client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) v6: bool,
    pub(crate) port: u16,
    pub(crate) tags: Vec<[u8; 4]>,
    /// The last address word of the client: many clients are many connections.
    pub(crate) client: u16,
    /// Whose numbering the client has learned.
    pub(crate) base: usize,
}

/// WEB's connections are carried on, with the gate; nobody is silent.
pub(crate) fn carry(bench: &Bench) {
    carry_as(bench, false);
}

/// As [`carry`], and the first answer is heard or not.
pub(crate) fn carry_as(bench: &Bench, first: bool) {
    bench.reset();
    let calm = PairSetup {
        tcp: true,
        compare: true,
        first,
        timeout: std::time::Duration::from_secs(3600),
        ..setup(WEB, "web")
    };
    bench.plane.put_pair(WEB, &calm).expect("a pair");
    bench.plane.set_role(WEB, word());
    bench.plane.forget_connections(|_| true).expect("the table");
    drain(bench);
    bench.client.drain();
}

/// Throws away what has come out of WEB's taps.
pub(crate) fn drain(bench: &Bench) {
    for slot in Slot::BOTH {
        bench.tap(WEB, slot).drain();
    }
}

/// The role word of a pair whose connections are gated.
pub(crate) fn word() -> RoleWord {
    Bench::word().with_protect(true).with_gate(true)
}

impl Conversation {
    pub(crate) fn new(port: u16) -> Conversation {
        Conversation { v6: false, port, tags: Vec::new(), client: 50, base: 1 }
    }

    fn ends(&self) -> (Ip, Ip) {
        let [a, b] = self.client.to_be_bytes();
        if self.v6 {
            let mut client = CLIENT_V6;
            client[14..].copy_from_slice(&[a, b]);
            (Ip::V6(client), Ip::V6(entry_v6(WEB)))
        } else {
            // Of the client's own network as far as there are addresses: answers find their way.
            let client = if a == 0 { [CLIENT_V4[0], CLIENT_V4[1], CLIENT_V4[2], b] } else { [198, 18, a, b] };
            (Ip::V4(client), Ip::V4(entry_v4(WEB)))
        }
    }

    /// From the client.
    pub(crate) fn to_entry(&self) -> Way {
        let (src, dst) = self.ends();
        Way { macs: [UPLINK_MAC, CLIENT_MAC], src, dst, ports: (self.port, 80), tags: self.tags.clone() }
    }

    /// From a member.
    pub(crate) fn to_client(&self) -> Way {
        let (dst, src) = self.ends();
        let macs = [GATEWAY_MAC, pair_mac(WEB)];
        Way { macs, src, dst, ports: (80, self.port), tags: self.tags.clone() }
    }

    /// The client's SYN.
    pub(crate) fn syn(&self) -> Vec<u8> {
        let options = wire::syn_options(SHIFT, 7, 0);
        let syn = Segment { seq: C, ack: 0, flags: SYN, window: 64_000, options, payload: Vec::new() };
        wire::frame(&self.to_entry(), &syn)
    }

    /// A member's SYN-ACK.
    pub(crate) fn syn_ack(&self, slot: usize) -> Vec<u8> {
        let options = wire::syn_options(SHIFT, T[slot], 7);
        let (seq, ack) = (M[slot], C.wrapping_add(1));
        let segment = Segment { seq, ack, flags: SYN | ACK, window: 64_000, options, payload: Vec::new() };
        wire::frame(&self.to_client(), &segment)
    }

    /// What the client says.
    pub(crate) fn client_segment(&self, say: &Say) -> Segment {
        Segment {
            seq: C.wrapping_add(say.seq),
            ack: M[self.base].wrapping_add(say.ack),
            flags: say.flags,
            window: 500,
            options: wire::stamps(8, T[self.base]),
            payload: say.payload.clone(),
        }
    }

    /// What a member says.
    pub(crate) fn member_segment(&self, slot: usize, say: &Say) -> Segment {
        Segment {
            seq: M[slot].wrapping_add(say.seq),
            ack: C.wrapping_add(say.ack),
            flags: say.flags,
            window: 500,
            options: wire::stamps(T[slot].wrapping_add(1), 8),
            payload: say.payload.clone(),
        }
    }

    /// The client says something: what comes out of both taps.
    pub(crate) fn client(&self, bench: &Bench, say: &Say) -> [Option<Vec<u8>>; 2] {
        arrive(bench, &wire::frame(&self.to_entry(), &self.client_segment(say)))
    }

    /// A member says something.
    pub(crate) fn member(&self, bench: &Bench, slot: usize, say: &Say) -> Came {
        leave(bench, slot, &wire::frame(&self.to_client(), &self.member_segment(slot, say)))
    }

    /// A whole handshake: slot 0 answers first, so the client learns slot 1's numbers.
    pub(crate) fn open(&self, bench: &Bench) {
        arrive(bench, &self.syn());
        assert!(leave(bench, 0, &self.syn_ack(0)).client.is_none(), "held");
        assert!(leave(bench, 1, &self.syn_ack(1)).client.is_some(), "the second one passes");
        self.client(bench, &say(1, 1));
    }

    /// A frame's segment, with the client's and a member's first numbers taken off: what that member has heard.
    pub(crate) fn heard_by_member(&self, slot: usize, frame: &[u8]) -> Read {
        let read = wire::read(frame).expect("a segment");
        assert_eq!((read.wrong_by, read.header_wrong_by), (0, 0), "{frame:02x?}");
        Read { seq: read.seq.wrapping_sub(C), ack: read.ack.wrapping_sub(M[slot]), ..read }
    }

    /// The same for the client.
    pub(crate) fn heard_by_client(&self, frame: &[u8]) -> Read {
        let read = wire::read(frame).expect("a segment");
        assert_eq!((read.wrong_by, read.header_wrong_by), (0, 0), "{frame:02x?}");
        Read { seq: read.seq.wrapping_sub(M[self.base]), ack: read.ack.wrapping_sub(C), ..read }
    }
}

/// A frame comes in from the wire: what both of WEB's taps get.
pub(crate) fn arrive(bench: &Bench, frame: &[u8]) -> [Option<Vec<u8>>; 2] {
    bench.run_from_uplink_live(frame);
    Slot::BOTH.map(|slot| next_segment(bench.tap(WEB, slot)))
}

/// The next TCP segment; what the kernels at both ends have to say to each other is skipped.
pub(crate) fn next_segment(port: &impl Port) -> Option<Vec<u8>> {
    std::iter::from_fn(|| port.try_receive()).find(|frame| wire::is_tcp(frame))
}

/// A member of WEB sends a frame.
pub(crate) fn run(bench: &Bench, slot: usize, frame: &[u8]) -> Ran {
    bench.run_from_guest(WEB, Slot::from_bit(slot as u64), frame)
}

/// A member of WEB sends a frame: who gets what.
pub(crate) fn leave(bench: &Bench, slot: usize, frame: &[u8]) -> Came {
    let ran = run(bench, slot, frame);
    let cloned = next_segment(&bench.client);
    if ran.verdict as i32 != REDIRECT {
        return Came { client: cloned, told: None };
    }
    if ran.mark == MARK {
        return Came { client: cloned, told: Some(ran.frame) };
    }
    assert!(cloned.is_none(), "sent twice");
    Came { client: Some(ran.frame), told: None }
}
