//! Packets of an entry address: the pair's one voice, towards clients and towards other pairs on this host.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_redirect_neigh};
use hotpair_abi::count::Counter;
use hotpair_abi::flow::{self, Direction};
use hotpair_abi::maps::{Pair, ReturnKey};
use hotpair_abi::packet::{Ip, Link};
use hotpair_abi::voice;
use hotpair_abi::{Mac, RoleWord};

use crate::count::{Exit, row};
use crate::from_guest::Member;
use crate::internal::address;
use crate::packet::TcFrame;
use crate::{handover, maps, role};

/// A packet whose source is one of the pair's entry addresses. `decided`: that it may leave is known already.
#[inline(never)]
pub fn from_entry(frame: TcFrame, link: &Link, ip: &Ip, member: &Member, decided: bool) -> Exit {
    if !decided && let Err(why) = may_speak(frame, ip, member) {
        return member.drop(why);
    }
    if let Some(id) = maps::entry(ip.dst)
        && let Some(pair) = maps::pair(id)
        && role::word(pair).held()
    {
        return hairpin(frame, ip, id, pair, member);
    }
    let Some(host) = maps::host() else {
        return member.drop(Counter::GuestRewriteFailed);
    };
    if !link.tags.any() {
        // SAFETY: no parameters: the kernel finds the next hop and its MAC by its own routes through the uplink.
        let action = unsafe { bpf_redirect_neigh(host.uplink_ifindex, core::ptr::null_mut(), 0, 0) } as i32;
        return Exit::new(row(member.port.pair), Counter::ActiveSent, action);
    }
    let key = ReturnKey { remote: ip.dst, outer: link.tags.outer, inner: link.tags.inner };
    let Some(to) = maps::return_path(&key) else {
        return member.drop(Counter::VlanNoReturnPath);
    };
    if frame.address(Mac::new(to), Mac::new(host.uplink_mac)).is_none() {
        return member.drop(Counter::GuestRewriteFailed);
    }
    member.redirect(host.uplink_ifindex, Counter::ActiveSent)
}

/// Whether the member may send this packet.
#[inline(always)]
fn may_speak(frame: TcFrame, ip: &Ip, member: &Member) -> Result<(), Counter> {
    let word = member.word;
    let taken = handover::is_on(member.pair, word) && answers(frame, ip, member);
    let (tripped, lease) = (role::tripped(member.pair), role::lease(member.pair));
    voice::may_speak(word, tripped, member.slot(), lease, role::now_ns, || taken)
}

#[inline(never)]
fn answers(frame: TcFrame, ip: &Ip, member: &Member) -> bool {
    handover::answers(&frame, ip, member.pair, member.word, member.port.slot)
}

/// During a handover: whether this conversation has gone over.
#[inline(never)]
pub fn taken(frame: TcFrame, ip: &Ip, word: RoleWord) -> bool {
    maps::taken(&flow::seen(&frame, ip, Direction::FromGuest).flow, word.epoch().0)
}

/// For another pair (or this one) that this host holds: what `from_uplink` would do, without the wire.
#[inline(never)]
fn hairpin(frame: TcFrame, ip: &Ip, id: u32, pair: *mut Pair, member: &Member) -> Exit {
    let word = role::word(pair);
    let taken_over = handover::taken_over(frame, ip, pair, word);
    if address(frame, role::mac(pair)).is_none() {
        return member.drop(Counter::GuestRewriteFailed);
    }
    frame.set_mark();
    let active = voice::active(word, role::tripped(pair)) as u32 ^ taken_over as u32;
    let mut delivered = give(frame, role::tap(pair, active));
    if word.mirror() {
        delivered |= give(frame, role::tap(pair, active ^ 1));
    }
    if !delivered {
        return Exit::new(row(id), Counter::UplinkNoMember, TC_ACT_SHOT);
    }
    Exit::new(row(id), Counter::Hairpinned, TC_ACT_SHOT)
}

#[inline(always)]
fn give(frame: TcFrame, tap: u32) -> bool {
    // SAFETY: clones the frame; nothing read from it before is used afterwards.
    tap != 0 && unsafe { bpf_clone_redirect(frame.0, tap, 0) } == 0
}
