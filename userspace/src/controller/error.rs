//! Why the controller does not run, and the way out.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::dataplane::DataplaneError;
use crate::hypervisor::HypervisorError;
use crate::network::NetworkError;
use crate::store::StoreError;

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another one runs.
    #[error("another controller runs on {0} already: stop it first, or give this one its own host.run_dir")]
    AlreadyRunning(PathBuf),
    /// A directory cannot be used.
    #[error("{path} cannot be used: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such uplink.
    #[error("host.uplink = \"{0}\": there is no such interface here; `ip link` lists those there are")]
    NoUplink(String),
    /// There are more pairs than addresses.
    #[error("host.internal_net has no address left for pair `{0}`: give it a shorter prefix")]
    InternalNetFull(String),
    /// The data plane has no row left.
    #[error(
        "the running data plane has rows for {rows} pairs and cannot take `{pair}` in: `hotpair cleanup` and start again"
    )]
    NoRow {
        /// The pair.
        pair: String,
        /// Rows there are.
        rows: u32,
    },
    /// The data plane.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Links and addresses.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The metrics' address.
    #[error(
        "host.metrics = \"{address}\": nobody can be listened to there: {source}; name a free port of an address that this \
         host has (`ss -ltnp` and `ip addr` show them), or take the key out"
    )]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The API's socket.
    #[error("the API socket {path} cannot be made: {source}")]
    Api {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
