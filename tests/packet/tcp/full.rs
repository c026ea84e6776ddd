//! The table of connections: a hundred thousand in it, and when it is full.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};

use hotpair::dataplane::PairSetup;
use hotpair_abi::PairId;
use hotpair_abi::count::Counter;
use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{ANSWERED, CLOSED, Connection, HAS_BASE, SYN_ACK};
use hotpair_abi::tcp::verdict::Verdict;

use super::conversation::{C, Conversation, M, arrive, carry, leave, run, say};
use super::wire::{self, RST};
use crate::bench::{Bench, DB, WEB, alone, bpf_dir, setup};

/// Connections that there is room for, as docs/tcp.md says it.
pub(crate) const ROOM: usize = 131_072;

/// Ports of a client before the next one is used.
const PORTS: usize = 50_000;

/// Each a connection of its own.
fn nth(index: usize) -> Conversation {
    let port = 1024 + (index % PORTS) as u16;
    Conversation { client: 0x100 + (index / PORTS) as u16, ..Conversation::new(port) }
}

/// Rows until there is no room, without their clients.
pub(crate) fn fill() {
    let map = aya::maps::Map::HashMap(table());
    let mut rows = aya::maps::HashMap::<_, Tuple, Connection>::try_from(map).expect("the table");
    for index in 0..ROOM as u32 {
        rows.insert(Tuple { ports: index, ..Tuple::default() }, Connection::FRESH, 0).expect("there is room");
    }
}

/// What a handshake is up to the client's answer: slot 0 first, as ever. The frames go no further than the programs.
fn shake_hands(bench: &Bench, conversation: &Conversation) {
    bench.run_from_uplink(&conversation.syn());
    run(bench, 0, &conversation.syn_ack(0));
    run(bench, 1, &conversation.syn_ack(1));
}

/// So many connections of WEB's that both members have, each with its handshake.
pub(crate) fn open_many(bench: &Bench, many: usize) {
    for index in 0..many {
        let conversation = nth(index);
        shake_hands(bench, &conversation);
        let answer = wire::frame(&conversation.to_entry(), &conversation.client_segment(&say(1, 1)));
        bench.run_from_uplink(&answer);
    }
}

/// So many rows of another pair's connections.
pub(crate) fn strangers(pair: PairId, many: u32) {
    let map = aya::maps::Map::HashMap(table());
    let mut rows = aya::maps::HashMap::<_, Tuple, Connection>::try_from(map).expect("the table");
    let row = Connection { pair: pair.0, flags: HAS_BASE | ANSWERED, ..Connection::FRESH };
    for index in 0..many {
        rows.insert(Tuple { ports: index, ..Tuple::default() }, row, 0).expect("there is room");
    }
}

fn table() -> aya::maps::MapData {
    aya::maps::MapData::from_pin(bpf_dir().join("maps/CONNECTIONS")).expect("the table")
}

/// Bytes that the kernel accounts for the table.
fn memory() -> u64 {
    let table = table();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", table.fd().as_fd().as_raw_fd()));
    let info = info.expect("fdinfo");
    let memlock = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("memlock");
    memlock.trim().parse().expect("a number")
}

#[test]
fn a_hundred_thousand_connections_are_known_and_a_full_table_evicts_none_of_them() {
    const MANY: usize = 100_000;
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let empty = memory();
        for index in 0..MANY {
            shake_hands(&bench, &nth(index));
        }
        let hundred_thousand = memory();
        let rows = bench.plane.connections(WEB).expect("the table");
        assert_eq!(rows.len(), MANY);
        for (tuple, row) in &rows {
            assert_eq!(row.verdict, Verdict::InSync as u32, "{tuple:?}");
            assert_eq!(row.half.map(|half| (half.isn, half.flags & SYN_ACK)), M.map(|isn| (isn, SYN_ACK)));
            assert_eq!((row.client.isn, row.base), (C, 1));
        }
        assert_eq!(bench.count(WEB, Counter::TcpTableFull), 0);

        for index in MANY..ROOM {
            bench.run_from_uplink(&nth(index).syn());
        }
        assert_eq!(bench.count(WEB, Counter::TcpTableFull), 0, "there is room for {ROOM}");
        println!(
            "memory of the table: {empty} bytes empty, {hundred_thousand} with {MANY} connections, {} full",
            memory()
        );

        // What a takeover waits for before it can tell anybody, and the first thing that makes of it.
        let begun = std::time::Instant::now();
        let open = bench.plane.connections(WEB).expect("the table").len();
        println!("a full table, {open} of it not over, is read in {:?}", begun.elapsed());

        // One more: a packet like any other, answered by the active member alone, in its own numbers.
        let before = bench.plane.all_connections().expect("the table");
        let late = nth(ROOM);
        assert!(arrive(&bench, &late.syn()).iter().all(Option::is_some), "both members get it");
        assert_eq!(bench.count(WEB, Counter::TcpTableFull), 1);
        assert_eq!(leave(&bench, 0, &late.syn_ack(0)).client, Some(late.syn_ack(0)));
        assert!(leave(&bench, 1, &late.syn_ack(1)).client.is_none());
        let late = Conversation { base: 0, ..late };
        for heard in late.client(&bench, &say(1, 1).data(10)) {
            // As the client has sent it: to slot 1 it means nothing.
            let heard = late.heard_by_member(0, &heard.expect("as it is"));
            assert_eq!((heard.seq, heard.ack), (1, 1));
        }
        assert_eq!(bench.count(WEB, Counter::TcpTableFull), 1, "only what begins asks for room");

        // The old ones are what they were.
        let rows: HashMap<_, _> = bench.plane.all_connections().expect("the table").into_iter().collect();
        assert_eq!(rows.len(), ROOM);
        assert!(before.iter().all(|(tuple, row)| rows.get(tuple) == Some(row)));
        for index in [0, 1, MANY / 2, MANY - 1] {
            let conversation = nth(index);
            for (slot, heard) in conversation.client(&bench, &say(1, 1).data(10)).iter().enumerate() {
                let heard = conversation.heard_by_member(slot, heard.as_ref().expect("translated"));
                assert_eq!((heard.seq, heard.ack, heard.payload.len()), (1, 1, 10), "connection {index}");
            }
        }

        // Where one has gone another finds room.
        let gone = before[0].1.created_ns;
        bench.plane.forget_connections(|row| row.created_ns == gone).expect("a row");
        arrive(&bench, &nth(ROOM + 1).syn());
        assert_eq!(bench.count(WEB, Counter::TcpTableFull), 1);
        assert_eq!(bench.plane.all_connections().expect("the table").len(), ROOM);
    });
}

#[test]
fn a_connection_that_has_begun_anew_is_not_forgotten_with_the_one_before() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        let is_over = |row: &Connection| row.flags & CLOSED != 0;
        // When it was read, and when it was looked at once more.
        for moment in [1, 2] {
            let conversation = nth(moment);
            conversation.open(&bench);
            bench.plane.forget_connections(is_over).expect("the table");
            assert_eq!(bench.plane.all_connections().expect("the table").len(), 1, "it lives");

            conversation.client(&bench, &say(1, 1).with(RST));
            let looks = Cell::new(0);
            bench
                .plane
                .forget_connections(|row| {
                    let over = is_over(row);
                    looks.set(looks.get() + usize::from(over));
                    if over && looks.get() == moment {
                        // Its client uses the port again just now.
                        arrive(&bench, &conversation.syn());
                    }
                    over
                })
                .expect("the table");
            let rows = bench.plane.all_connections().expect("the table");
            assert!(
                matches!(&rows[..], [(_, row)] if row.verdict == Verdict::Opening as u32),
                "{moment}: {rows:?}"
            );
            assert!(leave(&bench, 0, &conversation.syn_ack(0)).client.is_none(), "held");
            assert!(leave(&bench, 1, &conversation.syn_ack(1)).client.is_some(), "it goes on");
            bench.plane.forget_connections(|_| true).expect("the table");
        }
    });
}

#[test]
fn what_was_known_of_connections_before_they_were_not_carried_over_for_a_time_is_forgotten() {
    alone(|| {
        let bench = Bench::new();
        carry(&bench);
        nth(1).open(&bench);
        strangers(DB, 3);
        let known = || [WEB, DB].map(|pair| bench.plane.connections(pair).expect("the table").len());
        for (tcp, expected) in [(true, [1, 3]), (false, [1, 3]), (true, [0, 3])] {
            bench.plane.put_pair(WEB, &PairSetup { tcp, ..setup(WEB, "web") }).expect("a pair");
            assert_eq!(known(), expected, "{tcp}");
        }
        bench.plane.remove_pair(DB).expect("removing");
        assert_eq!(known(), [0, 0]);
    });
}
