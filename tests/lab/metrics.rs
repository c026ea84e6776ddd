//! The metrics of a real controller, read where Prometheus reads them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hotpair_abi::count::Counter;
use hotpair_tests::lab::{Lab, METRICS, PAIR};
use hotpair_tests::wait::wait_for;

/// Series by name and labels, as they are written.
pub(crate) type Series = BTreeMap<String, f64>;

fn ask(lab: &Lab, request: &str) -> Result<(String, String)> {
    let _inside = lab.host().netns().enter()?;
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Asks as Prometheus does and understands every line, or says which it does not.
pub(crate) fn scrape(lab: &Lab) -> Result<Series> {
    let (head, body) = ask(lab, &format!("GET /metrics HTTP/1.1\r\nhost: {METRICS}\r\n\r\n"))?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.to_lowercase().contains(kind), "{head}");
    assert!(body.ends_with("# EOF\n"), "the specification wants it at the end");
    parse(&body)
}

fn parse(text: &str) -> Result<Series> {
    let mut kinds = BTreeMap::new();
    let mut series = Series::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            match words[..] {
                ["EOF"] | ["HELP", _, _] => {}
                ["TYPE", name, kind @ ("gauge" | "counter" | "histogram")] => {
                    if kinds.insert(name.to_owned(), kind.to_owned()).is_some() {
                        bail!("{name} has two types");
                    }
                }
                _ => bail!("not understood: {line}"),
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').with_context(|| format!("not understood: {line}"))?;
        let name = key.split('{').next().unwrap_or_default();
        let suffixes: &[&str] = match family(&kinds, name) {
            Some("gauge") => &[""],
            Some("counter") => &["_total"],
            Some("histogram") => &["_bucket", "_sum", "_count"],
            _ => bail!("{name} has no type"),
        };
        assert!(suffixes.iter().any(|suffix| name.ends_with(suffix)), "{line}");
        assert!(name.starts_with("hotpair_") && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        if let Some(labels) = key.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
            for label in labels.with_context(|| format!("not understood: {line}"))?.split(',') {
                let (label, value) = label.split_once('=').with_context(|| format!("in {line}: {label}"))?;
                let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
                assert!(quoted && label.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{line}");
            }
        }
        let value: f64 = value.parse().with_context(|| format!("not a number: {line}"))?;
        if series.insert(key.to_owned(), value).is_some() {
            bail!("twice: {key}");
        }
    }
    Ok(series)
}

fn family<'k>(kinds: &'k BTreeMap<String, String>, name: &str) -> Option<&'k str> {
    ["", "_total", "_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix).and_then(|family| kinds.get(family)).map(String::as_str))
}

/// For each set of states: its name with the labels but the state's, and the sum.
fn sums(series: &Series, name: &str, state: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (key, value) in series.iter().filter(|(key, _)| key.starts_with(&format!("{name}{{"))) {
        assert!([0.0, 1.0].contains(value), "{key} {value}");
        let rest: Vec<&str> =
            key.split(['{', ',', '}']).filter(|part| !part.starts_with(&format!("{state}="))).collect();
        *sums.entry(rest.join(" ")).or_default() += value;
    }
    sums
}

fn sum_of(series: &Series, start: &str) -> f64 {
    series.iter().filter(|(key, _)| key.starts_with(start)).map(|(_, value)| value).sum()
}

fn at(series: &Series, key: &str) -> f64 {
    *series.get(key).unwrap_or_else(|| panic!("there is no {key} in {series:#?}"))
}

#[test]
fn metrics_say_what_happens_and_each_state_is_one() -> Result<()> {
    if !crate::may_run("metrics_say_what_happens_and_each_state_is_one") {
        return Ok(());
    }
    let lab = crate::scenario::patient().metrics().start()?;
    lab.wait_protected()?;
    let before = scrape(&lab)?;
    for (name, state, sets) in [
        ("hotpair_pair_protection", "state", 1),
        ("hotpair_member_role", "role", 2),
        ("hotpair_member_phase", "phase", 2),
    ] {
        let sums = sums(&before, name, state);
        assert_eq!(sums.len(), sets, "{name}: {sums:?}");
        assert!(sums.values().all(|sum| *sum == 1.0), "{name}: {sums:?}");
    }
    assert_eq!(at(&before, &format!("hotpair_pair_protection{{pair=\"{PAIR}\",state=\"protected\"}}")), 1.0);
    for reason in Counter::ALL {
        at(&before, &format!("hotpair_packets_total{{pair=\"{PAIR}\",reason=\"{}\"}}", reason.name()));
        at(&before, &format!("hotpair_packets_total{{pair=\"\",reason=\"{}\"}}", reason.name()));
    }
    let beats = format!("hotpair_packets_total{{pair=\"{PAIR}\",reason=\"heartbeat\"}}");
    assert!(at(&before, &beats) > 0.0);
    let failovers = format!("hotpair_role_changes_total{{pair=\"{PAIR}\",kind=\"failover\"");
    let gaps = format!("hotpair_failover_gap_seconds_count{{pair=\"{PAIR}\"}}");
    let epoch = format!("hotpair_pair_epoch{{pair=\"{PAIR}\"}}");
    let lost = format!("hotpair_members_lost_total{{pair=\"{PAIR}\"}}");
    assert_eq!((sum_of(&before, &failovers), at(&before, &gaps), at(&before, &lost)), (0.0, 0.0, 0.0));

    lab.primary()?.kill()?;
    // Of two series that change in the same moment a scrape may get one before it and one after it.
    let after = wait_for("the failover to be counted", Duration::from_secs(10), || {
        let series = scrape(&lab)?;
        let all =
            at(&series, &gaps) > 0.0 && at(&series, &lost) > 0.0 && at(&series, &epoch) > at(&before, &epoch);
        if all { Ok(series) } else { bail!("{:?}", lab.pair()?) }
    })?;
    assert_eq!(sum_of(&after, &failovers), 1.0);
    assert_eq!(at(&after, &gaps), 1.0);
    assert_eq!(at(&after, &lost), 1.0);
    assert!(at(&after, &beats) > at(&before, &beats));
    // The same failover, as the history tells it.
    let last = lab.pair()?.last.context("a failover is a change of role")?;
    let told = (last.detect_us.context("it was measured")? as f64 + last.flip_us.unwrap_or(0.0)) / 1e6;
    let measured = at(&after, &format!("hotpair_failover_gap_seconds_sum{{pair=\"{PAIR}\"}}"));
    assert!((measured - told).abs() < 1e-6, "{measured} {told}");
    let by = last.detected_by.context("something gave it away")?;
    assert_eq!(at(&after, &format!("{failovers},detected_by=\"{by}\"}}")), 1.0);
    Ok(())
}

#[test]
fn metrics_can_be_read_and_nothing_else() -> Result<()> {
    if !crate::may_run("metrics_can_be_read_and_nothing_else") {
        return Ok(());
    }
    let lab = Lab::builder().metrics().start()?;
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "405"),
        ("POST /v1/pairs/web/failover HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "405"),
        ("GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.0\r\n\r\n", "404"),
    ] {
        let (head, _) = ask(&lab, request)?;
        assert_eq!(head.split(' ').nth(1), Some(status), "{request}: {head}");
    }
    // Those who say nothing take up all places, and only for a time.
    let silent: Vec<TcpStream> = {
        let _inside = lab.host().netns().enter()?;
        (0..9).map(|_| TcpStream::connect(METRICS)).collect::<std::io::Result<_>>()?
    };
    scrape(&lab)?;
    drop(silent);
    scrape(&lab)?;
    Ok(())
}

#[test]
fn metrics_that_cannot_be_served_are_refused_before_anything_is_touched() -> Result<()> {
    if !crate::may_run("metrics_that_cannot_be_served_are_refused_before_anything_is_touched") {
        return Ok(());
    }
    let mut lab = Lab::builder().metrics().without_controller()?;
    let taken = {
        let _inside = lab.host().netns().enter()?;
        std::net::TcpListener::bind(METRICS)?
    };
    let error = format!("{:#}", lab.start_controller().expect_err("the port is taken"));
    assert!(
        error.contains(&format!("host.metrics = \"{METRICS}\"")) && error.contains("ss -ltnp"),
        "{error}"
    );
    assert!(!lab.dir().join("bpf/hotpair").exists(), "the data plane was touched");
    drop(taken);
    lab.start_controller()?;
    scrape(&lab)?;
    Ok(())
}
