//! A client's segments through the uplink's own driver: native XDP takes the plan along to the taps, generic XDP loses it,
//! and both members must understand them all the same.

use std::time::Duration;

use hotpair::config::XdpMode;
use hotpair::dataplane::Dataplane;
use hotpair_abi::Slot;
use hotpair_abi::count::Counter;
use hotpair_abi::tcp::edit::Edit;
use hotpair_abi::tcp::plan::Plan;
use hotpair_abi::tcp::{segment, to_member};

use super::conversation::{Conversation, carry, next_segment, say};
use super::wire;
use crate::bench::{
    Bench, HOST_INTERNAL, MAX_PAIRS, WEB, alone, boottime_ns, bpf_dir, change_row, ifindex, pair_mac,
    tap_name,
};
use crate::frames::{CLIENT_MAC, UPLINK_MAC, udp};
use crate::ports::Port;

/// What a segment that has no plan is addressed to, on its way to the taps.
const KNOWN: [u8; 6] = *b"\x06hpTCP";

fn understood(mode: XdpMode) {
    alone(move || {
        let bench = Bench::with(mode, false);
        for v6 in [false, true] {
            for tags in [vec![], vec![[0x81, 0, 0, 5]]] {
                carry(&bench);
                let conversation = Conversation { v6, tags, ..Conversation::new(4000) };
                conversation.open(&bench);
                let answer = conversation.client_segment(&say(1, 1));
                let ran = bench.run_from_uplink(&wire::frame(&conversation.to_entry(), &answer));
                let expected = if mode == XdpMode::Native { pair_mac(WEB) } else { KNOWN };
                assert_eq!(ran.frame[..6], expected, "planned in native XDP, and in no other");
                let before = bench.count(WEB, Counter::TcpTranslated);
                let segments = [say(1, 1), say(1, 1).data(33), say(34, 1).data(1000).with(wire::FIN)];
                for said in &segments {
                    bench
                        .client
                        .send(&wire::frame(&conversation.to_entry(), &conversation.client_segment(said)));
                    for slot in Slot::BOTH {
                        let frame = next_segment(bench.tap(WEB, slot)).expect("heard");
                        let heard = conversation.heard_by_member(slot as usize, &frame);
                        let sent = conversation.client_segment(said);
                        assert_eq!(heard.seq, sent.seq.wrapping_sub(super::conversation::C), "{said:?}");
                        assert_eq!((heard.ack, heard.payload.len()), (1, sent.payload.len()), "{said:?}");
                        assert_eq!(frame[heard.payload.clone()], sent.payload[..]);
                    }
                }
                assert!(bench.count(WEB, Counter::TcpTranslated) - before >= segments.len() as u64);
            }
        }
    });
}

#[test]
fn both_members_understand_what_comes_through_native_xdp() {
    understood(XdpMode::Native);
}

#[test]
fn both_members_understand_what_comes_through_generic_xdp() {
    understood(XdpMode::Generic);
}

#[test]
fn when_a_client_was_last_heard_is_known_to_a_tick() {
    /// The kernel's slowest, and one that comes late.
    const TICK: u64 = 20_000_000;
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation::new(4000);
        conversation.open(&bench);
        let heard = || bench.plane.connections(WEB).expect("the table")[0].1.heard_ns;
        for round in 0..4 {
            std::thread::sleep(Duration::from_nanos(2 * TICK));
            let before = boottime_ns();
            for at in [0, 10] {
                let data = conversation.client_segment(&say(1 + 20 * round + at, 1).data(10));
                let ran = bench.run_from_uplink(&wire::frame(&conversation.to_entry(), &data));
                assert_eq!(ran.frame[..6], pair_mac(WEB), "planned");
                assert!((before - TICK..=boottime_ns()).contains(&heard()), "{before} {}", heard());
            }
        }
    });
}

/// What a frame brings along in front of it, from whoever has handed it on, is not a plan, however much it looks like one.
#[test]
fn metadata_that_a_frame_comes_with_is_no_plan() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let taps = Slot::BOTH.map(|slot| ifindex(&tap_name(WEB, slot)));
        let mut plan = Plan::default();
        let usual = segment::Segment { stamps_at: segment::USUAL, ..Default::default() };
        plan.begin(taps, 34, &usual);
        for slot in [0, 1] {
            plan.enter(slot, to_member::EDITED, &Edit { ack: 0x0bad_0bad, ..Edit::default() }, &usual);
        }
        let words = [taps[0], taps[1], u32::from(plan.magic) | 34 << 16 | u32::from(plan.how) << 24];
        let parts = plan.part.map(|part| [part.ack, part.echo]).concat();
        let mut metadata: Vec<u8> = words.into_iter().chain(parts).flat_map(u32::to_ne_bytes).collect();
        metadata.extend(plan.window.into_iter().flat_map(u16::to_ne_bytes));
        assert_eq!(metadata.len(), size_of::<Plan>());

        let conversation = Conversation::new(4000);
        conversation.open(&bench);
        let way = conversation.to_entry();
        let datagram = udp(UPLINK_MAC, CLIENT_MAC, way.src, way.dst, (4000, 80), &[7; 64]);
        for metadata in [&metadata[..], &metadata[..4]] {
            bench.run_from_uplink_behind(metadata, &datagram);
            for slot in Slot::BOTH {
                let is_it = |frame: &Vec<u8>| frame.get(12..) == datagram.get(12..);
                let heard = std::iter::from_fn(|| bench.tap(WEB, slot).try_receive()).find(is_it);
                assert_eq!(heard.expect("the datagram, as it was")[..6], pair_mac(WEB), "slot {slot}");
            }
            // One that is planned, and one that no plan is made for.
            let plain = conversation.client_segment(&say(1, 1).data(33));
            let mut other = plain.clone();
            other.options.rotate_left(2);
            for sent in [plain, other] {
                bench.run_from_uplink_behind(metadata, &wire::frame(&way, &sent));
                for slot in Slot::BOTH {
                    let frame = next_segment(bench.tap(WEB, slot)).expect("heard");
                    let heard = conversation.heard_by_member(slot.index(), &frame);
                    assert_eq!(
                        (heard.seq, heard.ack, &frame[..6]),
                        (1, 1, &pair_mac(WEB)[..]),
                        "slot {slot}"
                    );
                    assert_eq!(frame[heard.payload.clone()], sent.payload[..]);
                }
            }
        }
    });
}

/// The pair's row says another tap than its devmap: what a plan meets that was made before a tap was replaced.
#[test]
fn a_copy_that_its_plan_does_not_know_is_dropped_and_counted_for_its_pair() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation::new(4000);
        conversation.open(&bench);
        let before = bench.count(WEB, Counter::TcpRewriteFailed);
        change_row(WEB, |row| row.tap_ifindex[1] = 999);
        let heard = conversation.client(&bench, &say(1, 1).data(10));
        change_row(WEB, |row| row.tap_ifindex[1] = ifindex(&tap_name(WEB, Slot::One)));
        assert!(heard[0].is_some() && heard[1].is_none(), "{heard:02x?}");
        assert_eq!(bench.count(WEB, Counter::TcpRewriteFailed), before + 1);
    });
}

#[test]
fn while_the_mode_changes_no_member_hears_numbers_that_are_not_its_own() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation::new(4000);
        conversation.open(&bench);
        let frame = wire::frame(&conversation.to_entry(), &conversation.client_segment(&say(1, 1).data(33)));
        let Bench { plane, uplink, client, taps } = bench;
        drop(plane);
        let mut heard = [0; 2];
        for mode in [XdpMode::Generic, XdpMode::Native].repeat(3) {
            std::thread::scope(|scope| {
                let change = scope.spawn(|| {
                    let host = HOST_INTERNAL.into();
                    drop(Dataplane::open(&bpf_dir(), mode, &uplink, host, MAX_PAIRS).expect("adopting"));
                });
                let mut more = 20;
                while more > 0 {
                    client.send(&frame);
                    for slot in Slot::BOTH {
                        while let Some(frame) = next_segment(&taps[WEB.0 as usize][slot.index()]) {
                            let read = conversation.heard_by_member(slot.index(), &frame);
                            assert_eq!((read.seq, read.ack), (1, 1), "slot {slot}, to {mode:?}");
                            assert_eq!(frame[..6], pair_mac(WEB));
                            heard[slot.index()] += 1;
                        }
                    }
                    std::thread::sleep(Duration::from_micros(100));
                    more -= i32::from(change.is_finished());
                }
            });
        }
        assert!(heard.into_iter().all(|frames| frames > 200), "{heard:?}");
    });
}
