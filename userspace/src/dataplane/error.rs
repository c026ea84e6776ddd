//! Why the data plane cannot be opened or changed, and the way out.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Each text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataplaneError {
    /// Not root.
    #[error(
        "hotpair may not load eBPF programs: it needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    NotPermitted,
    /// The directory for the pins cannot be used.
    #[error("{} cannot hold the data plane's pins: {what} ({source}); it must lie on a bpffs (mount -t bpf bpf /sys/fs/bpf)", .dir.display())]
    BpfDir {
        /// `bpf_dir`.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else has the data plane open.
    #[error("the data plane under {} is in use by a running hotpair; stop that one first", .0.display())]
    Busy(PathBuf),
    /// The uplink does not exist.
    #[error("the uplink {name} does not exist ({source}); `ip link` shows which interfaces do")]
    NoUplink {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The uplink is no Ethernet.
    #[error("the uplink {0} is not an Ethernet interface; hotpair steers Ethernet frames only")]
    NotEthernet(String),
    /// Frames of this size cannot be duplicated.
    #[error(
        "the uplink {name} has an MTU of {mtu}; above {} a frame does not fit into one page and the kernel cannot duplicate it: set it to {} or less (ip link set {name} mtu 1500)",
        super::MAX_UPLINK_MTU,
        super::MAX_UPLINK_MTU
    )]
    MtuTooLarge {
        /// The uplink.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// Another XDP program is attached.
    #[error(
        "{name} already has an XDP program, {program}, and an interface can have only one; detach it (ip link set {name} xdp off, or stop what attached it), or give hotpair another uplink"
    )]
    XdpTaken {
        /// The uplink.
        name: String,
        /// Whose: name and id.
        program: String,
    },
    /// The driver has no XDP.
    #[error(
        "the driver of {name} does not support native XDP ({source}); set xdp = \"generic\" under [host]"
    )]
    NoNativeXdp {
        /// The uplink.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Attaching failed for another reason.
    #[error("{program} cannot be attached to {name}: {source}{hint}")]
    Attach {
        /// The eBPF program.
        program: &'static str,
        /// The interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// What it may mean.
        hint: &'static str,
    },
    /// The object could not be loaded.
    #[error(
        "the eBPF programs cannot be loaded; hotpair needs Linux 6.6 or newer with CONFIG_DEBUG_INFO_BTF"
    )]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What runs is of another version.
    #[error(
        "the data plane pinned under {} is of ABI version {found}, this hotpair speaks {}: finish with the version that made it, or run `hotpair cleanup` (the pairs' traffic stops until hotpair runs again)",
        .dir.display(), hotpair_abi::ABI_VERSION
    )]
    OtherVersion {
        /// `bpf_dir`.
        dir: PathBuf,
        /// The version that is there.
        found: u32,
    },
    /// A pinned map is not what it should be.
    #[error(
        "the pinned map {} is not what this hotpair expects: {what} is {found}, expected {expected}; finish with the version that made it, or run `hotpair cleanup`",
        .path.display()
    )]
    OtherMap {
        /// The pin.
        path: PathBuf,
        /// Which property.
        what: &'static str,
        /// What it is.
        found: u32,
        /// What it should be.
        expected: u32,
    },
    /// More pairs than the running data plane has rows.
    #[error(
        "room for {wanted} pairs is needed, and the running data plane was started with room for {rows}: start with fewer pairs, or run `hotpair cleanup` and start anew (the pairs' traffic stops meanwhile)"
    )]
    TooManyPairs {
        /// How many are wanted.
        wanted: u32,
        /// How many rows there are.
        rows: u32,
    },
    /// There is no such row, or it is not in use.
    #[error("the data plane has no pair {0}")]
    NoSuchPair(u32),
    /// A name does not fit into a row.
    #[error("the pair name {0:?} is empty or longer than 15 bytes")]
    BadName(String),
    /// An address belongs to somebody else.
    #[error("the entry address {address} already belongs to the pair {owner}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The other pair's name.
        owner: String,
    },
    /// Somebody reads the events already.
    #[error("the data plane's events have a reader already")]
    EventsTaken,
    /// A map or a link could not be read or written.
    #[error("{what} failed: {source}")]
    Kernel {
        /// What was tried, on what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DataplaneError {
    pub(super) fn kernel(what: impl Into<String>, source: io::Error) -> Self {
        DataplaneError::Kernel { what: what.into(), source }
    }

    /// An error of aya's map operations: the system call's error if there is one.
    pub(super) fn map(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                let source = io
                    .raw_os_error()
                    .map_or_else(|| io::Error::other(io.to_string()), io::Error::from_raw_os_error);
                return DataplaneError::kernel(what, source);
            }
            cause = error.source();
        }
        DataplaneError::kernel(what, io::Error::other(error.to_string()))
    }
}
