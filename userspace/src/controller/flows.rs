//! A pair's TCP connections, in words.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{CLOSED, Connection, Scene, Verdict, Why};
use hotpair_abi::{Address, is_v4_key};

use super::{PairFacts, Shared, boottime};
use crate::api::types::{Flow, FlowCount, Flows, Refusal};

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
    let mut flows: Vec<Flow> = connections
        .iter()
        .filter(|(_, connection)| connection.flags & CLOSED == 0)
        .map(|(tuple, connection)| flow(tuple, connection, &scene))
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for flow in &flows {
        *counts.entry(flow.verdict.as_str()).or_default() += 1;
    }
    let counts = counts
        .into_iter()
        .map(|(verdict, connections)| FlowCount { verdict: verdict.to_owned(), connections })
        .collect();
    flows.sort_by(|a, b| (a.verdict == "in_sync", &a.client).cmp(&(b.verdict == "in_sync", &b.client)));
    flows.truncate(limit);
    Ok(Flows { pair: name, carried: true, counts, flows })
}

fn flow(tuple: &Tuple, connection: &Connection, scene: &Scene) -> Flow {
    let (verdict, why) = judged(connection, scene);
    let ports = tuple.ports.to_ne_bytes();
    let (client_port, entry_port) =
        (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    let lag_bytes = connection.lag();
    let behind = scene.now_ns.saturating_sub(connection.behind_ns);
    Flow {
        client: SocketAddr::new(ip(tuple.remote), client_port).to_string(),
        entry: SocketAddr::new(ip(tuple.entry), entry_port).to_string(),
        verdict: verdict.name().to_owned(),
        why: why.text().to_owned(),
        received: u64::from(connection.out.ack.wrapping_sub(connection.client.isn.wrapping_add(1))),
        sent: u64::from(
            connection.client.ack.wrapping_sub(connection.half(connection.base).isn.wrapping_add(1)),
        ),
        lag_bytes: u64::from(lag_bytes),
        lag_ms: if lag_bytes == 0 || connection.behind_ns == 0 { 0.0 } else { behind as f64 / 1e6 },
        age_ms: scene.now_ns.saturating_sub(connection.created_ns) as f64 / 1e6,
        idle_ms: scene.now_ns.saturating_sub(connection.heard_ns) as f64 / 1e6,
    }
}

/// What would become of it if the speaker died now.
fn judged(connection: &Connection, scene: &Scene) -> (Verdict, Why) {
    let verdict = Verdict::from_u32(connection.verdict).unwrap_or(Verdict::Lost);
    let why = Why::from_u32(connection.why).unwrap_or(Why::Well);
    if verdict != Verdict::InSync {
        return (verdict, why);
    }
    let standby = scene.speaker ^ 1;
    if !connection.knows(standby, scene) {
        return (Verdict::Unprotected, Why::Older);
    }
    if scene.protect == 0 {
        return (Verdict::Unprotected, Why::NoStandby);
    }
    if connection.survives(standby, scene) { (verdict, why) } else { (Verdict::Unprotected, Why::Behind) }
}

fn ip(address: Address) -> IpAddr {
    let key = address.bytes();
    if is_v4_key(&key) { [key[12], key[13], key[14], key[15]].into() } else { key.into() }
}
