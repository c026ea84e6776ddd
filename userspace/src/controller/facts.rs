//! What makes a pair this pair: its row, its MAC, its addresses, the names of its taps. Settled at the start.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use hotpair_abi::{PairId, Slot};

use super::{RunError, Troubles};
use crate::config::{self, Ack, Config, Takeover};
use crate::dataplane::Dataplane;
use crate::hypervisor::template::Template;
use crate::pair::Settings;

/// What makes a pair this pair, settled at the start and shared by everybody.
#[derive(Debug)]
pub(crate) struct PairFacts {
    pub(crate) id: PairId,
    pub(crate) config: config::Pair,
    pub(crate) mac: [u8; 6],
    pub(crate) internal: [Ipv4Addr; 2],
    /// Questions about what runs that have not been answered yet.
    pub(super) questions: AtomicU32,
    /// Whether the hypervisor has said what runs since the controller started.
    pub(super) taken_stock: AtomicBool,
    /// Held by who works on the pair's taps.
    pub(super) plugging: tokio::sync::Mutex<()>,
}

impl PairFacts {
    pub(crate) fn tap(&self, slot: Slot) -> String {
        tap_name(&self.config.name, slot)
    }

    /// Whether TCP connections are kept fit for a takeover.
    pub(crate) fn carries_tcp(&self) -> bool {
        self.config.takeover == Takeover::Mirror && self.config.ack != Ack::None
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            timeout: self.config.heartbeat.timeout,
            start: self.config.heartbeat.start,
            handover: self.config.handover,
            auto_replace: self.config.replace.auto,
            mirror: self.config.takeover == Takeover::Mirror,
            gate: self.config.ack == Ack::Both,
        }
    }
}

/// The tap of a pair's slot.
#[must_use]
pub fn tap_name(pair: &str, slot: Slot) -> String {
    format!("hp{pair}s{slot}")
}

/// The members' MAC where neither the configuration nor the template names one: derived from the pair's name, so that
/// it is the same on every host and after every restart.
#[must_use]
pub fn derived_mac(pair: &str) -> [u8; 6] {
    // FNV-1a: short, stable for ever, and nothing more is needed of it.
    let hash = pair.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, ..] = hash.to_be_bytes();
    let [x, y, z] = hotpair_abi::address::PAIR_MAC_PREFIX;
    // 0x77 in the fourth byte belongs to the gateway.
    [x, y, z, if a == 0x77 { 0x78 } else { a }, b, c]
}

/// Addresses of a pair's members in `internal_net`: the host has the first, then two a pair.
fn internal_ips(net: config::Ipv4Net, id: PairId) -> Option<[Ipv4Addr; 2]> {
    Some([net.host(2 + id.0 * 2)?, net.host(3 + id.0 * 2)?])
}

/// The address by which the host reaches members, and they it.
#[must_use]
pub fn host_internal_ip(net: config::Ipv4Net) -> Ipv4Addr {
    net.host(1).expect("a prefix of 30 or shorter has a first address")
}

/// Gives every configured pair its row: the one it has, or a free one.
pub(super) fn assign(
    config: &Config,
    plane: &Dataplane,
    troubles: &Troubles,
) -> Result<Vec<Arc<PairFacts>>, RunError> {
    let mut taken: HashMap<String, PairId> = plane.pairs().into_iter().map(|(id, name)| (name, id)).collect();
    let used: HashSet<u32> = taken.values().map(|id| id.0).collect();
    let rows = plane.max_pairs();
    let mut free = (0..rows).filter(|row| !used.contains(row));
    let mut pairs = Vec::new();
    for pair in &config.pairs {
        let id = match taken.remove(&pair.name) {
            Some(id) => id,
            None => PairId(free.next().ok_or_else(|| RunError::NoRow { pair: pair.name.clone(), rows })?),
        };
        let internal = internal_ips(config.host.internal_net, id)
            .ok_or_else(|| RunError::InternalNetFull(pair.name.clone()))?;
        let mac = pair.mac.or_else(|| template_mac(pair)).unwrap_or_else(|| derived_mac(&pair.name));
        pairs.push(Arc::new(PairFacts {
            id,
            config: pair.clone(),
            mac,
            internal,
            questions: AtomicU32::new(0),
            taken_stock: AtomicBool::new(false),
            plugging: tokio::sync::Mutex::default(),
        }));
    }
    for name in taken.into_keys() {
        let text = format!(
            "pair `{name}` is in the data plane but not in the configuration: it is served as it is and not looked \
             after; put it back into the configuration, or stop the controller and `hotpair cleanup`"
        );
        troubles.set(&format!("pair {name}"), Some(text));
    }
    Ok(pairs)
}

/// The MAC that the pair's domain template names. What is wrong with the template is said by `check`, and again when a
/// member is started from it.
fn template_mac(pair: &config::Pair) -> Option<[u8; 6]> {
    match &pair.vm {
        config::Vm::Libvirt { domain, image } => Template::read(domain, image).ok()?.mac(),
        config::Vm::Command(_) => None,
    }
}
