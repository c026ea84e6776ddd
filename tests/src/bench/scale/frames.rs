//! Data planes of different sizes, side by side, and frames through them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use hotpair::config::XdpMode;
use hotpair::dataplane::{Dataplane, Hurry, PairSetup, Uplink};
use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, PairId, RoleWord, Slot};

use super::{Options, pairs};
use crate::bench::packets::{Count, Gate, redirect_by_address, spreading_sender, stay_on_one_cpu};
use crate::bench::{Preferred, Series, say};
use crate::bpf::{self, Hook, ifindex};
use crate::frames::{Macs, udp};
use crate::herd::entries;
use crate::interrupt;
use crate::netns::ip_batch;

const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
/// Of all taps: they are removed together.
const GROUP: u32 = 77;
const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa1];

/// A data plane with so many pairs, all of them held and mirrored.
struct Site {
    pairs: usize,
    plane: Dataplane,
    gate: Gate,
    /// Sends to the last pair alone, and to all of them at random.
    senders: [OwnedFd; 2],
    bare: Bare,
}

/// Beside it: an uplink whose frames go to the same taps by the same devmaps, without anything of hotpair.
struct Bare {
    gate: Gate,
    count: Count,
    _link: OwnedFd,
}

/// How many bare ones there can be before their names are those of others.
const APART: usize = 100;

/// Frames a second, to one pair of many, and to all of them.
pub(super) struct Speeds {
    /// Of one.
    pub(super) one: Vec<Series>,
    /// Of all, at random.
    pub(super) random: Vec<Series>,
}

/// With hotpair, and bare.
pub(super) fn measure(options: &Options) -> Result<[Speeds; 2]> {
    stay_on_one_cpu()?;
    // The kernel's own chatter would be counted among the frames.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    let _hurry = Hurry::for_pairs(options.pairs.iter().sum(), Path::new("/mnt"));
    let measured = measure_all(options);
    // With their namespace the kernel would take the taps one by one, and nobody on this machine could change a link for
    // minutes.
    ip_batch(&format!("link del group {GROUP}"))?;
    measured
}

fn measure_all(options: &Options) -> Result<[Speeds; 2]> {
    let sites = options.pairs.iter().enumerate().map(|(number, pairs)| Site::new(number, *pairs));
    let sites = sites.collect::<Result<Vec<_>>>()?;
    let named = |what: &str| -> Vec<Series> {
        sites.iter().map(|site| Series::new(format!("{}: {what}", pairs(site.pairs)), "Mframes/s")).collect()
    };
    let speeds = |kind: &str| Speeds {
        one: named(&format!("{kind}frames for one of them")),
        random: named(&format!("{kind}frames for all of them at random")),
    };
    let mut all = [speeds(""), speeds("bare, ")];
    for round in 0..=options.rounds {
        say(format_args!("scale: turn {round} of {}, frames", options.rounds));
        for (number, site) in sites.iter().enumerate() {
            for (is_bare, speeds) in [false, true].into_iter().zip(&mut all) {
                for (to_all, series) in [false, true].into_iter().zip([&mut speeds.one, &mut speeds.random]) {
                    let speed = site.run(is_bare, to_all, options.frames)?;
                    // The first turn warms up.
                    if round > 0 {
                        series[number].values.push(speed);
                    }
                }
            }
        }
    }
    Ok(all)
}

impl Bare {
    fn new(number: usize, directory: &Path) -> Result<Bare> {
        let gate = Gate::new(APART + number, UPLINK_MAC)?;
        let groups = MapData::from_pin(directory.join("maps/GROUPS")).context("GROUPS")?;
        let count = Count::new()?;
        let program = redirect_by_address(&groups, &count)?;
        let link = bpf::attach(program.as_fd(), Hook::Xdp, &gate.uplink)?;
        Ok(Bare { gate, count, _link: link })
    }
}

impl Site {
    fn new(number: usize, count: usize) -> Result<Site> {
        say(format_args!("scale: a data plane with {}", pairs(count)));
        let gate = Gate::new(number, UPLINK_MAC)?;
        let name = gate.uplink.clone();
        let mac = UPLINK_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip_batch(&format!("link set {name} address {mac}"))?;
        let uplink = Uplink { index: ifindex(&name), name, mac: UPLINK_MAC, mtu: 1500 };
        let tap = |pair: usize, slot: Slot| format!("n{number}p{pair}s{slot}");
        let mut lines = String::new();
        for pair in 0..count {
            for slot in Slot::BOTH {
                let tap = tap(pair, slot);
                lines += &format!("tuntap add dev {tap} mode tap\nlink set {tap} group {GROUP} up\n");
            }
        }
        ip_batch(&lines)?;
        let host = Ipv4Addr::new(10, 78, 0, 1);
        let directory = format!("/mnt/bpf{number}");
        let rows = u32::try_from(count)?.next_power_of_two().max(64);
        let (plane, _) = Dataplane::open(directory.as_ref(), XdpMode::Native, &uplink, host, rows)?;
        let word = RoleWord::new(Epoch(5), Slot::Zero).with_held(true).with_mirror(true);
        for pair in 0..count {
            let id = PairId(u32::try_from(pair)?);
            let [x, y, z, ..] = id.0.to_ne_bytes();
            let setup = PairSetup {
                name: format!("p{pair}"),
                entry: entries(pair).into(),
                mac: [2, 0x68, 0x70, z, y, x],
                timeout: std::time::Duration::from_millis(8),
                probe: false,
                tcp: false,
                compare: false,
                first: false,
                lag_limit: std::time::Duration::from_millis(10),
            };
            plane.put_pair(id, &setup)?;
            plane.set_lease(id, u64::MAX);
            for slot in Slot::BOTH {
                let tap = tap(pair, slot);
                plane.attach_tap(id, slot, &tap, ifindex(&tap), host)?;
            }
            plane.set_role(id, word);
        }
        plane.index_entries()?;
        let last = u32::try_from(count)?;
        let senders = [spreading_sender(UPLINK_MAC, last, 1)?, spreading_sender(UPLINK_MAC, 1, last)?];
        let bare = Bare::new(number, directory.as_ref())?;
        Ok(Site { pairs: count, plane, gate, senders, bare })
    }

    /// Sends so many frames; how many millions of them a second were duplicated.
    fn run(&self, is_bare: bool, to_all: bool, frames: u32) -> Result<f64> {
        interrupt::check()?;
        let [_, to] = entries(0);
        let from: IpAddr = "2001:db8::50".parse()?;
        let frame = udp(
            Macs { from: SENDER_MAC, to: UPLINK_MAC },
            SocketAddr::new(from, 4000),
            SocketAddr::new(to, 53),
            &[0; 18],
        );
        let gate = if is_bare { &self.bare.gate } else { &self.gate };
        let (before, bare_before) = (self.counts()?, self.bare.count.get()?);
        let _first = Preferred::from_now_on();
        let began = Instant::now();
        bpf::live(self.senders[usize::from(to_all)].as_fd(), gate.index, &frame, frames)
            .context("cannot send live frames")?;
        let took = began.elapsed();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let after = self.counts()?;
        let mut mirrored = self.bare.count.get()? - bare_before;
        ensure!(is_bare || mirrored == 0, "frames by the wrong uplink");
        for (pair, (after, before)) in after.iter().zip(&before).enumerate() {
            let asked = after - before;
            ensure!(
                to_all || asked == 0 || pair + 1 == self.pairs,
                "frames for pair {pair} that were not sent"
            );
            ensure!(!is_bare || asked == 0, "frames by the wrong uplink");
            mirrored += asked;
        }
        let few = f64::from(frames) * 0.999;
        ensure!(mirrored as f64 >= few, "{mirrored} of {frames} frames came to a pair");
        Ok(mirrored as f64 / took.as_secs_f64() / 1e6)
    }

    /// Of each pair, the frames that were duplicated.
    fn counts(&self) -> Result<Vec<u64>> {
        let one = |pair: usize| -> Result<u64> {
            Ok(self.plane.counter(PairId(u32::try_from(pair)?), Counter::UplinkMirrored)?)
        };
        (0..self.pairs).map(one).collect()
    }
}
