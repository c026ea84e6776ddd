//! Every counter of TCP connections is seen to rise, each by what it is named after.

use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, Slot};

use super::conversation::{Conversation, M, arrive, carry, carry_as, leave, say, word};
use super::wire::{ACK, FIN, RST};
use crate::bench::{Bench, WEB, alone, bpf_dir, ifindex, tap_name};

/// One counter, and what makes it rise. Begins with an empty table.
type Case = (Counter, fn(&Bench));

const CASES: &[Case] = &[
    (Counter::TcpMalformed, |bench| {
        let mut short = Conversation::new(4000).syn();
        // A header of sixteen bytes.
        short[14 + 20 + 12] = 0x40;
        assert!(arrive(bench, &short).iter().all(Option::is_some), "a packet like any other");
    }),
    (Counter::TcpTableFull, |bench| {
        super::full::fill();
        let late = Conversation::new(4000);
        assert!(arrive(bench, &late.syn()).iter().all(Option::is_some), "a packet like any other");
    }),
    (Counter::TcpNotForStandby, |bench| {
        let conversation = Conversation { base: 0, ..Conversation::new(4000) };
        arrive(bench, &conversation.syn());
        leave(bench, 0, &conversation.syn_ack(0));
        assert!(
            leave(bench, 0, &conversation.syn_ack(0)).client.is_none(),
            "the SYN has come twice, no more"
        );
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(leave(bench, 0, &conversation.syn_ack(0)).client.is_some(), "asked again: without a standby");
        let heard = conversation.client(bench, &say(1, 1).data(10));
        assert!(heard[0].is_some() && heard[1].is_none(), "{heard:02x?}");
    }),
    (Counter::TcpTranslated, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        let heard = conversation.client(bench, &say(1, 1).data(10)).map(|frame| frame.expect("heard"));
        for (slot, frame) in heard.iter().enumerate() {
            let heard = conversation.heard_by_member(slot, frame);
            assert_eq!((heard.seq, heard.ack, heard.payload.len()), (1, 1, 10));
        }
    }),
    (Counter::TcpSynAckHeld, |bench| {
        let conversation = Conversation::new(4000);
        arrive(bench, &conversation.syn());
        assert!(leave(bench, 0, &conversation.syn_ack(0)).client.is_none());
    }),
    (Counter::TcpAckHeld, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.client(bench, &say(1, 1).data(10));
        assert!(conversation.member(bench, 0, &say(1, 11)).client.is_none());
    }),
    (Counter::TcpCloseHeld, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        let before = bench.count(WEB, Counter::TcpCloseHeld);
        let came = conversation.member(bench, 0, &say(1, 1).with(FIN));
        assert!(came.client.is_none() && came.told.is_some(), "so that the other can send its own");
        assert_eq!(bench.count(WEB, Counter::TcpCloseHeld), before + 1, "a FIN");
        assert!(conversation.member(bench, 0, &say(2, 1).with(RST)).client.is_none());
        assert_eq!(bench.count(WEB, Counter::TcpCloseHeld), before + 2, "a RST");
    }),
    (Counter::TcpConverted, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.client(bench, &say(1, 1).data(10));
        conversation.member(bench, 0, &say(1, 11).data(5));
        let came = conversation.member(bench, 1, &say(1, 11).data(5));
        let heard = conversation.heard_by_client(&came.client.expect("what both have"));
        assert_eq!((heard.seq, heard.ack, heard.flags, heard.payload.len()), (6, 11, ACK, 0));
    }),
    (Counter::TcpTold, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        // A keepalive of the standby.
        let came = conversation.member(bench, 1, &say(0, 1));
        let told = conversation.heard_by_member(1, &came.told.expect("answered"));
        assert_eq!((told.seq, told.ack, told.flags), (1, 1, ACK));
        assert!(came.client.is_none());
    }),
    (Counter::TcpAlreadyThere, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.member(bench, 0, &say(1, 1).data(1000));
        conversation.client(bench, &say(1, 1001));
        bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_active(Slot::One).with_protect(false));
        let came = conversation.member(bench, 1, &say(1, 1).data(500));
        let told = conversation.heard_by_member(1, &came.told.expect("it is told"));
        assert_eq!((told.ack, came.client), (501, None));
    }),
    (Counter::TcpNotCompared, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.member(bench, 0, &say(1, 1).data(1000));
        bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_active(Slot::One).with_protect(false));
        assert_eq!(conversation.member(bench, 1, &say(1, 1).data(400)).client, None);
        assert!(conversation.member(bench, 1, &say(401, 1).data(600)).client.is_some(), "the same");
        assert!(conversation.member(bench, 1, &say(1, 1).data(400)).client.is_some(), "again");
    }),
    (Counter::TcpReset, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        gate_opens(bench, &conversation);
        bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_active(Slot::One).with_protect(false));
        let came = conversation.member(bench, 1, &say(1, 1).data(5));
        let heard = conversation.heard_by_client(&came.client.expect("told"));
        assert_eq!((heard.seq, heard.flags, heard.payload.len()), (1, RST | ACK, 0));
    }),
    (Counter::TcpGateOpened, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        gate_opens(bench, &conversation);
    }),
    (Counter::TcpGateClosed, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        gate_opens(bench, &conversation);
        conversation.member(bench, 1, &say(1, 11));
    }),
    (Counter::TcpDiverged, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.member(bench, 0, &say(1, 1).data(9));
        conversation.member(bench, 1, &say(1, 1).data(9).other());
    }),
    (Counter::TcpCompareSkipped, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        conversation.member(bench, 0, &say(100, 1).data(9));
    }),
    (Counter::TcpAnsweredFirst, |bench| {
        carry_as(bench, true);
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        let came = conversation.member(bench, 1, &say(1, 1).data(9));
        let heard = conversation.heard_by_client(&came.client.expect("the first answer"));
        assert_eq!((heard.seq, heard.payload.len()), (1, 9));
        // The primary's copy.
        assert!(conversation.member(bench, 0, &say(1, 1).data(9)).client.is_none());
        carry(bench);
    }),
    (Counter::TcpRewriteFailed, |bench| {
        // A port that nobody has entered: the devmap knows the tap, PORTS does not.
        let path = bpf_dir().join("maps/PORTS");
        let ports = aya::maps::MapData::from_pin(path).expect("PORTS");
        let mut ports =
            aya::maps::HashMap::<_, u32, hotpair_abi::maps::Port>::try_from(aya::maps::Map::HashMap(ports))
                .expect("PORTS");
        ports.remove(&ifindex(&tap_name(WEB, Slot::One))).expect("removing a port");
        let heard = arrive(bench, &Conversation::new(4000).syn());
        bench.attach(WEB, Slot::One);
        assert!(heard[0].is_some() && heard[1].is_none(), "whose it is, nobody knows");
    }),
    (Counter::TcpQuoteTranslated, |bench| {
        let conversation = Conversation::new(4000);
        conversation.open(bench);
        arrive(bench, &super::quoted::too_large(&conversation, M[1], 28));
    }),
];

/// The standby is late, and is not waited for any more.
fn gate_opens(bench: &Bench, conversation: &Conversation) {
    conversation.client(bench, &say(1, 1).data(10));
    assert!(conversation.member(bench, 0, &say(1, 11)).client.is_none(), "waits");
    std::thread::sleep(std::time::Duration::from_millis(11));
    let heard = conversation.member(bench, 0, &say(1, 11)).client.expect("no longer waits");
    assert_eq!(conversation.heard_by_client(&heard).ack, 11);
}

#[test]
fn every_counter_of_tcp_connections_rises_by_what_it_is_named_after() {
    alone(|| {
        let bench = Bench::new();
        let all = Counter::ALL.iter().filter(|counter| counter.name().starts_with("tcp_"));
        let without: Vec<_> = all.filter(|counter| CASES.iter().all(|(case, _)| case != *counter)).collect();
        assert!(without.is_empty(), "nobody knows how to make these rise: {without:?}");
        let risen = |counter| -> u64 {
            bench
                .counters()
                .into_iter()
                .flatten()
                .filter(|(c, _)| *c == counter)
                .map(|(_, count)| count)
                .sum()
        };
        for (counter, case) in CASES {
            carry(&bench);
            let before = risen(*counter);
            case(&bench);
            assert!(risen(*counter) > before, "{} has not risen", counter.name());
        }
    });
}
