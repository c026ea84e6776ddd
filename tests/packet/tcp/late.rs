//! What is said without a segment of the connection, by frames that come by anyhow: the gate's watchdog, and what the data
//! plane does for connections when the kernel's latch has tripped. Over both families and behind tags.

use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, Queue};
use hotpair::dataplane::PairSetup;
use hotpair_abi::count::Counter;
use hotpair_abi::heartbeat::State;
use hotpair_abi::maps::{Late, Turned};
use hotpair_abi::tcp::pace::AHEAD;
use hotpair_abi::{Epoch, GATEWAY_MAC, HOST_V4, HOST_V6, PairId, Slot};

use super::conversation::{Conversation, arrive, carry, drain, leave, next_segment, run, say, word};
use super::full::{open_many, strangers};
use super::wire::{ACK, RST, Read, header_in};
use crate::bench::{Bench, DB, WEB, alone, bpf_dir, change_row, entry_v4, entry_v6, pair_mac, setup};
use crate::frames::{CLIENT_MAC, UPLINK_MAC, arp, heartbeat, lladdr, nd, service, vlan};
use crate::ports::Port;

/// Longer than the bench's `lag_limit`.
const LATE: Duration = Duration::from_millis(11);

/// A heartbeat of this member's, the `n`th of its boot.
fn beat(bench: &Bench, id: PairId, slot: Slot, n: u64) {
    bench.run_from_guest(id, slot, &heartbeat(pair_mac(id), 1, n, State::Serving));
}

/// Each family, behind no tag, one, and two.
fn ways() -> impl Iterator<Item = Conversation> {
    let tags = [vec![], vec![vlan(7)], vec![service(8), vlan(9)]];
    [false, true]
        .into_iter()
        .flat_map(move |v6| tags.clone().map(|tags| (v6, tags)))
        .enumerate()
        .map(|(index, (v6, tags))| Conversation { v6, tags, ..Conversation::new(4000 + index as u16) })
}

/// Panics unless the frame goes this way, behind the connection's tags, and nothing follows its segment.
fn assert_way(conversation: &Conversation, frame: &[u8], [to, from]: [[u8; 6]; 2]) {
    let ethertype = if conversation.v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let link = [&to[..], &from, &conversation.tags.concat(), &ethertype].concat();
    assert_eq!(frame[..link.len()], link, "{frame:02x?}");
}

/// What the client gets next.
fn client_hears(bench: &Bench, conversation: &Conversation) -> Option<Read> {
    let frame = next_segment(&bench.client)?;
    assert_way(conversation, &frame, [CLIENT_MAC, UPLINK_MAC]);
    let read = conversation.heard_by_client(&frame);
    assert_eq!(read.payload.end, frame.len(), "{frame:02x?}");
    Some(read)
}

/// What a member gets next.
fn member_hears(bench: &Bench, conversation: &Conversation, slot: Slot) -> Option<Read> {
    let frame = next_segment(bench.tap(WEB, slot))?;
    assert_way(conversation, &frame, [pair_mac(WEB), GATEWAY_MAC]);
    let read = conversation.heard_by_member(slot.index(), &frame);
    assert_eq!(read.payload.end, frame.len(), "{frame:02x?}");
    Some(read)
}

/// The client has sent ten bytes and waits, as only the primary has them.
fn waits(bench: &Bench, conversation: &Conversation) {
    conversation.open(bench);
    conversation.client(bench, &say(1, 1).data(10));
    assert!(conversation.member(bench, 0, &say(1, 11)).client.is_none());
}

#[test]
fn a_client_is_told_that_its_standby_is_late_behind_any_tags() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        // All in one walk: each leaves the frame as the next one needs it.
        let all: Vec<_> = ways().collect();
        all.iter().for_each(|conversation| waits(&bench, conversation));
        std::thread::sleep(LATE);
        let before = bench.count(WEB, Counter::TcpConverted);
        beat(&bench, DB, Slot::Zero, 1);
        for conversation in &all {
            let heard = client_hears(&bench, conversation).expect("told");
            assert_eq!((heard.seq, heard.ack, heard.flags, heard.payload.len()), (1, 11, ACK, 0));
        }
        assert_eq!(bench.count(WEB, Counter::TcpConverted), before + all.len() as u64);
        beat(&bench, DB, Slot::Zero, 2);
        assert_eq!(next_segment(&bench.client), None, "once");
    });
}

#[test]
fn a_primary_that_was_stopped_for_a_late_standby_is_told_to_go_on_behind_any_tags() {
    const SEGMENT: usize = 1400;
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        for (index, conversation) in ways().enumerate() {
            conversation.open(&bench);
            let mut at = 1;
            let stopped = loop {
                conversation.member(&bench, 0, &say(at, 1).data(SEGMENT));
                at += SEGMENT as u32;
                assert!(at < AHEAD + 10 * SEGMENT as u32, "it is never stopped");
                let [heard, _] = conversation.client(&bench, &say(1, at));
                let heard = conversation.heard_by_member(0, &heard.expect("it hears"));
                if heard.window <= 1 {
                    break heard.ack;
                }
            };
            std::thread::sleep(LATE);
            drain(&bench);
            beat(&bench, DB, Slot::Zero, index as u64 + 1);
            let heard = member_hears(&bench, &conversation, Slot::Zero).expect("told");
            assert_eq!((heard.seq, heard.ack, heard.flags, heard.window), (1, stopped, ACK, 500));
        }
    });
}

/// What a guest answers to the host's probes, and what it says by itself and nobody is to hear.
fn answers_to_probes() -> [Vec<u8>; 3] {
    let mac = pair_mac(WEB);
    let arp = arp(GATEWAY_MAC, mac, 2, (mac, entry_v4(WEB)), (GATEWAY_MAC, HOST_V4));
    // As short as a guest sends it.
    let short = arp[..42].to_vec();
    let nd = nd(GATEWAY_MAC, mac, entry_v6(WEB), HOST_V6, (136, 0x60), entry_v6(WEB), &lladdr(2, mac));
    [arp, short, nd]
}

#[test]
fn with_probes_their_answers_tell_a_client_that_its_standby_is_late() {
    alone(|| {
        let bench = Bench::new();
        for (answer, probe) in answers_to_probes().into_iter().flat_map(|a| [(a.clone(), true), (a, false)]) {
            carry(&bench);
            let calm = Duration::from_secs(3600);
            let setup = PairSetup { tcp: true, compare: true, probe, timeout: calm, ..setup(WEB, "web") };
            bench.plane.put_pair(WEB, &setup).expect("a pair");
            let all: Vec<_> = ways().collect();
            all.iter().for_each(|conversation| waits(&bench, conversation));
            std::thread::sleep(LATE);
            run(&bench, 1, &answer);
            for conversation in &all {
                let heard =
                    client_hears(&bench, conversation).map(|heard| (heard.seq, heard.ack, heard.flags));
                assert_eq!(heard, probe.then_some((1, 11, ACK)), "{answer:02x?}");
            }
            if !probe {
                beat(&bench, WEB, Slot::Zero, 1);
                bench.client.drain();
            }
        }
    });
}

/// WEB as it is while no controller lives: the latch trips after 40 ms in which slot 1 was heard and slot 0 was not.
fn without_controller(bench: &Bench) {
    let hasty = PairSetup { tcp: true, compare: true, ..setup(WEB, "web") };
    bench.plane.put_pair(WEB, &hasty).expect("a pair");
    beat(bench, WEB, Slot::Zero, 1);
}

/// Slot 1 beats until the latch has tripped; how often.
fn trip(bench: &Bench) -> u64 {
    trip_timed(bench).0
}

/// The same, and how long the last of these heartbeats took.
fn trip_timed(bench: &Bench) -> (u64, Duration) {
    let begun = Instant::now();
    let (mut beats, mut last) = (0, begun);
    while bench.plane.tripped(WEB) != word().epoch() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the latch does not trip");
        std::thread::sleep(Duration::from_millis(2));
        beats += 1;
        last = Instant::now();
        beat(bench, WEB, Slot::One, beats);
    }
    (beats, last.elapsed())
}

#[test]
fn when_the_latch_trips_the_survivor_is_told_of_every_connection_at_once() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let all: Vec<_> = ways().collect();
        for conversation in &all {
            // Both have a request, the client nothing of the answer yet, of which the primary has sent the beginning.
            conversation.open(&bench);
            conversation.client(&bench, &say(1, 1).data(10));
            conversation.member(&bench, 1, &say(1, 11));
            conversation.member(&bench, 0, &say(1, 11).data(5));
        }
        // The members have sent different bytes.
        let diverged = Conversation::new(4100);
        diverged.open(&bench);
        diverged.member(&bench, 0, &say(1, 1).data(9));
        diverged.client(&bench, &say(1, 10));
        diverged.member(&bench, 1, &say(1, 1).data(9).other());
        // The client has not answered the handshake yet.
        let opening = Conversation::new(4101);
        arrive(&bench, &opening.syn());
        leave(&bench, 0, &opening.syn_ack(0));
        leave(&bench, 1, &opening.syn_ack(1));
        drain(&bench);
        bench.client.drain();

        let (told, reset) = (bench.count(WEB, Counter::TcpTold), bench.count(WEB, Counter::TcpReset));
        without_controller(&bench);
        let beats = trip(&bench);
        // In the order of the table, which is nobody's business.
        let mut heard: Vec<_> = std::iter::from_fn(|| next_segment(bench.tap(WEB, Slot::One))).collect();
        for conversation in &all {
            let port = conversation.port.to_be_bytes();
            let of = |frame: &Vec<u8>| frame[header_in(frame).expect("a header").start..][..2] == port;
            let mine: Vec<Vec<u8>> = heard.extract_if(.., |frame| of(frame)).collect();
            let [open, old]: [Vec<u8>; 2] = mine.try_into().expect("two segments");
            for (frame, seq, payload) in [(open, 11, 0), (old, 10, 1)] {
                assert_way(conversation, &frame, [pair_mac(WEB), GATEWAY_MAC]);
                let heard = conversation.heard_by_member(1, &frame);
                assert_eq!((heard.seq, heard.ack, heard.flags, heard.window), (seq, 1, ACK, 500));
                assert_eq!((heard.payload.len(), heard.payload.end), (payload, frame.len()));
            }
        }
        assert_eq!(heard.len(), 1, "{heard:02x?}");
        let end = diverged.heard_by_member(1, &heard[0]);
        assert_eq!((end.seq, end.ack, end.flags), (1, 10, RST | ACK), "believed");
        let end = client_hears(&bench, &diverged).expect("a reset");
        assert_eq!((end.seq, end.ack, end.flags), (10, 1, RST | ACK), "with the number it expects");
        assert_eq!(next_segment(&bench.client), None, "nobody else is told anything");
        assert_eq!(next_segment(bench.tap(WEB, Slot::Zero)), None, "nor the dead one");
        assert_eq!(bench.count(WEB, Counter::TcpTold), told + all.len() as u64);
        assert_eq!(bench.count(WEB, Counter::TcpReset), reset + 1);

        for n in 1..5 {
            beat(&bench, WEB, Slot::One, beats + n);
        }
        assert_eq!(next_segment(bench.tap(WEB, Slot::One)), None, "once");
        // And the survivor is heard, waiting for nobody.
        let [first, ..] = &all[..] else { unreachable!("there are six") };
        let came = first.member(&bench, 1, &say(1, 11).data(7));
        let heard = first.heard_by_client(&came.client.expect("the answer"));
        assert_eq!((heard.seq, heard.ack, heard.payload.len()), (1, 11, 7));
    });
}

/// What a CPU sees while another one trips the latch: the second of its two words before the first.
#[test]
fn a_latch_that_is_just_tripping_forgets_no_connection() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        Conversation::new(4000).open(&bench);
        drain(&bench);
        let told = bench.count(WEB, Counter::TcpTold);
        let epoch = word().epoch().0;
        change_row(WEB, |row| row.untold_epoch = epoch);
        beat(&bench, WEB, Slot::One, 1);
        assert_eq!(bench.count(WEB, Counter::TcpTold), told, "nobody else speaks yet");
        change_row(WEB, |row| row.tripped_epoch = epoch);
        beat(&bench, WEB, Slot::One, 2);
        assert_eq!(bench.count(WEB, Counter::TcpTold), told + 1);
    });
}

/// Fills a queue with the like of an entry, as many as it takes.
fn fill<T: aya::Pod>(name: &str, entry: T) {
    let map = MapData::from_pin(bpf_dir().join("maps").join(name)).expect("the queue");
    let mut queue = Queue::<_, T>::try_from(Map::Queue(map)).expect("the queue");
    while queue.push(entry, 0).is_ok() {}
}

#[test]
fn of_a_takeover_nobody_is_told_later_because_many_standbys_may_be_late() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation::new(4000);
        conversation.open(&bench);
        drain(&bench);
        fill("LATE", Late { due_ns: u64::MAX, ..Late::default() });
        let told = bench.count(WEB, Counter::TcpTold);
        without_controller(&bench);
        trip(&bench);
        assert_eq!(bench.count(WEB, Counter::TcpTold), told + 1);
    });
}

#[test]
fn that_its_standby_is_late_nobody_is_told_later_because_many_are_told_of_a_takeover() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let conversation = Conversation::new(4000);
        waits(&bench, &conversation);
        fill("TURNED", Turned::default());
        std::thread::sleep(LATE);
        beat(&bench, DB, Slot::Zero, 1);
        assert_eq!(client_hears(&bench, &conversation).map(|heard| heard.ack), Some(11));
    });
}

#[test]
fn after_the_latch_nobody_waits_for_the_member_that_is_dead() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        without_controller(&bench);
        trip(&bench);
        // The dead one's SYN-ACK is not waited for, nor its acknowledgements.
        let conversation = Conversation { base: 1, ..Conversation::new(4000) };
        arrive(&bench, &conversation.syn());
        assert!(leave(&bench, 1, &conversation.syn_ack(1)).client.is_some());
        conversation.client(&bench, &say(1, 1).data(10));
        let came = conversation.member(&bench, 1, &say(1, 11));
        assert_eq!(conversation.heard_by_client(&came.client.expect("at once")).ack, 11);
    });
}

#[test]
fn a_controller_that_is_there_again_tells_the_connections_itself() {
    /// More than one heartbeat serves.
    const MANY: u16 = 100;
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        for port in 0..MANY {
            Conversation::new(4000 + port).open(&bench);
        }
        let told = bench.count(WEB, Counter::TcpTold);
        without_controller(&bench);
        let beats = trip(&bench);
        let first = bench.count(WEB, Counter::TcpTold) - told;
        assert!((1..u64::from(MANY)).contains(&first), "{first} told by one heartbeat");
        bench.plane.set_role(WEB, word().with_epoch(Epoch(6)).with_active(Slot::One).with_protect(false));
        for n in 1..5 {
            beat(&bench, WEB, Slot::One, beats + n);
        }
        assert_eq!(bench.count(WEB, Counter::TcpTold) - told, first);
    });
}

#[test]
fn when_the_latch_trips_all_connections_of_the_pair_are_told_however_many_and_no_others() {
    /// More than the queue has room for.
    const MANY: usize = 20_000;
    /// Rows of another pair, which the walk passes.
    const STRANGERS: u32 = 100_000;
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        open_many(&bench, MANY);
        strangers(DB, STRANGERS);
        let told = bench.count(WEB, Counter::TcpTold);
        without_controller(&bench);
        let (mut beats, first) = trip_timed(&bench);
        println!("the latch has tripped, and {MANY} connections are found beside {STRANGERS}, in {first:?}");
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while bench.count(WEB, Counter::TcpTold) - told < MANY as u64 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{}",
                bench.count(WEB, Counter::TcpTold) - told
            );
            beats += 1;
            let begun = Instant::now();
            beat(&bench, WEB, Slot::One, beats);
            longest = longest.max(begun.elapsed());
            drain(&bench);
        }
        println!(
            "{MANY} connections told in {:?}, by {beats} heartbeats of {longest:?} at most",
            begun.elapsed()
        );
        for n in 1..5 {
            beat(&bench, WEB, Slot::One, beats + n);
        }
        assert_eq!(bench.count(WEB, Counter::TcpTold) - told, MANY as u64, "each once");
        assert_eq!((bench.count(DB, Counter::TcpTold), bench.count(DB, Counter::TcpReset)), (0, 0));
    });
}
