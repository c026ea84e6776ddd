//! The metrics of a running controller, as Prometheus reads them. Names and meanings: docs/metrics.md.

use std::fmt;
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use hotpair_abi::tcp::verdict::Verdict;

use super::flows::Sum;
use crate::api::types::{MemberPhase, Protection, Record, RecordKind, Status};
use crate::pair::Sign;

/// The data plane's counters: pair ("" for none), reason, packets.
pub(crate) type Packets = (String, &'static str, u64);

/// What is read when it is asked for.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    pub(crate) packets: Vec<Packets>,
    /// TCP connections, of each pair that carries them over.
    pub(crate) sums: Vec<(String, Sum)>,
}

const VERDICTS: [Verdict; 5] =
    [Verdict::Opening, Verdict::InSync, Verdict::Unprotected, Verdict::Diverged, Verdict::Lost];
/// What may become of a connection at a change of role.
const WENT_ON: &str = "went_on";
const RESET: &str = "reset";

type Labels = Vec<(&'static str, String)>;

fn change(pair: &str, kind: &str, by: &str) -> Labels {
    vec![("pair", pair.to_owned()), ("kind", kind.to_owned()), ("detected_by", by.to_owned())]
}

fn of_outcome(pair: &str, outcome: &'static str) -> Labels {
    vec![("pair", pair.to_owned()), ("outcome", outcome.to_owned())]
}

/// What is counted as it happens; everything else is read when it is asked for.
pub(crate) struct Meters {
    registry: Registry,
    role_changes: Family<Labels, Counter>,
    gap: Family<Labels, Histogram>,
    flip: Family<Labels, Histogram>,
    members_lost: Family<Labels, Counter>,
    replace_failures: Family<Labels, Counter>,
    connections: Family<Labels, Counter>,
}

impl Meters {
    /// Meters of these pairs, each series at zero: what first appears when it rises is no rise to `increase()`.
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Meters {
        let seconds =
            || Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        let micros = || Histogram::new([1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2]);
        let mut meters = Meters {
            registry: Registry::with_prefix("hotpair"),
            role_changes: Family::default(),
            gap: Family::new_with_constructor(seconds),
            flip: Family::new_with_constructor(micros),
            members_lost: Family::default(),
            replace_failures: Family::default(),
            connections: Family::default(),
        };
        let registry = &mut meters.registry;
        registry.register(
            "role_changes",
            "Changes of role, by kind and by what gave the failure away",
            meters.role_changes.clone(),
        );
        registry.register(
            "failover_gap_seconds",
            "From the old primary's last sign of life until the other member's answers leave",
            meters.gap.clone(),
        );
        registry.register("flip_seconds", "From the decision to the changed map word", meters.flip.clone());
        registry.register("members_lost", "Members that were given up", meters.members_lost.clone());
        registry.register(
            "replace_failures",
            "Attempts to make a new member that failed",
            meters.replace_failures.clone(),
        );
        registry.register(
            "takeover_connections",
            "TCP connections at failovers and switchovers, by what became of them",
            meters.connections.clone(),
        );
        for pair in pairs {
            for outcome in [WENT_ON, RESET] {
                let _ = meters.connections.get_or_create(&of_outcome(pair, outcome));
            }
            let pair = vec![("pair", pair.to_owned())];
            let failures =
                [Sign::Heartbeat, Sign::Agent, Sign::Hypervisor, Sign::Carrier, Sign::Latch, Sign::Operator]
                    .map(|sign| ("failover", sign.name()));
            let planned = [Sign::Operator, Sign::Agent].map(|sign| ("switchover", sign.name()));
            for (kind, by) in failures.into_iter().chain(planned).chain([("started", "")]) {
                let _ = meters.role_changes.get_or_create(&change(&pair[0].1, kind, by));
            }
            let _ = meters.gap.get_or_create(&pair);
            let _ = meters.flip.get_or_create(&pair);
            let _ = meters.members_lost.get_or_create(&pair);
            let _ = meters.replace_failures.get_or_create(&pair);
        }
        meters
    }

    /// Counts a line of history.
    pub(crate) fn count(&self, record: &Record) {
        let pair = ("pair", record.pair.clone());
        match record.kind {
            RecordKind::Failover | RecordKind::Switchover | RecordKind::Started => {
                let kind = match record.kind {
                    RecordKind::Failover => "failover",
                    RecordKind::Switchover => "switchover",
                    _ => "started",
                };
                let by = record.detected_by.as_deref().unwrap_or_default();
                self.role_changes.get_or_create(&change(&record.pair, kind, by)).inc();
                if let Some(flip) = record.flip_us {
                    self.flip.get_or_create(&vec![pair.clone()]).observe(flip / 1e6);
                }
                if let (RecordKind::Failover, Some(detect)) = (record.kind, record.detect_us) {
                    let gap = (detect as f64 + record.flip_us.unwrap_or(0.0)) / 1e6;
                    self.gap.get_or_create(&vec![pair]).observe(gap);
                }
            }
            RecordKind::MemberLost => {
                self.members_lost.get_or_create(&vec![pair]).inc();
            }
            RecordKind::ReplaceFailed => {
                self.replace_failures.get_or_create(&vec![pair]).inc();
            }
            RecordKind::Connections => {
                let carried = record.connections.unwrap_or_default();
                for (outcome, connections) in [(WENT_ON, carried.went_on), (RESET, carried.reset)] {
                    self.connections.get_or_create(&of_outcome(&record.pair, outcome)).inc_by(connections);
                }
            }
            _ => {}
        }
    }

    /// Everything, in the text format.
    pub(crate) fn text(&self, seen: Seen) -> String {
        let mut text = String::new();
        let mut now = Registry::with_prefix("hotpair");
        now.register_collector(Box::new(Snapshot(Mutex::new(seen))));
        // Writing into a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }
}

#[derive(Debug)]
struct Snapshot(Mutex<Seen>);

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            metric
                .encode_family(&labels)?
                .encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.lock().map_err(|_| fmt::Error)?;
        let Seen { status, packets, sums } = &*snapshot;
        let mut page = Page(encoder);
        let pairs = &status.pairs;
        let pair = |name: &str| ("pair", name.to_owned());
        page.gauge(
            "controller_info",
            "The controller that answers; always 1",
            [(vec![("version", status.version.clone()), ("accel", status.hypervisor.accel.clone())], 1_i64)],
        )?;
        page.gauge(
            "controller_start_time_seconds",
            "When the controller started, Unix time",
            [(vec![], status.started_at_ms as f64 / 1e3)],
        )?;
        page.gauge(
            "hypervisor_reachable",
            "Whether the hypervisor answers",
            [(vec![], i64::from(status.hypervisor.reachable))],
        )?;
        page.gauge(
            "troubles",
            "Troubles of the host itself",
            [(vec![], i64::try_from(status.troubles.len()).unwrap_or(i64::MAX))],
        )?;
        page.gauge(
            "pair_protection",
            "How well a pair is: 1 for the state it is in",
            pairs.iter().flat_map(|p| {
                [
                    ("protected", Protection::Protected),
                    ("unprotected", Protection::Unprotected),
                    ("down", Protection::Down),
                ]
                .map(|(name, state)| {
                    (vec![pair(&p.name), ("state", name.to_owned())], i64::from(p.protection == state))
                })
            }),
        )?;
        page.gauge(
            "pair_epoch",
            "Rises with every change of role",
            pairs.iter().map(|p| (vec![pair(&p.name)], i64::try_from(p.epoch).unwrap_or(i64::MAX))),
        )?;
        page.gauge(
            "pair_paused",
            "Whether automatic failover is off",
            pairs.iter().map(|p| (vec![pair(&p.name)], i64::from(p.paused))),
        )?;
        let members = || pairs.iter().flat_map(|p| p.members.iter().map(move |m| (p, m)));
        let place = |p: &crate::api::types::PairStatus, m: &crate::api::types::MemberStatus| {
            vec![pair(&p.name), ("slot", m.slot.to_string())]
        };
        page.gauge(
            "member_role",
            "A member's role: 1 for the one it has",
            members().flat_map(|(p, m)| {
                ["primary", "standby", "none"].map(|role| {
                    let mut labels = place(p, m);
                    labels.push(("role", role.to_owned()));
                    (labels, i64::from(m.role == role))
                })
            }),
        )?;
        page.gauge(
            "member_phase",
            "What a member is doing: 1 for the phase it is in",
            members().flat_map(|(p, m)| {
                [
                    ("unknown", MemberPhase::Unknown),
                    ("empty", MemberPhase::Empty),
                    ("starting", MemberPhase::Starting),
                    ("booting", MemberPhase::Booting),
                    ("serving", MemberPhase::Serving),
                    ("fencing", MemberPhase::Fencing),
                    ("releasing", MemberPhase::Releasing),
                ]
                .map(|(name, phase)| {
                    let mut labels = place(p, m);
                    labels.push(("phase", name.to_owned()));
                    (labels, i64::from(m.phase == phase))
                })
            }),
        )?;
        page.gauge(
            "member_generation",
            "Rises with every member made for a slot",
            members().map(|(p, m)| (place(p, m), i64::try_from(m.generation).unwrap_or(i64::MAX))),
        )?;
        page.gauge(
            "member_heartbeat_age_seconds",
            "Age of the last sign of life; absent before the first",
            members().filter_map(|(p, m)| Some((place(p, m), m.beat_age_ms? / 1e3))),
        )?;
        page.gauge(
            "member_requests_in_flight",
            "Requests in flight, by the member's own count",
            members().map(|(p, m)| (place(p, m), i64::from(m.in_flight))),
        )?;
        page.counter(
            "member_requests",
            "Requests processed since the guest's boot, by the member's own count",
            members().map(|(p, m)| (place(p, m), m.requests)),
        )?;
        page.gauge(
            "connections",
            "TCP connections, by what would become of them if the primary died now",
            sums.iter().flat_map(|(name, sum)| {
                VERDICTS.map(|verdict| {
                    let labels = vec![pair(name), ("verdict", verdict.name().to_owned())];
                    (labels, i64::try_from(sum.of(verdict)).unwrap_or(i64::MAX))
                })
            }),
        )?;
        page.gauge(
            "standby_lag_bytes",
            "Bytes of clients that the primary has received and the standby has not, or that it has yet to send",
            sums.iter()
                .map(|(name, sum)| (vec![pair(name)], i64::try_from(sum.lag_bytes).unwrap_or(i64::MAX))),
        )?;
        page.gauge(
            "standby_lag_seconds",
            "How long the standby has been behind with the connection with which it has been longest",
            sums.iter().map(|(name, sum)| (vec![pair(name)], sum.lag_ms / 1e3)),
        )?;
        page.counter(
            "packets",
            "Packets, by what became of them (docs/metrics.md); pair is empty for those that belong to none",
            packets.iter().map(|(name, reason, packets)| {
                (vec![pair(name), ("reason", (*reason).to_owned())], *packets)
            }),
        )?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
