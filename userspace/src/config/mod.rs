//! The configuration: what it may say, and what each wrong word is answered with.
//!
//! [`load`] reads, checks and returns it whole or refuses it whole. It looks at nothing but the file (and the files that
//! one names); what the machine must have is checked by `check`.

mod address;
mod error;
mod host;
mod hypervisor;
mod pair;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod time;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, ConfigErrors};
pub use schema::{Key, SCHEMA, Unwritten};

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it, each with file, line and column, key and a way out.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => parse(&text, path),
            Err(error) => Err(ConfigErrors::not_text(path, &error)),
        },
        Err(error) => Err(ConfigErrors::unreadable(path, &error)),
    }
}

/// Checks a configuration that was read from `path`, which relative paths in it are relative to.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigErrors> {
    let reader = reader::Reader::new(text, path);
    let config = reader.document().and_then(|document| {
        let mut root = reader.section(&document, "");
        let (host, internal_net) = host::read(&mut root);
        let hypervisor = hypervisor::read(&mut root);
        let pairs = pair::read(&mut root, internal_net.as_ref(), hypervisor.kind);
        root.finish();
        let hypervisor = hypervisor.finish();
        Some(Config { path: path.to_owned(), host: host?, hypervisor: hypervisor?, pairs: pairs? })
    });
    match (config, reader.into_errors()) {
        (Some(config), None) => Ok(config),
        (_, Some(errors)) => Err(errors),
        (None, None) => unreachable!("what a configuration lacks has been said"),
    }
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// `[host]`
    pub host: Host,
    /// `[hypervisor]`
    pub hypervisor: Hypervisor,
    /// `[[pair]]`, in the order of the file; at least one.
    pub pairs: Vec<Pair>,
}

/// `[host]`
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// The host's name; default: the hostname.
    pub name: String,
    /// The NIC through which clients reach the entry addresses.
    pub uplink: String,
    /// How XDP is attached to the uplink.
    pub xdp: XdpMode,
    /// Where members' internal IPs come from: the host has the first address, the pairs' members the following.
    pub internal_net: Ipv4Net,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// Holds `api.sock` and `lock`.
    pub run_dir: PathBuf,
    /// Directory on a bpffs that holds the pins; default `/sys/fs/bpf/hotpair`.
    pub bpf_dir: PathBuf,
    /// Where metrics are served; nowhere without it.
    pub metrics: Option<SocketAddr>,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver. The default; refused where the driver cannot.
    Native,
    /// In the stack: works everywhere, slower.
    Generic,
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Net {
    /// Network address, host bits zero.
    pub address: Ipv4Addr,
    /// 8 to 30.
    pub prefix: u8,
}

impl Ipv4Net {
    /// The `index`th address after the network address; `None` past the last usable one.
    #[must_use]
    pub fn host(&self, index: u32) -> Option<Ipv4Addr> {
        let size = 1u64 << (32 - self.prefix);
        (index > 0 && u64::from(index) < size - 1).then(|| Ipv4Addr::from(u32::from(self.address) + index))
    }
}

impl std::fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// `[hypervisor]`
#[derive(Clone, Debug, PartialEq)]
pub enum Hypervisor {
    /// `kind = "libvirt"`
    Libvirt {
        /// libvirt's connection URI; default `qemu:///system`.
        uri: String,
        /// `accel = "auto" | "kvm" | "tcg"`: auto (default) uses KVM where a short self-test boots, else TCG.
        accel: Accel,
    },
    /// `kind = "command"`
    Command,
}

/// What accelerates the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// KVM where its self-test boots, else TCG; a template that names a domain type keeps it otherwise.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// `[[pair]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// 1 to 11 characters of `a-z 0-9 -`, beginning with a letter: the taps are called `hp<name>s<slot>`.
    pub name: String,
    /// The addresses clients use; at least one, each only once in the file.
    pub entry: Vec<IpAddr>,
    /// What happens to TCP connections.
    pub takeover: Takeover,
    /// Whose acknowledgements a TCP client sees.
    pub ack: Ack,
    /// Whose answers a TCP client gets.
    pub answer: Answer,
    /// Whether what both members send on a TCP connection is compared; default true.
    pub compare: bool,
    /// How long the standby may be late with a TCP connection before nothing waits for it; default 10 ms.
    pub lag_limit: Duration,
    /// What a member is.
    pub vm: Vm,
    /// The members' MAC; default: derived from the name, or the one in the domain template.
    pub mac: Option<[u8; 6]>,
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// What follows a failover.
    pub replace: Replace,
    /// How long a switchover drains the old primary before it goes quiet; default 20 ms.
    pub handover: Duration,
}

/// `takeover`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// Both members receive every packet. The default.
    Mirror,
    /// Only the active member does, for services that replicate themselves.
    Address,
}

/// `ack`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// What a client sees acknowledged, both members have. The default.
    Both,
    /// What a client sees acknowledged, the primary has: nothing waits, and a takeover may lose connections.
    Primary,
    /// TCP is nobody's business: packets are duplicated and nothing else.
    None,
}

impl Ack {
    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Ack::Both => "both",
            Ack::Primary => "primary",
            Ack::None => "none",
        }
    }
}

/// `answer`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The primary's. The default.
    Primary,
    /// Whichever member's comes first. Only with [`Takeover::Mirror`] and [`Ack::Both`].
    First,
}

/// What a member is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum Vm {
    /// `domain` and `image`; relative paths are relative to the configuration file.
    Libvirt {
        /// Domain template (libvirt XML).
        domain: PathBuf,
        /// Golden image; each member gets a qcow2 overlay on it, in the same directory.
        image: PathBuf,
    },
    /// `command = { start, stop, release }`
    Command(Command),
}

/// `command`: argument vectors, run without a shell. They see `HOTPAIR_PAIR`, `HOTPAIR_SLOT`, `HOTPAIR_TAP`,
/// `HOTPAIR_MAC`, `HOTPAIR_ENTRY` (space separated), `HOTPAIR_INTERNAL_IP`, `HOTPAIR_GENERATION`.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Starts a member on the tap and returns when it runs.
    pub start: Vec<String>,
    /// Makes sure the member does not run any more. Must succeed when it does not run.
    pub stop: Vec<String>,
    /// Gives up the member's storage. Must succeed when there is none.
    pub release: Vec<String>,
    /// Prints the generation of the member that runs in `HOTPAIR_SLOT` and exits 0; exits 1 when none runs.
    pub status: Vec<String>,
}

/// `heartbeat`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who beats.
    pub source: Source,
    /// Between two heartbeats (agent: for the docs and the guest; probe: between two probes); default 2 ms.
    pub interval: Duration,
    /// A member silent for this long has failed; default 8 ms, at least twice the interval.
    pub timeout: Duration,
    /// How long a started member may take until it serves; default 60 s.
    pub start: Duration,
}

/// `heartbeat.source`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// hotpair-guest inside the VM. The default.
    Agent,
    /// The host probes by ARP and ND; any frame counts.
    Probe,
}

/// `replace`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replace {
    /// Whether a failed member is replaced without being asked; default true.
    pub auto: bool,
    /// What becomes of its volume; default delete.
    pub release: Release,
}

/// `replace.release`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Deleted.
    Delete,
    /// Kept for a post-mortem.
    Keep,
}
