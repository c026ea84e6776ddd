//! TCX at a tap's egress: what the host's stack sends to a guest. Only hotpair's own frames and the host's internal
//! traffic get through. Frames that XDP redirects from the uplink do not come this way.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT};
use hotpair_abi::count::Counter;
use hotpair_abi::packet::{self, ETH_IPV4, ETH_IPV6};
use hotpair_abi::{Address, HOST_V6, MARK, ME_V6, Slot};

use crate::count::{Exit, NO_PAIR, row};
use crate::packet::TcFrame;
use crate::{internal, maps, role};

/// Decides about one frame.
#[inline(always)]
pub fn to_guest_from_host(skb: *mut __sk_buff) -> Exit {
    let frame = TcFrame(skb);
    let Some(port) = maps::port(frame.ifindex()) else {
        return Exit::new(NO_PAIR, Counter::FromHostDropped, TC_ACT_SHOT);
    };
    let Some(pair) = maps::pair(port.pair) else {
        return Exit::new(NO_PAIR, Counter::FromHostDropped, TC_ACT_SHOT);
    };
    let row = row(port.pair);
    let drop = |why| Exit::new(row, why, TC_ACT_SHOT);
    let deliver = |why| Exit::new(row, why, TC_ACT_OK);
    if role::word(pair).muted(Slot::from_bit(port.slot as u64)) {
        return drop(Counter::FromHostMuted);
    }
    if frame.mark() == MARK {
        return deliver(Counter::FromHostOwn);
    }
    let Ok(link) = packet::link(&frame, frame.stripped_tag()) else {
        return drop(Counter::FromHostDropped);
    };
    if link.tags.any() {
        return drop(Counter::FromHostDropped);
    }
    if link.ethertype == ETH_IPV4
        && let (Some(ip), Some(host)) = (packet::ipv4(&frame, link.l3), maps::host())
        && ip.src == Address::v4(host.internal_ip)
        && ip.dst == Address::v4(port.internal_ip)
    {
        return match internal::from_host(frame, &ip, host.internal_ip, port.internal_ip) {
            Some(()) => deliver(Counter::FromHostDelivered),
            None => drop(Counter::FromHostRewriteFailed),
        };
    }
    if link.ethertype == ETH_IPV6
        && let Some(ip) = packet::ipv6(&frame, link.l3)
        && ip.src == Address::new(HOST_V6)
        && ip.dst == Address::new(ME_V6)
        && !is_nd(&frame, &ip)
    {
        return deliver(Counter::FromHostDelivered);
    }
    drop(Counter::FromHostDropped)
}

#[inline(always)]
fn is_nd(frame: &TcFrame, ip: &packet::Ip) -> bool {
    use hotpair_abi::neighbour::{Nd, nd};
    ip.protocol == packet::protocol::ICMPV6 && !matches!(nd(frame, ip.l4), Nd::No)
}
