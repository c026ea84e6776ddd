//! A controller at rest: all members beat, nobody fails, nobody asks.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::MapData;
use hotpair::api::types::Protection;

use super::herds::Herds;
use super::pairs;
use crate::bench::{Series, say};
use crate::interrupt;
use crate::lab::Lab;
use crate::wait::wait_for;

/// Between two heartbeats, so that one process can still beat for all of them: at most 20,000 beats a second.
fn interval(pairs: usize) -> Duration {
    Duration::from_millis((pairs as u64 / 10).max(2))
}

/// Processor time, memory of the controller, memory of its maps.
pub(super) fn measure(count: usize, time: Duration) -> Result<[Series; 4]> {
    let interval = interval(count);
    let name = |what: &str| {
        let between = humantime::format_duration(interval);
        format!("{}, beating every {between}: {what}", pairs(count))
    };
    say(format_args!("scale: a controller with {}", pairs(count)));
    let mut lab = Lab::builder()
        .herd(count)
        .heartbeat(interval, interval * 4)
        .start_within(Duration::from_secs(900))
        .quiet()
        .without_controller()?;
    // They run already: starting them is not what is measured.
    for pair in 0..count {
        for slot in [0, 1] {
            fs::write(lab.dir().join(format!("herd/members/p{pair}-{slot}")), "1\n")?;
        }
    }
    // They wait for their taps. A controller that finds nobody at a member's tap gives the member up.
    let mut herds = Herds::start(&lab, count, interval)?;
    let began = Instant::now();
    let pid = lab.start_controller_and_tell()?;
    herds.all_beat()?;
    say(format_args!("scale: it runs after {:.1} s", began.elapsed().as_secs_f64()));
    wait_for("all pairs to be protected", Duration::from_secs(600), || {
        interrupt::check()?;
        let status = lab.status()?;
        let protected = status.pairs.iter().filter(|pair| pair.protection == Protection::Protected).count();
        if protected == count {
            return Ok(());
        }
        sleep(Duration::from_millis(500));
        bail!("{protected} are")
    })?;
    say(format_args!("scale: all are protected after {:.1} s", began.elapsed().as_secs_f64()));
    // Until what the start has left to do is done.
    sleep(Duration::from_secs(5));
    let mut processor = Series::new(name("processor"), "% of a core");
    let mut engine = Series::new(name("of that, the engine"), "% of a core");
    let mut memory = Series::new(name("memory of the controller"), "MiB");
    let mut maps = Series::new(name("memory of the maps"), "MiB");
    let before = lab.status()?;
    for _ in 0..3 {
        // What the engine does while this is looked up is the whole process's as well.
        let (began, whole_before) = (Instant::now(), spent(pid)?);
        let engine_before = spent_by_engine(pid)?;
        sleep(time);
        interrupt::check()?;
        let engine_after = spent_by_engine(pid)?;
        let (whole_after, took) = (spent(pid)?, began.elapsed());
        let of_a_core = |spent: Duration| spent.as_secs_f64() / took.as_secs_f64() * 100.0;
        processor.values.push(of_a_core(whole_after - whole_before));
        engine.values.push(of_a_core(engine_after - engine_before));
        memory.values.push(resident(pid)?);
        maps.values.push(of_maps(&lab.dir().join("bpf/hotpair"))?);
    }
    herds.all_beat()?;
    let after = lab.status()?;
    let epochs = |status: &hotpair::api::types::Status| -> Vec<u64> {
        status.pairs.iter().map(|pair| pair.epoch).collect()
    };
    // On a busy machine nobody may have beaten in time for a while.
    if epochs(&before) != epochs(&after) {
        say("scale: there were failovers: beats were late");
    }
    // Before the members unplug: each carrier that goes makes the kernel look through the routes of all taps, and the
    // controller would answer every one with a failover.
    lab.kill_controller();
    drop(lab);
    drop(herds);
    Ok([processor, engine, memory, maps])
}

/// Processor time of a process, its threads that have ended included.
fn spent(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: writes the one word, or returns an error.
    let error = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    ensure!(error == 0, "process {pid}: {}", std::io::Error::from_raw_os_error(error));
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the one value, or returns an error.
    let error = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(error == 0, "process {pid}: {}", std::io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// Processor time of the engine's thread.
fn spent_by_engine(pid: u32) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "engine") {
            // Documentation/scheduler/sched-stats.rst: nanoseconds on a processor come first.
            let account = fs::read_to_string(task.path().join("schedstat"))?;
            let nanoseconds = account.split_whitespace().next().context("no schedstat")?;
            return Ok(Duration::from_nanos(nanoseconds.parse()?));
        }
    }
    bail!("process {pid} has no thread called engine")
}

/// Memory that a process has, MiB.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// What the kernel accounts for all maps that are pinned, the pairs' devmaps too, MiB.
fn of_maps(pins: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for room in ["maps", "groups"] {
        for pin in fs::read_dir(pins.join(room))?.flatten() {
            let map = MapData::from_pin(pin.path())?;
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
            let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock")?;
            bytes += line.trim().parse::<f64>()?;
        }
    }
    Ok(bytes / f64::from(1 << 20))
}
