//! A guest that floods, and people who misuse the API: nobody else is to notice.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::RecordKind;
use hotpair_abi::heartbeat::{Heartbeat, PORT, State};
use hotpair_tests::frames::{self, Macs};
use hotpair_tests::lab::{Lab, Machine, PAIR, SECOND};
use hotpair_tests::load::Report;
use hotpair_tests::wait::wait_for;

use crate::scenario::{load, patient, protected};

/// What a guest can say where a heartbeat is expected, and what is no heartbeat of its own.
fn garbage() -> Result<Vec<Vec<u8>>> {
    let macs = Macs { from: hotpair::controller::derived_mac(PAIR), to: hotpair_abi::GATEWAY_MAC };
    let (me, peer) = ((hotpair_abi::ME_V4, PORT).into(), (hotpair_abi::PEER_V4, PORT).into());
    let good = Heartbeat {
        state: State::Failing,
        boot_id: 7,
        sequence: u64::MAX,
        sent_ns: 0,
        requests: 0,
        in_flight: 0,
        interval_us: 1,
    }
    .to_bytes();
    let changed = |at: usize| {
        let mut bytes = good;
        bytes[at] ^= 0x10;
        frames::udp(macs, me, peer, &bytes)
    };
    let other = Macs { from: hotpair::controller::derived_mac(SECOND.0), ..macs };
    Ok(vec![
        changed(0),
        changed(4),
        changed(20),
        frames::udp(macs, me, peer, &good[..47]),
        frames::udp(macs, me, peer, &[good.as_slice(), &[0; 1000]].concat()),
        frames::udp(other, me, peer, &good),
        frames::udp(macs, peer, me, &good),
        vec![0xff; 60],
    ])
}

fn packets(lab: &Lab, counter: &str) -> Result<u64> {
    let show = lab.show()?;
    Ok(show.counters.iter().find(|count| count.name == counter).map_or(0, |count| count.packets))
}

#[test]
fn a_guest_that_floods_garbage_starves_nobody_and_fails_nobody_over() -> Result<()> {
    let name = "a_guest_that_floods_garbage_starves_nobody_and_fails_nobody_over";
    let patient =
        Lab::builder().heartbeat(Duration::from_millis(5), Duration::from_millis(500)).second_pair();
    let Some(lab) = protected(name, patient)? else { return Ok(()) };
    lab.wait_pair("the other pair", |_| {
        lab.pair_named(SECOND.0)
            .is_ok_and(|pair| pair.protection == hotpair::api::types::Protection::Protected)
    })?;
    let before = (lab.pair()?, lab.pair_named(SECOND.0)?);
    let load = load(&lab)?;
    let garbage = garbage()?;
    // Two seconds at a hundred thousand a second, where the machine can: from the standby, then from the primary.
    const TOTAL: u32 = 200_000;
    for flooder in [lab.standby()?, lab.primary()?] {
        let counters = [
            "heartbeat_malformed",
            "heartbeat_version",
            "heartbeat_damaged",
            "spoofed_mac",
            "spoofed_address",
        ];
        let counted = || counters.iter().map(|counter| packets(&lab, counter)).collect::<Result<Vec<_>>>();
        let were = counted()?;
        let (asked, took) = while_flooding(&flooder, &garbage, TOTAL, || lab.status().map(drop))?;
        eprintln!("{TOTAL} frames in {took:?}; the controller answered {asked} times meanwhile");
        // On a machine at rest it is some eighty times; here somebody else may have the time that the flood leaves.
        ensure!(asked > 0, "the controller answered nobody in {took:?}");
        let rose: Vec<_> = counted()?.iter().zip(&were).map(|(now, were)| now - were).collect();
        let each = u64::from(TOTAL) / garbage.len() as u64;
        ensure!(
            rose == [3 * each, each, each, 2 * each, each],
            "{counters:?} rose by {rose:?}, not {each} a frame"
        );
    }
    let report = load.stop();
    ensure!(report.answered() > 500, "the service was starved");
    let after = (lab.pair()?, lab.pair_named(SECOND.0)?);
    ensure!(after.0.epoch == before.0.epoch && after.0.primary == before.0.primary, "{after:?}");
    ensure!(after.1.epoch == before.1.epoch && after.1.primary == before.1.primary, "{after:?}");
    ensure!(!lab.history()?.iter().any(|record| record.kind == RecordKind::Failover), "{:?}", lab.history()?);
    Ok(())
}

/// Does something over and over while the machine floods: how often, and how long the flood took.
fn while_flooding(
    machine: &Machine,
    frames: &[Vec<u8>],
    total: u32,
    mut something: impl FnMut() -> Result<()>,
) -> Result<(u32, Duration)> {
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let result = machine.flood(frames, 100_000, total);
            over.store(true, Ordering::Relaxed);
            (result, begun.elapsed())
        });
        let mut times = 0;
        while !over.load(Ordering::Relaxed) {
            something()?;
            times += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        let (result, took) = flood.join().expect("it does not panic");
        result.map(|()| (times, took))
    })
}

#[test]
fn people_who_misuse_the_api_do_not_delay_a_failover() -> Result<()> {
    let name = "people_who_misuse_the_api_do_not_delay_a_failover";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    raise_limit()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two who say nonsense as fast as they can, and a thousand who say half a sentence and wait.
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(lab.socket()) else { continue };
                    let _ = stream.write_all(b"POST /v1/pairs/nosuch/failover?slot=\xff HTTP/1.1\r\n\r\n");
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                    let _ = stream.read(&mut [0; 4096]);
                }
            });
        }
        let result = under_siege(&lab);
        over.store(true, Ordering::Relaxed);
        result
    })?;
    // And when they are gone, everything is as if they had never been.
    lab.wait_protected()?;
    let begun = Instant::now();
    lab.must(&["status"])?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    Ok(())
}

fn under_siege(lab: &Lab) -> Result<()> {
    let before = lab.pair()?;
    let primary = lab.primary()?;
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let mut stream = UnixStream::connect(lab.socket())?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nx: ")?;
        waiting.push(stream);
    }
    let load = load(lab)?;
    let fault_at = load.elapsed();
    primary.kill()?;
    // Seen by a client: the API is too busy to be asked.
    wait_for("answers from the survivor", Duration::from_secs(10), || {
        let answerers = load.so_far().answerers();
        answerers.iter().any(|by| *by != primary.by()).then_some(()).context("not yet")
    })?;
    soon(&load.stop(), fault_at)?;
    // Whoever asks properly is answered while they still wait.
    let status = lab.must(&["status"])?;
    ensure!(status.contains(PAIR), "{status}");
    let after = lab.pair()?;
    ensure!(after.epoch > before.epoch && after.primary != before.primary, "{after:?}");
    drop(waiting);
    Ok(())
}

/// Whether the client was answered again soon after that moment.
fn soon(report: &Report, fault_at: Duration) -> Result<()> {
    let (gap, late) = (report.gap_since(fault_at), report.late_in_gap());
    ensure!(gap < Duration::from_secs(2) + late, "{gap:?} without an answer, late itself by {late:?}");
    Ok(())
}

/// Every one of these is answered with 200, and what each of them may be asked.
const QUESTIONS: [&str; 5] = [
    "/v1/status",
    "/v1/pairs/web",
    "/v1/pairs/web/flows",
    "/v1/history?pair=web&limit=1000",
    "/v1/pairs/web/flows?limit=0",
];

/// Asks and hears all of the answer, which must be JSON.
fn question(socket: &Path, path: &str) -> Result<serde_json::Value> {
    let mut stream = UnixStream::connect(socket).context("connecting")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("waiting for the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{answer:?} is no HTTP"))?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}: {body}");
    serde_json::from_str(body).with_context(|| body.to_owned())
}

#[test]
fn a_thousand_requests_at_once_are_all_answered_and_delay_no_failover() -> Result<()> {
    let name = "a_thousand_requests_at_once_are_all_answered_and_delay_no_failover";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    raise_limit()?;
    let (before, primary) = (lab.pair()?, lab.primary()?);
    let load = load(&lab)?;
    let socket = lab.socket();
    // Nobody asks before all are there.
    let start = Barrier::new(1001);
    let (asked, fault_at) = std::thread::scope(|scope| -> Result<_> {
        let ask = |number: usize| {
            let (start, socket) = (&start, &socket);
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            thread.spawn_scoped(scope, move || {
                start.wait();
                let path = QUESTIONS[number % QUESTIONS.len()];
                question(socket, path).map(drop).with_context(|| format!("{number}: {path}"))
            })
        };
        let asking: Vec<_> = (0..1000).map(|number| ask(number).expect("a thread")).collect();
        start.wait();
        let began = Instant::now();
        let fault_at = load.elapsed();
        primary.kill()?;
        for one in asking {
            one.join().expect("no panic")?;
        }
        Ok((began.elapsed(), fault_at))
    })?;
    eprintln!("a thousand answers in {asked:?}");
    let after = lab.wait_protected()?;
    ensure!(after.epoch == before.epoch + 1 && after.primary != before.primary, "{before:?} {after:?}");
    soon(&load.stop(), fault_at)
}

/// A thousand connections at this end.
fn raise_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}
