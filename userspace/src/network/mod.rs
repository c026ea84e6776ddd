//! The host's links and what hotpair says on them: taps with their addresses, routes and neighbours, announcements of
//! entry addresses on the uplink, probes into a tap, and the news of links that change.
//!
//! Everything here acts in the network namespace of the calling thread, through netlink and ioctls only: `/sys` may
//! belong to another namespace. Nothing here decides anything, and nothing here touches a link that is not a tap of
//! hotpair's own naming.

mod address;
mod announce;
mod error;
mod frame;
mod ifreq;
mod link;
pub mod nic;
mod nudge;
mod packet_socket;
mod probe;
mod tap;
mod tun_device;
mod watch;

pub use address::HostAddress;
pub use announce::Announcer;
pub use error::NetworkError;
pub use link::{Link, Network};
pub use nudge::{Segments, Towards};
pub use probe::Prober;
pub use tap::TapSpec;
pub use watch::{LinkChange, LinkEvent};
