//! The internal addresses: member to member by swapping two addresses, member to its host by translating two.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace,
};
use hotpair_abi::count::Counter;
use hotpair_abi::packet::{Ip, protocol};
use hotpair_abi::{GATEWAY_MAC, HOST_V4, ME_V4, ME_V6, Mac, PEER_V4, PEER_V6};

use crate::beat;
use crate::count::{Exit, count, row};
use crate::from_guest::Member;
use crate::packet::TcFrame;
use crate::tcp::late;
use crate::{maps, role};

/// Where an IPv4 header has its addresses.
const V4_ADDRESSES: usize = 12;
/// Where an IPv6 header has its addresses.
const V6_ADDRESSES: usize = 8;

/// From `.1` to `.2`: the peer sees it come from its `.2` to its `.1`. The addresses only trade places, so the sums of
/// the IPv4 header and of every pseudo header stay what they are.
#[inline(never)]
pub fn to_peer(frame: TcFrame, ip: &Ip, member: &Member) -> Exit {
    let mut is_beat = false;
    if ip.v4 {
        const VALID: u32 = Counter::Heartbeat as u32;
        match beat::heartbeat(frame, ip, member) {
            beat::NONE => {}
            VALID => {
                count(row(member.port.pair), Counter::Heartbeat);
                is_beat = true;
            }
            why => return member.drop_for(why),
        }
    }
    let peer = role::tap(member.pair, member.port.slot ^ 1);
    if is_beat && late::is_work(member.pair) {
        return after_serving(frame, ip, member, peer);
    }
    if peer == 0 {
        return member.drop(Counter::PeerAbsent);
    }
    if address(frame, role::mac(member.pair)).is_none() || swap(frame, ip).is_none() {
        return member.drop(Counter::GuestRewriteFailed);
    }
    frame.set_mark();
    member.redirect(peer, Counter::PeerSent)
}

/// A heartbeat that has something to do here once a copy of it has gone to the peer.
#[inline(always)]
fn after_serving(frame: TcFrame, ip: &Ip, member: &Member, peer: u32) -> Exit {
    let mut why = Counter::PeerAbsent;
    if peer != 0 {
        if address(frame, role::mac(member.pair)).is_none() || swap(frame, ip).is_none() {
            return member.drop(Counter::GuestRewriteFailed);
        }
        why = Counter::PeerSent;
        frame.set_mark();
        // SAFETY: clones the frame; nothing read from it before is used afterwards.
        unsafe { bpf_clone_redirect(frame.0, peer, 0) };
        frame.clear_mark();
    }
    late::hotpair_serve_late(frame.0, member.port.pair);
    member.drop(why)
}

#[inline(always)]
fn swap(frame: TcFrame, ip: &Ip) -> Option<()> {
    if ip.v4 {
        const SWAPPED: [u8; 8] = pair_of(PEER_V4, ME_V4);
        frame.put(ip.l3 + V4_ADDRESSES, &SWAPPED)
    } else {
        frame.put(ip.l3 + V6_ADDRESSES, &PEER_V6)?;
        frame.put(ip.l3 + V6_ADDRESSES + 16, &ME_V6)
    }
}

const fn pair_of(a: [u8; 4], b: [u8; 4]) -> [u8; 8] {
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

/// Writes the MACs of a frame from the gateway to a member.
#[inline(always)]
pub fn address(frame: TcFrame, to: Mac) -> Option<()> {
    frame.address(to, Mac::new(GATEWAY_MAC))
}

/// From `.1` to `.3`: the host sees it come from the member's internal IP to its own. IPv6 link-local addresses are the
/// tap's own and need no translation.
#[inline(never)]
pub fn to_host(frame: TcFrame, ip: &Ip, member: &Member) -> Exit {
    if ip.v4 {
        let Some(host) = maps::host() else {
            return member.drop(Counter::GuestRewriteFailed);
        };
        let outside = pair_of(member.port.internal_ip, host.internal_ip);
        if translate(frame, ip, &pair_of(ME_V4, HOST_V4), &outside).is_none() {
            return member.drop(Counter::GuestRewriteFailed);
        }
    }
    member.to_host()
}

/// The other way: from the host's internal IP to the member's, which becomes from `.3` to `.1`.
#[inline(always)]
pub fn from_host(frame: TcFrame, ip: &Ip, host: [u8; 4], internal: [u8; 4]) -> Option<()> {
    translate(frame, ip, &pair_of(host, internal), &pair_of(HOST_V4, ME_V4))
}

/// Replaces both IPv4 addresses and mends the checksums: the header's, and TCP's or UDP's where this packet holds it.
/// A sum that the sender has left to its NIC (a partial one) is mended too, since it is the pseudo header's.
/// `None`: the frame may be half rewritten and must be dropped.
#[inline(never)]
fn translate(frame: TcFrame, ip: &Ip, from: &[u8; 8], to: &[u8; 8]) -> Option<()> {
    // SAFETY: both pointers are to eight bytes.
    let diff =
        unsafe { bpf_csum_diff(from.as_ptr().cast_mut().cast(), 8, to.as_ptr().cast_mut().cast(), 8, 0) };
    if diff < 0 {
        return None;
    }
    if ip.first {
        let sum = match ip.protocol {
            protocol::TCP => Some((16, BPF_F_PSEUDO_HDR as u64)),
            // No checksum (zero) stays no checksum.
            protocol::UDP => Some((6, (BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) as u64)),
            _ => None,
        };
        if let Some((offset, flags)) = sum {
            let at = (ip.l4 + offset) as u32;
            // SAFETY: the helper checks the offset.
            if unsafe { bpf_l4_csum_replace(frame.0, at, 0, diff as u64, flags) } != 0 {
                return None;
            }
        }
    }
    // SAFETY: the helper checks the offset.
    if unsafe { bpf_l3_csum_replace(frame.0, (ip.l3 + 10) as u32, 0, diff as u64, 0) } != 0 {
        return None;
    }
    frame.put(ip.l3 + V4_ADDRESSES, to)
}
