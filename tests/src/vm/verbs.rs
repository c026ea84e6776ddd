//! `start`, `stop`, `release` and `status`: the commands of `kind = "command"`, with the environment it gives them.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::fault;
use super::machine::{self, Options};
use super::place::Place;

/// While this file is in the lab's directory, no machine can be stopped: a hypervisor that cannot be reached.
pub const REFUSE_STOP: &str = "refuse-stop";

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// Make the member's volume, start its machine, and return when it serves.
    Start(Options),
    /// Kill the machine, and return when it is gone.
    Stop(Options),
    /// Remove the member's volume.
    Release(Options),
    /// Write the generation of the machine that runs and exit 0, or exit 1.
    Status(Options),
    /// Be the machine. `start` runs it.
    #[command(hide = true)]
    Machine(Options),
}

/// A member, as the environment describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of its pair.
    pub pair: String,
    /// 0 or 1.
    pub slot: u8,
    /// Its generation; 0 where the environment says none.
    pub generation: u64,
    /// The tap to plug into.
    pub tap: String,
    /// The NIC's MAC.
    pub mac: String,
    /// The entry addresses.
    pub entry: Vec<IpAddr>,
}

impl Member {
    fn from_env() -> Result<Member> {
        let needed = |key: &str| env::var(key).with_context(|| format!("{key} is not set: hotpair sets it"));
        let entry = env::var("HOTPAIR_ENTRY").unwrap_or_default();
        Ok(Member {
            pair: needed("HOTPAIR_PAIR")?,
            slot: needed("HOTPAIR_SLOT")?.parse().context("HOTPAIR_SLOT")?,
            generation: env::var("HOTPAIR_GENERATION")
                .map_or(Ok(0), |g| g.parse())
                .context("HOTPAIR_GENERATION")?,
            tap: needed("HOTPAIR_TAP")?,
            mac: env::var("HOTPAIR_MAC").unwrap_or_default(),
            entry: entry
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .context("HOTPAIR_ENTRY")?,
        })
    }
}

/// Does what the verb says, for the member that the environment describes.
///
/// # Errors
/// In words for whoever reads hotpair's log.
pub fn run(verb: &Verb) -> Result<ExitCode> {
    let member = Member::from_env()?;
    let (options, name) = match verb {
        Verb::Start(options) => (options, "start"),
        Verb::Stop(options) => (options, "stop"),
        Verb::Release(options) => (options, "release"),
        Verb::Status(options) => (options, "status"),
        Verb::Machine(_) => return carry_out(verb, &member),
    };
    fault::with(&options.lab, &member, name, || carry_out(verb, &member))
}

fn carry_out(verb: &Verb, member: &Member) -> Result<ExitCode> {
    match verb {
        Verb::Start(options) => start(options, member)?,
        Verb::Stop(options) if options.lab.join(REFUSE_STOP).exists() => {
            bail!("it cannot be reached, by order")
        }
        Verb::Stop(options) => stop(&Place::new(&options.lab, &member.pair, member.slot))?,
        Verb::Release(options) => {
            let volume = Place::new(&options.lab, &member.pair, member.slot).volume(member.generation);
            match fs::remove_file(&volume) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", volume.display()));
                }
                _ => {}
            }
        }
        Verb::Status(options) => match Place::new(&options.lab, &member.pair, member.slot).tenant()? {
            Some(tenant) => println!("{}", tenant.generation),
            None => return Ok(ExitCode::from(1)),
        },
        Verb::Machine(options) => machine::run(options, member, || {
            println!("ready");
            // Whoever waited for it closes the other end; nothing is written there from now on.
            Ok(())
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(options: &Options, member: &Member) -> Result<()> {
    let place = Place::new(&options.lab, &member.pair, member.slot);
    if let Some(tenant) = place.tenant()? {
        bail!("generation {} runs in this place already, as process {}", tenant.generation, tenant.pid);
    }
    let image = place.image();
    fs::copy(&image, place.volume(member.generation))
        .with_context(|| format!("cannot make a volume from the image {}", image.display()))?;
    let started = launch(options, member, &place);
    if started.is_err() {
        let _ = fs::remove_file(place.volume(member.generation));
    }
    started
}

fn launch(options: &Options, member: &Member, place: &Place) -> Result<()> {
    let path = place.log(member.generation);
    let log = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("machine").arg("--lab").arg(&options.lab).arg("--agent").arg(&options.agent);
    command.arg("--interval").arg(&options.interval).arg("--linger").arg(&options.linger);
    let flags = [
        ("--redis", options.redis),
        ("--tls", options.tls),
        ("--iperf3", options.iperf3),
        ("--renumbered", options.renumbered),
    ];
    for (flag, given) in flags {
        command.args(given.then_some(flag));
    }
    if let Some(owner) = options.owner {
        command.arg("--owner").arg(owner.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: between fork and exec only one system call is made, without arguments.
    unsafe {
        command.pre_exec(|| {
            // Away from the process group that hotpair watches over.
            if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let mut machine = command.spawn().context("cannot start the machine")?;
    let booked =
        i32::try_from(machine.id()).map_err(Into::into).and_then(|pid| place.move_in(pid, member.generation));
    let mut line = String::new();
    BufReader::new(machine.stdout.take().context("no stdout")?).read_line(&mut line)?;
    if booked.is_err() || line.trim() != "ready" {
        let _ = machine.kill();
        let _ = machine.wait();
        let words = fs::read_to_string(&path).unwrap_or_default();
        bail!("the machine did not come up: {}", words.trim());
    }
    Ok(())
}

/// SIGKILL, until it is gone.
fn stop(place: &Place) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(tenant) = place.tenant()? {
        if let Some(pid) = Pid::from_raw(tenant.pid) {
            // ESRCH: gone just now.
            let _ = kill_process(pid, Signal::KILL);
        }
        if Instant::now() > deadline {
            bail!("process {} does not end", tenant.pid);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
