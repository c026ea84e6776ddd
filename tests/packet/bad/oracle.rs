//! What must come of a frame, said before any program has seen it.

use std::collections::HashMap;

use hotpair_abi::count::Counter;
use hotpair_abi::{HOST_V4, HOST_V6, ME_V4, ME_V6, PairId, RoleWord, Slot};

use super::read::{self, Addr, Ethernet, Icmp6, IpHeader};
use super::rewrite::{arp_reply, is_valid_solicitation, na, translated};
use crate::bench::{AWAY, DB, HOST_INTERNAL, WEB, entry_v4, entry_v6, internal, pair_mac};
use crate::frames::{UPLINK_MAC, group_mac};

/// XDP actions.
pub(super) const XDP_DROP: i32 = 1;
pub(super) const XDP_PASS: i32 = 2;
pub(super) const XDP_REDIRECT: i32 = 4;
/// TC actions.
pub(super) const OK: i32 = 0;
pub(super) const SHOT: i32 = 2;
pub(super) const REDIRECT: i32 = 7;

/// What must come of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expect {
    /// Whose counter.
    pub(super) pair: Option<PairId>,
    /// The one counter of the verdict.
    pub(super) counter: Counter,
    /// The verdict.
    pub(super) verdict: i32,
    /// The frame afterwards; `None`: it goes nowhere.
    pub(super) frame: Option<Vec<u8>>,
    /// It carries hotpair's mark.
    pub(super) marked: bool,
    /// Counters besides the verdict's.
    pub(super) also: Vec<(PairId, Counter)>,
    /// What comes out of taps at once.
    pub(super) out: Vec<(PairId, Slot, Vec<u8>)>,
    /// Or else this counter, dropped: where it depends on what has been learnt from tagged frames.
    pub(super) or_dropped: Option<Counter>,
}

pub(super) fn gone(pair: Option<PairId>, counter: Counter, verdict: i32) -> Expect {
    Expect { pair, counter, verdict, frame: None, marked: false, also: vec![], out: vec![], or_dropped: None }
}

pub(super) fn on(pair: Option<PairId>, counter: Counter, verdict: i32, frame: Vec<u8>) -> Expect {
    Expect { frame: Some(frame), ..gone(pair, counter, verdict) }
}

/// What a member has said last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) boot: u64,
    pub(super) sequence: u64,
    pub(super) boot_before: u64,
}

/// The host, as far as frames are concerned.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) words: [RoleWord; 3],
    pub(super) said: HashMap<(u32, usize), Said>,
}

const PAIRS: [PairId; 3] = [WEB, DB, AWAY];

pub(super) fn owner(address: Addr) -> Option<PairId> {
    PAIRS.into_iter().find(|id| match address {
        Addr::V4(v4) => entry_v4(*id) == v4,
        Addr::V6(v6) => entry_v6(*id) == v6,
    })
}

impl World {
    pub(super) fn new(words: [RoleWord; 3]) -> World {
        World { words, said: HashMap::new() }
    }

    pub(super) fn word(&self, id: PairId) -> RoleWord {
        self.words[id.0 as usize]
    }

    /// XDP on the uplink.
    pub(super) fn at_uplink(&self, frame: &[u8]) -> Expect {
        let passed = |pair, counter| on(pair, counter, XDP_PASS, frame.to_vec());
        let ordinary = || passed(None, Counter::UplinkPassed);
        let (ethertype, at) = match read::ethernet(frame) {
            Ethernet::Short => return passed(None, Counter::UplinkUnparsed),
            Ethernet::TooManyTags => return passed(None, Counter::UplinkTooManyTags),
            Ethernet::Whole { ethertype, at, .. } => (ethertype, at),
        };
        match ethertype {
            0x0800 => match read::ipv4(frame, at) {
                Some(ip) => self.entry_packet(frame, &ip).unwrap_or_else(ordinary),
                None => passed(None, Counter::UplinkUnparsed),
            },
            0x86dd => {
                let Some(ip) = read::ipv6(frame, at) else { return passed(None, Counter::UplinkUnparsed) };
                let kind = if ip.protocol == 58 { read::icmp6(frame, ip.inside) } else { Icmp6::Ordinary };
                match kind {
                    Icmp6::Solicitation(target) => {
                        self.solicited(frame, &ip, target).unwrap_or_else(ordinary)
                    }
                    Icmp6::Advertisement(target) => match owner(Addr::V6(target)) {
                        Some(id) if frame[6..12] != UPLINK_MAC => self.claimed(frame, id),
                        _ => ordinary(),
                    },
                    Icmp6::Housekeeping => ordinary(),
                    Icmp6::Ordinary | Icmp6::Short => self.entry_packet(frame, &ip).unwrap_or_else(ordinary),
                }
            }
            0x0806 => match read::arp(frame, at) {
                Some(packet) => self.asked(frame, at, &packet).unwrap_or_else(ordinary),
                None => passed(None, Counter::UplinkUnparsed),
            },
            _ => ordinary(),
        }
    }

    fn entry_packet(&self, frame: &[u8], ip: &IpHeader) -> Option<Expect> {
        let id = owner(ip.dst)?;
        let word = self.word(id);
        Some(if frame[..6] != UPLINK_MAC {
            on(Some(id), Counter::UplinkNotOurMac, XDP_PASS, frame.to_vec())
        } else if !word.held() {
            gone(Some(id), Counter::UplinkNotHeld, XDP_DROP)
        } else {
            let counter = if word.mirror() { Counter::UplinkMirrored } else { Counter::UplinkSteered };
            let asked: Vec<_> =
                Slot::BOTH.into_iter().filter(|slot| word.mirror() || *slot == word.active()).collect();
            let muted = asked.iter().filter(|slot| word.muted(**slot)).count();
            if muted == asked.len() {
                return Some(gone(Some(id), Counter::GuestMuted, XDP_DROP));
            }
            let mut members = frame.to_vec();
            members[..6].copy_from_slice(&pair_mac(id));
            let also = vec![(id, Counter::GuestMuted); muted];
            Expect { also, ..on(Some(id), counter, XDP_REDIRECT, members) }
        })
    }

    fn claimed(&self, frame: &[u8], id: PairId) -> Expect {
        let conflict = self.word(id).held();
        let counter = if conflict { Counter::UplinkAddressConflict } else { Counter::UplinkPassed };
        on(Some(id), counter, XDP_PASS, frame.to_vec())
    }

    fn asked(&self, frame: &[u8], at: usize, packet: &read::ArpPacket) -> Option<Expect> {
        if packet.sender_mac == UPLINK_MAC {
            return None;
        }
        if let Some(id) = owner(Addr::V4(packet.sender)) {
            return Some(self.claimed(frame, id));
        }
        let id = owner(Addr::V4(packet.target)).filter(|_| packet.request)?;
        if !self.word(id).held() {
            return Some(gone(Some(id), Counter::UplinkNeighbourNotHeld, XDP_DROP));
        }
        let reply = arp_reply(frame, at, packet, packet.sender_mac, UPLINK_MAC);
        Some(on(Some(id), Counter::UplinkArpAnswered, XDP_REDIRECT, reply))
    }

    fn solicited(&self, frame: &[u8], ip: &IpHeader, target: [u8; 16]) -> Option<Expect> {
        let id = owner(Addr::V6(target))?;
        if !self.word(id).held() {
            return Some(gone(Some(id), Counter::UplinkNeighbourNotHeld, XDP_DROP));
        }
        if !is_valid_solicitation(frame, ip, &target) {
            return Some(gone(Some(id), Counter::UplinkNdInvalid, XDP_DROP));
        }
        let Addr::V6(asker) = ip.src else { unreachable!("neighbour discovery is IPv6") };
        let mut source = [0; 6];
        source.copy_from_slice(&frame[6..12]);
        let mut all_nodes = [0; 16];
        (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
        let answer = if asker == [0; 16] {
            na(frame, ip.at, group_mac(all_nodes), UPLINK_MAC, all_nodes, 0x20, target)
        } else {
            na(frame, ip.at, source, UPLINK_MAC, asker, 0x60, target)
        };
        Some(on(Some(id), Counter::UplinkNdAnswered, XDP_REDIRECT, answer))
    }

    /// TCX at a tap's egress.
    pub(super) fn towards_tap(&self, frame: &[u8], id: PairId, slot: Slot, marked: bool) -> Expect {
        let dropped = |counter| gone(Some(id), counter, SHOT);
        let delivered = |frame| on(Some(id), Counter::FromHostDelivered, OK, frame);
        if self.word(id).muted(slot) {
            return dropped(Counter::FromHostMuted);
        }
        if marked {
            return Expect { marked, ..on(Some(id), Counter::FromHostOwn, OK, frame.to_vec()) };
        }
        let Ethernet::Whole { tags: 0, ethertype, at } = read::ethernet(frame) else {
            return dropped(Counter::FromHostDropped);
        };
        let here = internal(id, slot);
        match ethertype {
            0x0800 => match read::ipv4(frame, at) {
                Some(ip) if (ip.src, ip.dst) == (Addr::V4(HOST_INTERNAL), Addr::V4(here)) => {
                    translated(frame, &ip, HOST_V4, ME_V4)
                        .map_or_else(|| dropped(Counter::FromHostRewriteFailed), delivered)
                }
                _ => dropped(Counter::FromHostDropped),
            },
            0x86dd => match read::ipv6(frame, at) {
                Some(ip)
                    if (ip.src, ip.dst) == (Addr::V6(HOST_V6), Addr::V6(ME_V6))
                        && (ip.protocol != 58
                            || matches!(read::icmp6(frame, ip.inside), Icmp6::Ordinary)) =>
                {
                    delivered(frame.to_vec())
                }
                _ => dropped(Counter::FromHostDropped),
            },
            _ => dropped(Counter::FromHostDropped),
        }
    }
}
