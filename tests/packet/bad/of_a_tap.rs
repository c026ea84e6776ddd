//! What must come of a frame that a guest sends.

use hotpair_abi::count::Counter;
use hotpair_abi::{GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, PEER_V6, PairId, Slot};

use super::oracle::{Expect, OK, REDIRECT, SHOT, Said, World, gone, on, owner};
use super::read::{self, Addr, Ethernet, Icmp6, IpHeader, word};
use super::rewrite::{arp_reply, na, translated};
use crate::bench::{HOST_INTERNAL, internal, pair_mac};
use crate::frames::UPLINK_MAC;

impl World {
    /// TCX at a tap's ingress.
    pub(super) fn at_tap(&mut self, frame: &[u8], id: PairId, slot: Slot) -> Expect {
        let word = self.word(id);
        let mac = pair_mac(id);
        let dropped = |counter| gone(Some(id), counter, SHOT);
        if word.muted(slot) {
            return dropped(Counter::MutedDropped);
        }
        let Ethernet::Whole { tags, ethertype, at } = read::ethernet(frame) else {
            return dropped(Counter::GuestUnparsed);
        };
        if frame[6..12] != mac {
            return dropped(Counter::SpoofedMac);
        }
        match ethertype {
            0x0800 => match read::ipv4(frame, at) {
                None => dropped(Counter::GuestUnparsed),
                Some(ip) if frame[0] & 1 == 1 || ip.dst.is_group() || ip.protocol == 2 => {
                    dropped(if is_dhcp(frame, &ip, 67) {
                        Counter::GuestDhcpDropped
                    } else {
                        Counter::GuestMulticast
                    })
                }
                Some(ip) => self.guest_packet(frame, tags, &ip, id, slot),
            },
            0x86dd => {
                let Some(ip) = read::ipv6(frame, at) else { return dropped(Counter::GuestUnparsed) };
                let kind = if ip.protocol == 58 { read::icmp6(frame, ip.inside) } else { Icmp6::Ordinary };
                match kind {
                    Icmp6::Solicitation(target) => {
                        let Addr::V6(asker) = ip.src else { unreachable!("it is IPv6") };
                        let own = target == ME_V6 || owner(Addr::V6(target)) == Some(id);
                        if ip.hops != 255 || asker == [0; 16] || target[0] == 0xff || own {
                            return dropped(Counter::GuestNdDropped);
                        }
                        let to: [u8; 6] = frame[6..12].try_into().expect("six bytes");
                        let answer = na(frame, at, to, GATEWAY_MAC, asker, 0x60, target);
                        Expect { marked: true, ..on(Some(id), Counter::GuestNdAnswered, REDIRECT, answer) }
                    }
                    Icmp6::Advertisement(_) | Icmp6::Housekeeping => dropped(Counter::GuestNdDropped),
                    Icmp6::Short => dropped(Counter::GuestUnparsed),
                    Icmp6::Ordinary if frame[0] & 1 == 1 || ip.dst.is_group() => {
                        dropped(if is_mld(frame, &ip) {
                            Counter::GuestNdDropped
                        } else if is_dhcp(frame, &ip, 547) {
                            Counter::GuestDhcpDropped
                        } else {
                            Counter::GuestMulticast
                        })
                    }
                    Icmp6::Ordinary => self.guest_packet(frame, tags, &ip, id, slot),
                }
            }
            0x0806 => match read::arp(frame, at) {
                None => dropped(Counter::GuestUnparsed),
                Some(packet) => {
                    let own = packet.target == ME_V4 || owner(Addr::V4(packet.target)) == Some(id);
                    let probe = packet.sender == [0; 4] || packet.sender == packet.target;
                    if !packet.request || own || probe {
                        return dropped(Counter::GuestArpDropped);
                    }
                    let to: [u8; 6] = frame[6..12].try_into().expect("six bytes");
                    let reply = arp_reply(frame, at, &packet, to, GATEWAY_MAC);
                    Expect { marked: true, ..on(Some(id), Counter::GuestArpAnswered, REDIRECT, reply) }
                }
            },
            _ => dropped(Counter::GuestUnknownProtocol),
        }
    }

    fn guest_packet(&mut self, frame: &[u8], tags: usize, ip: &IpHeader, id: PairId, slot: Slot) -> Expect {
        let dropped = |counter| gone(Some(id), counter, SHOT);
        let (me, peer, host) = if ip.is_v4() {
            (Addr::V4(ME_V4), Addr::V4(PEER_V4), Addr::V4(HOST_V4))
        } else {
            (Addr::V6(ME_V6), Addr::V6(PEER_V6), Addr::V6(HOST_V6))
        };
        if ip.src == me {
            return if tags > 0 || (ip.dst != peer && ip.dst != host) {
                dropped(Counter::InternalUnreachable)
            } else if ip.dst == peer {
                self.handed_to_peer(frame, ip, id, slot)
            } else {
                to_host(frame, ip, id, slot)
            };
        }
        if owner(ip.src) != Some(id) {
            return dropped(Counter::SpoofedAddress);
        }
        if [me, peer, host].contains(&ip.dst) {
            return dropped(Counter::InternalUnreachable);
        }
        let word = self.word(id);
        if slot != word.active() {
            return dropped(Counter::StandbySuppressed);
        }
        if !word.held() {
            return dropped(Counter::NotHeldDropped);
        }
        if let Some(other) = owner(ip.dst).filter(|other| self.word(*other).held()) {
            return self.hairpin(frame, other);
        }
        let sent = on(Some(id), Counter::ActiveSent, REDIRECT, frame.to_vec());
        if tags == 0 {
            return sent;
        }
        // To the MAC that the client's tagged frames came from: whichever that was.
        let mut frame = frame.to_vec();
        frame[6..12].copy_from_slice(&UPLINK_MAC);
        Expect { frame: Some(frame), or_dropped: Some(Counter::VlanNoReturnPath), ..sent }
    }

    fn hairpin(&self, frame: &[u8], other: PairId) -> Expect {
        let word = self.word(other);
        let mut there = frame.to_vec();
        there[..6].copy_from_slice(&pair_mac(other));
        there[6..12].copy_from_slice(&GATEWAY_MAC);
        let mut slots = vec![word.active()];
        if word.mirror() {
            slots.push(word.active().other());
        }
        let (muted, heard): (Vec<Slot>, Vec<Slot>) = slots.into_iter().partition(|slot| word.muted(*slot));
        let counter = if heard.is_empty() { Counter::UplinkNoMember } else { Counter::Hairpinned };
        let mut expect = gone(Some(other), counter, SHOT);
        expect.also.extend(heard.iter().map(|_| (other, Counter::FromHostOwn)));
        expect.also.extend(muted.iter().map(|_| (other, Counter::FromHostMuted)));
        expect.out.extend(heard.into_iter().map(|slot| (other, slot, there.clone())));
        expect
    }

    fn handed_to_peer(&mut self, frame: &[u8], ip: &IpHeader, id: PairId, slot: Slot) -> Expect {
        let mut there = frame.to_vec();
        there[..6].copy_from_slice(&pair_mac(id));
        there[6..12].copy_from_slice(&GATEWAY_MAC);
        let width = if ip.is_v4() { 4 } else { 16 };
        let source = ip.at + if ip.is_v4() { 12 } else { 8 };
        let (left, right) = there[source..source + 2 * width].split_at_mut(width);
        left.swap_with_slice(right);
        let mut expect = Expect { marked: true, ..on(Some(id), Counter::PeerSent, REDIRECT, there) };
        if ip.is_v4()
            && ip.protocol == 17
            && ip.is_whole()
            && frame.len() >= ip.inside + 8
            && word(frame, ip.inside + 2) == Some(7077)
        {
            match self.beat(frame, ip, id, slot) {
                Ok(()) => expect.also.push((id, Counter::Heartbeat)),
                Err(why) => return gone(Some(id), why, SHOT),
            }
        }
        expect
    }

    /// docs of `abi/src/heartbeat.rs`, read once more.
    fn beat(&mut self, frame: &[u8], ip: &IpHeader, id: PairId, slot: Slot) -> Result<(), Counter> {
        let udp = ip.inside;
        let Some(beat) = frame.get(udp + 8..udp + 56).filter(|_| word(frame, udp + 4) == Some(56)) else {
            return Err(Counter::HeartbeatMalformed);
        };
        if &beat[..4] != b"HPHB" {
            return Err(Counter::HeartbeatMalformed);
        }
        if beat[4] != 2 {
            return Err(Counter::HeartbeatVersion);
        }
        if read::ones_sum(&[beat]) != 0xffff {
            return Err(Counter::HeartbeatDamaged);
        }
        if !(1..=4).contains(&beat[5]) {
            return Err(Counter::HeartbeatMalformed);
        }
        let long = |at: usize| u64::from_be_bytes(beat[at..at + 8].try_into().expect("eight bytes"));
        let (boot, sequence) = (long(8), long(16));
        let place = (id.0, slot.index());
        match self.said.get_mut(&place) {
            None => {
                self.said.insert(place, Said { boot, sequence, boot_before: 0 });
            }
            Some(said) if said.boot == boot => {
                if sequence <= said.sequence {
                    return Err(Counter::HeartbeatStale);
                }
                said.sequence = sequence;
            }
            Some(said) if said.boot_before != 0 && said.boot_before == boot => {
                return Err(Counter::HeartbeatOldBoot);
            }
            Some(said) => *said = Said { boot, sequence, boot_before: said.boot },
        }
        Ok(())
    }
}

fn to_host(frame: &[u8], ip: &IpHeader, id: PairId, slot: Slot) -> Expect {
    let sent = |frame| on(Some(id), Counter::HostSent, OK, frame);
    if !ip.is_v4() {
        return sent(frame.to_vec());
    }
    translated(frame, ip, internal(id, slot), HOST_INTERNAL)
        .map_or_else(|| gone(Some(id), Counter::GuestRewriteFailed, SHOT), sent)
}

fn is_dhcp(frame: &[u8], ip: &IpHeader, port: u16) -> bool {
    ip.protocol == 17 && ip.is_whole() && word(frame, ip.inside + 2) == Some(port)
}

/// Multicast listener messages come behind a hop-by-hop header of eight bytes (RFC 3810 section 5).
fn is_mld(frame: &[u8], ip: &IpHeader) -> bool {
    ip.protocol == 0
        && frame
            .get(ip.inside..ip.inside + 9)
            .is_some_and(|header| header[0] == 58 && header[1] == 0 && matches!(header[8], 130..=132 | 143))
}
