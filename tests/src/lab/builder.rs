//! What a lab is to be like.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::{ENTRY, Lab, METRICS, PAIR, UPLINK};
use crate::herd;

/// Where a herd's commands are.
pub(super) const HERD: &str = "herd";

/// A lab that is yet to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    plan: Plan,
}

/// Everything that a lab's configuration says.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) entry: Vec<IpAddr>,
    pub(super) source: &'static str,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) start: Duration,
    pub(super) takeover: &'static str,
    pub(super) ack: &'static str,
    pub(super) compare: bool,
    pub(super) answer: &'static str,
    pub(super) lag_limit: Duration,
    pub(super) handover: Duration,
    pub(super) keep_volumes: bool,
    pub(super) auto_replace: bool,
    pub(super) linger: Duration,
    pub(super) quiet: bool,
    pub(super) metrics: bool,
    pub(super) second: bool,
    pub(super) redis: bool,
    pub(super) tls: bool,
    pub(super) iperf3: bool,
    pub(super) renumbered: bool,
    /// How long the wire between client and host is, if it can be bad.
    pub(super) cable: Option<Duration>,
    /// So many pairs whose members are a [`crate::herd`], instead of one with machines.
    pub(super) herd: usize,
}

impl Default for Builder {
    /// One pair called `web`, mirrored, whose agents beat every 5 ms and are silent after 200 ms: for a machine that has
    /// other things to do as well, far from what hotpair can do.
    fn default() -> Self {
        Builder {
            plan: Plan {
                name: PAIR.to_string(),
                entry: ENTRY.iter().filter_map(|address| address.parse().ok()).collect(),
                source: "agent",
                interval: Duration::from_millis(5),
                timeout: Duration::from_millis(200),
                start: Duration::from_secs(10),
                takeover: "mirror",
                ack: "both",
                compare: true,
                answer: "primary",
                lag_limit: Duration::from_millis(10),
                handover: Duration::from_millis(20),
                keep_volumes: false,
                auto_replace: true,
                linger: Duration::from_secs(2),
                quiet: false,
                metrics: false,
                second: false,
                redis: false,
                tls: false,
                iperf3: false,
                renumbered: false,
                cable: None,
                herd: 0,
            },
        }
    }
}

impl Builder {
    /// Another pair name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.plan.name = name.to_string();
        self
    }

    /// Another rhythm of heartbeats.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.plan.interval, self.plan.timeout) = (interval, timeout);
        self
    }

    /// No agent: the host probes (`heartbeat.source = "probe"`).
    #[must_use]
    pub fn probe(mut self) -> Self {
        self.plan.source = "probe";
        self
    }

    /// Only the active member gets the packets (`takeover = "address"`).
    #[must_use]
    pub fn address_only(mut self) -> Self {
        self.plan.takeover = "address";
        self
    }

    /// TCP connections go on through a takeover (`ack = "both"`).
    #[must_use]
    pub fn carries_tcp(mut self) -> Self {
        self.plan.ack = "both";
        self
    }

    /// The same, as far as it goes without waiting for the standby (`ack = "primary"`).
    #[must_use]
    pub fn carries_tcp_ungated(mut self) -> Self {
        self.plan.ack = "primary";
        self
    }

    /// What both members send is not compared (`compare = false`).
    #[must_use]
    pub fn not_compared(mut self) -> Self {
        self.plan.compare = false;
        self
    }

    /// The first answer is heard, whosever it is (`answer = "first"`).
    #[must_use]
    pub fn first_answers(mut self) -> Self {
        self.plan.answer = "first";
        self
    }

    /// A standby is waited for this long (`lag_limit`).
    #[must_use]
    pub fn lag_limit(mut self, limit: Duration) -> Self {
        self.plan.lag_limit = limit;
        self
    }

    /// Volumes of failed members stay (`replace.release = "keep"`).
    #[must_use]
    pub fn keep_volumes(mut self) -> Self {
        self.plan.keep_volumes = true;
        self
    }

    /// Failed members are not replaced by themselves (`replace.auto = false`).
    #[must_use]
    pub fn no_replacement(mut self) -> Self {
        self.plan.auto_replace = false;
        self
    }

    /// A started member must serve within this time (`heartbeat.start`).
    #[must_use]
    pub fn start_within(mut self, start: Duration) -> Self {
        self.plan.start = start;
        self
    }

    /// Does not write the controller's log to standard error at the end.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.plan.quiet = true;
        self
    }

    /// Metrics are served at [`METRICS`], in the host's namespace.
    #[must_use]
    pub fn metrics(mut self) -> Self {
        self.plan.metrics = true;
        self
    }

    /// A second pair like the first, [`super::SECOND`].
    #[must_use]
    pub fn second_pair(mut self) -> Self {
        self.plan.second = true;
        self
    }

    /// The machines serve Redis, too ([`crate::vm::REDIS`]), and count as well only while they do.
    #[must_use]
    pub fn redis(mut self) -> Self {
        self.plan.redis = true;
        self
    }

    /// The machines serve what they serve at [`crate::stream::PORT`] over TLS, too ([`crate::vm::TLS`]), each with a key of
    /// its own ([`super::Machine::certificate`]).
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.plan.tls = true;
        self
    }

    /// The machines serve iperf3, too ([`crate::vm::IPERF3`]).
    #[must_use]
    pub fn iperf3(mut self) -> Self {
        self.plan.iperf3 = true;
        self
    }

    /// The machine in slot 1 moves its sequence numbers on their way, more than 2^31, instead of using SYN cookies: for clients
    /// without timestamps, to whom a cookie cannot offer the options that the other member offers.
    #[must_use]
    pub fn renumbered(mut self) -> Self {
        self.plan.renumbered = true;
        self
    }

    /// The wire between client and host can be made bad ([`Lab::set_lines`]); frames on it are as they would be on a
    /// real one, and it is slower.
    #[must_use]
    pub fn cable(self) -> Self {
        self.long_cable(Duration::ZERO)
    }

    /// The same, on which a frame takes so long to the other end.
    #[must_use]
    pub fn long_cable(mut self, delay: Duration) -> Self {
        self.plan.cable = Some(delay);
        self
    }

    /// How long a switchover drains.
    #[must_use]
    pub fn handover(mut self, time: Duration) -> Self {
        self.plan.handover = time;
        self
    }

    /// So many pairs whose members are a herd, instead of one with machines: [`Lab::herd`] brings it up.
    #[must_use]
    pub fn herd(mut self, pairs: usize) -> Self {
        self.plan.herd = pairs;
        self
    }

    /// Namespaces, wire and files, but no controller.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn without_controller(self) -> Result<Lab> {
        Lab::build(self.plan)
    }

    /// Everything, with the controller started and answering. The pair need not be protected yet:
    /// [`Lab::wait_protected`] waits for that.
    ///
    /// # Errors
    /// What stands in the way; for the controller, with its log.
    pub fn start(self) -> Result<Lab> {
        let mut lab = Lab::build(self.plan)?;
        lab.start_controller()?;
        Ok(lab)
    }
}

impl Plan {
    /// The controller's configuration file.
    pub(super) fn config(&self, dir: &Path) -> String {
        let at = |room: &str| toml_string(&dir.join(room).display().to_string());
        let mut text = String::new();
        let _ = write!(
            text,
            "[host]\nname = \"lab\"\nuplink = \"{UPLINK}\"\nxdp = \"native\"\ninternal_net = \"10.78.0.0/{}\"\n\
             state_dir = {}\nrun_dir = {}\nbpf_dir = {}\n{}\n[hypervisor]\nkind = \"command\"\n\n",
            if self.herd > 0 { 16 } else { 24 },
            at("state"),
            at("run"),
            at("bpf/hotpair"),
            if self.metrics { format!("metrics = \"{METRICS}\"\n") } else { String::new() },
        );
        for pair in 0..self.herd {
            let entry = herd::entries(pair).map(|address| address.to_string());
            self.pair(&mut text, dir, &herd::pair_name(pair), &entry);
        }
        if self.herd > 0 {
            return text;
        }
        let entry: Vec<_> = self.entry.iter().map(ToString::to_string).collect();
        self.pair(&mut text, dir, &self.name, &entry);
        if self.second {
            self.pair(&mut text, dir, super::SECOND.0, &[super::SECOND.1.to_string()]);
        }
        text
    }

    fn pair(&self, text: &mut String, dir: &Path, name: &str, entry: &[String]) {
        let entry: Vec<_> = entry.iter().map(|address| toml_string(address)).collect();
        let _ = write!(
            text,
            "[[pair]]\nname = \"{}\"\nentry = [{}]\ntakeover = \"{}\"\nack = \"{}\"\ncompare = {}\nanswer = \"{}\"\nlag_limit = \"{}\"\n\
             handover = \"{}\"\n\
             heartbeat = {{ source = \"{}\", interval = \"{}\", timeout = \"{}\", start = \"{}\" }}\n\
             replace = {{ auto = {}, release = \"{}\" }}\n",
            name,
            entry.join(", "),
            self.takeover,
            self.ack,
            self.compare,
            self.answer,
            humantime::format_duration(self.lag_limit),
            humantime::format_duration(self.handover),
            self.source,
            humantime::format_duration(self.interval),
            humantime::format_duration(self.timeout),
            humantime::format_duration(self.start),
            self.auto_replace,
            if self.keep_volumes { "keep" } else { "delete" },
        );
        let verb = |verb: &str| {
            let argv: Vec<_> = self.machine_command(dir, verb).iter().map(|word| toml_string(word)).collect();
            format!("{verb} = [{}]", argv.join(", "))
        };
        let verbs: Vec<_> = ["start", "stop", "release", "status"].map(verb).into();
        let _ = writeln!(text, "command = {{ {} }}\n", verbs.join(", "));
    }

    /// The command that starts, stops, ... a member.
    pub(super) fn machine_command(&self, dir: &Path, verb: &str) -> Vec<String> {
        if self.herd > 0 {
            return vec![dir.join(HERD).join("herd").display().to_string(), verb.to_owned()];
        }
        let interval = match self.source {
            "agent" => humantime::format_duration(self.interval).to_string(),
            _ => "0".to_string(),
        };
        [
            binary("hotpair-lab-vm").display().to_string(),
            verb.to_string(),
            "--lab".to_string(),
            dir.display().to_string(),
            "--owner".to_string(),
            std::process::id().to_string(),
            "--agent".to_string(),
            binary("hotpair-guest").display().to_string(),
            "--interval".to_string(),
            interval,
            "--linger".to_string(),
            humantime::format_duration(self.linger).to_string(),
        ]
        .into_iter()
        .chain(self.redis.then(|| "--redis".to_owned()))
        .chain(self.tls.then(|| "--tls".to_owned()))
        .chain(self.iperf3.then(|| "--iperf3".to_owned()))
        .chain(self.renumbered.then(|| "--renumbered".to_owned()))
        .collect()
    }
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Where the build has put a program: in `HOTPAIR_BIN_DIR` if that is set, else near the running test.
pub(crate) fn binary(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("HOTPAIR_BIN_DIR") {
        return PathBuf::from(dir).join(name);
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let mut dir = exe.parent().unwrap_or(Path::new("."));
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap_or(dir);
    }
    let near = dir.join(name);
    // `cargo xtask build` puts the agent, which is linked statically, into a target directory of its own.
    let profile = dir.file_name().unwrap_or_default();
    let apart = dir.parent().unwrap_or(dir).join("static/x86_64-unknown-linux-gnu").join(profile).join(name);
    if apart.exists() { apart } else { near }
}
