//! A client's segments through the uplink's own driver: native XDP takes the plan along to the taps, generic XDP loses it,
//! and both members must understand them all the same.

use hotpair::config::XdpMode;
use hotpair_abi::Slot;
use hotpair_abi::count::Counter;

use super::conversation::{Conversation, carry, next_segment, say};
use super::wire;
use crate::bench::{Bench, WEB, alone};
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
