//! News of links, as they come: gone, up or down, carrier or none.

use std::collections::HashMap;

use futures_util::StreamExt;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::error::NetworkError;
use super::link::{Link, Network};

/// Something happened to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// The link's index.
    pub index: u32,
    /// Its name, now.
    pub name: String,
    /// What happened.
    pub change: LinkChange,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It does not exist any more.
    Removed,
    /// It is new, or other than it was before.
    State {
        /// Administratively up.
        up: bool,
        /// Somebody is at the other end.
        carrier: bool,
    },
}

impl Network {
    /// News of every link of the namespace, from now on. Only changes are told; what a link is like at the beginning is
    /// for [`Network::link`] to say, asked *after* this.
    ///
    /// When news were lost because they came too fast, all links are read again and what changed is told.
    ///
    /// The kernel may hold back the loss of a carrier for up to a second (its linkwatch works at most once a second, for
    /// all links together), so this is a sign of death that may come late: 17 to 50 ms after the SIGKILL of a tap's
    /// holder were seen, with nothing else going on. Whoever has a reason to ask [`Network::link`] makes the kernel
    /// look at that link at once (`linkwatch_sync_dev` in `rtnl_getlink`), and the news come then, too.
    ///
    /// # Errors
    /// When there is no socket for it, or the links cannot be read.
    pub async fn watch(&self) -> Result<UnboundedReceiver<LinkEvent>, NetworkError> {
        let (connection, _, mut messages) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(NetworkError::Open)?;
        tokio::spawn(connection);
        let (events, receiver) = unbounded_channel();
        let mut known = Known { links: HashMap::new(), events };
        // Before the first read of the multicast socket, but after it has begun to listen: nothing falls in between.
        for message in self.links().await? {
            known.links.insert(message.header.index, Link::from_message(&message));
        }
        let network = self.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = known.events.closed() => return,
                };
                let Some((message, _)) = message else { return };
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => known.is_now(&link),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => known.is_gone(&link),
                    NetlinkPayload::Overrun(_) => match network.links().await {
                        Ok(links) => known.are_now(&links),
                        Err(error) => {
                            tracing::error!(%error, "news of links were lost and cannot be made up for");
                        }
                    },
                    _ => {}
                }
            }
        });
        Ok(receiver)
    }
}

struct Known {
    links: HashMap<u32, Link>,
    events: UnboundedSender<LinkEvent>,
}

impl Known {
    fn tell(&self, link: &Link, change: LinkChange) {
        // A receiver that is gone ends the task at its next turn.
        let _ = self.events.send(LinkEvent { index: link.index, name: link.name.clone(), change });
    }

    fn is_now(&mut self, message: &LinkMessage) {
        // A bridge tells of its ports in messages of its own family; those are not about the link.
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        let link = Link::from_message(message);
        let before = self.links.insert(link.index, link.clone());
        if before.is_none_or(|b| (b.up, b.carrier, b.name) != (link.up, link.carrier, link.name.clone())) {
            self.tell(&link, LinkChange::State { up: link.up, carrier: link.carrier });
        }
    }

    fn is_gone(&mut self, message: &LinkMessage) {
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        if let Some(link) = self.links.remove(&message.header.index) {
            self.tell(&link, LinkChange::Removed);
        }
    }

    fn are_now(&mut self, messages: &[LinkMessage]) {
        let gone: Vec<u32> =
            self.links.keys().filter(|i| !messages.iter().any(|m| m.header.index == **i)).copied().collect();
        for index in gone {
            if let Some(link) = self.links.remove(&index) {
                self.tell(&link, LinkChange::Removed);
            }
        }
        for message in messages {
            self.is_now(message);
        }
    }
}
