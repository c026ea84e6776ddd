//! ARP and ND of a guest: every address that is not its own is behind the gateway's MAC. Probes (DAD) are never
//! answered, so that a guest may take its own addresses.

use aya_ebpf::helpers::generated::bpf_skb_change_tail;
use hotpair_abi::count::Counter;
use hotpair_abi::neighbour::{self, ADVERTISEMENT_LEN, Arp};
use hotpair_abi::packet::Link;
use hotpair_abi::{Address, GATEWAY_MAC, ME_V4, ME_V6, Mac};

use crate::count::Exit;
use crate::from_guest::{Member, Solicitation};
use crate::internal::address;
use crate::maps;
use crate::packet::TcFrame;
use crate::tcp::late;

/// An ARP packet.
#[inline(never)]
pub fn arp(frame: TcFrame, link: &Link, arp: &Arp, member: &Member) -> Exit {
    if !arp.request || arp.sender == 0 || arp.sender == arp.target || arp.target == u32::from_le_bytes(ME_V4)
    {
        late::after_probe(frame, member);
        return member.drop(Counter::GuestArpDropped);
    }
    if maps::entry(Address::v4_word(arp.target)) == Some(member.port.pair) {
        return member.drop(Counter::GuestArpDropped);
    }
    let reply = neighbour::arp_reply(arp, Mac::new(GATEWAY_MAC));
    if frame.put(link.l3, &reply).is_none() || address(frame, link.src).is_none() {
        return member.drop(Counter::GuestRewriteFailed);
    }
    frame.set_mark();
    member.redirect(member.ifindex, Counter::GuestArpAnswered)
}

/// A neighbour solicitation from an address.
#[inline(never)]
pub fn solicitation(frame: TcFrame, link: &Link, question: &Solicitation, member: &Member) -> Exit {
    let Solicitation { asker, target } = *question;
    if target == Address::new(ME_V6) || maps::entry(target) == Some(member.port.pair) {
        return member.drop(Counter::GuestNdDropped);
    }
    let reply = neighbour::advertisement(target, asker, Mac::new(GATEWAY_MAC));
    let len = (link.l3 + ADVERTISEMENT_LEN) as u32;
    // SAFETY: the helper makes room or cuts, and fails otherwise.
    if unsafe { bpf_skb_change_tail(frame.0, len, 0) } != 0
        || frame.put(link.l3, &reply).is_none()
        || address(frame, link.src).is_none()
    {
        return member.drop(Counter::GuestRewriteFailed);
    }
    frame.set_mark();
    member.redirect(member.ifindex, Counter::GuestNdAnswered)
}
