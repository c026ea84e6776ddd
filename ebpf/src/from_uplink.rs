//! XDP on the uplink: packets for an entry address go to the pair's members, questions for one are answered, and
//! everything else is left to the host exactly as it came.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use hotpair_abi::count::Counter;
use hotpair_abi::flow::{self, Direction};
use hotpair_abi::frame::{self, FromUplink};
use hotpair_abi::maps::ReturnKey;
use hotpair_abi::packet::{self, Ip, Link, LinkError};
use hotpair_abi::voice;
use hotpair_abi::{Mac, RoleWord};

use crate::count::{Exit, NO_PAIR, row};
use crate::packet::XdpFrame;
use crate::{maps, role, uplink_neighbour};

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

/// Decides about one frame.
#[inline(always)]
pub fn from_uplink(ctx: *mut xdp_md) -> Exit {
    let frame = XdpFrame(ctx);
    let link = match packet::link(&frame, None) {
        Ok(link) => link,
        Err(LinkError::Short) => return pass(NO_PAIR, Counter::UplinkUnparsed),
        Err(LinkError::TooManyTags) => return pass(NO_PAIR, Counter::UplinkTooManyTags),
    };
    match frame::from_uplink(&frame, &link) {
        Ok(FromUplink::Packet(ip)) => steer(frame, &link, &ip),
        Ok(FromUplink::Arp(arp)) => uplink_neighbour::arp(frame, &link, &arp),
        Ok(FromUplink::Neighbour { solicitation: true, target, ip }) => {
            uplink_neighbour::solicitation(frame, &link, &ip, target)
        }
        Ok(FromUplink::Neighbour { solicitation: false, target, .. }) => {
            uplink_neighbour::advertisement(&link, target)
        }
        Ok(FromUplink::Other) => pass(NO_PAIR, Counter::UplinkPassed),
        Err(why) => pass(NO_PAIR, why),
    }
}

/// During a handover: what begins now belongs to the slot that takes over.
#[inline(never)]
fn record(frame: XdpFrame, ip: &Ip, word: RoleWord) {
    let seen = flow::seen(&frame, ip, Direction::ToGuest);
    if seen.begins {
        maps::record(&seen.flow, word.epoch().0);
    }
}

#[inline(always)]
fn steer(frame: XdpFrame, link: &Link, ip: &Ip) -> Exit {
    let Some(id) = maps::entry(ip.dst) else {
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
        let key = ReturnKey { remote: ip.src, outer: link.tags.outer, inner: link.tags.inner };
        maps::remember(&key, link.src.bytes());
    }
    if word.handover() {
        record(frame, ip, word);
    }
    if word.mirror() {
        // A broadcast into nothing would look like a delivery.
        if role::tap(pair, 0) | role::tap(pair, 1) == 0 {
            return drop(row, Counter::UplinkNoMember);
        }
        return match maps::broadcast(id) {
            Some(action) => Exit::new(row, Counter::UplinkMirrored, action as i32),
            None => drop(row, Counter::UplinkNoMember),
        };
    }
    let slot = voice::active(word, role::tripped(pair)) as u32;
    match maps::steer(id, slot) {
        Some(action) => Exit::new(row, Counter::UplinkSteered, action as i32),
        None => drop(row, Counter::UplinkNoMember),
    }
}
