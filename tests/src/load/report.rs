//! What became of the requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Kind, Plan};

/// Which member answered, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct By {
    /// 0 or 1.
    pub slot: u8,
    /// Its generation.
    pub generation: u64,
}

impl By {
    /// Finds `slot=S generation=G` in an answer.
    #[must_use]
    pub fn find(text: &[u8]) -> Option<By> {
        let text = String::from_utf8_lossy(text);
        let number = |key: &str| -> Option<u64> {
            let rest = &text[text.find(key)? + key.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        };
        Some(By { slot: u8::try_from(number("slot=")?).ok()?, generation: number("generation=")? })
    }
}

impl std::fmt::Display for By {
    /// As [`By::find`] reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slot={} generation={}", self.slot, self.generation)
    }
}

/// One request. Times count from the beginning of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number; they are consecutive from 0.
    pub seq: u64,
    /// When it was sent.
    pub sent_at: Duration,
    /// When its (first) answer came.
    pub answered_at: Option<Duration>,
    /// Who answered, if the answer says so.
    pub by: Option<By>,
    /// Further answers to it.
    pub again: u32,
    /// Why it has no answer, where more is known than that none came.
    pub error: Option<String>,
    /// When that was known.
    pub failed_at: Option<Duration>,
}

impl Request {
    pub(super) fn sent(seq: u64, sent_at: Duration) -> Request {
        Request { seq, sent_at, answered_at: None, by: None, again: 0, error: None, failed_at: None }
    }
}

/// The sum of a load, and every request.
///
/// As JSON: `sent`, `answered`, `failed`, `answered_again` count requests; `gap_ms` is the client's longest time without
/// an answer while it was asking, `gap_at_ms` when that began; `requests` is a list of
/// `[seq, sent_ms, answered_ms or null, "slot/generation" or null, error or null]`. Times in milliseconds since
/// `began_at_ms`, which is Unix time.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `udp`, `http` or `visits`.
    pub kind: &'static str,
    /// Whom it asked.
    pub to: String,
    /// Requests a second.
    pub rate: u32,
    /// When it began: what all other times count from.
    pub began_at: SystemTime,
    /// From the first request to the last.
    pub duration: Duration,
    /// Every request, by number.
    pub requests: Vec<Request>,
    /// The longest time without an answer.
    pub gap: Duration,
    /// When it began.
    pub gap_at: Duration,
}

impl Report {
    pub(super) fn new(plan: &Plan, began_at: SystemTime, requests: Vec<Request>, ended: Duration) -> Report {
        let (gap_at, gap) = longest_gap(&requests, ended);
        let kind = match plan.kind {
            Kind::Udp { .. } => "udp",
            Kind::Http { .. } => "http",
            Kind::Visit => "visits",
        };
        let to = plan.to.to_string();
        Report { kind, to, rate: plan.rate, began_at, duration: ended, requests, gap, gap_at }
    }

    /// Requests sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.requests.len()
    }

    /// Requests answered, however often.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.requests.iter().filter(|r| r.answered_at.is_some()).count()
    }

    /// Requests without an answer.
    pub fn lost(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|r| r.answered_at.is_none())
    }

    /// Requests with more than one answer.
    pub fn doubled(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|r| r.again > 0)
    }

    /// Who answered, in the order of first appearance.
    #[must_use]
    pub fn answerers(&self) -> Vec<By> {
        let mut answers: Vec<_> =
            self.requests.iter().filter_map(|r| Some((r.answered_at?, r.by?))).collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        let mut who = Vec::new();
        for (_, by) in answers {
            if !who.contains(&by) {
                who.push(by);
            }
        }
        who
    }

    /// The longest time without an answer among those that were not over at this moment.
    #[must_use]
    pub fn gap_since(&self, at: Duration) -> Duration {
        silences(&self.requests, self.duration)
            .filter(|(began, gap)| *began + *gap > at)
            .map(|(_, gap)| gap)
            .max()
            .unwrap_or_default()
    }

    /// How much later than it was due a request was sent at most, of those due or sent between these moments: for so long it
    /// was this client that had no time, whoever is to blame for the rest.
    #[must_use]
    pub fn late(&self, from: Duration, until: Duration) -> Duration {
        let due = |request: &Request| {
            Duration::from_nanos(request.seq * 1_000_000_000 / u64::from(self.rate.max(1)))
        };
        let meanwhile = |at: Duration| from <= at && at <= until;
        let within = self.requests.iter().filter(|r| meanwhile(due(r)) || meanwhile(r.sent_at));
        within.map(|request| request.sent_at.saturating_sub(due(request))).max().unwrap_or_default()
    }

    /// The same of the longest time without an answer.
    #[must_use]
    pub fn late_in_gap(&self) -> Duration {
        self.late(self.gap_at, self.gap_at + self.gap)
    }

    /// How old a request may have been that was in flight at this moment: as any was that had been answered by then, or as
    /// old as the last of them, if whoever answers had no time for those after it.
    #[must_use]
    pub fn in_flight_at(&self, at: Duration) -> Duration {
        let answers = self.requests.iter().filter_map(|r| Some((r.sent_at, r.answered_at?)));
        let before: Vec<_> = answers.filter(|(_, answered)| *answered < at).collect();
        let slowest = before.iter().map(|(sent, answered)| answered.saturating_sub(*sent)).max();
        let since_last = before.iter().map(|(sent, _)| at.saturating_sub(*sent)).min();
        slowest.max(since_last).unwrap_or_default()
    }

    /// As documented at the type.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let ms = |at: Duration| (at.as_secs_f64() * 1e6).round() / 1e3;
        let requests: Vec<_> = self
            .requests
            .iter()
            .map(|r| {
                let by = r.by.map(|by| format!("{}/{}", by.slot, by.generation));
                serde_json::json!([r.seq, ms(r.sent_at), r.answered_at.map(ms), by, r.error])
            })
            .collect();
        let began = self.began_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        serde_json::json!({
            "kind": self.kind,
            "to": self.to,
            "rate": self.rate,
            "began_at_ms": began.as_secs_f64() * 1e3,
            "duration_ms": ms(self.duration),
            "sent": self.sent(),
            "answered": self.answered(),
            "failed": self.lost().count(),
            "answered_again": self.doubled().count(),
            "gap_ms": ms(self.gap),
            "gap_at_ms": ms(self.gap_at),
            "answered_by": self.answerers().iter().map(|by| format!("{}/{}", by.slot, by.generation)).collect::<Vec<_>>(),
            "requests": requests,
        })
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let ms = |at: Duration| at.as_secs_f64() * 1e3;
        let mut line = format!(
            "{} {}: {} sent, {} answered, {} failed, {} answered again, longest gap {:.1} ms",
            self.kind,
            self.to,
            self.sent(),
            self.answered(),
            self.lost().count(),
            self.doubled().count(),
            ms(self.gap),
        );
        let lost = self.lost().map(|request| request.sent_at);
        if let (Some(first), Some(last)) = (lost.min(), self.lost().map(|request| request.sent_at).max()) {
            line += &format!(
                " (at {:.0} ms), failed were sent from {:.0} to {:.0} ms",
                ms(self.gap_at),
                ms(first),
                ms(last)
            );
        }
        line
    }
}

/// Begin and length of the longest time without an answer, from the first request to the last.
fn longest_gap(requests: &[Request], ended: Duration) -> (Duration, Duration) {
    silences(requests, ended).max_by_key(|(_, gap)| *gap).unwrap_or_default()
}

/// Begin and length of every time without an answer, from the first request to the last.
fn silences(requests: &[Request], ended: Duration) -> impl Iterator<Item = (Duration, Duration)> {
    let mut answers: Vec<_> = requests.iter().filter_map(|r| r.answered_at).collect();
    answers.sort_unstable();
    let first = requests.first().map_or(ended, |r| r.sent_at);
    let last = requests.last().map_or(ended, |r| r.sent_at.max(first));
    let mut edges = vec![first];
    edges.extend(answers);
    if edges.last().is_some_and(|e| *e < last) {
        edges.push(last);
    }
    let ends = edges.clone().into_iter().skip(1);
    edges.into_iter().zip(ends).map(|(began, ended)| (began, ended.saturating_sub(began)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seq: u64, sent: u64, answered: Option<u64>) -> Request {
        let ms = Duration::from_millis;
        Request { answered_at: answered.map(ms), ..Request::sent(seq, ms(sent)) }
    }

    #[test]
    fn the_gap_is_between_answers_not_requests() {
        let requests = [
            request(0, 0, Some(1)),
            request(1, 10, Some(11)),
            request(2, 20, None),
            request(3, 30, Some(45)),
        ];
        let gap = longest_gap(&requests, Duration::from_millis(50));
        assert_eq!(gap, (Duration::from_millis(11), Duration::from_millis(34)));
    }

    #[test]
    fn silence_at_the_end_is_a_gap_until_the_last_request() {
        let requests = [request(0, 0, Some(1)), request(1, 10, None), request(2, 90, None)];
        let gap = longest_gap(&requests, Duration::from_millis(200));
        assert_eq!(gap, (Duration::from_millis(1), Duration::from_millis(89)));
    }

    #[test]
    fn a_gap_that_was_over_before_the_fault_is_not_the_faults() {
        let requests = [
            request(0, 0, Some(1)),
            request(1, 10, Some(40)),
            request(2, 41, Some(42)),
            request(3, 50, Some(55)),
        ];
        let plan = Plan::udp(([127, 0, 0, 1], 7).into());
        let report = Report::new(&plan, UNIX_EPOCH, requests.to_vec(), Duration::from_millis(60));
        assert_eq!(report.gap, Duration::from_millis(39));
        assert_eq!(report.gap_since(Duration::from_millis(45)), Duration::from_millis(13));
        assert_eq!(report.gap_since(Duration::from_millis(56)), Duration::ZERO);
    }

    #[test]
    fn a_client_that_had_no_time_itself_is_told_from_one_that_waited() {
        let plan = Plan::udp(([127, 0, 0, 1], 7).into()).rate(100);
        let report = |requests: &[Request]| {
            Report::new(&plan, UNIX_EPOCH, requests.to_vec(), Duration::from_millis(300))
        };
        let waited = report(&[
            request(0, 0, Some(1)),
            request(1, 10, None),
            request(2, 20, Some(200)),
            request(3, 30, Some(231)),
        ]);
        assert_eq!((waited.gap, waited.late_in_gap()), (Duration::from_millis(199), Duration::ZERO));
        let late = report(&[request(0, 0, Some(1)), request(1, 190, Some(200)), request(2, 195, Some(201))]);
        assert_eq!((late.gap, late.late_in_gap()), (Duration::from_millis(199), Duration::from_millis(180)));
        assert_eq!(waited.in_flight_at(Duration::from_millis(5)), Duration::from_millis(5));
        assert_eq!(
            waited.in_flight_at(Duration::from_millis(15)),
            Duration::from_millis(15),
            "since the last one"
        );
        assert_eq!(
            waited.in_flight_at(Duration::from_millis(201)),
            Duration::from_millis(181),
            "like the last one"
        );
    }

    #[test]
    fn who_answered_is_read_as_it_is_written() {
        let by = By { slot: 1, generation: 12 };
        assert_eq!(By::find(format!("xx\n{by}\n").as_bytes()), Some(by));
        assert_eq!(By::find(b"hello"), None);
    }
}
