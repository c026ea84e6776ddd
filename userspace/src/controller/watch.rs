//! Everybody who notices something: links, the data plane's events, the hypervisor, probes; and the announcer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hotpair_abi::event::{Event as PlaneEvent, Kind};
use hotpair_abi::{PairId, Slot};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::repeats::{self, Repeats};
use super::{PairFacts, RunError, Shared, Troubles, execute, forget};
use crate::config::Source;
use crate::hypervisor::VmEvent;
use crate::network::{Announcer, LinkChange, LinkEvent, Prober};
use crate::pair::{Event, Sign};

/// When a change of holder is told again: neighbours may have missed it, a switch may have been learning.
const ANNOUNCE_AGAIN: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// Starts them all.
pub(super) async fn all(
    shared: &Arc<Shared>,
    vm_inbox: mpsc::UnboundedReceiver<VmEvent>,
    announcements: mpsc::UnboundedReceiver<Vec<IpAddr>>,
) -> Result<Vec<JoinHandle<()>>, RunError> {
    let links = shared.network.watch().await?;
    // What it is like already; from here on every change is news.
    if let Some(link) = shared.network.link(&shared.uplink.name).await? {
        let change = LinkChange::State { up: link.up, carrier: link.carrier };
        watch_uplink(shared, &LinkEvent { index: link.index, name: link.name, change });
    }
    let events = shared.plane.events()?;
    let mut tasks = vec![
        tokio::spawn(watch_links(Arc::clone(shared), links)),
        tokio::spawn(watch_plane(Arc::clone(shared), events)),
        tokio::spawn(watch_hypervisor(Arc::clone(shared), vm_inbox)),
        tokio::spawn(announce(Arc::clone(shared), announcements)),
        // Also where no pair carries connections over: one that did before may have left some.
        tokio::spawn(forget::forget(Arc::clone(shared))),
    ];
    for facts in shared.pairs.iter() {
        if facts.config.heartbeat.source == Source::Probe {
            tasks.push(tokio::spawn(probe(Arc::clone(shared), Arc::clone(facts))));
        }
    }
    Ok(tasks)
}

async fn watch_links(shared: Arc<Shared>, mut links: mpsc::UnboundedReceiver<LinkEvent>) {
    while let Some(event) = links.recv().await {
        if event.index == shared.uplink.index {
            watch_uplink(&shared, &event);
        } else if event.name == shared.uplink.name && event.change != LinkChange::Removed {
            let name = &event.name;
            let text = format!(
                "there is a new uplink {name}, which is not used yet: no client is reached. Restart the controller \
                 (`systemctl restart hotpair`): it takes the new one, and the members go on"
            );
            shared.troubles.set("uplink", Some(text));
        } else if let Some((facts, slot)) = shared.pairs.with_tap(&event.name) {
            watch_tap(&shared, facts, slot).await;
        }
    }
}

/// Tells how a tap is, and mends it.
pub(super) async fn watch_tap(shared: &Shared, facts: &PairFacts, slot: Slot) {
    let name = facts.tap(slot);
    // A message may be older than what has happened since: the link itself is asked.
    let link = match shared.network.link(&name).await {
        Ok(link) => link,
        Err(error) => {
            tracing::warn!(tap = %name, "its state cannot be read: {error}");
            return;
        }
    };
    let (how, mend) = match &link {
        None => (Some("its tap was removed"), true),
        Some(link) if !link.up => (Some("its tap is down"), true),
        Some(link) if !link.carrier => (Some("nobody holds its tap any more"), false),
        Some(_) => (None, false),
    };
    let event = match how {
        Some(how) => Event::Lost { slot, generation: None, by: Sign::Carrier, how: how.to_owned() },
        None => Event::Found { slot, generation: None, by: Sign::Carrier },
    };
    shared.engine.event(facts.id, event);
    if mend {
        match execute::plug(shared, facts, slot).await {
            Ok(()) => tracing::info!(tap = %name, "mended"),
            Err(error) => tracing::error!(tap = %name, "it cannot be mended: {error}"),
        }
    }
}

fn watch_uplink(shared: &Shared, event: &LinkEvent) {
    let name = &shared.uplink.name;
    let trouble = match event.change {
        LinkChange::Removed => Some(format!("the uplink {name} was removed: no client is reached")),
        LinkChange::State { up: false, .. } => {
            Some(format!("the uplink {name} is down: no client is reached"))
        }
        LinkChange::State { carrier: false, .. } => {
            Some(format!("the uplink {name} has no carrier: no client is reached"))
        }
        LinkChange::State { .. } => None,
    };
    let well = trouble.is_none();
    shared.troubles.set("uplink", trouble);
    if well {
        // Whoever is at the other end now may know nothing of us.
        for facts in shared.pairs.iter() {
            if shared.plane.role(facts.id).held() {
                let _ = shared.announce.send(facts.config.entry.clone());
            }
        }
    }
}

async fn watch_plane(shared: Arc<Shared>, mut events: crate::dataplane::Events) {
    let mut repeats = Repeats::new();
    let mut minute = tokio::time::interval(repeats::PERIOD);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = minute.tick() => {
                for ((pair, kind), times) in repeats.sum_up() {
                    sum_up(&shared, PairId(pair), kind, times);
                }
                continue;
            }
        };
        let name = shared.pairs.with_id(PairId(event.pair)).map(|facts| &facts.config.name);
        let Some(pair) = name else { continue };
        let slot = event.slot;
        match Kind::from_u32(event.kind) {
            Some(Kind::StateChanged | Kind::LatchTripped) => shared.engine.look(PairId(event.pair)),
            Some(Kind::SpoofedMac) => {
                let mac = mac_text(&event);
                tracing::warn!(%pair, slot, "a frame with the source MAC {mac} left the member's tap: dropped");
            }
            Some(Kind::SpoofedAddress) => {
                let address = address_text(&event);
                tracing::warn!(%pair, slot, "a packet from {address}, which is not the member's, left its tap: dropped");
            }
            Some(Kind::AddressConflict) => {
                let address = address_text(&event);
                tracing::error!(%pair, "somebody else on the uplink claims the entry address {address}");
            }
            Some(kind @ (Kind::GateOpened | Kind::GateClosed | Kind::Diverged)) => {
                tell_of_connection(pair, &event, kind, repeats.is_news((event.pair, event.kind)));
            }
            None => tracing::warn!(kind = event.kind, "the data plane reports something unknown"),
        }
    }
}

fn tell_of_connection(pair: &str, event: &PlaneEvent, kind: Kind, is_news: bool) {
    let (slot, connection) = (event.slot, connection_text(event));
    let text = match kind {
        Kind::GateOpened => format!(
            "the standby is late with the connection {connection}: acknowledgements do not wait for it until it has caught \
             up (`tcp_gate_opened` counts; what else comes of it is summed up once a minute)"
        ),
        Kind::GateClosed => format!("the standby has caught up with the connection {connection}"),
        _ => format!(
            "the members have sent different bytes on the connection {connection}: a takeover will reset it \
             (`tcp_diverged` counts, `hotpair flows` lists; what else comes of it is summed up once a minute)"
        ),
    };
    match kind {
        _ if !is_news => tracing::debug!(%pair, slot, "{text}"),
        Kind::GateClosed => tracing::info!(%pair, slot, "{text}"),
        _ => tracing::warn!(%pair, slot, "{text}"),
    }
}

/// What has come again since it was told, in one line. The data plane itself tells of each kind once a second at most.
fn sum_up(shared: &Shared, pair: PairId, kind: u32, times: u64) {
    let Some(facts) = shared.pairs.with_id(pair) else { return };
    let pair = &facts.config.name;
    match Kind::from_u32(kind) {
        Some(Kind::GateOpened) => tracing::warn!(
            %pair, times, "the standby was late with connections again (times: seconds; `tcp_gate_opened` has each)"
        ),
        Some(Kind::GateClosed) => tracing::info!(
            %pair, times, "the standby has caught up with connections again (times: seconds; `tcp_gate_closed` has each)"
        ),
        _ => tracing::warn!(
            %pair, times,
            "the members have sent different bytes on more connections (times: seconds; `tcp_diverged` has each)"
        ),
    }
}

fn address_text(event: &PlaneEvent) -> String {
    let mut key = [0; 16];
    key.copy_from_slice(&event.data[..16]);
    let address = std::net::Ipv6Addr::from(key);
    address.to_ipv4_mapped().map_or_else(|| address.to_string(), |v4| v4.to_string())
}

/// The client's end, and the port that it has called.
fn connection_text(event: &PlaneEvent) -> String {
    let port = |at: usize| u16::from_be_bytes([event.data[at], event.data[at + 1]]);
    let mut address = address_text(event);
    if address.contains(':') {
        address = format!("[{address}]");
    }
    format!("{address}:{} to port {}", port(16), port(18))
}

fn mac_text(event: &PlaneEvent) -> String {
    super::report::mac_text(&[
        event.data[0],
        event.data[1],
        event.data[2],
        event.data[3],
        event.data[4],
        event.data[5],
    ])
}

async fn watch_hypervisor(shared: Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<VmEvent>) {
    let id = |name: &str| shared.pairs.named(name).map(|facts| facts.id);
    while let Some(event) = inbox.recv().await {
        match event {
            VmEvent::Gone { pair, slot, generation, how }
            | VmEvent::Halted { pair, slot, generation, how } => {
                if let Some(id) = id(&pair) {
                    let generation = Some(generation);
                    shared.engine.event(id, Event::Lost { slot, generation, by: Sign::Hypervisor, how });
                }
            }
            VmEvent::Unreachable { why } => {
                shared.hypervisor_troubles.set(Troubles::HYPERVISOR, Some(why));
                shared.engine.everyone(Event::Unreachable);
            }
            VmEvent::Reachable => {
                shared.hypervisor_troubles.set(Troubles::HYPERVISOR, None);
                shared.engine.everyone(Event::Reachable);
            }
        }
    }
}

async fn announce(shared: Arc<Shared>, mut wanted: mpsc::UnboundedReceiver<Vec<IpAddr>>) {
    let announcer = match Announcer::open(&shared.uplink) {
        Ok(announcer) => Arc::new(announcer),
        Err(error) => {
            let text = format!("entry addresses cannot be announced on {}: {error}", shared.uplink.name);
            shared.troubles.set("announce", Some(text));
            return;
        }
    };
    // Of each pair only the last series: an uplink that flaps must not make a storm.
    let mut series: HashMap<Vec<IpAddr>, JoinHandle<()>> = HashMap::new();
    while let Some(entry) = wanted.recv().await {
        let announcer = Arc::clone(&announcer);
        let key = entry.clone();
        let task = tokio::spawn(async move {
            for pause in std::iter::once(Duration::ZERO).chain(ANNOUNCE_AGAIN) {
                tokio::time::sleep(pause).await;
                if let Err(error) = announcer.announce(&entry) {
                    tracing::warn!(?entry, "not announced: {error}");
                }
            }
        });
        if let Some(former) = series.insert(key, task) {
            former.abort();
        }
    }
}

/// Asks both members for a sign of life, at the pair's interval.
async fn probe(shared: Arc<Shared>, facts: Arc<PairFacts>) {
    let mut probers: [Option<(u32, Prober)>; 2] = [None, None];
    let mut tick = tokio::time::interval(facts.config.heartbeat.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        for slot in Slot::BOTH {
            let prober = &mut probers[slot.index()];
            if prober.as_ref().is_none_or(|(_, prober)| prober.probe().is_err()) {
                // The tap is new, or was made anew.
                *prober = match shared.network.link(&facts.tap(slot)).await {
                    Ok(Some(link)) => Prober::open(&link, facts.mac, &facts.config.entry)
                        .ok()
                        .map(|opened| (link.index, opened)),
                    _ => None,
                };
                if prober.is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
