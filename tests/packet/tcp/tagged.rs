//! Connections behind VLAN tags.

use aya::maps::{HashMap, Map, MapData};
use hotpair_abi::maps::{ReturnKey, ReturnPath};
use hotpair_abi::tcp::verdict::Verdict;

use super::conversation::{Conversation, arrive, carry, leave, say};
use crate::bench::{Bench, alone, bpf_dir};
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
