//! One machine of a lab, from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::line::Faults;
use crate::load::By;
use crate::vm::control::{Answer, Order, Program, ProgramOrder, from_hex, order, to_hex};
use crate::vm::place::{Place, Tenant, started};
use crate::wait::wait_until;

/// A machine. It stays the same one when another takes its place.
#[derive(Clone, Debug)]
pub struct Machine {
    slot: u8,
    tenant: Tenant,
    control: PathBuf,
    certificate: PathBuf,
}

impl super::Lab {
    /// Runs a verb of the machine's command as the controller would, where there is no controller.
    ///
    /// # Errors
    /// With the command's own words.
    pub fn command_machine(&self, verb: &str, slot: u8, generation: u64) -> Result<String> {
        let argv = self.plan.machine_command(&self.dir, verb);
        let entry: Vec<_> = self.plan.entry.iter().map(ToString::to_string).collect();
        let mut command = self.topology.host.command(&argv[0]);
        command
            .args(&argv[1..])
            .env(super::reaper::MARK, &self.dir)
            .env("HOTPAIR_PAIR", &self.plan.name)
            .env("HOTPAIR_SLOT", slot.to_string())
            .env("HOTPAIR_TAP", format!("hp{}s{slot}", self.plan.name))
            .env("HOTPAIR_MAC", "02:68:70:00:00:01")
            .env("HOTPAIR_ENTRY", entry.join(" "))
            .env("HOTPAIR_GENERATION", generation.to_string());
        crate::netns::run(&mut command)
    }
}

impl Machine {
    pub(super) fn in_place(lab: &Path, pair: &str, slot: u8) -> Result<Machine> {
        let place = Place::new(lab, pair, slot);
        let tenant = place.tenant()?.with_context(|| format!("no machine runs in slot {slot} of {pair}"))?;
        let (control, certificate) = (place.control(tenant.generation), place.certificate(tenant.generation));
        Ok(Machine { slot, tenant, control, certificate })
    }

    /// As it says in its answers.
    #[must_use]
    pub fn by(&self) -> By {
        By { slot: self.slot, generation: self.tenant.generation }
    }

    /// Its slot.
    #[must_use]
    pub fn slot(&self) -> u8 {
        self.slot
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.tenant.generation
    }

    /// Its process: `nsenter -t PID -n` leads inside.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.tenant.pid
    }

    /// The certificate with which it serves TLS, if it does, as PEM. Nobody else has the key to it.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Whether its process exists.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        started(self.tenant.pid) == Some(self.tenant.started)
    }

    /// Its hypervisor dies: SIGKILL.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(&self) -> Result<()> {
        self.signal(self.tenant.pid, Signal::KILL)
    }

    /// It stands still: no frame goes in or out any more, and no time passes for its agent.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(self.tenant.pid, Signal::STOP)?;
        for child in self.children() {
            self.signal(child, Signal::STOP)?;
        }
        wait_until("a machine to stand still", Duration::from_secs(10), || {
            self.threads().iter().all(|state| *state == 'T')
        })
    }

    /// It goes on as if nothing had happened.
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        for child in self.children() {
            self.signal(child, Signal::CONT)?;
        }
        self.signal(self.tenant.pid, Signal::CONT)
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            bail!("the machine in slot {} (generation {}) is gone", self.slot, self.tenant.generation);
        }
        kill_process(Pid::from_raw(pid).context("not a process id")?, signal)
            .context("cannot signal the machine")
    }

    fn children(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.tenant.pid)).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// States of its threads, as in `/proc/PID/stat`.
    fn threads(&self) -> Vec<char> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.tenant.pid)).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).ok()?;
                stat[stat.rfind(')')? + 1..].trim_start().chars().next()
            })
            .collect()
    }

    /// What its service's health check finds from now on.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn set_health(&self, well: bool) -> Result<()> {
        order(&self.control, &Order::Health { well }).map(drop)
    }

    /// Whether its service reads what is uploaded to it from now on, or hangs; its kernel goes on.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn set_reading(&self, well: bool) -> Result<()> {
        order(&self.control, &Order::Reads { well }).map(drop)
    }

    fn program(&self, program: Program, what: ProgramOrder) -> Result<()> {
        order(&self.control, &Order::Program(program, what)).map(drop)
    }

    /// Its Redis dies (SIGKILL) while it lives itself: its kernel closes that server's connections.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn kill_redis(&self) -> Result<()> {
        self.program(Program::Redis, ProgramOrder::Kill)
    }

    /// What happens to the TCP segments that come to it, and to those that it sends, from now on.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn set_lines(&self, inbound: Faults, outbound: Faults) -> Result<()> {
        order(&self.control, &Order::Lines { inbound, outbound }).map(drop)
    }

    /// Its agent dies; everything else goes on.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn kill_agent(&self) -> Result<()> {
        self.program(Program::Agent, ProgramOrder::Kill)
    }

    /// Its agent is told that the guest is shut down.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn shut_down(&self) -> Result<()> {
        self.program(Program::Agent, ProgramOrder::Terminate)
    }

    /// Its agent is started again.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn start_agent(&self) -> Result<()> {
        self.program(Program::Agent, ProgramOrder::Start)
    }

    /// Its agent begins anew and says that it is of another boot, all within a moment. Its kernel, which is the host's, keeps
    /// its connections.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn seem_rebooted(&self) -> Result<()> {
        self.program(Program::Agent, ProgramOrder::Reboot)
    }

    /// It sends these frames, whatever they are.
    ///
    /// # Errors
    /// When it does not take orders, or the tap does not take a frame.
    pub fn inject(&self, frames: &[Vec<u8>]) -> Result<()> {
        order(&self.control, &Order::Inject(frames.iter().map(|frame| to_hex(frame)).collect())).map(drop)
    }

    /// It sends these frames over and over, so many in all, at this many a second if it can. Returns when it has.
    ///
    /// # Errors
    /// As [`Machine::inject`].
    pub fn flood(&self, frames: &[Vec<u8>], rate: u32, total: u32) -> Result<()> {
        let frames = frames.iter().map(|frame| to_hex(frame)).collect();
        order(&self.control, &Order::Flood { frames, rate, total }).map(drop)
    }

    /// It keeps every frame that comes in from now on.
    ///
    /// # Errors
    /// When it does not take orders.
    pub fn capture(&self) -> Result<()> {
        order(&self.control, &Order::CaptureStart).map(drop)
    }

    /// What has come in since.
    ///
    /// # Errors
    /// When it does not take orders, or there were too many.
    pub fn captured(&self) -> Result<Vec<Vec<u8>>> {
        match order(&self.control, &Order::CaptureStop)? {
            Answer::Frames(frames) => frames.iter().map(|frame| from_hex(frame)).collect(),
            other => bail!("the machine answers {other:?} instead of frames"),
        }
    }
}
