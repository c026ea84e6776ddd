//! TCX at a tap's ingress: what a guest sends. Nothing leaves here that is not the member's own, and nothing leaves
//! through the uplink but what the pair's one voice says.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_redirect;
use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::frame::{self, FromGuest};
use hotpair_abi::maps::{PAIR_PROBE, Pair, Port};
use hotpair_abi::neighbour::Arp;
use hotpair_abi::packet::{self, Ip, Link};
use hotpair_abi::{Address, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, PEER_V6, RoleWord, Slot};

use crate::count::{Exit, NO_PAIR, row};
use crate::packet::TcFrame;
use crate::tcp::{self, from_member, late};
use crate::{beat, guest_neighbour, internal, maps, out, role};

/// Everything about the member that a frame comes from.
pub struct Member {
    /// Its pair, slot and internal IP.
    pub port: Port,
    /// Its pair's row.
    pub pair: *mut Pair,
    /// The role word, read once.
    pub word: RoleWord,
    /// Its tap.
    pub ifindex: u32,
}

impl Member {
    /// The member's slot.
    #[inline(always)]
    pub fn slot(&self) -> Slot {
        Slot::from_bit(self.port.slot as u64)
    }

    /// Drops the frame.
    #[inline(always)]
    pub fn drop(&self, why: Counter) -> Exit {
        Exit::new(row(self.port.pair), why, TC_ACT_SHOT)
    }

    /// Drops the frame for the reason with this number.
    #[inline(always)]
    pub fn drop_for(&self, why: u32) -> Exit {
        Exit::numbered(row(self.port.pair), why, TC_ACT_SHOT)
    }

    /// Hands the frame to the host's own stack.
    #[inline(always)]
    pub fn to_host(&self) -> Exit {
        Exit::new(row(self.port.pair), Counter::HostSent, TC_ACT_OK)
    }

    /// Sends the frame out of an interface as it is.
    #[inline(always)]
    pub fn redirect(&self, ifindex: u32, why: Counter) -> Exit {
        // SAFETY: takes an interface index; the kernel drops the frame if there is no such interface.
        let action = unsafe { bpf_redirect(ifindex, 0) } as i32;
        Exit::new(row(self.port.pair), why, action)
    }

    /// Reports a spoofed frame, once a second at most.
    #[inline(never)]
    fn report_spoofing(&self, kind: Kind, data: &[u8; 16]) {
        let Some(member) = maps::member(self.port.pair, self.port.slot & 1) else {
            return;
        };
        let now = role::now_ns();
        // SAFETY: a field of the row that `member` points to.
        if role::report_is_due(unsafe { &raw mut (*member).last_event_ns }, now) {
            let d = data;
            let data = [
                d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13],
                d[14], d[15], 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            role::report(now, kind, self.port.pair, self.port.slot, self.ifindex, self.word, data);
        }
    }
}

/// A frame, read. What of `what` is valid, the number says that [`read`] returns.
struct Read {
    link: Link,
    member: Member,
    what: What,
}

/// What a frame is, laid flat: the kernel's BTF knows no Rust enums with fields, and the verifier no unwritten halves of
/// them.
union What {
    ip: Ip,
    arp: Arp,
    solicitation: Solicitation,
    exit: Exit,
}

/// A question of a guest.
#[derive(Clone, Copy)]
pub struct Solicitation {
    /// Who asks.
    pub asker: Address,
    /// The address asked for.
    pub target: Address,
}

const PACKET: u32 = 0;
const ARP: u32 = 1;
const SOLICITATION: u32 = 2;
/// Not to be let on for what it is, but from the member.
const DROPPED: u32 = 3;
/// Not known to be from the member.
const EXIT: u32 = 4;
/// Certainly not from the member.
const SPOOFED_MAC: u32 = 5;

/// Decides about one frame.
#[inline(always)]
pub fn from_guest(skb: *mut __sk_buff) -> Exit {
    let frame = TcFrame(skb);
    let mut read = MaybeUninit::<Read>::uninit();
    let kind = self::read(frame, read.as_mut_ptr());
    // SAFETY: `read` has written what belongs to its answer, and only that is looked at.
    unsafe {
        let Read { link, member, what } = &*read.as_ptr();
        if kind <= DROPPED && (*member.pair).flags & PAIR_PROBE != 0 {
            beat::any_frame(member);
        }
        match kind {
            PACKET => packet(frame, link, &what.ip, member),
            ARP => guest_neighbour::arp(frame, link, &what.arp, member),
            SOLICITATION => guest_neighbour::solicitation(frame, link, &what.solicitation, member),
            SPOOFED_MAC => spoofed_mac(link, member),
            DROPPED => {
                late::after_probe(frame, member);
                what.exit
            }
            _ => what.exit,
        }
    }
}

#[inline(never)]
fn spoofed_mac(link: &Link, member: &Member) -> Exit {
    let m = link.src.bytes();
    let data = [m[0], m[1], m[2], m[3], m[4], m[5], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    member.report_spoofing(Kind::SpoofedMac, &data);
    member.drop(Counter::SpoofedMac)
}

/// Says what a frame is and whose. A function of its own: what reading needs of the stack is given back before anything
/// is done.
#[inline(never)]
fn read(frame: TcFrame, out: *mut Read) -> u32 {
    // SAFETY: the caller's own variable; written field by field.
    let (link_out, member_out, what) =
        unsafe { (&raw mut (*out).link, &raw mut (*out).member, &raw mut (*out).what) };
    let exit = |exit| {
        // SAFETY: as above.
        unsafe { (*what).exit = exit };
        EXIT
    };
    let ifindex = frame.ifindex();
    let Some(port) = maps::port(ifindex) else {
        return exit(Exit::new(NO_PAIR, Counter::FromUnknownPort, TC_ACT_SHOT));
    };
    let Some(pair) = maps::pair(port.pair) else {
        return exit(Exit::new(NO_PAIR, Counter::FromUnknownPort, TC_ACT_SHOT));
    };
    // SAFETY: as above.
    let member = unsafe {
        member_out.write(Member { port, pair, word: role::word(pair), ifindex });
        &*member_out
    };
    if member.word.muted(member.slot()) {
        return exit(member.drop(Counter::MutedDropped));
    }
    let Ok(link) = packet::link(&frame, frame.stripped_tag()) else {
        return exit(member.drop(Counter::GuestUnparsed));
    };
    // SAFETY: as above.
    unsafe { link_out.write(link) };
    if link.src != role::mac(pair) {
        return SPOOFED_MAC;
    }
    match frame::from_guest(&frame, &link) {
        Ok(FromGuest::Packet(ip)) => {
            // SAFETY: as above.
            unsafe { (*what).ip = ip };
            PACKET
        }
        Ok(FromGuest::Arp(arp)) => {
            // SAFETY: as above.
            unsafe { (*what).arp = arp };
            ARP
        }
        Ok(FromGuest::Solicitation { asker, target }) => {
            // SAFETY: as above.
            unsafe { (*what).solicitation = Solicitation { asker, target } };
            SOLICITATION
        }
        Err(why) => {
            // SAFETY: as above.
            unsafe { (*what).exit = member.drop(why) };
            DROPPED
        }
    }
}

const ME: [Address; 2] = [Address::new(ME_V6), Address::v4(ME_V4)];
const PEER: [Address; 2] = [Address::new(PEER_V6), Address::v4(PEER_V4)];
const HOST: [Address; 2] = [Address::new(HOST_V6), Address::v4(HOST_V4)];

#[inline(always)]
fn packet(frame: TcFrame, link: &Link, ip: &Ip, member: &Member) -> Exit {
    let (me, peer, host) = if ip.v4 { (ME[1], PEER[1], HOST[1]) } else { (ME[0], PEER[0], HOST[0]) };
    if ip.src == me {
        if link.tags.any() {
            return member.drop(Counter::InternalUnreachable);
        }
        if ip.dst == peer {
            return internal::to_peer(frame, ip, member);
        }
        if ip.dst == host {
            return internal::to_host(frame, ip, member);
        }
        return member.drop(Counter::InternalUnreachable);
    }
    if maps::entry(ip.src) != Some(member.port.pair) {
        member.report_spoofing(Kind::SpoofedAddress, &ip.src.bytes());
        return member.drop(Counter::SpoofedAddress);
    }
    if ip.dst == peer || ip.dst == host || ip.dst == me {
        return member.drop(Counter::InternalUnreachable);
    }
    let mut decided = false;
    if member.word.mirror()
        && tcp::is_segment(ip)
        && role::carries_tcp(member.pair)
        && from_member::decide(frame, link, ip, member) == from_member::DECIDED
    {
        let exit = from_member::act(frame, ip, member);
        if exit != from_member::SEND {
            return Exit::from_word(exit);
        }
        decided = true;
    }
    out::from_entry(frame, link, ip, member, decided)
}
