//! One counter for every verdict of the data plane. Each early return names its reason here.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// Index of a counter in its row of `STATS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])* $variant = $number,)*
        }

        impl Counter {
            /// Every counter, in the order of their numbers.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant),*];

            /// The name shown to people and programs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)*
                }
            }

            /// What it counts, as docs/metrics.md says it; begins with a space.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Counter::$variant => concat!($($doc),*),)*
                }
            }
        }
    };
}

/// Counters in a row, a power of two; the numbers above [`Counter::ALL`] are unused.
pub const PER_ROW: u32 = 128;

counters! {
    // from_uplink
    /// Entry packet handed to both members.
    UplinkMirrored = 0, "uplink_mirrored";
    /// Entry packet handed to the active member alone.
    UplinkSteered = 1, "uplink_steered";
    /// Not for an entry address: left to the host.
    UplinkPassed = 2, "uplink_passed";
    /// Too short or inconsistent to say whom it is for: left to the host.
    UplinkUnparsed = 3, "uplink_unparsed";
    /// More than two VLAN tags: left to the host.
    UplinkTooManyTags = 4, "uplink_too_many_tags";
    /// For an entry address, but sent to another machine's MAC: left to the host.
    UplinkNotOurMac = 5, "uplink_not_our_mac";
    /// For an entry address that this host does not hold: dropped.
    UplinkNotHeld = 6, "uplink_not_held";
    /// The pair has no tap to hand the packet to: dropped.
    UplinkNoMember = 7, "uplink_no_member";
    /// ARP request for a held entry address answered.
    UplinkArpAnswered = 8, "uplink_arp_answered";
    /// Neighbour solicitation for a held entry address answered.
    UplinkNdAnswered = 9, "uplink_nd_answered";
    /// ARP or ND for an entry address that this host does not hold: dropped.
    UplinkNeighbourNotHeld = 10, "uplink_neighbour_not_held";
    /// Somebody else claims an entry address that this host holds (ARP or NA with it as the sender): left to the host.
    UplinkAddressConflict = 11, "uplink_address_conflict";
    /// A neighbour solicitation that breaks RFC 4861 section 7.1.1: dropped.
    UplinkNdInvalid = 12, "uplink_nd_invalid";
    /// An ARP or ND answer could not be written in place (no room in the frame): dropped.
    UplinkRewriteFailed = 13, "uplink_rewrite_failed";

    /// Entry packet not handed to a muted slot; dropped if there was no other to hand it to.
    GuestMuted = 17, "guest_muted";

    // from_guest
    /// The active member's packet left through the uplink.
    ActiveSent = 20, "active_sent";
    /// The standby's packet was suppressed.
    StandbySuppressed = 21, "standby_suppressed";
    /// A muted slot's frame was dropped.
    MutedDropped = 22, "muted_dropped";
    /// The active member's packet was dropped: this host does not hold the pair.
    NotHeldDropped = 23, "not_held_dropped";
    /// The active member's packet was dropped: the lease has run out.
    LeaseExpired = 24, "lease_expired";
    /// The source MAC is not the pair's: dropped.
    SpoofedMac = 25, "spoofed_mac";
    /// The source address is not one of the member's: dropped.
    SpoofedAddress = 26, "spoofed_address";
    /// Too short or inconsistent: dropped.
    GuestUnparsed = 27, "guest_unparsed";
    /// Neither ARP, IPv4 nor IPv6 (LLDP, STP and the like): dropped.
    GuestUnknownProtocol = 28, "guest_unknown_protocol";
    /// To a multicast or broadcast address: dropped.
    GuestMulticast = 29, "guest_multicast";
    /// ARP request of a guest answered.
    GuestArpAnswered = 30, "guest_arp_answered";
    /// Neighbour solicitation of a guest answered.
    GuestNdAnswered = 31, "guest_nd_answered";
    /// ARP of a guest that needs no answer (announcement, reply, probe of its own address): dropped.
    GuestArpDropped = 32, "guest_arp_dropped";
    /// ND, RS, RA, MLD or DAD of a guest that needs no answer: dropped.
    GuestNdDropped = 33, "guest_nd_dropped";
    /// DHCP of a guest: dropped (its addresses are the pair's).
    GuestDhcpDropped = 34, "guest_dhcp_dropped";
    /// A valid heartbeat.
    Heartbeat = 35, "heartbeat";
    /// A heartbeat of the wrong length, without its first four bytes, or in a state that does not exist: dropped.
    HeartbeatMalformed = 36, "heartbeat_malformed";
    /// A heartbeat that is not newer than the last one of the same boot: dropped.
    HeartbeatStale = 37, "heartbeat_stale";
    /// A packet (heartbeats included) handed on to the peer.
    PeerSent = 38, "peer_sent";
    /// There is no peer to hand it to: dropped.
    PeerAbsent = 39, "peer_absent";
    /// A packet handed to the host itself.
    HostSent = 40, "host_sent";
    /// From an internal address to anything else than the peer or the host: dropped.
    InternalUnreachable = 41, "internal_unreachable";
    /// A tagged packet for somebody no tagged frame has come from: dropped.
    VlanNoReturnPath = 42, "vlan_no_return_path";
    /// A packet for another pair's entry address on the same host, handed to its members.
    Hairpinned = 43, "hairpinned";
    /// During a handover: not this slot's turn to answer this flow.
    HandoverSuppressed = 44, "handover_suppressed";
    /// Rewriting or redirecting failed in the kernel: dropped.
    GuestRewriteFailed = 45, "guest_rewrite_failed";
    /// The tap belongs to no pair: dropped.
    FromUnknownPort = 46, "from_unknown_port";
    /// A heartbeat of another version (an agent older or newer than this host's hotpair): dropped.
    HeartbeatVersion = 47, "heartbeat_version";

    // to_guest_from_host
    /// A packet of the host handed to a member's internal address.
    FromHostDelivered = 48, "from_host_delivered";
    /// A frame of hotpair's own (peer traffic, neighbour answers, probes).
    FromHostOwn = 49, "from_host_own";
    /// From the host, but not from its internal address to the member's: dropped.
    FromHostDropped = 50, "from_host_dropped";
    /// From the host to a muted slot: dropped.
    FromHostMuted = 51, "from_host_muted";
    /// Rewriting a packet of the host failed in the kernel: dropped.
    FromHostRewriteFailed = 52, "from_host_rewrite_failed";

    // from_guest: heartbeats, too
    /// A heartbeat whose own check does not fit: dropped.
    HeartbeatDamaged = 53, "heartbeat_damaged";
    /// A heartbeat of the boot before the present one: dropped.
    HeartbeatOldBoot = 54, "heartbeat_old_boot";

    // the latch
    /// The data plane failed over by itself.
    LatchTripped = 56, "latch_tripped";

    // TCP connections
    /// A TCP header that cannot be one: treated as a packet of no connection.
    TcpMalformed = 64, "tcp_malformed";
    /// A new connection found the table full, or no memory: it is not protected.
    TcpTableFull = 65, "tcp_table_full";
    /// The standby was not handed a segment of a connection that it does not have, or not yet.
    TcpNotForStandby = 66, "tcp_not_for_standby";
    /// A segment was translated for a member.
    TcpTranslated = 67, "tcp_translated";
    /// A SYN-ACK waited for the other member's.
    TcpSynAckHeld = 68, "tcp_syn_ack_held";
    /// An acknowledgement waited for the standby's.
    TcpAckHeld = 69, "tcp_ack_held";
    /// A FIN or RST waited for the standby's.
    TcpCloseHeld = 70, "tcp_close_held";
    /// A suppressed segment of the standby was cut down to tell the client what both members have.
    TcpConverted = 71, "tcp_converted";
    /// A member was told in the client's name what the client has acknowledged.
    TcpTold = 72, "tcp_told";
    /// After a takeover: the new primary sent what the client has already.
    TcpAlreadyThere = 73, "tcp_already_there";
    /// A connection that could not be carried over was reset.
    TcpReset = 74, "tcp_reset";
    /// The standby was late: acknowledgements no longer waited for it.
    TcpGateOpened = 75, "tcp_gate_opened";
    /// The standby had caught up: acknowledgements wait for it again.
    TcpGateClosed = 76, "tcp_gate_closed";
    /// A segment could not be translated (the kernel refused): dropped.
    TcpRewriteFailed = 77, "tcp_rewrite_failed";
    /// The members have sent different bytes on a TCP connection: it will not be carried over.
    TcpDiverged = 78, "tcp_diverged";
    /// Bytes of a member that were never seen: what the members send is compared from behind them.
    TcpCompareSkipped = 79, "tcp_compare_skipped";
    /// What the standby has said before the primary: sent to the client (`answer = "first"`).
    TcpAnsweredFirst = 80, "tcp_answered_first";
    /// An ICMP error about a member's segment was given that member's numbers.
    TcpQuoteTranslated = 81, "tcp_quote_translated";
    /// Data of a new primary that could not be compared yet with what the client has from the old one: not heard.
    TcpNotCompared = 82, "tcp_not_compared";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_fit_a_row() {
        assert!(Counter::ALL.windows(2).all(|w| (w[0] as u32) < (w[1] as u32)));
        assert!(Counter::ALL.iter().all(|c| (*c as u32) < PER_ROW));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
