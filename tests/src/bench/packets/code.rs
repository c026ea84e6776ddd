//! The bare programs: as few instructions as the task can do with.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya::maps::{IterableMap as _, Map, MapData, PerCpuArray};
use aya_obj::generated::bpf_map_type::{BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_PERCPU_ARRAY};

use crate::bpf::{self, Hook};

const XDP_DROP: i32 = 1;
const XDP_TX: i32 = 3;
const TC_ACT_SHOT: i32 = 2;

const MAP_LOOKUP_ELEM: i32 = 1;
const GET_PRANDOM_U32: i32 = 7;
const XDP_ADJUST_HEAD: i32 = 44;
const REDIRECT_MAP: i32 = 51;

/// BPF_F_BROADCAST
const BROADCAST: i32 = 1 << 3;

// An instruction: opcode, destination and source register, offset, immediate (linux/bpf.h, struct bpf_insn).
const fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    opcode as u64
        | ((to | from << 4) as u64) << 8
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

const fn load32(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}

const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

const fn set(to: u8, value: i32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

const fn add(to: u8, value: i32) -> u64 {
    instruction(0x07, to, 0, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// A map's address, in two instructions (BPF_PSEUDO_MAP_FD).
fn map(to: u8, map: &MapData) -> [u64; 2] {
    [instruction(0x18, to, 1, 0, map.fd().as_fd().as_raw_fd()), 0]
}

/// Writes the destination MAC and goes on with `then`; a frame too short for one is dropped.
fn addressed(mac: [u8; 6], then: &[u64]) -> Vec<u64> {
    let [a, b, c, d, e, f] = mac;
    let (first, second) = (i32::from_ne_bytes([a, b, c, d]), i32::from(u16::from_ne_bytes([e, f])));
    // 32 and 16 bits
    let write = [instruction(0x62, 2, 0, 0, first), instruction(0x6a, 2, 0, 4, second)];
    [&at_least(14)[..], &write, then].concat()
}

/// Drops a frame (its context is in r1) that has fewer bytes; else it begins where r2 points to. r3 and r4 are lost.
const fn at_least(bytes: i32) -> [u64; 7] {
    [
        load32(2, 1, 0),
        load32(3, 1, 4),
        copy(4, 2),
        add(4, bytes),
        // r4 <= r3: two on
        instruction(0xbd, 4, 3, 2, 0),
        set(0, XDP_DROP),
        EXIT,
    ]
}

/// Sends every frame back out, to this MAC: the generator.
pub(super) fn sender(to: [u8; 6]) -> Result<OwnedFd> {
    bpf::load("bench_sender", Hook::Xdp, &addressed(to, &[set(0, XDP_TX), EXIT]))
}

/// Bytes that [`fresh_sender`] takes off the front.
pub(in crate::bench) const TAKEN_OFF: usize = 4;

/// As [`sender`], of frames that come with [`TAKEN_OFF`] bytes before them. The kernel uses the same pages over and over, and makes
/// a page a frame anew only if the program has moved its ends; otherwise metadata that somebody has put in front is still there
/// when the page goes out again, which no driver does. The bytes are still what they have become: those that `again` names, four at a
/// time, are written once more.
pub(super) fn fresh_sender(to: [u8; 6], again: &[(usize, [u8; 4])]) -> Result<OwnedFd> {
    let end = again.iter().map(|(at, _)| at + 4).max().unwrap_or_default();
    let write =
        again.iter().map(|(at, bytes)| instruction(0x62, 2, 0, *at as i16, i32::from_ne_bytes(*bytes)));
    let again: Vec<u64> = at_least(end as i32).into_iter().chain(write).collect();
    let code = [
        copy(6, 1),
        set(2, TAKEN_OFF as i32),
        call(XDP_ADJUST_HEAD),
        // It did: two on.
        instruction(0x15, 0, 0, 2, 0),
        set(0, XDP_DROP),
        EXIT,
        copy(1, 6),
    ];
    bpf::load(
        "bench_fresh",
        Hook::Xdp,
        &[&code[..], &again, &addressed(to, &[set(0, XDP_TX), EXIT])].concat(),
    )
}

/// Sends every frame, an IPv6 packet, back out to this MAC, with the last 32 bits of its destination address anything
/// from `first` on, `count` of them, at random.
pub(in crate::bench) fn spreading_sender(to: [u8; 6], first: u32, count: u32) -> Result<OwnedFd> {
    let any = [
        copy(6, 1),
        call(GET_PRANDOM_U32),
        // Modulo, sum, network byte order.
        instruction(0x94, 0, 0, 0, count.cast_signed()),
        instruction(0x04, 0, 0, 0, first.cast_signed()),
        instruction(0xdc, 0, 0, 0, 32),
        copy(7, 0),
        copy(1, 6),
    ];
    let send = addressed(to, &[set(0, XDP_TX), EXIT]);
    let code = [&any[..], &at_least(54), &[instruction(0x63, 2, 7, 50, 0)], &send].concat();
    bpf::load("bench_spread", Hook::Xdp, &code)
}

/// Hands each frame, an IPv6 packet, to all devices of one of these devmaps, and counts it. Which one, the last 32 bits of its destination
/// address say, from 1 on. Nothing else of the frame is looked at.
pub(in crate::bench) fn redirect_by_address(groups: &MapData, count: &Count) -> Result<OwnedFd> {
    let [groups, groups_too] = map(1, groups);
    let code = [
        load32(7, 2, 50),
        // From network byte order.
        instruction(0xdc, 7, 0, 0, 32),
        add(7, -1),
        // The key, on the stack.
        instruction(0x63, 10, 7, -4, 0),
        copy(2, 10),
        add(2, -4),
        groups,
        groups_too,
        call(MAP_LOOKUP_ELEM),
        // There is one: two on.
        instruction(0x55, 0, 0, 2, 0),
        set(0, XDP_DROP),
        EXIT,
        copy(1, 0),
        set(2, 0),
        set(3, BROADCAST),
        call(REDIRECT_MAP),
        copy(6, 0),
    ];
    let code = [&at_least(54)[..], &code, &count.one_more(), &[copy(0, 6), EXIT]].concat();
    bpf::load("bench_groups", Hook::Xdp, &code)
}

/// A devmap.
pub(in crate::bench) struct Devices(MapData);

impl Devices {
    /// Of these interfaces.
    pub(in crate::bench) fn new(interfaces: &[u32]) -> Result<Devices> {
        let size = interfaces.len() as u32;
        let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_DEVMAP as u32, 4, 4, size, 0);
        let map = MapData::create(map, "bench_devices", None).context("cannot make a devmap")?;
        for (key, &interface) in (0..).zip(interfaces) {
            bpf::set(map.fd(), key, &[interface])?;
        }
        Ok(Devices(map))
    }

    /// Hands every frame to the first of them, or to all, addressed to this MAC or as it is, without looking at it.
    pub(in crate::bench) fn redirect(&self, to_all: bool, address: Option<[u8; 6]>) -> Result<OwnedFd> {
        let flags = if to_all { BROADCAST } else { 0 };
        let [first, second] = map(1, &self.0);
        let mut code = vec![first, second, set(2, 0), set(3, flags), call(REDIRECT_MAP), EXIT];
        if let Some(mac) = address {
            code = addressed(mac, &code);
        }
        bpf::load("bench_redirect", Hook::Xdp, &code)
    }
}

/// Counts what arrives.
pub(in crate::bench) struct Count(PerCpuArray<MapData, u64>);

impl Count {
    pub(in crate::bench) fn new() -> Result<Count> {
        let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_PERCPU_ARRAY as u32, 4, 8, 1, 0);
        let map = MapData::create(map, "bench_count", None).context("cannot make a map")?;
        Ok(Count(PerCpuArray::try_from(Map::PerCpuArray(map))?))
    }

    /// What has arrived up to now.
    pub(in crate::bench) fn get(&self) -> Result<u64> {
        Ok(self.0.get(&0, 0)?.iter().sum())
    }

    /// A program that counts here, and drops.
    pub(in crate::bench) fn and_drop(&self, hook: Hook) -> Result<OwnedFd> {
        let verdict = if hook == Hook::Ingress { TC_ACT_SHOT } else { XDP_DROP };
        let code = [&self.one_more()[..], &[set(0, verdict), EXIT]].concat();
        bpf::load("bench_count", hook, &code)
    }

    /// Counts. What is in the registers 0 to 5 is lost.
    fn one_more(&self) -> [u64; 10] {
        let [first, second] = map(1, self.0.map());
        [
            // The key, 0, on the stack.
            instruction(0x62, 10, 0, -4, 0),
            copy(2, 10),
            add(2, -4),
            first,
            second,
            call(MAP_LOOKUP_ELEM),
            // No such element: three on.
            instruction(0x15, 0, 0, 3, 0),
            instruction(0x79, 1, 0, 0, 0),
            add(1, 1),
            instruction(0x7b, 0, 1, 0, 0),
        ]
    }
}
