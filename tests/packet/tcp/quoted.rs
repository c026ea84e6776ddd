//! ICMP errors about a connection reach the member that speaks in its own numbers.

use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, Slot};

use super::conversation::{Conversation, M, carry, word};
use super::wire::{self, ACK, Segment};
use crate::bad::read::ones_sum;
use crate::bench::{Bench, WEB, alone};
use crate::frames::{CLIENT_MAC, Ip, UPLINK_MAC, raw_v4, raw_v6, tagged};
use crate::ports::Port;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A router's "too large for what comes behind me" about a segment that the client's side has seen, with these numbers.
pub(super) fn too_large(conversation: &Conversation, seq: u32, quote: usize) -> Vec<u8> {
    let about = Segment { seq, ack: 9, flags: ACK, window: 1, options: Vec::new(), payload: vec![7; 100] };
    let plain = Conversation { tags: Vec::new(), ..conversation.clone() };
    let about = wire::frame(&plain.to_client(), &about);
    let way = conversation.to_entry();
    let icmp =
        |kind: u8, code: u8, mtu: &[u8; 4]| [&[kind, code, 0, 0][..], mtu, &about[14..14 + quote]].concat();
    let frame = match (way.src, way.dst) {
        (Ip::V4(src), Ip::V4(dst)) => {
            let mut message = icmp(3, 4, &[0, 0, 5, 0]);
            let sum = !ones_sum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            raw_v4(UPLINK_MAC, CLIENT_MAC, src, dst, ICMP, 0, &[], &message)
        }
        (Ip::V6(src), Ip::V6(dst)) => {
            let mut message = icmp(2, 0, &[0, 0, 5, 0]);
            let pseudo = [&src[..], &dst, &(message.len() as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
            let sum = !ones_sum(&[&pseudo, &message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            raw_v6(UPLINK_MAC, CLIENT_MAC, src, dst, ICMPV6, 64, &message)
        }
        _ => unreachable!("one family"),
    };
    tagged(&frame, &conversation.tags)
}

/// Everything about an ICMP error in a frame: the quoted sequence number, and by how much the checksum is wrong.
fn read(frame: &[u8], v6: bool, tags: usize) -> (u32, u16) {
    let l3 = 14 + 4 * tags;
    let (ip, inner) = if v6 { (40, 40) } else { (20, 20) };
    let message = &frame[l3 + ip..];
    let at = 8 + inner + 4;
    let seq = u32::from_be_bytes(message[at..at + 4].try_into().expect("four bytes"));
    let mut pseudo = Vec::new();
    if v6 {
        pseudo.extend(&frame[l3 + 8..l3 + 40]);
        pseudo.extend((message.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, ICMPV6]);
    }
    (seq, !ones_sum(&[&pseudo, message]))
}

#[test]
fn an_error_about_a_segment_carries_the_speakers_numbers() {
    alone(|| {
        let bench = Bench::new();
        for v6 in [false, true] {
            for tags in [vec![], vec![[0x81, 0, 0, 5]]] {
                carry(&bench);
                let conversation = Conversation { v6, tags, ..Conversation::new(4000) };
                conversation.open(&bench);
                for (speaker, translated) in [(Slot::Zero, 1), (Slot::One, 0)] {
                    bench.plane.set_role(WEB, word().with_active(speaker));
                    let before = bench.count(WEB, Counter::TcpQuoteTranslated);
                    // As much as a router must quote (RFC 792), and more.
                    for quote in [if v6 { 48 } else { 28 }, 90] {
                        let error = too_large(&conversation, M[1].wrapping_add(70), quote);
                        assert_eq!(read(&error, v6, conversation.tags.len()).1, 0, "the test's own checksum");
                        bench.run_from_uplink_live(&error);
                        for slot in Slot::BOTH {
                            let got =
                                bench.tap(WEB, slot).receive("the error", |frame| frame.len() == error.len());
                            let (seq, wrong_by) = read(&got, v6, conversation.tags.len());
                            assert_eq!(
                                seq,
                                M[speaker as usize].wrapping_add(70),
                                "speaker {speaker}, v6 {v6}"
                            );
                            assert!(matches!(wrong_by, 0 | 0xffff), "checksum {wrong_by:#x}");
                        }
                    }
                    let rose = bench.count(WEB, Counter::TcpQuoteTranslated) - before;
                    assert_eq!(rose, translated * 2, "speaker {speaker}");
                }
                // Of somebody that nobody knows: as it came.
                let stranger = Conversation { port: 4001, ..conversation.clone() };
                let error = too_large(&stranger, M[1], 90);
                bench.run_from_uplink_live(&error);
                let got = bench.tap(WEB, Slot::Zero).receive("the error", |frame| frame.len() == error.len());
                assert_eq!(got[6..], error[6..]);
            }
        }
    });
}

/// The error is a conversation of its own and goes over at once; the connection that it is about does not.
#[test]
fn during_a_switchover_an_error_carries_the_numbers_of_whoever_speaks_on_its_connection() {
    alone(|| {
        let bench = Bench::new();
        for v6 in [false, true] {
            carry(&bench);
            let older = Conversation { v6, ..Conversation::new(4000) };
            older.open(&bench);
            bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_handover(true));
            let newer = Conversation { v6, ..Conversation::new(4001) };
            newer.open(&bench);
            for (conversation, speaker) in [(older, 0), (newer, 1)] {
                let error = too_large(&conversation, M[1].wrapping_add(70), 90);
                bench.run_from_uplink_live(&error);
                for slot in Slot::BOTH {
                    let got = bench.tap(WEB, slot).receive("the error", |frame| frame.len() == error.len());
                    assert_eq!(
                        read(&got, v6, 0).0,
                        M[speaker].wrapping_add(70),
                        "speaker {speaker}, v6 {v6}"
                    );
                }
            }
        }
    });
}
