//! A client's segments through the uplink's own driver: native XDP takes the plan along to the taps, generic XDP loses it,
//! and both members must understand them all the same.

use hotpair::config::XdpMode;
use hotpair_abi::Slot;
use hotpair_abi::count::Counter;

use super::conversation::{Conversation, carry, next_segment, say};
use super::wire;
use crate::bench::{Bench, WEB, alone, change_row, ifindex, tap_name};
use crate::ports::Port;

fn understood(mode: XdpMode) {
    alone(move || {
        let bench = Bench::with(mode, false);
        for v6 in [false, true] {
            for tags in [vec![], vec![[0x81, 0, 0, 5]]] {
                carry(&bench);
                let conversation = Conversation { v6, tags, ..Conversation::new(4000) };
                conversation.open(&bench);
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
