//! TCP connections in the programs: read a header, look the connection up, decide under its lock by the pure functions of
//! `hotpair_abi::tcp`, and then act. Three phases, because the verifier allows no calls while the lock is held.

pub mod from_client;
pub mod from_member;
pub mod late;
pub mod news;
pub mod plan;
pub mod pure;
pub mod quoted;
pub mod sum;
pub mod to_member;
pub mod turn;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use hotpair_abi::maps::{Late, Pair, Tuple, Turned};
use hotpair_abi::packet::{Bytes, Ip, Tags, protocol};
use hotpair_abi::tcp::connection::{CLOSE_LIMIT_NS, Connection, Scene};
use hotpair_abi::tcp::edit::Edit;
use hotpair_abi::tcp::from_member::Outcome;
use hotpair_abi::tcp::nudge::Nudge;
use hotpair_abi::tcp::plan::Plan;
use hotpair_abi::tcp::pure::Pure;
use hotpair_abi::tcp::segment::{Header, MOST_OPTIONS, Segment};
use hotpair_abi::tcp::stream::{Chunk, Task};
use hotpair_abi::{RoleWord, voice};

use crate::packet::Load;
use crate::role::Tick;
use crate::{maps, role};

/// What a program needs for one segment and has no room for on its stack. Besides, the verifier forgets what it knows of
/// numbers once they are stored here, and so does not follow every combination of them to the end.
#[repr(C)]
pub struct Scratch {
    /// The header's bytes.
    pub header: Header,
    /// The header, read.
    pub segment: Segment,
    /// The connection's key.
    pub tuple: Tuple,
    /// What is known of the pair.
    pub scene: Scene,
    /// Its role word.
    pub word: u64,
    /// For a member.
    pub edit: Edit,
    /// For both members.
    pub edits: [Edit; 2],
    /// And whether they get it.
    pub hows: [u32; 2],
    /// And how that travels.
    pub plan: Plan,
    /// Of a member.
    pub outcome: Outcome,
    /// Where the client's frames come from.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
    /// What comparing the members' payloads has come to.
    pub compared: u32,
    /// Where in the frame the bytes to be summed begin.
    pub payload: u32,
    /// A connection to be looked at again.
    pub late: Late,
    /// A connection to be told of a takeover.
    pub turned: Turned,
    /// What is said at a takeover.
    pub nudge: Nudge,
    /// What is being said in somebody's name.
    pub said: Pure,
    /// How many bytes of payload, none or one, go with it to the speaker.
    pub payload_said: u32,
    /// Zero.
    pub pad2: u32,
    /// Summing a payload.
    pub task: Task,
    /// The bytes that are being summed.
    pub chunk: Chunk,
    /// A clock for what comes all the time.
    pub tick: Tick,
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The client, to the entry address.
    Client,
    /// The entry address, to the client.
    Member,
}

/// Whether a packet is a TCP segment that can be looked into.
#[inline(always)]
pub fn is_segment(ip: &Ip) -> bool {
    ip.protocol == protocol::TCP && ip.whole
}

/// Bytes of TCP header and payload by the network layer's own word; 0 where it does not say (a GSO frame larger than an
/// IPv4 packet can be).
#[inline(always)]
fn length<B: Bytes>(frame: &B, ip: &Ip) -> u32 {
    if !ip.v4 {
        return ip.payload as u32;
    }
    match frame.get::<2>(ip.l3 + 2) {
        Some(total) => (u16::from_be_bytes(total) as u32).saturating_sub((ip.l4 - ip.l3) as u32),
        None => 0,
    }
}

/// Copies `N` bytes of the header, which begin at `at`.
#[inline(always)]
fn copy<B: Load, const N: usize>(frame: &B, l4: usize, header: &mut Header, at: usize) -> Option<()> {
    // SAFETY: the callers' `at + N` are at most 60.
    frame.load::<N>(l4 + at, unsafe { header.0.as_mut_ptr().add(at) })
}

/// Reads the header. `None`, with nothing to rely on in the scratch, if it cannot be one.
#[inline(always)]
pub fn read<B: Load>(frame: &B, ip: &Ip, scratch: &mut Scratch) -> Option<()> {
    let bytes = length(frame, ip);
    let header = &mut scratch.header;
    header.clear();
    // Most headers have 32 bytes, and most packets at least as many: one copy, instead of one to learn how many there are.
    let short = copy::<B, 32>(frame, ip.l4, header, 0).is_none();
    if short {
        copy::<B, 20>(frame, ip.l4, header, 0)?;
    }
    // In steps of constant lengths, which the verifier understands. What is behind the header must be zero.
    match (header.byte(12) >> 4) * 4 {
        20 => header.put(20, [0; 12]),
        24 => {
            copy::<B, 4>(frame, ip.l4, header, 20)?;
            header.put(24, [0; 8]);
        }
        28 => {
            copy::<B, 8>(frame, ip.l4, header, 20)?;
            header.put(28, [0; 4]);
        }
        // It says so, and is not all there.
        32 if short => return None,
        36 => copy::<B, 4>(frame, ip.l4, header, 32)?,
        40 => copy::<B, 8>(frame, ip.l4, header, 32)?,
        44 => copy::<B, 12>(frame, ip.l4, header, 32)?,
        48 => copy::<B, 16>(frame, ip.l4, header, 32)?,
        52 => copy::<B, 20>(frame, ip.l4, header, 32)?,
        56 => copy::<B, 24>(frame, ip.l4, header, 32)?,
        60 => copy::<B, 28>(frame, ip.l4, header, 32)?,
        _ => {}
    }
    scratch.segment.fixed(&scratch.header, bytes).ok()?;
    let mut step = 0;
    while step < MOST_OPTIONS {
        if option(scratch) == 0 {
            break;
        }
        step += 1;
    }
    Some(())
}

/// One option. A function of its own, so that the verifier's walk through forty of them is forty calls.
#[inline(never)]
fn option(scratch: &mut Scratch) -> u32 {
    scratch.segment.option(&scratch.header) as u32
}

/// Writes the connection's key into the scratch.
#[inline(always)]
pub fn key(scratch: &mut Scratch, ip: &Ip, tags: &Tags, from: From) {
    let h = &scratch.header.0;
    let ports = u32::from_ne_bytes([h[0], h[1], h[2], h[3]]);
    let tuple = &mut scratch.tuple;
    match from {
        From::Client => {
            tuple.remote = ip.src;
            tuple.entry = ip.dst;
            tuple.ports = ports;
        }
        From::Member => {
            tuple.remote = ip.dst;
            tuple.entry = ip.src;
            tuple.ports = ports.rotate_left(16);
        }
    }
    tuple.outer = tags.outer;
    tuple.inner = tags.inner;
    tuple.pad = 0;
}

/// Writes what is known of the pair into the scratch. `now_ns` is [`role::now_ns`], or 0 where nobody looks at the clock.
#[inline(always)]
pub fn scene(scratch: &mut Scratch, pair: *mut Pair, word: RoleWord, speaker: u32, now_ns: u64) {
    scratch.word = word.0;
    let scene = &mut scratch.scene;
    scene.speaker = speaker & 1;
    scene.protect = Scene::protects(word, speaker & 1);
    scene.gate = word.gate() as u32;
    scene.handover = word.handover() as u32;
    scene.first = role::first_answers(pair) as u32;
    scene.compare = role::compares(pair) as u32;
    scene.now_ns = now_ns;
    // SAFETY: `pair` points into the array map; each field is one aligned word.
    unsafe {
        scene.since_ns[0] = (&raw const (*pair).since_ns[0]).read_volatile();
        scene.since_ns[1] = (&raw const (*pair).since_ns[1]).read_volatile();
        scene.lag_limit_ns = (&raw const (*pair).lag_limit_ns).read_volatile();
    }
    scene.close_limit_ns = CLOSE_LIMIT_NS;
}

/// Writes into the scratch what is known of this pair now, for a connection that is looked at without a segment. Whether its
/// speaker may speak; `None` if there is no such pair.
#[inline(always)]
pub fn scene_now(scratch: &mut Scratch, id: u32) -> Option<bool> {
    let pair = maps::pair(id)?;
    let (word, tripped, now) = (role::word(pair), role::tripped(pair), role::now_ns());
    let speaker = voice::active(word, tripped);
    scene(scratch, pair, word, speaker as u32, now);
    Some(voice::may_speak(word, tripped, speaker, role::lease(pair), || now, || false).is_ok())
}

/// Runs `decide` under the connection's lock. It must not call anything.
#[inline(always)]
pub fn locked<T>(connection: *mut Connection, decide: impl FnOnce(&mut Connection) -> T) -> T {
    // SAFETY: the row is a map's value and lives as long as the program runs; its lock is the first field, as the kernel
    // wants it, and keeps every other program out.
    unsafe {
        bpf_spin_lock(connection.cast());
        let result = decide(&mut *connection);
        bpf_spin_unlock(connection.cast());
        result
    }
}

/// [`Connection::turns_back`], by the role word as it is now.
#[inline(always)]
pub fn turns_back(connection: &Connection, scene: &Scene, pair: *mut Pair) -> bool {
    connection.turns_back(scene, || (role::written(pair), role::tripped(pair)))
}

/// The row of the connection whose key is in the scratch.
#[inline(always)]
pub fn lookup(scratch: &Scratch) -> Option<*mut Connection> {
    maps::connection(&scratch.tuple)
}

/// The key of `HANDOVER` for the connection whose key is in the scratch.
#[inline(always)]
pub fn flow(scratch: &Scratch) -> hotpair_abi::maps::Flow {
    let tuple = &scratch.tuple;
    hotpair_abi::maps::Flow {
        remote: tuple.remote,
        entry: tuple.entry,
        ports: tuple.ports,
        protocol: protocol::TCP,
        pad: [0; 3],
    }
}
