//! The machine itself: plugs in, configures its inside, shuffles frames, takes orders.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::UnshareFlags;

use super::control::{Answer, Order, Program, ProgramOrder, from_hex, to_hex};
use super::guest::{self, NIC};
use super::numbers;
use super::place::Place;
use super::programs::{IPERF3, Programs, REDIS, Runner, TLS};
use super::services;
use super::tap::{self, LARGEST, VNET_HEADER};
use super::verbs::Member;
use crate::line::{Faults, Line};
use crate::load::By;

/// Frames that a capture keeps at most; one that would keep more is refused at its end.
const MOST_FRAMES: usize = 200_000;

/// While this file is in the lab's directory, new machines start without their agent: guests that never come up.
pub const NO_AGENT: &str = "no-agent";

/// What a machine is like, beside what hotpair says.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The lab's directory.
    #[arg(long)]
    pub lab: PathBuf,
    /// The machine ends when this process does.
    #[arg(long)]
    pub owner: Option<i32>,
    /// The agent's program.
    #[arg(long, default_value = "hotpair-guest")]
    pub agent: PathBuf,
    /// The agent's interval; `0` for a machine without an agent.
    #[arg(long, default_value = "2ms")]
    pub interval: String,
    /// How long an agent that was told to stop beats on.
    #[arg(long, default_value = "2s")]
    pub linger: String,
    /// Serves Redis, too, and counts as well only while it does.
    #[arg(long)]
    pub redis: bool,
    /// Serves TLS, too, with a key of its own.
    #[arg(long)]
    pub tls: bool,
    /// Serves iperf3, too.
    #[arg(long)]
    pub iperf3: bool,
    /// Offers every client all options; its connections' numbers are made its own on their way.
    #[arg(long)]
    pub renumbered: bool,
}

/// Everything that the machine's threads share.
struct Machine {
    host: File,
    well: Arc<AtomicBool>,
    capture: Mutex<Option<Vec<String>>>,
    inbound: Mutex<Line>,
    outbound: Mutex<Line>,
    /// Whether its TCP numbers are moved.
    moved: bool,
}

/// Runs until killed. Calls `ready` when it serves.
pub(super) fn run(options: &Options, member: &Member, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let place = Place::new(&options.lab, &member.pair, member.slot);
    let mtu = tap::mtu(&member.tap)?;
    let host = tap::plug_into(&member.tap)?;
    // Before any thread: all of them, and all children, are in the new namespace.
    // SAFETY: a new network namespace does not affect memory or descriptors, which other code could rely on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("cannot make a network namespace")?;
    let nic = tap::plug_into(NIC)?;
    let by = By { slot: member.slot, generation: member.generation };
    guest::configure(member, mtu)?;
    guest::differ(by.slot, !options.renumbered)?;
    let moved = options.renumbered && by.slot == 1;

    let well = Arc::new(AtomicBool::new(true));
    let line = || Mutex::new(Line::new(Faults::NONE));
    let (inbound, outbound) = (line(), line());
    let machine = Arc::new(Machine {
        host,
        well: Arc::clone(&well),
        capture: Mutex::default(),
        inbound,
        outbound,
        moved,
    });
    shuffle(&machine, nic)?;
    let mut addresses = member.entry.clone();
    addresses.push(IpAddr::V4(Ipv4Addr::from(hotpair_abi::ME_V4)));
    services::start(&addresses, by, &well)?;

    let (orders, to_programs) = channel();
    listen(&place.control(member.generation), &machine, orders)?;
    if let Some(owner) = options.owner {
        end_with(owner)?;
    }
    let agent = Runner::new(options.agent.clone(), agent_arguments(options, member));
    let mut programs = Programs { agent, redis: Runner::redis(), others: Vec::new() };
    if options.redis {
        programs.order(Program::Redis, ProgramOrder::Start)?;
    }
    if options.tls {
        programs.add(Runner::tls(&place.certificate(member.generation), by)?, TLS)?;
    }
    if options.iperf3 {
        programs.add(Runner::iperf3(), IPERF3)?;
    }
    if options.interval != "0" && !options.lab.join(NO_AGENT).exists() {
        programs.order(Program::Agent, ProgramOrder::Start)?;
    }
    ready()?;
    keep(&mut programs, &to_programs)
}

fn agent_arguments(options: &Options, member: &Member) -> Vec<String> {
    // Members that share a kernel share its boot id, so each gets one of its own.
    let boot_id =
        format!("{:x}", (std::process::id() as u64) << 32 | member.generation << 1 | u64::from(member.slot));
    let health = format!("http:{}/health", services::HEALTH);
    let redis = format!("tcp:{REDIS}");
    let mut checks = vec!["--check", &health];
    if options.redis {
        checks.extend(["--check", &redis]);
    }
    let others = [
        ["--interval", &options.interval],
        ["--check-interval", "10ms"],
        ["--rise", "1"],
        ["--fall", "1"],
        ["--linger", &options.linger],
        ["--boot-id", &boot_id],
        ["--status-file", "/nonexistent/status.json"],
        ["--realtime", "10"],
    ];
    [checks, others.concat()].concat().into_iter().map(str::to_string).collect()
}

/// An order to a program, and where to say that it is done.
type ToProgram = (Program, ProgramOrder, Sender<Result<()>>);

/// The main thread's life: the programs are its children and would die with it.
fn keep(programs: &mut Programs, orders: &Receiver<ToProgram>) -> Result<()> {
    while let Ok((program, order, done)) = orders.recv() {
        let _ = done.send(programs.order(program, order));
    }
    bail!("nobody gives orders any more")
}

/// Frames between the host's tap and the guest's NIC, both ways, virtio headers and all.
fn shuffle(machine: &Arc<Machine>, nic: File) -> Result<()> {
    let mut to_nic = nic.try_clone()?;
    let mut from_nic = nic;
    let inbound = Arc::clone(machine);
    let outbound = Arc::clone(machine);
    thread::Builder::new().name("from-host".to_string()).spawn(move || {
        prefer();
        let mut buffer = vec![0; LARGEST];
        loop {
            let Ok(length) = (&inbound.host).read(&mut buffer) else {
                pause();
                continue;
            };
            if let Some(kept) = &mut *inbound.capture.lock().unwrap_or_else(PoisonError::into_inner)
                && kept.len() <= MOST_FRAMES
            {
                kept.push(to_hex(&buffer[VNET_HEADER.min(length)..length]));
            }
            if inbound.moved {
                numbers::entering(&mut buffer[..length]);
            }
            let mut line = inbound.inbound.lock().unwrap_or_else(PoisonError::into_inner);
            line.carry(&buffer[..length], VNET_HEADER, |frame| {
                // A guest that is down loses frames, as it should.
                let _ = to_nic.write(frame);
            });
        }
    })?;
    thread::Builder::new().name("to-host".to_string()).spawn(move || {
        prefer();
        let mut buffer = vec![0; LARGEST];
        loop {
            let Ok(length) = from_nic.read(&mut buffer) else {
                pause();
                continue;
            };
            if outbound.moved {
                numbers::leaving(&mut buffer[..length]);
            }
            let mut line = outbound.outbound.lock().unwrap_or_else(PoisonError::into_inner);
            line.carry(&buffer[..length], VNET_HEADER, |frame| {
                let _ = (&outbound.host).write(frame);
            });
        }
    })?;
    Ok(())
}

/// Runs this thread before ordinary ones: on a machine that compiles something meanwhile, a member must not look dead.
/// Where that is not allowed, it has to do without.
pub(super) fn prefer() {
    prefer_at(5);
}

/// The same, with a priority of its own.
pub(crate) fn prefer_at(priority: libc::c_int) {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: sched_setscheduler(2) reads the parameter and changes this thread alone.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
}

/// A tap that is down refuses to be read; it may come up again.
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

/// Takes orders on a socket in the lab's directory.
fn listen(socket: &Path, machine: &Arc<Machine>, to_programs: Sender<ToProgram>) -> Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    let machine = Arc::clone(machine);
    thread::Builder::new().name("control".to_string()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = converse(&stream, &machine, &to_programs);
        }
    })?;
    Ok(())
}

fn converse(stream: &UnixStream, machine: &Machine, to_programs: &Sender<ToProgram>) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer =
        serde_json::from_str(&line).map_err(Into::into).and_then(|order| obey(order, machine, to_programs));
    let answer = answer.unwrap_or_else(|error| Answer::Refused(format!("{error:#}")));
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes())?;
    Ok(())
}

fn obey(order: Order, machine: &Machine, to_programs: &Sender<ToProgram>) -> Result<Answer> {
    match order {
        Order::Health { well } => machine.well.store(well, Ordering::Relaxed),
        Order::Reads { well } => crate::stream::read_on(well),
        Order::Lines { inbound, outbound } => {
            machine.inbound.lock().unwrap_or_else(PoisonError::into_inner).set(inbound);
            machine.outbound.lock().unwrap_or_else(PoisonError::into_inner).set(outbound);
        }
        Order::Program(program, order) => {
            let (done, result) = channel();
            to_programs.send((program, order, done)).ok().context("the machine is ending")?;
            result.recv().context("the machine is ending")??;
        }
        Order::Inject(frames) => {
            for frame in frames {
                let mut bytes = vec![0; VNET_HEADER];
                bytes.extend(from_hex(&frame)?);
                (&machine.host).write_all(&bytes).context("cannot write to the tap")?;
            }
        }
        Order::Flood { frames, rate, total } => {
            let frames = frames.iter().map(|frame| Ok([vec![0; VNET_HEADER], from_hex(frame)?].concat()));
            let frames: Vec<_> = frames.collect::<Result<_>>()?;
            let begun = Instant::now();
            for (sent, frame) in (0..total).zip(frames.iter().cycle()) {
                (&machine.host).write_all(frame).context("cannot write to the tap")?;
                if sent % 100 == 0 {
                    let due = Duration::from_secs_f64(f64::from(sent) / f64::from(rate));
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                }
            }
        }
        Order::CaptureStart => {
            *machine.capture.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        }
        Order::CaptureStop => {
            let kept = machine.capture.lock().unwrap_or_else(PoisonError::into_inner).take();
            let kept = kept.context("no capture is going on")?;
            if kept.len() > MOST_FRAMES {
                bail!("more than {MOST_FRAMES} frames have come in");
            }
            return Ok(Answer::Frames(kept));
        }
    }
    Ok(Answer::Done)
}

/// Ends this process when another one has ended.
fn end_with(owner: i32) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(owner).context("not a process id")?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).context("the machine's owner is gone already")?;
    thread::Builder::new().name("owner".to_string()).spawn(move || {
        loop {
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            if poll(&mut fds, None).is_ok_and(|ready| ready > 0) {
                eprintln!("the owner {owner} has ended");
                std::process::exit(0);
            }
        }
    })?;
    Ok(())
}
