//! A member's tap: made once, persistent, and put right whenever something has drifted.
//!
//! hotpair owns its taps: a dead hypervisor process only takes the carrier away, while the link, its index and what is
//! attached to it stay for the next member.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt;
use hotpair_abi as abi;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::error::NetworkError;
use super::link::{Link, Network, check_name};
use super::tun_device;

/// Frames a tap holds for a guest that does not read just now. A burst of a millisecond at 10 Gbit/s.
const QUEUE: u32 = 10_000;
const HOST_V6: Ipv6Addr = Ipv6Addr::from_octets(abi::HOST_V6);
const ME_V6: Ipv6Addr = Ipv6Addr::from_octets(abi::ME_V6);

/// What a tap must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// Its name.
    pub name: String,
    /// Its MTU: the uplink's, so that nothing is too large for either.
    pub mtu: u32,
    /// The host's internal IP.
    pub host_ip: Ipv4Addr,
    /// The member's internal IP, as the host reaches it.
    pub member_ip: Ipv4Addr,
    /// The MAC of the member's NIC.
    pub member_mac: [u8; 6],
}

impl Network {
    /// Makes the tap, or puts right what has drifted; a tap that is right stays as it is, and one that is in use stays
    /// in use. Afterwards it is persistent, single-queue, up, has [`abi::GATEWAY_MAC`], `spec.mtu`, a long queue (and, if
    /// it is new, no queueing discipline before that), exactly the addresses `host_ip/32` and `fe80::77:3/64`, takes no router's advice, and the host reaches the
    /// member at `member_ip` and `fe80::77:1` without asking.
    ///
    /// # Errors
    /// [`NetworkError::NotOurs`] when something else has the name; otherwise what the kernel refused. A tap made by
    /// this very call is then removed again.
    pub async fn ensure_tap(&self, spec: &TapSpec) -> Result<Link, NetworkError> {
        let found = self.link_message(&spec.name).await?;
        let is_new = found.is_none();
        match &found {
            Some(message) => must_be_our_kind(&spec.name, message)?,
            None => tun_device::create_persistent_tap(&spec.name)?,
        }
        let result = self.put_right(spec, is_new).await;
        if is_new && result.is_err() {
            // The first error is the one to tell.
            let _ = self.remove_tap(&spec.name).await;
        }
        result
    }

    /// The tap of this name, if it is there.
    ///
    /// # Errors
    /// [`NetworkError::NotOurs`] when something else has the name; otherwise what the kernel refused.
    pub async fn tap(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        let Some(message) = self.link_message(name).await? else {
            return Ok(None);
        };
        must_be_our_kind(name, &message)?;
        Ok(Some(Link::from_message(&message)))
    }

    /// Removes a tap, also one that is in use. `false` when there was none.
    ///
    /// # Errors
    /// [`NetworkError::NotOurs`] when something else has the name; otherwise what the kernel refused.
    pub async fn remove_tap(&self, name: &str) -> Result<bool, NetworkError> {
        let Some(message) = self.link_message(name).await? else {
            return Ok(false);
        };
        must_be_our_kind(name, &message)?;
        self.handle
            .link()
            .del(message.header.index)
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("remove the tap {name}"), e))?;
        Ok(true)
    }

    async fn put_right(&self, spec: &TapSpec, is_new: bool) -> Result<Link, NetworkError> {
        let name = &spec.name;
        let gone = || NetworkError::Tap {
            what: format!("set up the tap {name}: it vanished meanwhile"),
            source: std::io::Error::from_raw_os_error(libc::ENODEV),
        };
        let message = self.link_message(name).await?.ok_or_else(gone)?;
        let index = message.header.index;
        // A link that is too small for IPv6 has none, and gets it back with its MTU (RFC 8200, section 5).
        if Link::from_message(&message).mtu < spec.mtu {
            let grow = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(spec.mtu).build();
            let refused =
                |error| NetworkError::netlink(format!("give the tap {name} its MTU {}", spec.mtu), error);
            self.handle.link().change(grow).execute().await.map_err(refused)?;
        }
        let has_v6 = tun_device::take_no_router_advice(name)?;
        self.set_link(spec, &message, has_v6).await?;
        self.set_addresses(spec, index, has_v6, is_new).await?;
        self.set_route(spec, index, is_new).await?;
        self.set_neighbours(spec, index, has_v6).await?;
        let message = self.link_message(name).await?.ok_or_else(gone)?;
        Ok(Link::from_message(&message))
    }

    /// Only what differs is set: setting a MAC or an MTU again would make needless noise.
    async fn set_link(&self, spec: &TapSpec, now: &LinkMessage, has_v6: bool) -> Result<(), NetworkError> {
        let link = Link::from_message(now);
        let mut change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index);
        let mut differs = false;
        if link.mac != abi::GATEWAY_MAC {
            change = change.address(abi::GATEWAY_MAC.to_vec());
            differs = true;
        }
        if link.mtu != spec.mtu {
            change = change.mtu(spec.mtu);
            differs = true;
        }
        if !now.attributes.contains(&LinkAttribute::TxQueueLen(QUEUE)) {
            change = change.txqueuelen(QUEUE);
            differs = true;
        }
        if has_v6 && !invents_no_address(now) {
            // Before it is up, or it would invent itself a link-local address.
            change =
                change.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
                    AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
                ])]));
            differs = true;
        }
        let set = |message, what: &str| {
            let what = format!("{what} of the tap {} (MTU {})", spec.name, spec.mtu);
            let request = self.handle.link().set(message);
            async move { request.execute().await.map_err(|e| NetworkError::netlink(what, e)) }
        };
        // Each change makes the kernel look through all of its IPv6 routes (addrconf_notify).
        if differs {
            set(change.build(), "set MAC, MTU and queue length").await?;
        }
        if !link.up {
            if now.attributes.contains(&LinkAttribute::Qdisc("noop".to_owned())) {
                self.do_not_queue(&spec.name, link.index).await;
            }
            set(LinkMessageBuilder::<LinkUnspec>::new().index(link.index).up().build(), "set the state")
                .await?;
        }
        Ok(())
    }

    /// A tap queues in its own ring and never makes its sender wait (`tun_net_xmit`): a queueing discipline before it
    /// only takes memory, with this length 240 KiB and a millisecond to clear them (`pfifo_fast_init`). Must be done before
    /// the tap is up for the first time, when the kernel attaches its default; what somebody else has attached stays. A
    /// tap that keeps the default works as well.
    async fn do_not_queue(&self, name: &str, index: u32) {
        let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or(i32::MAX));
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".to_owned()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut handle = self.handle.clone();
        let answers = match handle.request(request) {
            Ok(answers) => answers,
            Err(why) => return tracing::info!(tap = name, %why, "it keeps its queueing discipline"),
        };
        let mut answers = std::pin::pin!(answers);
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(refused) = answer.payload
                && refused.code.is_some()
            {
                tracing::info!(tap = name, why = %refused.to_io(), "it keeps its queueing discipline");
            }
        }
    }

    async fn set_addresses(
        &self,
        spec: &TapSpec,
        index: u32,
        has_v6: bool,
        is_new: bool,
    ) -> Result<(), NetworkError> {
        let mut wanted = vec![(IpAddr::V4(spec.host_ip), 32)];
        if has_v6 {
            wanted.push((IpAddr::V6(HOST_V6), 64));
        }
        let refused = |what: &str, address: &IpAddr, error| {
            NetworkError::netlink(format!("{what} the address {address} of the tap {}", spec.name), error)
        };
        let there = if is_new { Vec::new() } else { self.addresses_of(spec, index).await? };
        let mut kept = Vec::new();
        for message in there {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let address = address.or_else(|| {
                message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            });
            let Some(address) = address else { continue };
            if wanted.contains(&(address, message.header.prefix_len)) {
                kept.push(address);
                continue;
            }
            let removed = self.handle.address().del(message).execute().await;
            removed.map_err(|error| refused("remove", &address, error))?;
        }
        for (address, prefix) in wanted.into_iter().filter(|(address, _)| !kept.contains(address)) {
            let mut request = self.handle.address().add(index, address, prefix).replace();
            if address.is_ipv6() {
                // Every tap has this address: looking for duplicates would find the other one's.
                let message = request.message_mut();
                message.header.flags |= AddressHeaderFlags::Nodad;
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            request.execute().await.map_err(|error| refused("add", &address, error))?;
        }
        Ok(())
    }

    async fn addresses_of(&self, spec: &TapSpec, index: u32) -> Result<Vec<AddressMessage>, NetworkError> {
        let ask = |handle: &rtnetlink::Handle| {
            let mut request = handle.address().get().set_link_index_filter(index);
            // For the kernel; the filter is the library's own.
            request.message_mut().header.index = index;
            request.execute()
        };
        self.list(ask)
            .await
            .map_err(|e| NetworkError::netlink(format!("list the addresses of the tap {}", spec.name), e))
    }

    async fn set_route(&self, spec: &TapSpec, index: u32, is_new: bool) -> Result<(), NetworkError> {
        let refused = |what: &str, error| {
            NetworkError::netlink(
                format!("{what} the route to {} via the tap {}", spec.member_ip, spec.name),
                error,
            )
        };
        // Left over from when the member had another internal IP.
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build();
        let routes = match is_new {
            true => Vec::new(),
            false => self
                .list(|handle| handle.route().get(filter).execute())
                .await
                .map_err(|e| refused("look for", e))?,
        };
        let mut there = false;
        for route in routes {
            let ours = route.header.protocol == RouteProtocol::Static
                && route.header.scope == RouteScope::Link
                && route.attributes.contains(&RouteAttribute::Oif(index));
            let right = route.header.destination_prefix_length == 32
                && route
                    .attributes
                    .contains(&RouteAttribute::Destination(RouteAddress::Inet(spec.member_ip)));
            let from_host = RouteAttribute::PrefSource(RouteAddress::Inet(spec.host_ip));
            there |= ours && right && route.attributes.contains(&from_host);
            if ours && !right {
                self.handle
                    .route()
                    .del(route)
                    .execute()
                    .await
                    .map_err(|e| refused("remove what stood for", e))?;
            }
        }
        if there {
            return Ok(());
        }
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(spec.member_ip, 32)
            .output_interface(index)
            .pref_source(spec.host_ip)
            .scope(RouteScope::Link)
            .build();
        self.handle.route().add(route).replace().execute().await.map_err(|e| refused("set", e))
    }

    async fn set_neighbours(&self, spec: &TapSpec, index: u32, has_v6: bool) -> Result<(), NetworkError> {
        let mut neighbours = vec![IpAddr::V4(spec.member_ip)];
        if has_v6 {
            neighbours.push(IpAddr::V6(ME_V6));
        }
        for address in neighbours {
            // A request without a state is for a permanent entry.
            let request =
                self.handle.neighbours().add(index, address).link_layer_address(&spec.member_mac).replace();
            request.execute().await.map_err(|error| {
                NetworkError::netlink(format!("set the neighbour {address} on the tap {}", spec.name), error)
            })?;
        }
        Ok(())
    }
}

/// Whether the link makes no IPv6 address of its own.
fn invents_no_address(message: &LinkMessage) -> bool {
    let families = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    let inet6 = families.flatten().filter_map(|family| match family {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    inet6.flatten().any(|setting| *setting == AfSpecInet6::AddrGenMode(In6AddrGenMode::None))
}

/// Refuses whatever is not a persistent single-queue tap.
fn must_be_our_kind(name: &str, message: &LinkMessage) -> Result<(), NetworkError> {
    check_name(name)?;
    let not_ours = |is: String| Err(NetworkError::NotOurs { name: name.to_string(), is });
    let infos = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    let kind = infos.unwrap_or_default().iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.clone()),
        _ => None,
    });
    match kind {
        Some(InfoKind::Tun) => {}
        Some(other) => return not_ours(format!("a link of kind {other}")),
        None => return not_ours("a network card".to_string()),
    }
    let details = infos.unwrap_or_default().iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(details)) => Some(details.as_slice()),
        _ => None,
    });
    // IFLA_TUN_* of linux/if_link.h: one byte each. What the kernel does not tell is taken for right.
    let byte = |wanted: u16| {
        let detail = details.unwrap_or_default().iter().find(|detail| detail.kind() == wanted)?;
        let mut value = [0; 1];
        (detail.value_len() == 1).then(|| detail.emit_value(&mut value))?;
        Some(value[0])
    };
    if byte(IFLA_TUN_TYPE).is_some_and(|kind| i32::from(kind) != libc::IFF_TAP) {
        return not_ours("a tun device, without Ethernet headers".to_string());
    }
    if byte(IFLA_TUN_MULTI_QUEUE).is_some_and(|on| on != 0) {
        return not_ours("a tap with several queues".to_string());
    }
    if byte(IFLA_TUN_PERSIST).is_some_and(|on| on == 0) {
        return not_ours("a tap that another process made and that ends with it".to_string());
    }
    Ok(())
}

const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
