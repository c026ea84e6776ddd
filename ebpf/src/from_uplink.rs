//! XDP on the uplink: packets for an entry address go to the pair's members, questions for one are answered, and
//! everything else is left to the host exactly as it came.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use hotpair_abi::count::Counter;
use hotpair_abi::frame::{self, FromUplink, Glance};
use hotpair_abi::index::Says;
use hotpair_abi::maps::{Pair, ReturnKey};
use hotpair_abi::neighbour::Arp;
use hotpair_abi::packet::{self, Ip, Link, LinkError};
use hotpair_abi::tcp::quoted::may_quote;
use hotpair_abi::voice;
use hotpair_abi::{Address, Mac, RoleWord, Slot};

use crate::count::{Exit, NO_PAIR, count, row};
use crate::packet::XdpFrame;
use crate::tcp::{self, from_client, quoted};
use crate::{handover, maps, role, uplink_neighbour};

/// Leaves the frame to the host.
#[inline(always)]
pub fn pass(row: u32, why: Counter) -> Exit {
    Exit::new(row, why, xdp_action::XDP_PASS as i32)
}

/// Drops the frame.
#[inline(always)]
pub fn drop(row: u32, why: Counter) -> Exit {
    Exit::new(row, why, xdp_action::XDP_DROP as i32)
}

/// A frame, read. What of `what` is valid, the number says that [`read`] returns.
struct Read {
    link: Link,
    what: What,
}

/// What a frame is, laid flat: the kernel's BTF knows no Rust enums with fields, and the verifier no unwritten halves of
/// them.
union What {
    ip: Ip,
    arp: Arp,
    neighbour: Neighbour,
    exit: Exit,
}

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy)]
pub struct Neighbour {
    /// The address asked or spoken for.
    pub target: Address,
    /// The network layer.
    pub ip: Ip,
}

const PACKET: u32 = 0;
const ARP: u32 = 1;
const SOLICITATION: u32 = 2;
const ADVERTISEMENT: u32 = 3;
const EXIT: u32 = 4;

/// Decides about one frame.
#[inline(always)]
pub fn from_uplink(ctx: *mut xdp_md) -> Exit {
    let frame = XdpFrame(ctx);
    let mut id = UNKNOWN;
    match frame::glance(&frame).and_then(|seen| at_a_glance(frame, &seen, &mut id)) {
        Some(exit) => exit,
        None => thoroughly(frame, id),
    }
}

/// In place of a pair's number: it has not been found out.
const UNKNOWN: u32 = u32::MAX;

/// Most frames want nothing but an address: of these nothing is read that is not needed for that, and nothing is called that can
/// do without (a return alone takes some 5 ns where the kernel guards it). `None`: this is not one of them; `found` is whose it is.
#[inline(always)]
fn at_a_glance(frame: XdpFrame, seen: &Glance, found: &mut u32) -> Option<Exit> {
    let id = match maps::indexed(seen.dst) {
        Says::Pair(id) => id,
        Says::Nobody => return Some(pass(NO_PAIR, Counter::UplinkPassed)),
        Says::Ask => return None,
    };
    *found = id;
    let (host, pair) = (maps::host()?, maps::pair(id)?);
    let word = role::word(pair);
    if seen.mac != Mac::new(host.uplink_mac)
        || !word.held()
        || handover::is_on(pair, word)
        || frame.has_metadata()
    {
        return None;
    }
    if seen.is_deep && word.mirror() && role::carries_tcp(pair) {
        if host.keeps_metadata == 0 {
            return None;
        }
        from_client::at_a_glance(frame, id, pair, word.0)?;
    }
    frame.address_to(role::mac_pairs(pair))?;
    Some(deliver(id, pair, word, false))
}

/// Decides about one frame, whatever it is. `id`: the pair that it is for, or [`UNKNOWN`].
#[inline(never)]
fn thoroughly(frame: XdpFrame, id: u32) -> Exit {
    let mut read = MaybeUninit::<Read>::uninit();
    let kind = self::read(frame, read.as_mut_ptr());
    // SAFETY: `read` has written what belongs to its answer, and only that is looked at.
    unsafe {
        let Read { link, what } = &*read.as_ptr();
        match kind {
            PACKET => steer(frame, link, &what.ip, id),
            ARP => uplink_neighbour::arp(frame, link, &what.arp),
            SOLICITATION => uplink_neighbour::solicitation(frame, link, &what.neighbour),
            ADVERTISEMENT => uplink_neighbour::advertisement(link, what.neighbour.target),
            _ => what.exit,
        }
    }
}

/// Says what a frame is. A function of its own: what reading needs of the stack is given back before anything is done.
#[inline(never)]
fn read(frame: XdpFrame, out: *mut Read) -> u32 {
    // SAFETY: the caller's own variable; written field by field.
    let (link_out, what) = unsafe { (&raw mut (*out).link, &raw mut (*out).what) };
    let exit = |why| {
        // SAFETY: as above.
        unsafe { (*what).exit = pass(NO_PAIR, why) };
        EXIT
    };
    let link = match packet::link(&frame, None) {
        Ok(link) => link,
        Err(LinkError::Short) => return exit(Counter::UplinkUnparsed),
        Err(LinkError::TooManyTags) => return exit(Counter::UplinkTooManyTags),
    };
    // SAFETY: as above.
    unsafe { link_out.write(link) };
    match frame::from_uplink(&frame, &link) {
        Ok(FromUplink::Packet(ip)) => {
            // SAFETY: as above.
            unsafe { (*what).ip = ip };
            PACKET
        }
        Ok(FromUplink::Arp(arp)) => {
            // SAFETY: as above.
            unsafe { (*what).arp = arp };
            ARP
        }
        Ok(FromUplink::Neighbour { solicitation, target, ip }) => {
            // SAFETY: as above.
            unsafe { (*what).neighbour = Neighbour { target, ip } };
            if solicitation { SOLICITATION } else { ADVERTISEMENT }
        }
        Ok(FromUplink::Other) => exit(Counter::UplinkPassed),
        Err(why) => exit(why),
    }
}

#[inline(always)]
fn steer(frame: XdpFrame, link: &Link, ip: &Ip, id: u32) -> Exit {
    let Some(id) = (if id == UNKNOWN { maps::entry(ip.dst) } else { Some(id) }) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let (Some(host), Some(pair)) = (maps::host(), maps::pair(id)) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let row = row(id);
    if link.dst != Mac::new(host.uplink_mac) {
        return pass(row, Counter::UplinkNotOurMac);
    }
    let word = role::word(pair);
    if !word.held() {
        return drop(row, Counter::UplinkNotHeld);
    }
    if link.tags.any() {
        remember(link, ip);
    }
    let taken_over = handover::taken_over(frame, ip, pair, word);
    // `to_guest` would take somebody else's metadata for a plan.
    if role::carries_tcp(pair) && frame.has_metadata() && frame.drop_metadata().is_none() {
        return drop(row, Counter::TcpRewriteFailed);
    }
    // The frame becomes the members' by its destination MAC; a TCP segment of a known connection becomes one member's by
    // `to_guest`. Here, once: a devmap program does it for each copy.
    if frame.address_to(role::mac_pairs(pair)).is_none() {
        return drop(row, Counter::UplinkUnparsed);
    }
    if word.mirror()
        && (tcp::is_segment(ip) || may_quote(ip))
        && role::carries_tcp(pair)
        && let Some(scratch) = maps::scratch()
    {
        // An error is of another conversation than the connection that it is about.
        let taken_over = tcp::is_segment(ip) && taken_over;
        let speaker = voice::active(word, role::tripped(pair)) as u32 ^ taken_over as u32;
        tcp::scene(scratch, pair, word, speaker, role::now_ns());
        if tcp::is_segment(ip) {
            let _ = from_client::from_client(frame, link, ip, id, pair);
        } else {
            let _ = quoted::renumber(frame, ip, &link.tags, id);
        }
    }
    deliver(id, pair, word, taken_over)
}

/// Remembers where a tagged frame came from. A function of its own: its stack is given back.
#[inline(never)]
fn remember(link: &Link, ip: &Ip) {
    let key = ReturnKey { remote: ip.src, outer: link.tags.outer, inner: link.tags.inner };
    maps::remember(&key, link.src.bytes());
}

/// Gives an addressed frame to whom it is for.
#[inline(always)]
fn deliver(id: u32, pair: *mut Pair, word: RoleWord, taken_over: bool) -> Exit {
    let (why, action) = if word.mirror() {
        (Counter::UplinkMirrored, mirror(id, pair, word))
    } else {
        // Whoever is to answer must be the one that is asked.
        let slot = Slot::from_bit(voice::active(word, role::tripped(pair)) as u64 ^ taken_over as u64);
        (Counter::UplinkSteered, steer_to(id, slot, word))
    };
    match action {
        Ok(action) => Exit::new(row(id), why, action as i32),
        Err(why) => drop(row(id), why),
    }
}

/// To all of the pair that may hear.
#[inline(always)]
fn mirror(id: u32, pair: *mut Pair, word: RoleWord) -> Result<u32, Counter> {
    if !word.any_muted() {
        // A broadcast into nothing would look like a delivery.
        if role::tap(pair, 0) | role::tap(pair, 1) == 0 {
            return Err(Counter::UplinkNoMember);
        }
        return maps::broadcast(id).ok_or(Counter::UplinkNoMember);
    }
    let heard = Slot::from_bit(word.muted(Slot::Zero) as u64);
    let action = steer_to(id, heard, word)?;
    count(row(id), Counter::GuestMuted);
    Ok(action)
}

/// To one of them, if it may hear.
#[inline(always)]
fn steer_to(id: u32, slot: Slot, word: RoleWord) -> Result<u32, Counter> {
    if word.muted(slot) {
        return Err(Counter::GuestMuted);
    }
    maps::steer(id, slot as u32).ok_or(Counter::UplinkNoMember)
}
