//! Connections behind VLAN tags.

use aya::maps::{HashMap, Map, MapData};
use hotpair_abi::count::Counter;
use hotpair_abi::maps::{ReturnKey, ReturnPath};
use hotpair_abi::tcp::verdict::Verdict;

use super::conversation::{Conversation, arrive, carry, carry_as, leave, say};
use crate::bench::{Bench, WEB, alone, bpf_dir};
use crate::frames::{CLIENT_MAC, UPLINK_MAC, service, vlan};

/// Nobody's way back is known any more, as when somebody has sent tagged frames from very many addresses.
fn forget_ways() {
    let map = MapData::from_pin(bpf_dir().join("maps").join("RETURN")).expect("the pin");
    let mut ways: HashMap<_, ReturnKey, ReturnPath> = Map::LruHashMap(map).try_into().expect("its shape");
    let keys: Vec<_> = ways.keys().collect::<Result<_, _>>().expect("its keys");
    assert!(!keys.is_empty(), "tagged frames have come");
    for key in keys {
        ways.remove(&key).expect("it was there");
    }
}

#[test]
fn a_known_connection_does_not_depend_on_what_others_can_make_forgotten() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        for (port, tags) in [(4000, vec![vlan(5)]), (4001, vec![service(7), vlan(5)])] {
            for v6 in [false, true] {
                let conversation = Conversation { v6, tags: tags.clone(), ..Conversation::new(port) };
                conversation.open(&bench);
                conversation.client(&bench, &say(1, 1).data(10));
                conversation.member(&bench, 1, &say(1, 11));
                forget_ways();
                let frame = conversation.member(&bench, 0, &say(1, 11).data(70)).client.expect("the answer");
                let link = [&CLIENT_MAC[..], &UPLINK_MAC, &tags.concat()].concat();
                assert_eq!(frame[..link.len()], link, "{frame:02x?}");
                assert_eq!(conversation.heard_by_client(&frame).payload.len(), 70);
                conversation.client(&bench, &say(11, 71));
            }
        }
    });
}

#[test]
fn an_answer_of_the_standby_behind_tags_is_counted_once() {
    alone(|| {
        let bench = Bench::new();
        carry_as(&bench, true);
        for tags in [vec![], vec![vlan(5)]] {
            let conversation = Conversation { tags, ..Conversation::new(4000) };
            conversation.open(&bench);
            conversation.client(&bench, &say(1, 1).data(10));
            let counts =
                || [Counter::ActiveSent, Counter::TcpAnsweredFirst].map(|counter| bench.count(WEB, counter));
            let before = counts();
            assert!(conversation.member(&bench, 1, &say(1, 11).data(70)).client.is_some());
            assert_eq!(counts(), before.map(|count| count + 1), "{:?}", conversation.tags);
        }
    });
}

#[test]
fn a_client_that_asks_once_more_by_another_router_is_answered_there() {
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation { tags: vec![vlan(5)], ..Conversation::new(4000) };
        let mut syn = conversation.syn();
        arrive(&bench, &syn);
        syn[6..12].copy_from_slice(&ROUTER);
        arrive(&bench, &syn);
        leave(&bench, 0, &conversation.syn_ack(0));
        let answer = leave(&bench, 1, &conversation.syn_ack(1)).client.expect("the second one passes");
        assert_eq!(answer[..6], ROUTER);
    });
}

#[test]
fn a_tag_that_says_only_the_priority_is_no_part_of_a_connection() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        for v6 in [false, true] {
            // The members' kernels answer without it, and the client may leave it away.
            let plain = Conversation { v6, ..Conversation::new(4000) };
            let tagged = Conversation { tags: vec![[0x81, 0, 0xa0, 0]], ..plain.clone() };
            arrive(&bench, &tagged.syn());
            assert!(leave(&bench, 0, &plain.syn_ack(0)).client.is_none(), "held");
            assert!(leave(&bench, 1, &plain.syn_ack(1)).client.is_some(), "the second one passes");
            for (conversation, at) in [(&tagged, 1), (&plain, 11)] {
                let heard = conversation.client(&bench, &say(at, 1).data(10));
                for (slot, frame) in heard.iter().enumerate() {
                    let frame = frame.as_ref().expect("both hear it");
                    assert_eq!(plain.heard_by_member(slot, frame).ack, 1, "in its own numbers");
                }
            }
        }
        let rows = bench.plane.all_connections().expect("the table");
        assert_eq!(rows.iter().map(|(_, row)| row.verdict).collect::<Vec<_>>(), [Verdict::InSync as u32; 2]);
    });
}
