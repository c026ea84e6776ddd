//! Drives the pairs: events in, actions out.
//!
//! | file | about |
//! | --- | --- |
//! | `agenda.rs` | when each pair wants to be looked at |
//! | `engine.rs` | the one thread that looks, decides and flips |
//! | `execute.rs` | what actions come to: taps, members, announcements |
//! | `history.rs` | what has happened, in memory |
//! | `metrics.rs` | what Prometheus is told |
//! | `pairs.rs` | who is who: pairs by name, by row, by tap |
//! | `quiet.rs` | the right moment for a switchover |
//! | `priority.rs` | that the engine comes first |
//! | `scrape.rs` | where Prometheus asks |
//! | `report.rs` | status, show and history as the API tells them |
//! | `service.rs` | what the service manager is told |
//! | `turnstile.rs` | how many slow things are begun at once |
//! | `watch.rs` | links, data plane events, the hypervisor's events, probes |
//!
//! The engine's thread never waits for anything but its next look: no disk, no hypervisor, no lock that another thread
//! holds for long. Everything slow is a task whose end comes back as an event.

mod agenda;
mod engine;
mod execute;
mod flows;
mod forget;
mod history;
mod metrics;
mod nudge;
mod pairs;
pub(crate) mod priority;
mod quiet;
mod report;
mod scrape;
mod service;
mod turnstile;
mod watch;

use pairs::Pairs;
pub(crate) use scrape::OPEN_METRICS;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotpair_abi::{PairId, Slot};
use tokio::sync::{mpsc, oneshot};

use crate::api;
use crate::api::server::Answers;
use crate::api::types::{Done, Flows, Record, RecordKind, Refusal, Show, Status};
use crate::config::{self, Ack, Answer, Config, Source, Takeover};
use crate::dataplane::{Dataplane, DataplaneError, Hurry, Opened, PairSetup, Uplink};
use crate::hypervisor::template::Template;
use crate::hypervisor::{Hypervisor, HypervisorError, VmEvent};
use crate::network::{Link, Network, NetworkError};
use crate::pair::{self, Settings};
use crate::store::{Store, StoreError};

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

/// What makes a pair this pair, settled at the start and shared by everybody.
#[derive(Debug)]
pub(crate) struct PairFacts {
    pub(crate) id: PairId,
    pub(crate) config: config::Pair,
    pub(crate) mac: [u8; 6],
    pub(crate) internal: [Ipv4Addr; 2],
    /// Questions about what runs that have not been answered yet.
    questions: AtomicU32,
    /// Whether the hypervisor has said what runs since the controller started.
    taken_stock: AtomicBool,
    /// Held by who works on the pair's taps.
    plugging: tokio::sync::Mutex<()>,
}

impl PairFacts {
    pub(crate) fn tap(&self, slot: Slot) -> String {
        tap_name(&self.config.name, slot)
    }

    /// Whether TCP connections are kept fit for a takeover.
    pub(crate) fn carries_tcp(&self) -> bool {
        self.config.takeover == Takeover::Mirror && self.config.ack != Ack::None
    }

    fn settings(&self) -> Settings {
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
#[must_use]
pub fn internal_ips(net: config::Ipv4Net, id: PairId) -> Option<[Ipv4Addr; 2]> {
    Some([net.host(2 + id.0 * 2)?, net.host(3 + id.0 * 2)?])
}

/// The address by which the host reaches members, and they it.
#[must_use]
pub fn host_internal_ip(net: config::Ipv4Net) -> Ipv4Addr {
    net.host(1).expect("a prefix of 30 or shorter has a first address")
}

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

/// Troubles of the host itself, by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<String, String>>);

impl Troubles {
    /// What is about the hypervisor as a whole. No pair can have this name.
    pub(crate) const HYPERVISOR: &str = "the hypervisor";

    pub(crate) fn set(&self, about: &str, what: Option<String>) {
        let mut troubles = self.0.lock().expect("nobody panics with it");
        match what {
            Some(what) => {
                if troubles.get(about) != Some(&what) {
                    tracing::error!(about, "{what}");
                    troubles.insert(about.to_owned(), what);
                }
            }
            None => {
                if troubles.remove(about).is_some() {
                    tracing::info!(about, "well again");
                }
            }
        }
    }

    fn of(&self, about: &str) -> Option<String> {
        self.0.lock().expect("nobody panics with it").get(about).cloned()
    }

    fn list(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").values().cloned().collect()
    }
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

/// Exclusive use of a run directory, for as long as it lives. The kernel gives it up with the process.
#[derive(Debug)]
pub struct RunLock(#[expect(dead_code, reason = "held for its lock")] File);

impl RunLock {
    /// Takes it.
    ///
    /// # Errors
    /// [`RunError::AlreadyRunning`] while another process has it.
    pub fn take(run_dir: &Path) -> Result<RunLock, RunError> {
        let fail = |source| RunError::Directory { path: run_dir.to_owned(), source };
        std::fs::create_dir_all(run_dir).map_err(fail)?;
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(run_dir.join("lock"))
            .map_err(fail)?;
        let take = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        let mut taken = take();
        // A child that a killed controller has just forked has its lock until it executes.
        for _ in 0..25 {
            if taken != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            taken = take();
        }
        match taken {
            Ok(()) => {
                // Who has it, for people and for whoever wants to end it.
                file.set_len(0).map_err(fail)?;
                writeln!(&file, "{}", std::process::id()).map_err(fail)?;
                Ok(RunLock(file))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::AlreadyRunning(run_dir.to_owned())),
            Err(error) => Err(fail(error.into())),
        }
    }
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

    let pairs = Pairs::new(assign(&config, &plane, &troubles)?);
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
        };
        begun.push((Arc::clone(facts), pair::State::begin(facts.settings(), &found, boottime())));
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
    // The engine ends within its longest look; wait so that no flip is half recorded.
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

/// Gives every configured pair its row: the one it has, or a free one.
fn assign(config: &Config, plane: &Dataplane, troubles: &Troubles) -> Result<Vec<Arc<PairFacts>>, RunError> {
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

/// What the API is answered from.
#[derive(Clone)]
pub struct Controller(Arc<Shared>);

impl Answers for Controller {
    async fn status(&self) -> Result<Status, Refusal> {
        self.status_of(None).await
    }

    async fn show(&self, name: &str) -> Result<Option<Show>, Refusal> {
        let Some(facts) = self.0.pairs.named(name) else { return Ok(None) };
        match self.status_of(Some(facts)).await?.pairs.pop() {
            Some(pair) => {
                let (shared, facts) = (Arc::clone(&self.0), Arc::clone(facts));
                // The whole table of connections is read.
                aside("show", move || report::show(&shared, &facts, pair)).await?.map(Some)
            }
            None => Ok(None),
        }
    }

    async fn flows(&self, name: &str, limit: usize) -> Result<Option<Flows>, Refusal> {
        if self.0.pairs.named(name).is_none() {
            return Ok(None);
        }
        let (shared, name) = (Arc::clone(&self.0), name.to_owned());
        // The whole table is read.
        aside("flows", move || {
            shared.pairs.named(&name).map(|facts| flows::flows(&shared, facts, limit)).transpose()
        })
        .await?
    }

    fn history(&self, pair: Option<&str>, limit: usize) -> Vec<Record> {
        self.0.history.newest(pair, limit).iter().map(|record| Record::clone(record)).collect()
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        let status = self.status().await?;
        let shared = Arc::clone(&self.0);
        // A system call for every pair, the whole table of connections, and much text.
        aside("metrics", move || {
            let mut packets = Vec::new();
            let ids = shared.pairs.iter().map(|facts| (facts.config.name.clone(), Some(facts.id)));
            for (name, id) in ids.chain([(String::new(), None)]) {
                for (counter, count) in shared.plane.counters(id).unwrap_or_default() {
                    packets.push((name.clone(), counter.name(), count));
                }
            }
            // What cannot be read is not there; the log of the table's tidying says why.
            let sums = flows::sums(&shared).unwrap_or_default();
            shared.meters.text(metrics::Seen { status, packets, sums })
        })
        .await
    }

    fn knows(&self, name: &str) -> bool {
        self.0.pairs.named(name).is_some()
    }

    async fn request(&self, name: &str, request: pair::Request) -> Result<Done, Refusal> {
        let Some(facts) = self.0.pairs.named(name) else {
            return Err(Refusal {
                what: "request".into(),
                why: format!("there is no pair `{name}` on this host"),
                way_out: "`hotpair status` lists the pairs".into(),
            });
        };
        let id = facts.id;
        // Until the answer is there: then the switchover has ended.
        let mut _watch = None;
        if matches!(request, pair::Request::Switchover) && facts.config.takeover == Takeover::Mirror {
            let plane = Arc::clone(&self.0.plane);
            _watch = Some(quiet::Watch::begin(&plane, id));
            let _ = tokio::task::spawn_blocking(move || quiet::wait(&plane, id)).await;
        }
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Request { pair: id, request, answer });
        self.answer("request", answered).await?
    }
}

/// Does something that takes a while: not on a thread that others wait for.
async fn aside<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal {
        what: what.to_owned(),
        why: error.to_string(),
        way_out: "look at the controller's log: this is a bug of hotpair's".into(),
    })
}

impl Controller {
    /// The host, with all of its pairs or with one.
    async fn status_of(&self, pair: Option<&Arc<PairFacts>>) -> Result<Status, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Report(pair.map(|facts| facts.id), answer));
        let snapshots = self.answer("status", answered).await?;
        let now = boottime();
        let tell = |(facts, snapshot): (&Arc<PairFacts>, engine::Snapshot)| {
            report::pair(&self.0, facts, &snapshot.state, snapshot.last_change.as_ref(), now)
        };
        let pairs = match pair {
            Some(facts) => std::iter::once(facts).zip(snapshots).map(tell).collect(),
            None => self.0.pairs.iter().zip(snapshots).map(tell).collect(),
        };
        Ok(report::status(&self.0, pairs))
    }

    /// How many pairs are how well, for next to nothing.
    pub(crate) async fn tally(&self) -> Result<engine::Tally, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Tally(answer));
        self.answer("tally", answered).await
    }

    async fn answer<T>(&self, what: &str, answered: oneshot::Receiver<T>) -> Result<T, Refusal> {
        match tokio::time::timeout(Duration::from_secs(10), answered).await {
            Ok(Ok(value)) => Ok(value),
            _ => Err(Refusal {
                what: what.to_owned(),
                why: "the controller's engine does not answer".into(),
                way_out: "look at the controller's log, then restart it: the data plane goes on meanwhile"
                    .into(),
            }),
        }
    }
}

/// Kinds of history that changed who serves.
pub(crate) fn is_role_change(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::Started | RecordKind::Failover | RecordKind::Switchover | RecordKind::Adopted)
}
