//! A controller at rest: all members beat, nobody fails, nobody asks.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
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
        let (began, spent) = (Instant::now(), spent(pid)?);
        sleep(time);
        interrupt::check()?;
        let (whole, of_engine) = self::spent(pid)?;
        let seconds = began.elapsed().as_secs_f64();
        processor.values.push((whole - spent.0) / seconds * 100.0);
        engine.values.push((of_engine - spent.1) / seconds * 100.0);
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

/// Processor time in seconds: of the process, and of its engine's thread.
fn spent(pid: u32) -> Result<(f64, f64)> {
    let of = |stat: &Path| -> Result<f64> {
        let text = fs::read_to_string(stat)?;
        let fields = text.rsplit_once(')').context("not a stat file")?.1;
        // proc(5): utime and stime are fields 14 and 15, and the first one here is number 3.
        let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        // USER_HZ, which is 100 on every architecture that has BPF.
        Ok(ticks.iter().sum::<f64>() / 100.0)
    };
    let process = Path::new("/proc").join(pid.to_string());
    let mut engine = 0.0;
    for task in fs::read_dir(process.join("task"))?.flatten() {
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "engine") {
            engine = of(&task.path().join("stat"))?;
        }
    }
    Ok((of(&process.join("stat"))?, engine))
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
