//! What the controller hears of a connection.

use std::time::{Duration, Instant};

use hotpair::dataplane::Events;
use hotpair_abi::Slot;
use hotpair_abi::count::Counter;
use hotpair_abi::event::{Event, Kind};
use hotpair_abi::heartbeat::State;

use super::conversation::{Conversation, carry, run, say, word};
use crate::bench::{Bench, WEB, ifindex, listening, pair_mac, tap_name};
use crate::frames::{self, Ip};

/// Whatever waits to be heard of connections.
async fn heard(events: &mut Events) -> Vec<Event> {
    let mut heard = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(100), events.next()).await {
        heard.push(event);
    }
    heard.retain(|event| event.kind != Kind::StateChanged as u32);
    heard
}

/// That this kind of thing has happened to this conversation, whose standby is slot 1.
fn is_of(conversation: &Conversation, kind: Kind, event: &Event) -> bool {
    let address = match conversation.to_entry().src {
        Ip::V4([a, b, c, d]) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
        Ip::V6(address) => address,
    };
    let ports = [conversation.port.to_be_bytes(), 80u16.to_be_bytes()].concat();
    let data = [&address[..], &ports, &[0; 4]].concat();
    let whose = (event.kind, event.pair, event.slot, event.ifindex, event.role);
    whose == (kind as u32, WEB.0, 1, ifindex(&tap_name(WEB, Slot::One)), word().0) && event.data[..] == data
}

/// The standby is late with this conversation, catches up, and then says something else than the primary.
fn suffer(bench: &Bench, conversation: &Conversation) {
    conversation.open(bench);
    conversation.client(bench, &say(1, 1).data(10));
    conversation.member(bench, 0, &say(1, 11));
    std::thread::sleep(Duration::from_millis(11));
    conversation.member(bench, 0, &say(1, 11));
    conversation.member(bench, 1, &say(1, 11));
    conversation.member(bench, 0, &say(1, 11).data(9));
    conversation.member(bench, 1, &say(1, 11).data(9).other());
}

#[test]
fn gates_and_divergence_are_told_with_the_client_and_once_a_second_at_most() {
    const ALL: [Kind; 3] = [Kind::GateOpened, Kind::GateClosed, Kind::Diverged];
    const COUNTED: [Counter; 3] = [Counter::TcpGateOpened, Counter::TcpGateClosed, Counter::TcpDiverged];
    listening(async |bench, mut events| {
        for v6 in [false, true] {
            carry(bench);
            let before = COUNTED.map(|counter| bench.count(WEB, counter));
            let began = Instant::now();
            let mut clients = (4000..).map(|port| Conversation { v6, ..Conversation::new(port) });
            let first = clients.next().expect("a client");
            suffer(bench, &first);
            for conversation in clients.by_ref().take(20) {
                suffer(bench, &conversation);
            }
            let told = heard(&mut events).await;
            let ours: Vec<_> = told.iter().take(3).zip(ALL).map(|(e, kind)| is_of(&first, kind, e)).collect();
            assert_eq!(ours, [true; 3], "{told:?}");
            let most = 3 * (1 + began.elapsed().as_secs() as usize);
            assert!(told.len() <= most, "{} of {most}: {told:?}", told.len());
            let counted = COUNTED.map(|counter| bench.count(WEB, counter));
            assert_eq!(counted, before.map(|count| count + 21), "each is counted");
            // A second later there is something to tell again.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let later = clients.next().expect("a client");
            suffer(bench, &later);
            let told = heard(&mut events).await;
            assert!(told.len() == 3, "{told:?}");
            assert!(told.iter().zip(ALL).all(|(event, kind)| is_of(&later, kind, event)), "{told:?}");
        }
    });
}

#[test]
fn a_gate_that_a_heartbeat_has_opened_is_told_too() {
    listening(async |bench, mut events| {
        for v6 in [false, true] {
            carry(bench);
            let conversation = Conversation { v6, ..Conversation::new(4000) };
            conversation.open(bench);
            conversation.client(bench, &say(1, 1).data(10));
            conversation.member(bench, 0, &say(1, 11));
            assert!(heard(&mut events).await.is_empty(), "it waits, and has waited for long");
            run(bench, 0, &frames::heartbeat(pair_mac(WEB), 1, 1, State::Serving));
            let told = heard(&mut events).await;
            assert!(told.len() == 1 && is_of(&conversation, Kind::GateOpened, &told[0]), "{told:?}");
        }
    });
}
