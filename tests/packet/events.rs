//! What the controller is told of frames; of connections: `tcp/news.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hotpair_abi::heartbeat::State;
use hotpair_abi::{GATEWAY_MAC, Slot};

use crate::bench::{Bench, WEB, entry_v4, ifindex, listening, pair_mac};
use crate::frames::{BROADCAST, CLIENT_MAC, addressed, arp, heartbeat};
use crate::path::answer;

const MAC: [u8; 6] = pair_mac(WEB);

async fn soon(events: &mut hotpair::dataplane::Events) -> hotpair_abi::event::Event {
    tokio::time::timeout(Duration::from_secs(2), events.next()).await.expect("an event")
}

#[test]
fn events_say_what_happened_and_spoofing_at_most_once_a_second() {
    listening(async |bench, mut events| {
        assert!(bench.plane.events().is_err(), "one reader at a time");
        for _ in 0..50 {
            bench.run_from_guest(WEB, Slot::Zero, &addressed(&answer(b"forged"), GATEWAY_MAC, CLIENT_MAC));
        }
        bench.run_from_guest(WEB, Slot::One, &heartbeat(MAC, 1, 1, State::Failing));
        let event = soon(&mut events).await;
        assert_eq!((event.kind, event.pair, event.slot), (hotpair_abi::event::Kind::SpoofedMac as u32, 0, 0));
        assert_eq!(event.data[..6], CLIENT_MAC);
        assert_eq!(event.role, Bench::word().0);
        assert_eq!(event.ifindex, ifindex("hp0s0"));
        let event = soon(&mut events).await;
        assert_eq!(
            (event.kind, event.pair, event.slot),
            (hotpair_abi::event::Kind::StateChanged as u32, 0, 1)
        );
        assert_eq!(event.data[0], State::Failing as u8);
        let rest = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
        assert!(rest.is_err(), "no more: {rest:?}");
        // Somebody claims the entry address on the uplink.
        let claim = arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, entry_v4(WEB)), ([0; 6], entry_v4(WEB)));
        for _ in 0..50 {
            bench.run_from_uplink(&claim);
        }
        let event = soon(&mut events).await;
        assert_eq!((event.kind, event.slot), (hotpair_abi::event::Kind::AddressConflict as u32, u32::MAX));
        let address = IpAddr::from(Ipv4Addr::from(entry_v4(WEB)));
        assert_eq!(
            IpAddr::from(<[u8; 16]>::try_from(&event.data[..16]).expect("16 bytes")).to_canonical(),
            address
        );
        assert_eq!(event.data[16..22], CLIENT_MAC);
        assert!(tokio::time::timeout(Duration::from_millis(50), events.next()).await.is_err());
        drop(events);
        bench.plane.events().expect("the next reader");
    });
}
