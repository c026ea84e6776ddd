//! All members of very many pairs, in one process: for what matters with a thousand pairs, a member is a tap that beats.
//!
//! The lab's controller is the real one, with `kind = "command"`: its commands write down which members there are
//! (`commands.rs`), and a thread here plugs into their taps and beats for them. What a pair's clients send can be read from
//! the taps; a member can be silenced, as a guest that hangs is.

mod commands;
mod tap;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hotpair::controller::{derived_mac, tap_name};
use hotpair_abi::heartbeat::{Heartbeat, PORT, State};
use hotpair_abi::{GATEWAY_MAC, ME_V4, PEER_V4, Slot};

use crate::bench::Preferred;
use crate::frames::{Macs, udp};
use crate::netns::Netns;
pub(crate) use commands::write_commands;
use commands::{Diary, News};

/// What is read from a tap must be a datagram to this port; nothing else is kept for reading.
pub const PROBE_PORT: u16 = 9;

/// The name of a pair.
#[must_use]
pub fn pair_name(pair: usize) -> String {
    format!("p{pair}")
}

/// Its entry addresses, one of each family.
#[must_use]
pub fn entries(pair: usize) -> [IpAddr; 2] {
    let number = u32::try_from(pair).unwrap_or(u32::MAX) + 1;
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
    let v6 =
        Ipv6Addr::from(u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0)) + u128::from(number));
    [v4.into(), v6.into()]
}

/// A place of a pair, and the member in it.
struct Place {
    pair: usize,
    slot: Slot,
    plugged: Mutex<Option<File>>,
    silent: AtomicBool,
    boot: AtomicU64,
}

/// Members that beat. They fall silent, and their taps lose their carriers, when this is dropped.
pub struct Herd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    dir: PathBuf,
}

struct Shared {
    stop: AtomicBool,
    /// Two of each pair, in order.
    places: Vec<Place>,
    interval: Duration,
    /// How much later than it should have, a heartbeat was sent at most: nanoseconds.
    late: AtomicU64,
    /// In the taps' namespace.
    socket: OwnedFd,
}

/// A datagram that a member got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The member's pair.
    pub pair: usize,
    /// The member's slot.
    pub slot: usize,
    /// The frame.
    pub frame: Vec<u8>,
}

impl Herd {
    /// Begins to beat for whoever of these pairs is started by the commands in `dir`, in the namespace where the taps are
    /// (the caller's own if none is named).
    ///
    /// # Errors
    /// When there is no thread to be had, or not so many open files.
    pub fn start(host: Option<&Netns>, dir: &Path, pairs: Range<usize>, interval: Duration) -> Result<Herd> {
        // Two descriptors a pair, and what else there is.
        let room = pairs.len() as u64 * 2 + 1024;
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if limit.current.is_some_and(|current| current < room) {
            limit.current = Some(room);
            limit.maximum = limit.maximum.map(|most| most.max(room));
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).with_context(|| {
                format!(
                    "{} pairs need {room} open files at once: raise the hard limit (`ulimit -Hn {room}`)",
                    pairs.len()
                )
            })?;
        }
        let place = |number: usize| Place {
            pair: pairs.start + number / 2,
            slot: Slot::BOTH[number % 2],
            plugged: Mutex::new(None),
            silent: AtomicBool::new(false),
            boot: AtomicU64::new(0),
        };
        let diary = Diary::open(dir)?;
        let _inside = host.map(Netns::enter).transpose()?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            places: (0..pairs.len() * 2).map(place).collect(),
            interval,
            late: AtomicU64::new(0),
            socket: UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?.into(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("herd".into()).spawn(move || theirs.beat(diary))?;
        Ok(Herd { shared, thread: Some(thread), dir: dir.to_owned() })
    }

    /// From now on these members (pair, slot) do not beat any more, or do again. They stay where they are.
    pub fn silence(&self, members: &[(usize, usize)], silent: bool) {
        for (pair, slot) in members {
            if let Some(place) = self.shared.place(*pair, *slot) {
                place.silent.store(silent, Ordering::Relaxed);
            }
        }
    }

    /// From now on the pair's stop command hangs, until it is killed for it.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn hang_stops(&self, pair: usize) -> Result<()> {
        commands::hang_stops(&self.dir, &pair_name(pair), true)
    }

    /// And does not any more: those that hang end at once.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn let_stops_go(&self, pair: usize) -> Result<()> {
        commands::hang_stops(&self.dir, &pair_name(pair), false)
    }

    /// What all members have got and nobody has read, in no particular order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn received(&self) -> Result<Vec<Got>> {
        let mut all = Vec::new();
        for place in &self.shared.places {
            let plugged = place.plugged.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(file) = &*plugged else { continue };
            while let Some(frame) = tap::receive(file)? {
                all.push(Got { pair: place.pair, slot: place.slot.index(), frame });
            }
        }
        Ok(all)
    }

    /// How many members are plugged in.
    #[must_use]
    pub fn plugged(&self) -> usize {
        let there = |place: &&Place| place.plugged.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.shared.places.iter().filter(there).count()
    }

    /// How much later than it should have, a heartbeat was sent at most since this was last asked: whether this process
    /// was what kept somebody from beating.
    #[must_use]
    pub fn late(&self) -> Duration {
        Duration::from_nanos(self.shared.late.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("the herd ended early: {error:#}");
        }
    }
}

impl Shared {
    fn place(&self, pair: usize, slot: usize) -> Option<&Place> {
        let first = self.places.first()?.pair;
        self.places.get(pair.checked_sub(first)? * 2 + slot)
    }

    /// Each member once in an interval, all of them evenly over it.
    fn beat(&self, mut diary: Diary) -> Result<()> {
        // A machine that is busy with other things must not look like two thousand dead members.
        let _first = Preferred::from_now_on();
        let frames: Vec<Template> = self.places.iter().map(|place| Template::of(place.pair)).collect();
        let apart = self.interval / u32::try_from(self.places.len().max(1))?;
        let began = Instant::now();
        let mut next = 0_u64;
        let mut buffer = Vec::new();
        // Members that were there before their taps, by pair and slot: they are plugged in as soon as there is something to
        // plug into.
        let mut early = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            for news in diary.news()? {
                let place = (number(&news.0), news.1);
                early.remove(&place);
                if !self.note(&news)? {
                    early.insert(place, news);
                }
            }
            // Taps are made in the order of the pairs: while the first one is missing, so are the others.
            while let Some(first) = early.first_entry()
                && self.note(first.get())?
            {
                first.remove();
            }
            let due = began.elapsed();
            loop {
                let when = apart.saturating_mul(u32::try_from(next % u64::from(u32::MAX))?);
                let Some(late) = due.checked_sub(when) else { break };
                self.late.fetch_max(u64::try_from(late.as_nanos())?, Ordering::Relaxed);
                let number = usize::try_from(next)? % self.places.len();
                self.beat_one(&self.places[number], &frames[number], next, &mut buffer);
                next += 1;
            }
            std::thread::sleep(apart.max(Duration::from_micros(200)));
        }
        Ok(())
    }

    /// A member was started, or is gone. `false` if it has to wait for its tap.
    fn note(&self, (name, slot, generation): &News) -> Result<bool> {
        let Some(place) = number(name).and_then(|pair| self.place(pair, *slot)) else { return Ok(true) };
        let tap = tap_name(name, place.slot);
        if generation.is_some() && rustix::net::netdevice::name_to_index(&self.socket, &tap).is_err() {
            return Ok(false);
        }
        let mut plugged = place.plugged.lock().unwrap_or_else(PoisonError::into_inner);
        // The old one's descriptor is closed first: a tap takes one.
        *plugged = None;
        if let Some(generation) = generation {
            match tap::plug(&tap) {
                Ok(file) => *plugged = Some(file),
                // Whoever makes the tap holds it for a moment.
                Err(error) if is_busy(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
            place.boot.store(*generation, Ordering::Relaxed);
            place.silent.store(false, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn beat_one(&self, place: &Place, template: &Template, number: u64, buffer: &mut Vec<u8>) {
        if place.silent.load(Ordering::Relaxed) {
            return;
        }
        let plugged = place.plugged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &*plugged else { return };
        let beat = Heartbeat {
            state: State::Serving,
            boot_id: place.boot.load(Ordering::Relaxed),
            sequence: number,
            sent_ns: 0,
            requests: 0,
            in_flight: 0,
            interval_us: u32::try_from(self.interval.as_micros()).unwrap_or(u32::MAX),
        };
        buffer.clear();
        buffer.extend_from_slice(&template.0);
        buffer.extend_from_slice(&beat.to_bytes());
        // A tap that is down for a moment takes nothing; a guest would not know either.
        let _ = tap::send(file, buffer);
    }
}

/// The reverse of [`pair_name`].
fn number(name: &str) -> Option<usize> {
    name.strip_prefix('p')?.parse().ok()
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// A heartbeat's frame up to the heartbeat.
struct Template(Vec<u8>);

impl Template {
    fn of(pair: usize) -> Template {
        let from = (IpAddr::from(ME_V4), PORT).into();
        let to = (IpAddr::from(PEER_V4), PORT).into();
        let payload = [0; hotpair_abi::heartbeat::LEN];
        let mut frame =
            udp(Macs { from: derived_mac(&pair_name(pair)), to: GATEWAY_MAC }, from, to, &payload);
        frame.truncate(frame.len() - payload.len());
        // No UDP checksum: it would be another one each time.
        let end = frame.len();
        frame[end - 2..].fill(0);
        Template(frame)
    }
}
