//! Drives the pairs: events in, actions out.
//!
//! | file | about |
//! | --- | --- |
//! | `account.rs` | what has become of connections at a takeover |
//! | `agenda.rs` | when each pair wants to be looked at |
//! | `answers.rs` | what the API is answered from |
//! | `engine.rs` | the one thread that looks, decides and flips |
//! | `error.rs` | why the controller does not run |
//! | `execute.rs` | what actions come to: taps, members, announcements |
//! | `facts.rs` | what makes a pair this pair: row, MAC, addresses, taps |
//! | `flows.rs` | the pairs' TCP connections, in words and added up |
//! | `forget.rs` | connections that are over make room |
//! | `history.rs` | what has happened, in memory |
//! | `lock.rs` | one controller for a run directory |
//! | `metrics.rs` | what Prometheus is told |
//! | `nudge.rs` | after a takeover, every connection is told |
//! | `pairs.rs` | who is who: pairs by name, by row, by tap |
//! | `priority.rs` | that the engine comes first |
//! | `quiet.rs` | the right moment for a switchover |
//! | `repeats.rs` | what comes again and again is told once, then summed up |
//! | `report.rs` | status, show and history as the API tells them |
//! | `scrape.rs` | where Prometheus asks |
//! | `service.rs` | what the service manager is told |
//! | `troubles.rs` | what is wrong with the host itself |
//! | `turnstile.rs` | how many slow things are begun at once |
//! | `watch.rs` | links, data plane events, the hypervisor's events, probes |
//!
//! The engine's thread never waits for anything but its next look: no disk, no hypervisor, no lock that another thread
//! holds for long. Everything slow is a task whose end comes back as an event.

mod account;
mod agenda;
mod answers;
mod engine;
mod error;
mod execute;
mod facts;
mod flows;
mod forget;
mod history;
mod lock;
mod metrics;
mod nudge;
mod pairs;
pub(crate) mod priority;
mod quiet;
mod repeats;
mod report;
mod scrape;
mod service;
mod troubles;
mod turnstile;
mod watch;

pub use error::RunError;
pub use facts::{derived_mac, host_internal_ip, tap_name};
pub use lock::RunLock;
pub(crate) use scrape::OPEN_METRICS;

use answers::Controller;
use facts::PairFacts;
use pairs::Pairs;
use troubles::Troubles;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use hotpair_abi::Slot;
use tokio::sync::mpsc;

use crate::api;
use crate::config::{self, Answer, Config, Source};
use crate::dataplane::{Dataplane, DataplaneError, Hurry, Opened, PairSetup, Uplink};
use crate::hypervisor::{Hypervisor, HypervisorError, VmEvent};
use crate::network::{Link, Network};
use crate::pair;
use crate::store::Store;

/// What all parts of a running controller share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) pairs: Pairs,
    pub(crate) plane: Arc<Dataplane>,
    pub(crate) network: Network,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) store: Store,
    pub(crate) uplink: Link,
    pub(crate) history: history::History,
    pub(crate) troubles: Arc<Troubles>,
    /// Troubles with it: as a whole ([`Troubles::HYPERVISOR`]), and by pair.
    pub(crate) hypervisor_troubles: Troubles,
    /// On the data plane's clock, which nobody sets.
    pub(crate) started_at: pair::Nanos,
    pub(crate) meters: metrics::Meters,
    /// Rises each time the engine goes round.
    pub(crate) pulse: AtomicU64,
    pub(crate) engine: engine::Inbox,
    pub(crate) turns: execute::Turns,
    pub(crate) announce: mpsc::UnboundedSender<Vec<IpAddr>>,
    pub(crate) nudger: nudge::Nudger,
    /// Runs the tasks that the engine's thread asks for.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// Wall clock, Unix milliseconds.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The data plane's clock: CLOCK_BOOTTIME, nanoseconds.
pub(crate) fn boottime() -> pair::Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Runs until `stop` resolves. What runs in the kernel and in the hypervisor goes on after that.
///
/// # Errors
/// When it cannot begin; nothing of a running pair has been changed then.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let _lock = RunLock::take(&config.host.run_dir)?;
    let scraped = match config.host.metrics {
        Some(address) => {
            Some(scrape::bind(address).await.map_err(|source| RunError::Metrics { address, source })?)
        }
        None => None,
    };
    let network = Network::open().await?;
    let name = &config.host.uplink;
    let uplink = network.link(name).await?.ok_or_else(|| RunError::NoUplink(name.clone()))?;

    let troubles = Arc::new(Troubles::default());
    let (engine, engine_inbox) = engine::channel();
    let (told, pairs) = (Arc::clone(&troubles), engine.clone());
    let (store, loaded) = Store::open(&config.host.state_dir, move |what| {
        let well = what.is_none();
        told.set("state", what);
        if well {
            // What could not be made without it is tried again.
            pairs.everyone(pair::Event::Retry);
        }
    })?;

    // Room to grow: a pair that is added later must not need a new data plane.
    let rows = u32::try_from(config.pairs.len()).unwrap_or(u32::MAX).next_power_of_two().max(64);
    let (plane, opened) = Dataplane::open(
        &config.host.bpf_dir,
        config.host.xdp,
        &Uplink { name: uplink.name.clone(), index: uplink.index, mac: uplink.mac, mtu: uplink.mtu },
        host_internal_ip(config.host.internal_net),
        rows,
    )?;
    let plane = Arc::new(plane);
    tracing::info!(uplink = %uplink.name, ?opened, "the data plane runs");
    if config.host.xdp == config::XdpMode::Generic {
        tracing::warn!(uplink = %uplink.name, "{}", report::GENERIC);
    }

    let pairs = Pairs::new(facts::assign(&config, &plane, &troubles)?);
    let (vm_events, vm_inbox) = mpsc::unbounded_channel();
    let hypervisor = hypervisor(&config, vm_events)?;
    let (announce, announcements) = mpsc::unbounded_channel();
    let nudger = nudge::Nudger::start(Arc::clone(&plane), uplink.clone(), engine.clone())
        .map_err(|source| DataplaneError::Kernel { what: "starting a thread".into(), source })?;
    let shared = Arc::new(Shared {
        turns: execute::Turns::new(),
        pairs,
        plane: Arc::clone(&plane),
        network,
        hypervisor,
        store,
        history: history::History::new(loaded.history),
        troubles,
        hypervisor_troubles: Troubles::default(),
        started_at: boottime(),
        meters: metrics::Meters::new(config.pairs.iter().map(|pair| pair.name.as_str())),
        pulse: AtomicU64::new(0),
        engine,
        announce,
        nudger,
        runtime: tokio::runtime::Handle::current(),
        uplink,
        config,
    });

    let mut begun = Vec::new();
    let fresh = shared.pairs.iter().filter(|facts| !plane.has_taps(facts.id)).count();
    let hurry = Hurry::for_pairs(fresh, &shared.config.host.run_dir);
    for facts in shared.pairs.iter() {
        let setup = PairSetup {
            name: facts.config.name.clone(),
            entry: facts.config.entry.clone(),
            mac: facts.mac,
            timeout: facts.config.heartbeat.timeout,
            probe: facts.config.heartbeat.source == Source::Probe,
            tcp: facts.carries_tcp(),
            compare: facts.config.compare,
            first: facts.config.answer == Answer::First,
            lag_limit: facts.config.lag_limit,
        };
        plane.put_pair(facts.id, &setup)?;
        plane.set_lease(facts.id, u64::MAX);
        for slot in Slot::BOTH {
            execute::plug(&shared, facts, slot).await?;
        }
        let found = pair::Found {
            saved: loaded.saved.get(&facts.config.name).cloned(),
            word: (opened == Opened::Adopted).then(|| plane.role(facts.id)),
            tripped: plane.tripped(facts.id),
        };
        begun.push((Arc::clone(facts), pair::State::begin(facts.settings(), &found, boottime())));
    }
    if let Err(error) = plane.index_entries() {
        tracing::warn!(%error, "entry addresses are looked up more slowly until the next start");
    }
    drop(hurry);

    let listener = api::server::bind(&shared.config.host.run_dir)
        .map_err(|source| RunError::Api { path: shared.config.host.run_dir.join("api.sock"), source })?;
    let watchers = watch::all(&shared, vm_inbox, announcements).await?;
    let engine = engine::spawn(Arc::clone(&shared), begun, engine_inbox);
    let controller = Controller(Arc::clone(&shared));
    let served = tokio::spawn(api::server::serve(listener, api::server::BOUNDS, controller.clone()));
    let scraped = scraped.map(|listener| tokio::spawn(scrape::serve(listener, controller.clone())));
    let told = tokio::spawn(service::keep_telling(Arc::clone(&shared), controller));
    service::ready();
    tracing::info!(pairs = shared.pairs.len(), host = %shared.config.host.name, "hotpair runs");

    stop.await;
    tracing::info!("stopping; the data plane and the members go on without the controller");
    service::stopping();
    served.abort();
    told.abort();
    if let Some(scraped) = scraped {
        scraped.abort();
    }
    for watcher in watchers {
        watcher.abort();
    }
    shared.engine.stop();
    // The engine ends within its longest look; wait so that no flip is half recorded or told to half of its connections.
    let _ = tokio::task::spawn_blocking(move || engine.join()).await;
    if let Err(why) = shared.store.flush().await {
        tracing::error!("{why}");
    }
    let _ = std::fs::remove_file(shared.config.host.run_dir.join("api.sock"));
    Ok(())
}

/// The backend that the configuration names.
pub(crate) fn hypervisor(
    config: &Config,
    events: mpsc::UnboundedSender<VmEvent>,
) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
    match &config.hypervisor {
        #[cfg(feature = "libvirt")]
        config::Hypervisor::Libvirt { uri, accel } => {
            Ok(crate::hypervisor::libvirt::Libvirt::connect(uri, *accel, &config.host.state_dir, events)?)
        }
        #[cfg(not(feature = "libvirt"))]
        config::Hypervisor::Libvirt { .. } => Err(HypervisorError::Failed(
            "this hotpair was built without libvirt: build it with the feature `libvirt`, or use kind = \"command\""
                .into(),
        )),
        config::Hypervisor::Command => {
            drop(events);
            Ok(Arc::new(crate::hypervisor::command::Command::new(&config.pairs, &config.host.run_dir)))
        }
    }
}
