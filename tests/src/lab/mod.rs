//! A whole hotpair site on one machine: a client's network namespace, a host's with the real `hotpair run`, and
//! processes with namespaces as VMs.
//!
//! ```text
//!   client namespace                    host namespace                        one namespace a member
//!   [lan0] 203.0.113.1/24  === veth === [uplink0] 203.0.113.2/24
//!          2001:db8::1/64                         2001:db8::2/64
//!                                       [hp<pair>s0] = tap = hotpair-lab-vm = [eth0]
//!                                       [hp<pair>s1] = tap = hotpair-lab-vm = [eth0]
//! ```
//!
//! Everything of a lab carries its id, `<pid>-<n>` of the process it belongs to, lives in `/run/hotpair-lab/<id>` and
//! in namespaces `hplab-<id>-client` and `-host`, and is gone when the [`Lab`] is dropped. What a killed process leaves
//! behind, the next lab removes.

mod api;
mod builder;
mod cable;
mod client;
mod controller;
mod fault;
mod host;
mod latch;
mod member;
mod reaper;
mod topology;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::{HashMap, Map, MapData};
use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::Connection;

pub use builder::Builder;
pub use client::Client;
pub use controller::Spoken;
pub use fault::fill;
pub use host::Host;
pub use latch::{Latch, boottime};
pub use member::Machine;
pub use topology::{CLIENT_LINK, CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, UPLINK};

use crate::herd::{self, Herd};
use builder::Plan;
pub(crate) use builder::binary;
use topology::Topology;

/// The name of a lab's pair unless it says otherwise.
pub const PAIR: &str = "web";
/// The second pair of a lab that has two, and its entry address.
pub const SECOND: (&str, &str) = ("db", "203.0.113.20");
/// A lab's entry addresses unless it says otherwise.
pub const ENTRY: [&str; 2] = ["203.0.113.10", "2001:db8::10"];

/// Where a lab's metrics are, in the host's namespace, if it has them.
pub const METRICS: &str = "127.0.0.1:9477";

/// A running lab. Gone when dropped.
pub struct Lab {
    id: String,
    dir: PathBuf,
    plan: Plan,
    topology: Topology,
    controller: Option<controller::Process>,
    /// What runs the controller; nothing unless a test wants it.
    under: Vec<String>,
    /// Another build of `hotpair`, if the controller is to be one.
    program: Option<PathBuf>,
}

impl Lab {
    /// A lab with one pair, to be changed before it is started.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Builds namespaces, files and the bpffs, and starts no controller.
    fn build(plan: Plan) -> Result<Lab> {
        if !rustix::process::geteuid().is_root() {
            bail!("a lab needs root: it makes network namespaces and loads eBPF programs");
        }
        reaper::remove_leftovers()?;
        let id = reaper::new_id();
        let dir = reaper::new_dir(&id)?;
        let topology = match Topology::build(&id, plan.cable) {
            Ok(topology) => topology,
            Err(error) => {
                reaper::remove(&id);
                return Err(error);
            }
        };
        // From here on the drop cleans up.
        let lab = Lab { id, dir, plan, topology, controller: None, under: Vec::new(), program: None };
        for room in ["members", "volumes", "log", "state", "run"] {
            fs::create_dir(lab.dir.join(room))?;
        }
        lab.restore_image()?;
        if lab.plan.herd > 0 {
            herd::write_commands(&lab.dir.join(builder::HERD))?;
        }
        fs::write(lab.config_file(), lab.plan.config(&lab.dir)).context("cannot write the configuration")?;
        Ok(lab)
    }

    /// `<pid>-<n>`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where everything of this lab is: `state`, `run`, `bpf`, `members`, `volumes`, `log`, `image`, `hotpair.toml`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration of its controller.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("hotpair.toml")
    }

    /// The client's side.
    #[must_use]
    pub fn client(&self) -> Client<'_> {
        Client { netns: &self.topology.client, plan: &self.plan }
    }

    /// The host's side.
    #[must_use]
    pub fn host(&self) -> Host<'_> {
        Host { netns: &self.topology.host }
    }

    /// The members of the lab's many pairs: they beat from when they are started until this is dropped.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn herd(&self) -> Result<Herd> {
        Herd::start(Some(&self.topology.host), &self.herd_dir(), 0..self.plan.herd, self.plan.interval)
    }

    /// Where the commands of the lab's many pairs write down which members there are.
    #[must_use]
    pub fn herd_dir(&self) -> PathBuf {
        self.dir.join(builder::HERD)
    }

    /// The machine that runs in a slot of the pair now.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, slot: u8) -> Result<Machine> {
        self.machine_of(&self.plan.name, slot)
    }

    /// The machine that runs in a slot of any pair of the lab.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine_of(&self, pair: &str, slot: u8) -> Result<Machine> {
        Machine::in_place(&self.dir, pair, slot)
    }

    /// Directory and id of the lab that was started last by any process, if one is up.
    #[must_use]
    pub fn latest() -> Option<(PathBuf, String)> {
        reaper::latest()
    }

    /// The machine in a slot of the pair of the lab in this directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine_in(dir: &Path, slot: u8) -> Result<Machine> {
        Machine::in_place(dir, PAIR, slot)
    }

    /// Takes the golden image away: from now on no member can be made.
    ///
    /// # Errors
    /// When it is away already.
    pub fn lose_image(&self) -> Result<()> {
        fs::remove_file(self.dir.join("image")).context("cannot remove the image")
    }

    /// Brings it back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn restore_image(&self) -> Result<()> {
        fs::write(self.dir.join("image"), "golden\n").context("cannot write the image")
    }

    /// From now on no machine can be stopped, or can be again.
    ///
    /// # Errors
    /// When the file that says so cannot be written or removed.
    pub fn refuse_stop(&self, refuse: bool) -> Result<()> {
        let file = self.dir.join(crate::vm::REFUSE_STOP);
        if refuse {
            fs::write(file, "").map_err(Into::into)
        } else {
            fs::remove_file(file).map_err(Into::into)
        }
    }

    /// From now on new machines have no agent, or have one again.
    ///
    /// # Errors
    /// When the file that says so cannot be written or removed.
    pub fn sabotage_agents(&self, sabotage: bool) -> Result<()> {
        let file = self.dir.join(crate::vm::NO_AGENT);
        if sabotage {
            fs::write(file, "").map_err(Into::into)
        } else {
            fs::remove_file(file).map_err(Into::into)
        }
    }

    /// The volumes that exist, by name: `PAIR-SLOT-GENERATION.volume`.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn volumes(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir.join("volumes"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// What the data plane knows of the pair's TCP connections, those that are over as well.
    ///
    /// # Errors
    /// When the table is not there.
    pub fn connections(&self) -> Result<Vec<Connection>> {
        let table = MapData::from_pin(self.dir.join("bpf/hotpair/maps/CONNECTIONS"))?;
        let table = HashMap::<_, Tuple, Connection>::try_from(Map::HashMap(table))?;
        // A row that goes meanwhile is none; a walk that has lost its way because of that begins anew, and is no error here.
        Ok(table.iter().filter_map(|row| Some(row.ok()?.1)).collect())
    }

    /// What the controller has written, for messages of failed tests.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log/hotpair.log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Shown of tests that fail.
        if !self.plan.quiet {
            eprintln!("--- log of the controller of lab {}:\n{}---", self.id, self.log());
        }
        self.controller = None;
        if self.plan.herd > 0 {
            // Thousands of taps: with their namespace the kernel would take them one by one, for a minute and behind
            // our back, and nobody on this machine could change a link meanwhile.
            let _ = self.hotpair(&["cleanup"]);
        }
        reaper::remove(&self.id);
    }
}
