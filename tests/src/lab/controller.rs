//! The lab's controller, and what people ask it.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hotpair::api::types::{Flows, PairStatus, Protection, Record, Show, Status};
use rustix::process::{Pid, Signal, kill_process};

use super::builder::binary;
use super::reaper::{self, MARK};
use super::{Lab, api};
use crate::wait::wait_for;

/// `hotpair run`. Killed when dropped.
pub(super) struct Process {
    pub(super) child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the `hotpair` command has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Exit code; -1 when a signal has ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Lab {
    /// Starts the controller and waits until it answers.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub fn start_controller(&mut self) -> Result<()> {
        self.launch_controller()?;
        let patience = Duration::from_secs(30) + Duration::from_millis(100) * u32::try_from(self.plan.herd)?;
        let answered = wait_for("the controller to answer", patience, || {
            if let Some(process) = &mut self.controller
                && let Some(status) = process.child.try_wait()?
            {
                return Ok(Err(anyhow::anyhow!("the controller ended with {status}")));
            }
            self.status().map(Ok)
        });
        match answered {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(error.context(self.log())),
        }
    }

    /// Starts the controller, waits until it answers, and tells its process.
    ///
    /// # Errors
    /// As [`Lab::start_controller`].
    pub fn start_controller_and_tell(&mut self) -> Result<u32> {
        self.start_controller()?;
        self.controller.as_ref().map(|process| process.child.id()).context("it has ended")
    }

    /// Starts the controller and does not wait for anything.
    ///
    /// # Errors
    /// When its program cannot be run.
    pub fn launch_controller(&mut self) -> Result<()> {
        self.controller = None;
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("log/hotpair.log"))?;
        let program = self.program.clone().unwrap_or_else(|| binary("hotpair"));
        let mut command = match self.under.split_first() {
            None => self.topology.host.command(&program),
            Some((first, rest)) => {
                let mut command = self.topology.host.command(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command.arg("run").arg("--config").arg(self.config_file()).env(MARK, &self.dir);
        command.stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}; `cargo xtask build` makes it", program.display()))?;
        self.controller = Some(Process { child });
        Ok(())
    }

    /// From now on the controller is run by this command line, which must become it (exec) in the end.
    pub fn run_controller_under(&mut self, command: Vec<String>) {
        self.under = command;
    }

    /// The controller dies: SIGKILL.
    pub fn kill_controller(&mut self) {
        self.controller = None;
    }

    /// The controller is asked to end (SIGTERM), as a service manager would; waits until it has.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_controller(&mut self) -> Result<()> {
        let Some(mut process) = self.controller.take() else { return Ok(()) };
        kill_process(Pid::from_child(&process.child), Signal::TERM)?;
        wait_for("the controller to end", Duration::from_secs(30), || {
            process.child.try_wait()?.context("it still runs")
        })?;
        Ok(())
    }

    /// The host loses power and comes back: controller, machines and everything in the kernel are gone, what is on disk
    /// stays.
    ///
    /// # Errors
    /// When something of it does not work.
    pub fn power_cut(&mut self) -> Result<()> {
        self.kill_controller();
        for slot in [0, 1] {
            if let Ok(machine) = self.machine(slot) {
                machine.kill()?;
                crate::wait::wait_until("a machine to be gone", Duration::from_secs(5), || {
                    !machine.is_alive()
                })?;
            }
        }
        reaper::unmount(&self.dir.join("bpf"));
        // The kernel lets go of what was pinned some time later.
        wait_for("the uplink's program to be gone", Duration::from_secs(5), || {
            let link = crate::netns::run(self.host().command("ip").args(["link", "show", super::UPLINK]))?;
            if link.contains("xdp") { bail!("{link}") } else { Ok(()) }
        })?;
        reaper::mount_bpffs(&self.dir)?;
        for slot in [0, 1] {
            // It may not have been made yet.
            let _ = self.host().ip(&format!("link del hp{}s{slot}", self.plan.name));
        }
        Ok(())
    }

    /// Runs the `hotpair` command with this lab's configuration, unless the arguments name another one.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn hotpair(&self, arguments: &[&str]) -> Result<Spoken> {
        let mut command = self.topology.host.command(binary("hotpair"));
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(self.config_file());
        }
        let output = command.args(arguments).output();
        let output = output.context("cannot run hotpair")?;
        Ok(Spoken {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the `hotpair` command and expects exit code 0.
    ///
    /// # Errors
    /// With what it said otherwise.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        let spoken = self.hotpair(arguments)?;
        if spoken.code != 0 {
            bail!("hotpair {}: exit code {}: {}", arguments.join(" "), spoken.code, spoken.stderr.trim());
        }
        Ok(spoken.stdout)
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// When the controller does not answer, or not in the documented form.
    pub fn status(&self) -> Result<Status> {
        api::get(&self.socket(), "/v1/status")
    }

    /// `GET /v1/pairs/NAME` for the lab's pair.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn show(&self) -> Result<Show> {
        api::get(&self.socket(), &format!("/v1/pairs/{}", self.plan.name))
    }

    /// `GET /v1/pairs/NAME/flows` for the lab's pair.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn flows(&self) -> Result<Flows> {
        api::get(&self.socket(), &format!("/v1/pairs/{}/flows", self.plan.name))
    }

    /// Where the controller listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/api.sock")
    }

    /// The lab's pair, as the status shows it.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn pair(&self) -> Result<PairStatus> {
        self.pair_named(&self.plan.name)
    }

    /// Any pair of the lab, as the status shows it.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn pair_named(&self, name: &str) -> Result<PairStatus> {
        let pairs = self.status()?.pairs;
        pairs.into_iter().find(|pair| pair.name == name).context("the status does not show the pair")
    }

    /// What happened to the pair, oldest first.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn history(&self) -> Result<Vec<Record>> {
        let path = format!("/v1/history?pair={}&limit=1000", self.plan.name);
        let mut history: Vec<Record> = api::get(&self.socket(), &path)?;
        history.reverse();
        Ok(history)
    }

    /// Waits until the pair is protected, and shows it.
    ///
    /// # Errors
    /// When it is not within a minute; with why.
    pub fn wait_protected(&self) -> Result<PairStatus> {
        self.wait_pair("the pair to be protected", |pair| pair.protection == Protection::Protected)
    }

    /// Waits until the pair is as asked.
    ///
    /// # Errors
    /// When it is not within a minute; with what the status says.
    pub fn wait_pair(&self, what: &str, is: impl Fn(&PairStatus) -> bool) -> Result<PairStatus> {
        wait_for(what, Duration::from_secs(60), || {
            let pair = self.pair()?;
            if is(&pair) { Ok(pair) } else { bail!("the status says {pair:?}") }
        })
    }

    /// The machine that serves.
    ///
    /// # Errors
    /// When none does.
    pub fn primary(&self) -> Result<super::Machine> {
        self.machine(self.pair()?.primary.context("nobody serves")?)
    }

    /// The machine that does not.
    ///
    /// # Errors
    /// When there is none.
    pub fn standby(&self) -> Result<super::Machine> {
        self.machine(1 - self.pair()?.primary.context("nobody serves")?)
    }
}
