//! Links as the kernel reports them.

use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};

use super::error::{NetworkError, to_io};

/// A network interface, at the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index: other than the name, never used again for another link of this namespace in practice.
    pub index: u32,
    /// Its MAC; zero where it has none.
    pub mac: [u8; 6],
    /// Bytes of payload in a frame, as the kernel counts them.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether somebody is at the other end: for a tap, whether a process holds it.
    pub carrier: bool,
    /// Whether its frames have Ethernet headers.
    pub ethernet: bool,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Link {
        let mut link = Link {
            name: String::new(),
            index: message.header.index,
            mac: [0; 6],
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => {
                    if let Ok(mac) = <[u8; 6]>::try_from(mac.as_slice()) {
                        link.mac = mac;
                    }
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                // IFF_LOWER_UP is only reported of a link that is up; the attribute always tells.
                LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
                _ => {}
            }
        }
        link
    }
}

/// A handle on rtnetlink in the namespace of the thread that opened it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) handle: rtnetlink::Handle,
    /// One list at a time: the kernel answers EBUSY to a second one on the same socket (netlink_dump_start).
    listing: Arc<tokio::sync::Mutex<()>>,
}

impl Network {
    /// Opens a netlink socket and runs it on the calling tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    // Async, because the socket needs a runtime to live on.
    #[allow(clippy::unused_async, reason = "must be called on a tokio runtime, and says so by its type")]
    pub async fn open() -> Result<Network, NetworkError> {
        // Strict: the kernel then lists what is asked for and not everything there is, which with a thousand taps is
        // much (rtnetlink(7), NETLINK_GET_STRICT_CHK).
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(NetworkError::Open)?;
        tokio::spawn(connection);
        Ok(Network { handle, listing: Arc::default() })
    }

    /// The link with this name, or `None` where there is none.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        Ok(self.link_message(name).await?.as_ref().map(Link::from_message))
    }

    pub(super) async fn link_message(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        check_name(name)?;
        let mut answers = self.handle.link().get().match_name(name.to_string()).execute();
        match answers.try_next().await {
            Ok(message) => Ok(message),
            Err(error) => {
                let source = to_io(error);
                if source.raw_os_error() == Some(libc::ENODEV) {
                    return Ok(None);
                }
                Err(NetworkError::Netlink { what: format!("look up the link {name}"), source })
            }
        }
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NetworkError> {
        self.list(|handle| handle.link().get().execute())
            .await
            .map_err(|error| NetworkError::netlink("list the links", error))
    }

    /// Asks for a list and waits for all of it, after any other list of this socket.
    pub(super) async fn list<T, S>(
        &self,
        ask: impl FnOnce(&rtnetlink::Handle) -> S,
    ) -> Result<Vec<T>, rtnetlink::Error>
    where
        S: Stream<Item = Result<T, rtnetlink::Error>>,
    {
        let _one = self.listing.lock().await;
        ask(&self.handle).try_collect().await
    }
}

/// Refuses what the kernel would cut short or misread (IFNAMSIZ is 16 with the final zero).
pub(super) fn check_name(name: &str) -> Result<(), NetworkError> {
    let fits = (1..=15).contains(&name.len());
    if !fits
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    {
        return Err(NetworkError::Name { name: name.to_string() });
    }
    Ok(())
}
