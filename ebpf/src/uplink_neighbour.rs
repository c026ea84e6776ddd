//! ARP and ND on the uplink: an entry address is answered with the uplink's own MAC, in place, by whoever holds it.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_tail};
use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::maps::{Host, Pair};
use hotpair_abi::neighbour::{self, ADVERTISEMENT_LEN, ALL_NODES_MAC, Arp, solicitation_is_valid};
use hotpair_abi::packet::Link;
use hotpair_abi::{Address, Mac};

use crate::count::{Exit, NO_PAIR, row};
use crate::from_uplink::{Neighbour, drop, pass};
use crate::packet::XdpFrame;
use crate::{maps, role};

/// Sends the frame back out of the uplink.
#[inline(always)]
fn answer(host: &Host, row: u32, why: Counter) -> Exit {
    if host.answer_by_redirect == 0 {
        return Exit::new(row, why, xdp_action::XDP_TX as i32);
    }
    // SAFETY: takes an interface index.
    Exit::new(row, why, unsafe { bpf_redirect(host.uplink_ifindex, 0) } as i32)
}

/// An ARP packet. A function of its own, like all that is rare: its stack is not the common packet's.
#[inline(never)]
pub fn arp(frame: XdpFrame, link: &Link, arp: &Arp) -> Exit {
    let Some(host) = maps::host() else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let mac = Mac::new(host.uplink_mac);
    if arp.sender_mac == mac {
        return pass(NO_PAIR, Counter::UplinkPassed);
    }
    let sender = Address::v4_word(arp.sender);
    if let Some(id) = maps::entry(sender)
        && let Some(pair) = maps::pair(id)
    {
        return claimed(id, pair, &sender, arp.sender_mac, host.uplink_ifindex);
    }
    if !arp.request {
        return pass(NO_PAIR, Counter::UplinkPassed);
    }
    let Some(id) = maps::entry(Address::v4_word(arp.target)) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let Some(pair) = maps::pair(id) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let row = row(id);
    if !role::word(pair).held() {
        return drop(row, Counter::UplinkNeighbourNotHeld);
    }
    let reply = neighbour::arp_reply(arp, mac);
    if frame.put(link.l3, &reply).is_none() || frame.address(arp.sender_mac, mac).is_none() {
        return drop(row, Counter::UplinkRewriteFailed);
    }
    answer(host, row, Counter::UplinkArpAnswered)
}

/// A neighbour solicitation.
#[inline(never)]
pub fn solicitation(frame: XdpFrame, link: &Link, question: &Neighbour) -> Exit {
    let Neighbour { target, ip } = question;
    let target = *target;
    let Some(id) = maps::entry(target) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let (Some(host), Some(pair)) = (maps::host(), maps::pair(id)) else {
        return pass(NO_PAIR, Counter::UplinkPassed);
    };
    let row = row(id);
    if !role::word(pair).held() {
        return drop(row, Counter::UplinkNeighbourNotHeld);
    }
    // An answer to a group's MAC would reach everybody.
    if link.src.is_group() || !solicitation_is_valid(&frame, ip, target) {
        return drop(row, Counter::UplinkNdInvalid);
    }
    let mac = Mac::new(host.uplink_mac);
    let to = if ip.src.is_unspecified() { ALL_NODES_MAC } else { link.src };
    let reply = neighbour::advertisement(target, ip.src, mac);
    let surplus = (link.l3 + ADVERTISEMENT_LEN) as i32 - frame.len() as i32;
    // SAFETY: the helper checks the room; every pointer into the frame is read anew afterwards.
    if surplus != 0 && unsafe { bpf_xdp_adjust_tail(frame.0, surplus) } != 0 {
        return drop(row, Counter::UplinkRewriteFailed);
    }
    if frame.put(link.l3, &reply).is_none() || frame.address(to, mac).is_none() {
        return drop(row, Counter::UplinkRewriteFailed);
    }
    answer(host, row, Counter::UplinkNdAnswered)
}

/// A neighbour advertisement.
#[inline(always)]
pub fn advertisement(link: &Link, target: Address) -> Exit {
    if let Some(id) = maps::entry(target)
        && let (Some(host), Some(pair)) = (maps::host(), maps::pair(id))
        && link.src != Mac::new(host.uplink_mac)
    {
        return claimed(id, pair, &target, link.src, host.uplink_ifindex);
    }
    pass(NO_PAIR, Counter::UplinkPassed)
}

/// Somebody else says that an entry address is theirs. If another host holds the pair, that is how it should be.
#[inline(never)]
fn claimed(id: u32, pair: *mut Pair, address: &Address, mac: Mac, ifindex: u32) -> Exit {
    let word = role::word(pair);
    if !word.held() {
        return pass(row(id), Counter::UplinkPassed);
    }
    let now = role::now_ns();
    // SAFETY: a field of the row that `pair` points to.
    if role::report_is_due(unsafe { &raw mut (*pair).conflict_event_ns }, now) {
        let (a, mac) = (address.bytes(), mac.bytes());
        let data = [
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14],
            a[15], mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0,
        ];
        role::report(now, Kind::AddressConflict, id, u32::MAX, ifindex, word, data);
    }
    pass(row(id), Counter::UplinkAddressConflict)
}
