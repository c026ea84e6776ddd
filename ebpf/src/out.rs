//! Packets of an entry address: the pair's one voice, towards clients and towards other pairs on this host.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_redirect_neigh};
use hotpair_abi::count::Counter;
use hotpair_abi::flow::{self, Direction};
use hotpair_abi::maps::{Pair, ReturnKey};
use hotpair_abi::packet::{Ip, Link};
use hotpair_abi::voice;
use hotpair_abi::{Mac, RoleWord, Slot};

use crate::count::{Exit, row};
use crate::from_guest::Member;
use crate::internal::address;
use crate::packet::TcFrame;
use crate::{maps, role};

/// A packet whose source is one of the pair's entry addresses. `decided`: that it may leave is known already.
#[inline(never)]
pub fn from_entry(frame: TcFrame, link: &Link, ip: &Ip, member: &Member, decided: bool) -> Exit {
    if !decided && let Err(why) = may_speak(frame, ip, member, member.slot()) {
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

/// Whether the member in this slot may send this packet.
#[inline(always)]
pub fn may_speak(frame: TcFrame, ip: &Ip, member: &Member, slot: Slot) -> Result<(), Counter> {
    let word = member.word;
    voice::may_speak(word, role::tripped(member.pair), slot, role::lease(member.pair), role::now_ns, || {
        recorded(frame, ip, word)
    })
}

/// During a handover: whether this conversation began since it did.
#[inline(never)]
pub fn recorded(frame: TcFrame, ip: &Ip, word: RoleWord) -> bool {
    maps::recorded(&flow::seen(&frame, ip, Direction::FromGuest).flow, word.epoch().0)
}

/// During a handover: what begins now belongs to the slot that takes over. Returns whether this packet's conversation
/// does.
#[inline(never)]
fn taken_over(frame: TcFrame, ip: &Ip, word: RoleWord) -> bool {
    let seen = flow::seen(&frame, ip, Direction::ToGuest);
    if seen.begins {
        maps::record(&seen.flow, word.epoch().0);
    }
    seen.begins || maps::recorded(&seen.flow, word.epoch().0)
}

/// For another pair (or this one) that this host holds: what `from_uplink` would do, without the wire.
#[inline(never)]
fn hairpin(frame: TcFrame, ip: &Ip, id: u32, pair: *mut Pair, member: &Member) -> Exit {
    let word = role::word(pair);
    let taken_over = word.handover() && taken_over(frame, ip, word);
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
