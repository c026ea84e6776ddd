//! What cannot be handed over, multipath TCP (RFC 8684), fast open (RFC 7413) and congestion notification (RFC 3168, RFC 9768),
//! is hidden in the SYN from both members: they answer without it, and client and server do without.

use hotpair_abi::tcp::verdict::Verdict;

use super::conversation::{Conversation, arrive, carry, leave, say};
use super::wire::{self, AE, CWR, ECE, SYN, Segment};
use crate::bench::{Bench, WEB, alone};

/// MP_CAPABLE of version 1, which a SYN has without keys.
const MULTIPATH: [u8; 4] = [30, 4, 1, 0x81];
/// A fast open cookie, and a request for one.
const COOKIE: [u8; 10] = [34, 10, 0xc0, 0xff, 0xee, 3, 4, 5, 6, 7];
const REQUEST: [u8; 2] = [34, 2];
/// Fast open as it was before it had a number (RFC 6994, with the magic of RFC 7413 appendix), and another experiment.
const EXPERIMENTS: [u8; 8] = [254, 4, 0xf9, 0x89, 253, 4, 0x12, 0x34];
/// MSS, and what stands alone.
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];
/// TCP MD5, which is no experiment and which nobody may touch.
const SIGNATURE: [u8; 18] = [19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// Options of a SYN, and where among them something is to be hidden.
fn layouts() -> Vec<(Vec<u8>, Vec<usize>)> {
    let usual = wire::syn_options(7, 7, 0);
    let mut all = vec![
        // As Linux sends it, and a header as long as it gets.
        ([&usual[..], &MULTIPATH].concat(), vec![24]),
        ([&usual[..], &MULTIPATH, &COOKIE, &[1, 1]].concat(), vec![24, 28]),
        // Before everything else, and at an odd place.
        ([&MULTIPATH[..], &usual].concat(), vec![0]),
        ([&[1], &COOKIE[..], &[1], &usual].concat(), vec![1]),
        ([&[1], &REQUEST[..], &[1], &usual].concat(), vec![1]),
        ([&usual[..], &EXPERIMENTS].concat(), vec![24, 28]),
        // Short headers.
        (MULTIPATH.to_vec(), vec![0]),
        ([&[1, 1][..], &REQUEST, &MSS].concat(), vec![2]),
        ([&MSS[..], &COOKIE, &[1, 1]].concat(), vec![4]),
    ];
    // Nothing to hide, be it as long as it may.
    all.push((usual.clone(), vec![]));
    all.push(([&SIGNATURE[..], &[1, 1], &MSS].concat(), vec![]));
    // Behind the end, what looks like an option is none.
    all.push(([&MSS[..], &[0, 0, 0, 0], &MULTIPATH].concat(), vec![]));
    all
}

/// The client's SYN, with these options.
fn syn(conversation: &Conversation, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let syn = Segment {
        seq: super::conversation::C,
        ack: 0,
        flags: SYN,
        window: 64_000,
        options: options.to_vec(),
        payload: payload.to_vec(),
    };
    wire::frame(&conversation.to_entry(), &syn)
}

#[test]
fn multipath_and_fast_open_are_hidden_from_both_members_and_nothing_else_is() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let mut port = 4000;
        for (options, hidden) in layouts() {
            for (v6, tags, payload) in [
                (false, vec![], &b""[..]),
                (true, vec![], b""),
                // A cookie's owner sends its request at once.
                (false, vec![], b"GET / HTTP/1.1"),
                (true, vec![[0x81, 0, 0, 7]], b"odd"),
            ] {
                port += 1;
                let conversation = Conversation { v6, tags, ..Conversation::new(port) };
                let sent = syn(&conversation, &options, payload);
                for (slot, heard) in arrive(&bench, &sent).into_iter().enumerate() {
                    let heard = heard.expect("both members hear a SYN");
                    let what = format!("slot {slot}, {options:?}, IPv6 {v6}: {heard:02x?}");
                    let read = wire::read(&heard).expect("a segment");
                    assert_eq!((read.wrong_by, read.header_wrong_by), (0, 0), "{what}");
                    // All is as it was sent, but for the hidden options' kinds and the checksum.
                    let mut expected = sent.clone();
                    expected[..12].copy_from_slice(&heard[..12]);
                    for place in &hidden {
                        let at = read.header.start + 20 + place;
                        assert!(!matches!(heard[at], 0 | 1 | 30 | 34 | 253 | 254), "{what}");
                        expected[at] = heard[at];
                    }
                    let checksum = read.header.start + 16..read.header.start + 18;
                    expected[checksum.clone()].copy_from_slice(&heard[checksum]);
                    assert_eq!(heard, expected, "{what}");
                }
            }
        }
    });
}

#[test]
fn a_connection_that_asked_for_more_is_carried_over_as_an_ordinary_one() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        for v6 in [false, true] {
            let conversation = Conversation { v6, ..Conversation::new(4000) };
            let options = [&wire::syn_options(7, 7, 0)[..], &MULTIPATH, &COOKIE, &[1, 1]].concat();
            assert!(arrive(&bench, &syn(&conversation, &options, b"")).iter().all(Option::is_some));
            leave(&bench, 0, &conversation.syn_ack(0));
            assert!(leave(&bench, 1, &conversation.syn_ack(1)).client.is_some());
            let heard = conversation.client(&bench, &say(1, 1).data(10));
            assert!(heard.iter().all(Option::is_some), "{heard:?}");
        }
        let verdicts: Vec<_> =
            bench.plane.all_connections().expect("the table").iter().map(|(_, row)| row.verdict).collect();
        assert_eq!(verdicts, [Verdict::InSync as u32; 2]);
    });
}

#[test]
fn no_member_is_asked_for_congestion_notification() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let mut port = 4000;
        let usual = wire::syn_options(7, 7, 0);
        for (accurate, flags) in [(0, ECE | CWR), (AE, ECE | CWR), (AE, 0)] {
            for options in [&usual[..], &MSS, &[], &[&usual[..], &MULTIPATH].concat()] {
                for v6 in [false, true] {
                    port += 1;
                    let conversation = Conversation { v6, ..Conversation::new(port) };
                    let plain = syn(&conversation, options, b"");
                    let at = wire::read(&plain).expect("a segment").header.start;
                    let mut asking = plain.clone();
                    asking[at + 12] |= accurate;
                    asking[at + 13] |= flags;
                    wire::mend(&mut asking);
                    for heard in arrive(&bench, &asking) {
                        let heard = heard.expect("both members hear a SYN");
                        let read = wire::read(&heard).expect("a segment");
                        assert_eq!((read.wrong_by, read.header_wrong_by), (0, 0), "{heard:02x?}");
                        assert_eq!(heard[at + 12..at + 14], plain[at + 12..at + 14], "{heard:02x?}");
                    }
                }
            }
        }
    });
}

#[test]
fn where_nothing_is_carried_over_nothing_is_hidden() {
    alone(|| {
        let bench = Bench::new();
        bench.reset();
        for v6 in [false, true] {
            let conversation = Conversation { v6, ..Conversation::new(4000) };
            let sent = syn(&conversation, &[&MULTIPATH[..], &MSS].concat(), b"");
            for heard in arrive(&bench, &sent) {
                assert_eq!(heard.expect("both hear it")[12..], sent[12..]);
            }
        }
        assert_eq!(bench.count(WEB, hotpair_abi::count::Counter::TcpTranslated), 0);
    });
}
