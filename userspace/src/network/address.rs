//! The addresses this host has.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::address::AddressAttribute;

use super::error::NetworkError;
use super::link::{Link, Network};

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The link it is on.
    pub link: String,
    /// The address itself.
    pub ip: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
}

impl Network {
    /// Every address of this host, on every link.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn addresses(&self) -> Result<Vec<HostAddress>, NetworkError> {
        let links: HashMap<u32, String> =
            self.links().await?.iter().map(Link::from_message).map(|link| (link.index, link.name)).collect();
        let messages = self
            .list(|handle| handle.address().get().execute())
            .await
            .map_err(|error| NetworkError::netlink("list the addresses", error))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| {
                // IFA_LOCAL is the own address; on a point-to-point link IFA_ADDRESS is the other end's.
                let ip = message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Local(ip) => Some(*ip),
                        _ => None,
                    })
                    .or_else(|| {
                        message.attributes.iter().find_map(|attribute| match attribute {
                            AddressAttribute::Address(ip) => Some(*ip),
                            _ => None,
                        })
                    })?;
                let index = message.header.index;
                Some(HostAddress {
                    link: links.get(&index).cloned().unwrap_or_else(|| format!("link {index}")),
                    ip,
                    prefix: message.header.prefix_len,
                })
            })
            .collect())
    }
}
