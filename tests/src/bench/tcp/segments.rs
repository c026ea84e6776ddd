//! Segments of a TCP connection a second through the data plane, beside datagrams of the same size.

use std::net::{IpAddr, SocketAddr};
use std::path::Path as File;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use etherparse::{PacketBuilder, TcpOptionElement};
use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{Connection, Scene};
use hotpair_abi::tcp::from_member::Outcome;
use hotpair_abi::tcp::segment::{ACK, SYN, Segment};
use hotpair_abi::tcp::verdict::Verdict;
use hotpair_abi::{Address, Epoch, RoleWord, Slot};

use crate::bench::Sheet;
use crate::bench::packets::{
    Gate, Path, SENDER_MAC, TAKEN_OFF, UPLINK_MAC, V4, WEB, data_plane, enter, in_turns, stay_on_one_cpu,
};
use crate::frames::{Macs, udp};
use crate::lab::boottime;

const PORTS: [u16; 2] = [4000, 5000];
/// Bytes of payload of a segment.
const PAYLOAD: usize = 18;
/// By which a TCP header with timestamps is longer than a UDP header.
const LONGER: usize = 32 - 8;

/// Where a copy may be written: acknowledgement; flags and window; checksum; TSecr.
const WRITTEN: [usize; 4] = [42, 46, 50, 62];

/// Initial sequence numbers: the client's, and the members'.
const CLIENT: u32 = 1000;
const MEMBERS: [u32; 2] = [5000, 0x9000_0000];
/// Timestamps: the client's, and the members'.
const STAMPS: [u32; 3] = [70, 100, 4_000_000];

/// Measures, and enters the figures.
pub(super) fn measure(sheet: &mut Sheet, rounds: u32, time: Duration) -> Result<()> {
    stay_on_one_cpu()?;
    // The kernel's own chatter would be counted among the frames.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    let ways = ways().context("preparing what is compared")?;
    let series = in_turns("tcp: segments", &ways, rounds, time)?;
    enter(sheet, &ways, &series)
}

const STEERED: &str = "UDP, steered";
const MIRRORED: &str = "UDP, duplicated";

fn ways() -> Result<Vec<Path>> {
    let macs = Macs { from: SENDER_MAC, to: UPLINK_MAC };
    let [from, to] = [SocketAddr::new(V4[0], PORTS[0]), SocketAddr::new(V4[1], PORTS[1])];
    let datagram = udp(macs, from, to, &[0; PAYLOAD + LONGER]);
    let segment = segment(macs, from, to)?;
    ensure!(datagram.len() == segment.len(), "{} and {} bytes", datagram.len(), segment.len());
    // Of every frame, so that they differ in nothing else: to a datagram this is payload.
    let mut again = Vec::new();
    for at in WRITTEN {
        let bytes = segment.get(at..at + 4).context("a segment with timestamps")?;
        again.push((at, bytes.try_into()?));
    }
    let mut paths = Vec::new();
    for (number, carried) in [false, true].into_iter().enumerate() {
        let gate = Rc::new(Gate::fresh(number, UPLINK_MAC, &again)?);
        let (plane, members) = data_plane(&gate, carried)?;
        if carried {
            let pin = format!("/mnt/bpf-{}/maps/CONNECTIONS", gate.uplink);
            know(File::new(&pin)).context("entering the connection")?;
        }
        let plane = Rc::new(plane);
        let mut add = |name: &'static str, beside, frame: &[u8], mirror| {
            let word = RoleWord::new(Epoch(5), Slot::Zero).with_held(true).with_mirror(mirror);
            let word = word.with_protect(carried).with_gate(carried);
            let plane = Rc::clone(&plane);
            paths.push(Path {
                name: name.to_owned(),
                beside,
                gate: Rc::clone(&gate),
                frame: [&[0; TAKEN_OFF], frame].concat(),
                members: members[..if mirror { 2 } else { 1 }].to_vec(),
                prepare: Some(Box::new(move || plane.set_role(WEB, word))),
            });
        };
        if carried {
            add("UDP, duplicated beside TCP that is carried over", vec![MIRRORED], &datagram, true);
            add("TCP, duplicated and carried over", vec![MIRRORED], &segment, true);
        } else {
            add(STEERED, vec![], &datagram, false);
            add("TCP, steered", vec![STEERED], &segment, false);
            add(MIRRORED, vec![], &datagram, true);
            add("TCP, duplicated and nothing else", vec![MIRRORED], &segment, true);
        }
    }
    Ok(paths)
}

/// Data of the client, at the beginning of its stream.
fn segment(macs: Macs, from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else {
        anyhow::bail!("an IPv4 connection");
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs.from, macs.to)
        .ipv4(source.octets(), destination.octets(), 64)
        .tcp(from.port(), to.port(), CLIENT + 1, 500)
        .ack(MEMBERS[0] + 1)
        .options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(STAMPS[0], STAMPS[1]),
        ])?
        .write(&mut frame, &[0; PAYLOAD])?;
    Ok(frame)
}

/// Enters the connection into the table as its handshake would: in sync, numbered by slot 0.
fn know(pin: &File) -> Result<()> {
    let (IpAddr::V4(remote), IpAddr::V4(entry)) = (V4[0], V4[1]) else { anyhow::bail!("an IPv4 connection") };
    let [[a, b], [c, d]] = PORTS.map(u16::to_be_bytes);
    let tuple = Tuple {
        remote: Address::v4(remote.octets()),
        entry: Address::v4(entry.octets()),
        ports: u32::from_ne_bytes([a, b, c, d]),
        ..Tuple::default()
    };
    let scene = Scene {
        protect: 1,
        gate: 1,
        now_ns: boottime(),
        lag_limit_ns: 10_000_000,
        close_limit_ns: 5_000_000_000,
        ..Scene::default()
    };
    let of = |seq, ack, flags, stamps| Segment {
        seq,
        ack,
        flags,
        window: 500,
        wscale: 7,
        stamps_at: 24,
        stamps,
        ..Segment::default()
    };
    let mut connection = Connection::FRESH;
    connection.begin(&of(CLIENT, 0, SYN, [STAMPS[0], 0]), WEB.0, scene.now_ns);
    // The second one to answer gives the client its numbers.
    for slot in [1, 0] {
        let stamps = [STAMPS[1 + slot], STAMPS[0]];
        let answer = of(MEMBERS[slot], CLIENT + 1, SYN | ACK, stamps);
        connection.from_member(slot as u32, &answer, &scene, &mut Outcome::default());
    }
    connection.from_client(&of(CLIENT + 1, MEMBERS[0] + 1, ACK, [STAMPS[0], STAMPS[1]]), scene.now_ns);
    ensure!(connection.verdict == Verdict::InSync as u32 && connection.base == 0, "{connection:?}");
    let mut map = HashMap::<_, Tuple, Connection>::try_from(Map::HashMap(MapData::from_pin(pin)?))?;
    map.insert(tuple, connection, 0).context("the kernel refuses it")
}
