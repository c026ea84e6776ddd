//! Status, show and history, as the API tells them.

use std::fmt::Write as _;
use std::sync::Arc;

use hotpair_abi::Slot;
use hotpair_abi::heartbeat;

use super::{PairFacts, Shared, Troubles, boottime, flows, wall_ms};
use crate::api::types::{
    API_VERSION, Count, HypervisorStatus, MemberPhase, MemberStatus, PairStatus, Protection, Record, Refusal,
    Show, Status,
};
use crate::config::{self, Ack, Source, Takeover};
use crate::dataplane::DataplaneError;
use crate::pair::{Nanos, Phase, State};

pub(super) fn mac_text(mac: &[u8; 6]) -> String {
    mac.iter().enumerate().fold(String::new(), |mut text, (i, byte)| {
        let _ = write!(text, "{}{byte:02x}", if i == 0 { "" } else { ":" });
        text
    })
}

/// Unix milliseconds of a moment on the data plane's clock.
fn wall_of(then: Nanos, now: Nanos) -> u64 {
    wall_ms().saturating_sub(now.saturating_sub(then) / 1_000_000)
}

/// What is wrong with the hypervisor as a whole, or else with some pairs: a thousand of them suffer from the same.
fn hypervisor_trouble(troubles: &Troubles) -> Option<String> {
    const TOLD: usize = 3;
    let by_pair = || {
        let list = troubles.list();
        let more = list.len().saturating_sub(TOLD);
        let told = list[..list.len() - more].join("; ");
        match more {
            _ if list.is_empty() => None,
            0 => Some(told),
            more => Some(format!("{told}; and {more} pairs more")),
        }
    };
    troubles.of(Troubles::HYPERVISOR).or_else(by_pair)
}

pub(super) fn status(shared: &Shared, pairs: Vec<PairStatus>) -> Status {
    let why = hypervisor_trouble(&shared.hypervisor_troubles);
    Status {
        api: API_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: shared.config.host.name.clone(),
        pid: std::process::id(),
        started_at_ms: wall_of(shared.started_at, boottime()),
        protection: pairs.iter().map(|pair| pair.protection).max().unwrap_or(Protection::Protected),
        hypervisor: HypervisorStatus {
            kind: match shared.config.hypervisor {
                config::Hypervisor::Libvirt { .. } => "libvirt",
                config::Hypervisor::Command => "command",
            }
            .to_owned(),
            accel: shared.hypervisor.accel().to_owned(),
            reachable: why.is_none(),
            why,
        },
        troubles: shared.troubles.list(),
        notes: notes(&shared.config),
        pairs,
    }
}

/// What the configuration has accepted, said as long as it is so.
fn notes(config: &config::Config) -> Vec<String> {
    let generic = config.host.xdp == config::XdpMode::Generic;
    let note = || format!("{}: {GENERIC}", config.host.uplink);
    let ungated =
        config.pairs.iter().filter(|pair| pair.takeover == Takeover::Mirror && pair.ack == Ack::Primary);
    let ungated = ungated.map(|pair| format!("{}: {UNGATED}", pair.name));
    generic.then(note).into_iter().chain(ungated).collect()
}

/// Said in every status of a pair that has chosen so.
const UNGATED: &str = "a failover resets the TCP connections of which the standby has missed something (ack = \"primary\"); \
                       with ack = \"both\" it has missed nothing that a client saw acknowledged";

/// Said at the start and in every status.
pub(super) const GENERIC: &str = "XDP runs in the stack (host.xdp = \"generic\"), not in the driver: each packet costs several \
                                  times as much; use a NIC whose driver has XDP where speed matters";

pub(super) fn pair(
    shared: &Shared,
    facts: &PairFacts,
    state: &State,
    last: Option<&Arc<Record>>,
    now: Nanos,
) -> PairStatus {
    let serves = state.health.protection != Protection::Down;
    PairStatus {
        name: facts.config.name.clone(),
        entry: facts.config.entry.clone(),
        protection: state.health.protection,
        why: state.health.why.clone(),
        since_at_ms: wall_of(state.health.since, now),
        primary: serves.then_some(state.active as u8),
        primary_since_at_ms: serves.then(|| wall_of(state.active_since, now)),
        epoch: state.epoch.0,
        paused: state.paused,
        takeover: match facts.config.takeover {
            Takeover::Mirror => "mirror",
            Takeover::Address => "address",
        }
        .to_owned(),
        members: Slot::BOTH.map(|slot| member(shared, facts, state, slot, now)).to_vec(),
        last: last.map(|record| Record::clone(record)),
    }
}

fn member(shared: &Shared, facts: &PairFacts, state: &State, slot: Slot, now: Nanos) -> MemberStatus {
    let place = state.place(slot);
    let row = shared.plane.member(facts.id, slot);
    let beats = row.last_beat_ns > 0;
    MemberStatus {
        slot: slot as u8,
        role: match place.phase {
            Phase::Serving if state.held && slot == state.active => "primary",
            Phase::Serving => "standby",
            _ => "none",
        }
        .to_owned(),
        phase: match place.phase {
            Phase::Unknown => MemberPhase::Unknown,
            Phase::Empty { .. } => MemberPhase::Empty,
            Phase::Starting => MemberPhase::Starting,
            Phase::Booting { .. } => MemberPhase::Booting,
            Phase::Serving => MemberPhase::Serving,
            Phase::Fencing { .. } => MemberPhase::Fencing,
            Phase::Releasing { .. } => MemberPhase::Releasing,
        },
        since_at_ms: wall_of(place.since, now),
        generation: place.generation,
        tap: facts.tap(slot),
        internal_ip: facts.internal[slot.index()],
        state: u8::try_from(row.state)
            .ok()
            .and_then(heartbeat::State::from_u8)
            .map(|state| state.name().to_owned()),
        beat_age_ms: beats.then(|| now.saturating_sub(row.last_beat_ns) as f64 / 1e6),
        sequence: row.sequence,
        requests: row.requests,
        in_flight: row.in_flight,
        why: place.lost.as_ref().map(|lost| lost.how.clone()).or_else(|| place.why.clone()),
    }
}

pub(super) fn show(shared: &Shared, facts: &PairFacts, pair: PairStatus) -> Result<Show, Refusal> {
    let cannot = |what: &str, error: DataplaneError| Refusal {
        what: "show".into(),
        why: format!("the data plane's {what} cannot be read: {error}"),
        way_out: "look at the controller's log".into(),
    };
    let counters = shared.plane.counters(Some(facts.id)).map_err(|error| cannot("counters", error))?;
    let tcp = flows::tcp(shared, facts).map_err(|error| cannot("connections", error))?;
    let heartbeat = facts.config.heartbeat;
    Ok(Show {
        pair,
        mac: mac_text(&facts.mac),
        heartbeat_source: match heartbeat.source {
            Source::Agent => "agent",
            Source::Probe => "probe",
        }
        .to_owned(),
        interval_ms: heartbeat.interval.as_secs_f64() * 1e3,
        timeout_ms: heartbeat.timeout.as_secs_f64() * 1e3,
        auto_replace: facts.config.replace.auto,
        ack: if facts.carries_tcp() { facts.config.ack } else { Ack::None }.name().to_owned(),
        tcp,
        counters: counters
            .into_iter()
            .filter(|(_, packets)| *packets > 0)
            .map(|(counter, packets)| Count { name: counter.name().to_owned(), packets })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_all_pairs_have_is_told_once() {
        let troubles = Troubles::default();
        assert_eq!(hypervisor_trouble(&troubles), None);
        for pair in ["a", "b", "c", "d", "e"] {
            troubles.set(pair, Some(format!("{pair} cannot be told")));
        }
        let told = "a cannot be told; b cannot be told; c cannot be told; and 2 pairs more";
        assert_eq!(hypervisor_trouble(&troubles).as_deref(), Some(told));
        troubles.set(Troubles::HYPERVISOR, Some("it is away".into()));
        assert_eq!(hypervisor_trouble(&troubles).as_deref(), Some("it is away"));
        for about in [Troubles::HYPERVISOR, "a", "b", "c", "d"] {
            troubles.set(about, None);
        }
        assert_eq!(hypervisor_trouble(&troubles).as_deref(), Some("e cannot be told"));
    }
}
