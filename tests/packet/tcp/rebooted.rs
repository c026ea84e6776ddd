//! A member that reboots in its place: its new kernel knows no connection of the one before.

use hotpair_abi::heartbeat::State;
use hotpair_abi::tcp::connection::{Connection, Scene};
use hotpair_abi::{Epoch, Slot};

use super::conversation::{Conversation, carry, say, word};
use super::wire::{ACK, RST};
use crate::bench::{Bench, WEB, alone, boottime_ns, pair_mac};
use crate::frames::heartbeat;

fn scene(bench: &Bench) -> Scene {
    bench.plane.scene(WEB, boottime_ns())
}

fn row(bench: &Bench, conversation: &Conversation) -> Connection {
    let [a, b] = conversation.port.to_be_bytes();
    let ports = u32::from_ne_bytes([a, b, 0, 80]);
    let rows = bench.plane.connections(WEB).expect("the table");
    rows.into_iter().find(|(tuple, _)| tuple.ports == ports).expect("its row").1
}

/// Whether slot 1 can go on with a connection.
fn survives(bench: &Bench, conversation: &Conversation) -> bool {
    row(bench, conversation).survives(1, &scene(bench))
}

#[test]
fn a_standby_that_has_rebooted_goes_on_with_the_connections_that_began_afterwards() {
    alone(|| {
        let bench = Bench::new();
        for v6 in [false, true] {
            carry(&bench);
            let beat = |boot, n| {
                bench.run_from_guest(WEB, Slot::One, &heartbeat(pair_mac(WEB), boot, n, State::Serving));
            };
            let older = Conversation { v6, ..Conversation::new(4000) };
            older.open(&bench);
            beat(7, 1);
            beat(7, 2);
            assert!(survives(&bench, &older), "its first heartbeat says nothing new of it, nor its second");
            beat(8, 1);
            assert!(!survives(&bench, &older), "its kernel is another one");
            older.client(&bench, &say(1, 1).data(10));
            assert!(older.member(&bench, 0, &say(1, 11)).client.is_some(), "nothing waits for it");
            let newer = Conversation { v6, ..Conversation::new(4001) };
            newer.open(&bench);
            beat(8, 2);
            assert!(survives(&bench, &newer));

            bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_active(Slot::One).with_protect(false));
            let end = row(&bench, &older).nudge(&scene(&bench)).expect("its end");
            assert_eq!(
                (end.client.flags, end.member.any()),
                (u32::from(RST | ACK), false),
                "the client is told of it"
            );
            let came = newer.member(&bench, 1, &say(1, 1).data(5));
            let heard = newer.heard_by_client(&came.client.expect("the answer"));
            assert_eq!((heard.flags & RST, heard.payload.len()), (0, 5));
        }
    });
}
