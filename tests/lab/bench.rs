//! The benchmarks that need a lab still measure, everything a few times. How fast it was, a test does
//! not say.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hotpair_tests::bench::{Figure, Machine, failover, scale, tcp};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: failover::Options,
}

#[test]
fn the_failover_benchmark_measures_every_fault() -> Result<()> {
    if !crate::may_run("the_failover_benchmark_measures_every_fault") {
        return Ok(());
    }
    // Far from what is measured by hand: this machine has other things to do.
    let line =
        "bench --rounds 2 --keepalived-rounds 1 --keepalived-default-rounds 0 --interval 5ms --timeout 50ms";
    let options = Line::try_parse_from(line.split(' '))?.options;
    let sheet = failover::run(&options, Machine::here("a test"))?;
    let out = tempfile::tempdir()?;
    sheet.publish(out.path())?;
    let json = std::fs::read_to_string(out.path().join("failover.json"))?;
    let figures: Vec<Figure> = serde_json::from_str(&json)?;
    for (who, faults) in [
        ("hotpair", &["kill", "freeze", "switchover", "latch"][..]),
        ("keepalived, 10 ms adverts", &["kill", "freeze"]),
    ] {
        for fault in faults {
            for what in ["gap", "lost", "doubled"] {
                let name = format!("{who}, {fault}, {what}");
                let figure = figures.iter().find(|figure| figure.name == name);
                let figure = figure.with_context(|| format!("no {name} in {json}"))?;
                ensure!(figure.runs == if who == "hotpair" { 2 } else { 1 }, "{figure:?}");
                ensure!(what != "gap" || figure.min > 0.0, "{figure:?}");
            }
        }
    }
    let detected =
        |fault: &str| figures.iter().any(|figure| figure.name == format!("hotpair, {fault}, detection"));
    ensure!(["kill", "freeze", "latch"].into_iter().all(detected), "{json}");
    ensure!(std::fs::read_to_string(out.path().join("failover.svg"))?.ends_with("</svg>\n"));
    Ok(())
}

#[derive(Parser)]
struct TcpLine {
    #[command(flatten)]
    options: tcp::Options,
}

#[test]
fn the_tcp_benchmark_measures_every_way_and_every_client() -> Result<()> {
    if !crate::may_run("the_tcp_benchmark_measures_every_way_and_every_client") {
        return Ok(());
    }
    // So slow that both members of one round can follow, whatever the machine: none of the connections may be reset.
    let line = "bench --rounds 1 --time 20ms --failovers 0 --slow-failovers 1 --pace 4000000";
    let options = TcpLine::try_parse_from(line.split(' '))?.options;
    let sheet = tcp::run(&options, Machine::here("a test"))?;
    let figure = |name: &str| -> Result<&Figure> {
        sheet.figures.iter().find(|figure| figure.name == name).with_context(|| format!("no {name}"))
    };
    for load in [
        "download, 1 connection",
        "upload, 50 connections",
        "requests, 16 at a time",
        "requests, 1 at a time",
    ] {
        for way in [
            "kernel routing",
            "steered",
            "bare broadcast",
            "mirrored, ack = primary",
            "mirrored, ack = both",
            "mirrored, ack = both, compared",
        ] {
            let figure = figure(&format!("{load}: {way}"))?;
            ensure!(figure.min > 0.0 && figure.ratio.is_some() == (way != "kernel routing"), "{figure:?}");
        }
    }
    for way in ["UDP, duplicated", "TCP, steered", "TCP, duplicated and carried over"] {
        ensure!(figure(way)?.min > 0.0);
    }
    // Each program, where it has something to do.
    figure("from_uplink: upload, 1 connection, steered")?;
    figure("to_guest: upload, 1 connection, mirrored, ack = both")?;
    figure("from_guest: download, 1 connection, mirrored, ack = primary")?;
    for client in ["download", "upload", "request in flight"] {
        figure(&format!("timeout 1s: {client}, stall beyond detection"))?;
    }
    ensure!(figure("timeout 1s: detection")?.min > 100.0);
    // With the first answer it is the whole gap that counts, and the standby's answers come before anybody has decided anything.
    let first = |what: &str| figure(&format!("timeout 1s, answer = first: {what}"));
    ensure!(first("detection")?.min > 100.0);
    for what in ["request in flight, total gap", "requests from then on, total gap"] {
        let figure = first(what)?;
        ensure!(figure.runs == 1 && figure.min > 0.0, "{figure:?}");
    }
    let before = first("requests from then on, answered before the takeover")?;
    ensure!(before.min >= 1.0, "the request in flight waited for the takeover: {before:?}");
    Ok(())
}

#[derive(Parser)]
struct ScaleLine {
    #[command(flatten)]
    options: scale::Options,
}

#[test]
fn the_scale_benchmark_measures_every_number_of_pairs() -> Result<()> {
    if !crate::may_run("the_scale_benchmark_measures_every_number_of_pairs") {
        return Ok(());
    }
    let line = "bench --pairs 1,20 --rounds 2 --frames 2000 --rest 300ms";
    let options = ScaleLine::try_parse_from(line.split(' '))?.options;
    let (sheet, to_the_end) = scale::run(&options, Machine::here("a test"))?;
    to_the_end?;
    let out = tempfile::tempdir()?;
    sheet.publish(out.path())?;
    let json = std::fs::read_to_string(out.path().join("scale.json"))?;
    let figures: Vec<Figure> = serde_json::from_str(&json)?;
    let figure = |name: String| -> Result<&Figure> {
        figures.iter().find(|figure| figure.name == name).with_context(|| format!("no {name} in {json}"))
    };
    for pairs in ["1 pair", "20 pairs"] {
        for what in ["frames for one of them", "frames for all of them at random"] {
            let name = format!("{pairs}: {what}");
            let beside: Vec<_> = figures.iter().filter(|figure| figure.name == name).collect();
            // Beside the first one, and the bare one.
            ensure!(beside.len() == if pairs == "1 pair" { 1 } else { 2 }, "{beside:?}");
            for figure in beside {
                ensure!(figure.runs == 2 && figure.min > 0.0 && figure.ratio.is_some(), "{figure:?}");
            }
            let bare = figure(format!("{pairs}: bare, {what}"))?;
            ensure!(bare.runs == 2 && bare.min > 0.0, "{bare:?}");
            ensure!(bare.ratio.is_some() == (pairs != "1 pair"), "{bare:?}");
        }
        let at_rest = |what: &str| figure(format!("{pairs}, beating every 2ms: {what}"));
        for what in ["memory of the controller", "memory of the maps"] {
            let figure = at_rest(what)?;
            ensure!(figure.runs == 3 && figure.min > 0.0, "{figure:?}");
        }
        let (whole, engine) = (at_rest("processor")?, at_rest("of that, the engine")?);
        ensure!(whole.runs == 3 && engine.min > 0.0 && whole.min >= engine.min, "{whole:?}, {engine:?}");
    }
    ensure!(std::fs::read_to_string(out.path().join("scale.svg"))?.ends_with("</svg>\n"));
    Ok(())
}
