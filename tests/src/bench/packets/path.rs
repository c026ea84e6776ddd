//! A way for frames: where they go in, and where it is counted what came out.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::code::{self, Count};
use crate::bench::Preferred;
use crate::bpf::{self, Hook, ifindex};
use crate::netns::ip_batch;
use crate::{ethtool, interrupt, xdp_pass};

/// Frames to find out with how many there can be. A call costs some 20 ms whatever it sends: the kernel waits for RCU.
const FEW: u32 = 50_000;

/// Where frames go in: `gN`, whose other end is the uplink `uN`.
pub(in crate::bench) struct Gate {
    pub(in crate::bench) uplink: String,
    pub(in crate::bench) index: u32,
    sender: OwnedFd,
    _pass: OwnedFd,
}

impl Gate {
    /// Makes the veth. Frames go out to `mac`.
    pub(in crate::bench) fn new(number: usize, mac: [u8; 6]) -> Result<Gate> {
        Gate::with(number, code::sender(mac)?)
    }

    /// As [`Gate::new`], for frames that are not what they were before, and have [`TAKEN_OFF`](code::TAKEN_OFF) bytes before them, and
    /// these anew.
    pub(in crate::bench) fn fresh(number: usize, mac: [u8; 6], again: &[(usize, [u8; 4])]) -> Result<Gate> {
        Gate::with(number, code::fresh_sender(mac, again)?)
    }

    fn with(number: usize, sender: OwnedFd) -> Result<Gate> {
        let (gate, uplink) = (format!("g{number}"), format!("u{number}"));
        veth(&gate, &uplink)?;
        // Without a program of its own, or GRO, an end of a veth takes no XDP frames.
        ethtool::set(&uplink, ethtool::GRO, true)?;
        let pass = xdp_pass::attach(&gate)?;
        Ok(Gate { index: ifindex(&gate), uplink, sender, _pass: pass })
    }
}

/// A veth, both ends up.
fn veth(one: &str, other: &str) -> Result<()> {
    ip_batch(&format!(
        "link add {one} numrxqueues 1 numtxqueues 1 type veth peer name {other} numrxqueues 1 numtxqueues 1\n\
         link set {one} up\nlink set {other} up\n"
    ))
}

/// A member: `mNAME` is its device, and behind it everything is counted and dropped.
pub(in crate::bench) struct Member {
    pub(super) device: String,
    count: Count,
    _link: OwnedFd,
}

impl Member {
    /// What comes as XDP frames is counted by XDP, what comes as skbs at TCX: each where it costs least.
    pub(super) fn new(name: &str, hook: Hook) -> Result<Rc<Member>> {
        let (device, behind) = (format!("m{name}"), format!("r{name}"));
        veth(&device, &behind)?;
        Member::at(device, &behind, hook)
    }

    /// Counts what comes to the uplink itself.
    pub(super) fn uplink(gate: &Gate) -> Result<Rc<Member>> {
        Member::at(gate.uplink.clone(), &gate.uplink, Hook::Xdp)
    }

    fn at(device: String, behind: &str, hook: Hook) -> Result<Rc<Member>> {
        let count = Count::new()?;
        let link = bpf::attach(count.and_drop(hook)?.as_fd(), hook, behind)?;
        Ok(Rc::new(Member { device, count, _link: link }))
    }

    pub(super) fn index(&self) -> u32 {
        ifindex(&self.device)
    }
}

/// A way.
pub(in crate::bench) struct Path {
    pub(in crate::bench) name: String,
    /// Names of the ways it is compared with.
    pub(in crate::bench) beside: Vec<&'static str>,
    pub(in crate::bench) gate: Rc<Gate>,
    pub(in crate::bench) frame: Vec<u8>,
    pub(in crate::bench) members: Vec<Rc<Member>>,
    /// What is to be done before frames go this way.
    pub(in crate::bench) prepare: Option<Box<dyn Fn()>>,
}

/// What came of a measurement.
pub(super) struct Ran {
    pub(super) offered: u64,
    /// Of these, how many have arrived at every member.
    pub(super) delivered: u64,
    pub(super) took: Duration,
}

impl Path {
    /// How many frames go this way in so long, about. Also warms everything up.
    pub(super) fn frames_in(&self, time: Duration) -> Result<u32> {
        self.run(FEW)?;
        let ran = self.run(FEW)?;
        // What delivers nothing now would deliver nothing later.
        ensure!(ran.delivered > 0, "{}: none of {} frames arrived", self.name, ran.offered);
        let frames = f64::from(FEW) * time.as_secs_f64() / ran.took.as_secs_f64();
        Ok((frames as u32).max(FEW))
    }

    /// Sends so many.
    pub(super) fn run(&self, frames: u32) -> Result<Ran> {
        interrupt::check()?;
        if let Some(prepare) = &self.prepare {
            prepare();
        }
        let counts = || self.members.iter().map(|member| member.count.get()).collect::<Result<Vec<_>>>();
        let before = counts()?;
        let _first = Preferred::from_now_on();
        let began = Instant::now();
        bpf::live(self.gate.sender.as_fd(), self.gate.index, &self.frame, frames)
            .with_context(|| format!("{}: cannot send live frames", self.name))?;
        let took = began.elapsed();
        // What is still in a ring belongs to this run, not to the next one.
        std::thread::sleep(Duration::from_millis(2));
        let arrived = counts()?.into_iter().zip(before).map(|(after, before)| after - before);
        Ok(Ran { offered: frames.into(), delivered: arrived.min().unwrap_or(0), took })
    }
}

/// Everything on the CPU that the thread is on: the frames' receivers run where their sender does.
pub(in crate::bench) fn stay_on_one_cpu() -> Result<()> {
    let cpu = rustix::thread::sched_getcpu();
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).context("cannot stay on one CPU")
}
