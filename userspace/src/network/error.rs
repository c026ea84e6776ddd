//! Why something could not be done to the host's network.

use std::io;

/// What was tried, on what, and what the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket: without it nothing about links can be known.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),

    /// The kernel refused a netlink request.
    #[error("cannot {what}")]
    Netlink {
        /// What was asked for, with the link's name: "set the MTU of hpwebs0 to 1500".
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A system call on a tap failed.
    #[error("cannot {what}")]
    Tap {
        /// What was tried, with the tap's name.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A link has the name of a tap but is something else.
    #[error(
        "{name} exists and is {is}, not a tap of hotpair's; \
         rename or remove it (`ip link del {name}`), or give the pair another name"
    )]
    NotOurs {
        /// The link's name.
        name: String,
        /// What it is, as a person would say it.
        is: String,
    },

    /// The name cannot be a link's name.
    #[error("{name:?} cannot be the name of a link: it must have 1 to 15 characters, no space and no `/`")]
    Name {
        /// The name.
        name: String,
    },
}

impl NetworkError {
    pub(super) fn netlink(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        NetworkError::Netlink { what: what.into(), source: to_io(error) }
    }
}

/// The kernel's errno where there is one: it reads better than the crate's own words.
pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
