//! TCP connections go on through a failover: the same connection, every byte right.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{Carried, Flows, Record, RecordKind};
use hotpair_tests::lab::{Builder, Lab};
use hotpair_tests::stream::{Conversation, PORT};

use hotpair_tests::wait::wait_for;

use crate::metrics::scrape;
use crate::scenario::{PATIENCE, protected};

/// A lab that is not hurried into a failover of its own by a busy machine: a killed machine's tap tells sooner anyhow. Nor
/// into giving a standby up that such a machine gives no time: what that has missed then, it has missed for ever.
pub(crate) fn patient() -> Builder {
    hasty().lag_limit(Duration::from_secs(1))
}

/// As `patient`, but with the `lag_limit` that pairs have.
pub(crate) fn hasty() -> Builder {
    Lab::builder().carries_tcp().heartbeat(Duration::from_millis(5), PATIENCE)
}

const SOON: Duration = Duration::from_secs(5);

pub(crate) fn open(lab: &Lab, v6: bool) -> Result<Conversation> {
    let _inside = lab.client().netns().enter()?;
    Conversation::open(SocketAddr::new(lab.client().entry(v6)?, PORT), SOON)
}

/// Keeps the conversation busy while the primary is killed, and until the pair is protected again.
fn through_a_kill(
    name: &str,
    v6: bool,
    talk: impl Fn(&mut Conversation) -> Result<()> + Send + 'static,
) -> Result<()> {
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut conversation = open(&lab, v6)?;
    let over = Arc::new(AtomicBool::new(false));
    let talking = {
        let over = Arc::clone(&over);
        thread::spawn(move || -> Result<(u32, Duration)> {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                talk(&mut conversation).with_context(|| format!("round {rounds}"))?;
                rounds += 1;
            }
            Ok((rounds, conversation.take_gap()))
        })
    };
    thread::sleep(Duration::from_millis(300));
    let old = lab.primary()?;
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    thread::sleep(Duration::from_millis(700));
    over.store(true, Ordering::Relaxed);
    let (rounds, gap) = talking.join().expect("no panic")?;
    eprintln!("{rounds} rounds, longest gap {gap:?}");
    ensure!(rounds > 1, "{rounds} rounds");
    Ok(())
}

#[test]
fn a_download_goes_on() -> Result<()> {
    through_a_kill("a_download_goes_on", false, |conversation| conversation.download(10 << 20))
}

#[test]
fn a_download_over_ipv6_goes_on() -> Result<()> {
    through_a_kill("a_download_over_ipv6_goes_on", true, |conversation| conversation.download(10 << 20))
}

#[test]
fn an_upload_goes_on() -> Result<()> {
    through_a_kill("an_upload_goes_on", false, |conversation| conversation.upload(10 << 20))
}

#[test]
fn an_upload_over_ipv6_goes_on() -> Result<()> {
    through_a_kill("an_upload_over_ipv6_goes_on", true, |conversation| conversation.upload(10 << 20))
}

#[test]
fn requests_and_answers_go_on() -> Result<()> {
    through_a_kill("requests_and_answers_go_on", false, Conversation::increment)
}

#[test]
fn flows_says_who_would_go_on_and_why_not_and_so_it_comes() -> Result<()> {
    let name = "flows_says_who_would_go_on_and_why_not_and_so_it_comes";
    let Some(lab) = protected(name, patient().metrics())? else { return Ok(()) };
    let none = lab.show()?;
    ensure!(none.ack == "both" && none.tcp.is_some_and(|tcp| tcp.counts.is_empty()), "an empty sum");
    let flows = || -> Result<Vec<(String, String)>> {
        let flows: Flows = serde_json::from_str(&lab.must(&["flows", "web", "-o", "json"])?)?;
        ensure!(
            flows.carried
                && flows.counts.iter().map(|count| count.connections).sum::<usize>() == flows.flows.len()
        );
        Ok(flows.flows.into_iter().map(|flow| (flow.verdict, flow.why)).collect())
    };
    ensure!(flows()?.is_empty());
    let mut first = open(&lab, false)?;
    first.increment()?;
    ensure!(flows()? == [("in_sync".to_owned(), String::new())], "{:?}", flows()?);

    let old = lab.primary()?;
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    lab.wait_protected()?;
    ensure!(told_of_connections(&lab)?.0 == [Carried { went_on: 1, reset: 0 }]);
    // The new standby does not know the old connection, which lives.
    first.increment()?;
    let mut second = open(&lab, true)?;
    second.increment()?;
    let seen = flows()?;
    let older = ("unprotected".to_owned(), "began before the present standby came".to_owned());
    ensure!(seen == [older, ("in_sync".to_owned(), String::new())], "{seen:?}");
    let text = lab.hotpair(&["flows", "web"])?.stdout;
    ensure!(text.contains("1 in_sync, 1 unprotected"), "{text}");
    let text = lab.hotpair(&["show", "web"])?.stdout;
    ensure!(text.contains("1 in_sync, 1 unprotected; the standby has all"), "{text}");
    let series = scrape(&lab)?;
    let connections = |verdict| series[&format!("hotpair_connections{{pair=\"web\",verdict=\"{verdict}\"}}")];
    ensure!(connections("in_sync") == 1.0 && connections("unprotected") == 1.0 && connections("lost") == 0.0);

    // And so it is: the next failover resets the old one and carries the new one.
    let old = lab.primary()?;
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    second.increment()?;
    let error = first.increment().expect_err("nobody has it any more");
    ensure!(format!("{error:#}").contains("reset"), "reset, not a silence: {error:#}");
    let (carried, text) = told_of_connections(&lab)?;
    ensure!(carried == [Carried { went_on: 1, reset: 0 }, Carried { went_on: 1, reset: 1 }], "{carried:?}");
    ensure!(text.contains("1 was reset (1: began before the present standby came)"), "{text}");
    let series = scrape(&lab)?;
    let ended = |outcome| {
        series[&format!("hotpair_takeover_connections_total{{pair=\"web\",outcome=\"{outcome}\"}}")]
    };
    ensure!(ended("went_on") == 2.0 && ended("reset") == 1.0, "{series:?}");

    // Its port is free again, for the client and for us.
    lab.wait_protected()?;
    let (from, to) = (first.local()?, SocketAddr::new(lab.client().entry(false)?, PORT));
    drop(first);
    let mut third = {
        let _inside = lab.client().netns().enter()?;
        Conversation::open_from(from, to)?
    };
    third.increment()?;
    third.download(1 << 20)?;
    let seen = flows()?;
    ensure!(seen.iter().any(|(verdict, _)| verdict == "in_sync"), "{seen:?}");
    Ok(())
}

/// What the history says of connections, oldest first: a line for each failover, with its epoch; and the last one's words.
fn told_of_connections(lab: &Lab) -> Result<(Vec<Carried>, String)> {
    let told = wait_for("a line for each failover", SOON, || {
        let history = lab.history()?;
        let of = |kind| -> Vec<Record> { history.iter().filter(|line| line.kind == kind).cloned().collect() };
        let (told, failovers) = (of(RecordKind::Connections), of(RecordKind::Failover));
        let epochs = |lines: &[Record]| -> Vec<u64> { lines.iter().map(|line| line.epoch_after).collect() };
        ensure!(epochs(&told) == epochs(&failovers), "{told:?}");
        Ok(told)
    })?;
    let text = told.last().map(|record| record.text.clone()).unwrap_or_default();
    Ok((told.iter().filter_map(|record| record.connections).collect(), text))
}

/// A download, an upload and requests, each over a connection of its own, go on for as long as this lasts.
fn in_the_middle_of_everything(lab: &Lab, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    type Talk = fn(&mut Conversation) -> Result<()>;
    let talks: [(&str, Talk); 3] = [
        ("download", |conversation| conversation.download(1 << 20)),
        ("upload", |conversation| conversation.upload(1 << 20)),
        ("requests", Conversation::increment),
    ];
    let mut talking = Vec::new();
    for (index, (what, talk)) in talks.into_iter().enumerate() {
        let mut conversation = open(lab, index % 2 == 1)?;
        let over = Arc::clone(&over);
        talking.push(thread::spawn(move || -> Result<()> {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                talk(&mut conversation).with_context(|| format!("{what}, round {rounds}"))?;
                rounds += 1;
            }
            eprintln!("{what}: {rounds} rounds, longest gap {:?}", conversation.take_gap());
            Ok(())
        }));
    }
    let done = what();
    thread::sleep(Duration::from_millis(200));
    over.store(true, Ordering::Relaxed);
    for talk in talking {
        talk.join().expect("no panic").map_err(|error| {
            eprintln!(
                "{error:#}: {}",
                lab.show()
                    .map(|s| s
                        .counters
                        .into_iter()
                        .filter(|c| c.name.starts_with("tcp") && c.packets > 0)
                        .map(|c| format!("{}={} ", c.name, c.packets))
                        .collect::<String>())
                    .unwrap_or_default()
            );
            error
        })?;
    }
    done
}

#[test]
fn switchovers_in_the_middle_of_everything_are_invisible() -> Result<()> {
    let name = "switchovers_in_the_middle_of_everything_are_invisible";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    in_the_middle_of_everything(&lab, || {
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(200));
            lab.must(&["switchover", "web"])?;
            lab.wait_protected()?;
        }
        Ok(())
    })
}

#[test]
fn a_failover_that_somebody_asks_for_carries_what_is_being_said() -> Result<()> {
    let name = "a_failover_that_somebody_asks_for_carries_what_is_being_said";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let old = lab.primary()?;
    in_the_middle_of_everything(&lab, || {
        thread::sleep(Duration::from_millis(300));
        lab.must(&["failover", "web"])?;
        ensure!(lab.pair()?.primary == Some(old.slot() ^ 1), "at once");
        thread::sleep(Duration::from_millis(300));
        // They go on while the old primary is fenced and another member is made.
        lab.wait_protected().map(drop)
    })?;
    ensure!(!old.is_alive() && lab.machine(old.slot())?.generation() > old.generation());
    let history = lab.history()?;
    let failovers: Vec<_> = history.iter().filter(|line| line.kind == RecordKind::Failover).collect();
    let [failover] = failovers[..] else { anyhow::bail!("{failovers:?}") };
    ensure!(failover.detected_by.as_deref() == Some("operator"), "{failover:?}");
    ensure!(told_of_connections(&lab)?.0 == [Carried { went_on: 3, reset: 0 }], "{history:?}");
    Ok(())
}

#[test]
fn a_switchover_there_and_back_carries_a_conversation() -> Result<()> {
    let Some(lab) = protected("a_switchover_there_and_back_carries_a_conversation", patient())? else {
        return Ok(());
    };
    let mut conversation = open(&lab, false)?;
    for _ in 0..2 {
        conversation.increment()?;
        conversation.download(1 << 20)?;
        lab.must(&["switchover", "web"])?;
        conversation.upload(1 << 20)?;
        lab.wait_protected()?;
    }
    conversation.increment()
}

#[test]
fn a_frozen_standby_is_not_waited_for_for_ever_and_that_is_counted() -> Result<()> {
    let name = "a_frozen_standby_is_not_waited_for_for_ever_and_that_is_counted";
    let Some(lab) = protected(name, hasty())? else { return Ok(()) };
    let standby = lab.standby()?;
    let (mut gaps, mut behind) = (Vec::new(), Vec::new());
    for round in 0..8 {
        lab.wait_protected()?;
        let mut conversation = open(&lab, round % 2 == 1)?;
        conversation.upload(1 << 20)?;
        conversation.take_gap();
        standby.freeze()?;
        conversation.upload(4 << 20)?;
        gaps.push(conversation.take_gap());
        behind.extend(lab.show()?.tcp);
        standby.thaw()?;
    }
    eprintln!("longest gaps {gaps:?}");
    gaps.sort();
    // `hotpair show` says by how much. Not where this machine was so slow that the standby has been replaced meanwhile.
    ensure!(behind.iter().any(|tcp| tcp.lag_bytes > 1 << 20 && tcp.lag_ms > 0.0), "{behind:?}");
    // Not one of the client's own timers, which begin at 200 ms. For how much less than that, tcp/standby.rs has clients to
    // compare with.
    ensure!(gaps[gaps.len() / 2] < Duration::from_millis(190), "{gaps:?}");
    let counters = lab.show()?.counters;
    let opened = counters.iter().find(|count| count.name == "tcp_gate_opened");
    ensure!(opened.is_some_and(|count| count.packets > 0), "{counters:?}");
    Ok(())
}
