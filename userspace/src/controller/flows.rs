//! The pairs' TCP connections, in words and added up.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{CLOSED, Connection, Scene};
use hotpair_abi::tcp::verdict::{Verdict, Why};
use hotpair_abi::{Address, is_v4_key};

use super::{PairFacts, Shared, boottime};
use crate::api::types::{Flow, FlowCount, Flows, Refusal, Tcp};
use crate::dataplane::DataplaneError;

/// The connections of a pair that are not over; at most `limit` of them one by one, those first that could not go on.
pub(super) fn flows(shared: &Shared, facts: &PairFacts, limit: usize) -> Result<Flows, Refusal> {
    let name = facts.config.name.clone();
    if !facts.carries_tcp() {
        return Ok(Flows { pair: name, carried: false, counts: Vec::new(), flows: Vec::new() });
    }
    let connections = shared.plane.connections(facts.id).map_err(|error| Refusal {
        what: "flows".into(),
        why: error.to_string(),
        way_out: "look at the controller's log".into(),
    })?;
    let scene = shared.plane.scene(facts.id, boottime());
    let mut sum = Sum::default();
    connections.iter().for_each(|(_, connection)| sum.add(connection, &scene));
    let mut flows: Vec<Flow> =
        connections.iter().map(|(tuple, connection)| flow(tuple, connection, &scene)).collect();
    flows.sort_by(|a, b| (a.verdict == "in_sync", &a.client).cmp(&(b.verdict == "in_sync", &b.client)));
    flows.truncate(limit);
    Ok(Flows { pair: name, carried: true, counts: sum.counts(), flows })
}

/// The connections of a pair that are not over, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// By what would become of them.
    verdicts: BTreeMap<&'static str, usize>,
    /// Bytes that the standby has not received yet.
    pub(super) lag_bytes: u64,
    /// Since when it has not, at the worst.
    pub(super) lag_ms: f64,
}

impl Sum {
    fn add(&mut self, connection: &Connection, scene: &Scene) {
        if connection.flags & CLOSED == 0 {
            *self.verdicts.entry(judged(connection, scene).0.name()).or_default() += 1;
            let (bytes, ms) = lag(connection, scene);
            self.lag_bytes += bytes;
            self.lag_ms = self.lag_ms.max(ms);
        }
    }

    /// How many there are of a verdict.
    pub(super) fn of(&self, verdict: Verdict) -> usize {
        self.verdicts.get(verdict.name()).copied().unwrap_or(0)
    }

    fn counts(&self) -> Vec<FlowCount> {
        self.verdicts
            .iter()
            .map(|(verdict, connections)| FlowCount {
                verdict: (*verdict).to_owned(),
                connections: *connections,
            })
            .collect()
    }
}

/// The sums of every pair whose connections are carried over, by its name.
pub(super) fn sums(shared: &Shared) -> Result<Vec<(String, Sum)>, DataplaneError> {
    let carrying: Vec<_> = shared.pairs.iter().filter(|facts| facts.carries_tcp()).collect();
    if carrying.is_empty() {
        return Ok(Vec::new());
    }
    let now = boottime();
    let mut sums: HashMap<u32, (Scene, Sum)> = carrying
        .iter()
        .map(|facts| (facts.id.0, (shared.plane.scene(facts.id, now), Sum::default())))
        .collect();
    shared.plane.each_connection(|_, connection| {
        if let Some((scene, sum)) = sums.get_mut(&connection.pair) {
            sum.add(connection, scene);
        }
    })?;
    let named =
        carrying.iter().filter_map(|facts| Some((facts.config.name.clone(), sums.remove(&facts.id.0)?.1)));
    Ok(named.collect())
}

/// The connections of one pair, added up; none if they are not carried over.
pub(super) fn tcp(shared: &Shared, facts: &PairFacts) -> Result<Option<Tcp>, DataplaneError> {
    if !facts.carries_tcp() {
        return Ok(None);
    }
    let mut sum = Sum::default();
    let connections = shared.plane.connections(facts.id)?;
    let scene = shared.plane.scene(facts.id, boottime());
    connections.iter().for_each(|(_, connection)| sum.add(connection, &scene));
    Ok(Some(Tcp { counts: sum.counts(), lag_bytes: sum.lag_bytes, lag_ms: sum.lag_ms }))
}

/// Bytes that the standby has not received and the primary has, or that the client has and it has not sent while the primary
/// is stopped for it; and for how many milliseconds.
fn lag(connection: &Connection, scene: &Scene) -> (u64, f64) {
    let standby = scene.speaker ^ 1;
    // A member that does not have the connection is not behind with it.
    if !connection.knows(standby, scene) {
        return (0, 0.0);
    }
    let (bytes, since_ns) = match (connection.behind_ns, connection.stopped_ns) {
        // Held by its window, it may be a segment behind for as long as nothing is said: that is no lag.
        (0, 0) => (0, 0),
        (0, stopped_ns) => (connection.unsaid(standby), stopped_ns),
        (behind_ns, _) => (connection.lag(), behind_ns),
    };
    match bytes {
        0 => (0, 0.0),
        bytes => (u64::from(bytes), scene.now_ns.saturating_sub(since_ns) as f64 / 1e6),
    }
}

fn flow(tuple: &Tuple, connection: &Connection, scene: &Scene) -> Flow {
    let (verdict, why) = judged(connection, scene);
    let ports = tuple.ports.to_ne_bytes();
    let (client_port, entry_port) =
        (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    let (lag_bytes, lag_ms) = lag(connection, scene);
    Flow {
        client: SocketAddr::new(ip(tuple.remote), client_port).to_string(),
        entry: SocketAddr::new(ip(tuple.entry), entry_port).to_string(),
        verdict: verdict.name().to_owned(),
        why: why.to_owned(),
        received: u64::from(connection.out.ack.wrapping_sub(connection.client.isn.wrapping_add(1))),
        sent: u64::from(
            connection.client.ack.wrapping_sub(connection.half(connection.base).isn.wrapping_add(1)),
        ),
        lag_bytes,
        lag_ms,
        age_ms: scene.now_ns.saturating_sub(connection.created_ns) as f64 / 1e6,
        idle_ms: scene.now_ns.saturating_sub(connection.heard_ns) as f64 / 1e6,
    }
}

/// What would become of it if the speaker died now, and why.
fn judged(connection: &Connection, scene: &Scene) -> (Verdict, &'static str) {
    let verdict = Verdict::from_u32(connection.verdict).unwrap_or(Verdict::Lost);
    let why = Why::from_u32(connection.why).unwrap_or(Why::Well);
    if verdict != Verdict::Lost && connection.is_lost(scene) {
        // No packet has come by since that would have noticed; its client was told.
        let known = connection.knows(scene.speaker, scene);
        return match why {
            Why::Well if known => (Verdict::Lost, Why::Behind.text()),
            Why::Well => (Verdict::Lost, Why::Older.text()),
            why => (Verdict::Lost, why.text()),
        };
    }
    if verdict != Verdict::InSync {
        return (verdict, why.text());
    }
    let standby = scene.speaker ^ 1;
    if !connection.knows(standby, scene) {
        return (Verdict::Unprotected, Why::Older.text());
    }
    if scene.protect == 0 {
        // It may have begun with one, which is in trouble now and perhaps comes back.
        return (Verdict::Unprotected, "no standby is in service");
    }
    if connection.survives(standby, scene) {
        (verdict, why.text())
    } else {
        (Verdict::Unprotected, Why::Behind.text())
    }
}

fn ip(address: Address) -> IpAddr {
    let key = address.bytes();
    if is_v4_key(&key) { [key[12], key[13], key[14], key[15]].into() } else { key.into() }
}
