//! A host to test on: an uplink, three pairs with their taps, and a data plane, in namespaces of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use hotpair::config::XdpMode;
use hotpair::dataplane::{Dataplane, Events, Opened, PairSetup, Uplink};
use hotpair_abi::count::Counter;
use hotpair_abi::maps::Pair;
use hotpair_abi::{Epoch, GATEWAY_MAC, PairId, RoleWord, Slot};
pub(crate) use hotpair_tests::bpf::ifindex;
use hotpair_tests::ethtool;
use hotpair_tests::netns::ip_batch;

use crate::frames::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, UPLINK_MAC, colons};
use crate::ports::{Raw, Tap};
use crate::test_run::{self, Ran};

/// The data plane's clock.
pub(crate) fn boottime_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The pair that most tests are about.
pub(crate) const WEB: PairId = PairId(0);
/// Another pair on the same host.
pub(crate) const DB: PairId = PairId(1);
/// A pair that another host holds.
pub(crate) const AWAY: PairId = PairId(2);
/// Rows.
pub(crate) const MAX_PAIRS: u32 = 4;

/// MAC of a pair's members.
pub(crate) const fn pair_mac(id: PairId) -> [u8; 6] {
    [2, 0x68, 0x70, 0, 0, 0x10 + id.0 as u8]
}

/// Its IPv4 entry address.
pub(crate) const fn entry_v4(id: PairId) -> [u8; 4] {
    [192, 0, 2, 100 + id.0 as u8]
}

/// Its IPv6 entry address.
pub(crate) const fn entry_v6(id: PairId) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, id.0 as u8]
}

/// The host's internal address.
pub(crate) const HOST_INTERNAL: [u8; 4] = [10, 78, 0, 1];

/// A member's internal address.
pub(crate) const fn internal(id: PairId, slot: Slot) -> [u8; 4] {
    [10, 78, 0, 2 + id.0 as u8 * 2 + slot as u8]
}

/// A member's tap.
pub(crate) fn tap_name(id: PairId, slot: Slot) -> String {
    format!("hp{}s{slot}", id.0)
}

/// Runs a test in a network and a mount namespace of its own; both are gone afterwards, with all that is in them.
pub(crate) fn alone(test: impl FnOnce() + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "the packet tests load eBPF programs and make network namespaces: run them as root"
    );
    hotpair_tests::alone::alone(test);
}

/// A test that also hears what the data plane tells the controller.
pub(crate) fn listening(test: impl AsyncFnOnce(&Bench, Events) + Send) {
    alone(|| {
        let bench = Bench::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let events = bench.plane.events().expect("the events");
            test(&bench, events).await;
        });
    });
}

/// Where a test's data plane is pinned.
pub(crate) fn bpf_dir() -> PathBuf {
    Path::new("/mnt/bpf").to_owned()
}

/// Changes a pair's row behind the controller's back.
pub(crate) fn change_row(id: PairId, change: impl FnOnce(&mut Pair)) {
    let map = MapData::from_pin(bpf_dir().join("maps/PAIRS")).expect("PAIRS");
    let mut rows = Array::<_, Pair>::try_from(Map::Array(map)).expect("PAIRS");
    let mut row = rows.get(&id.0, 0).expect("its row");
    change(&mut row);
    rows.set(id.0, row, 0).expect("its row");
}

/// Makes the uplink and its other end.
pub(crate) fn make_uplink() -> Uplink {
    // The kernel's own chatter (MLD, router solicitations) would be counted among the tests' frames.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("a sysctl of this namespace");
    ip_batch(&format!(
        "link set lo up
         link add up0 address {up} numrxqueues 1 numtxqueues 1 type veth peer name cl0 address {client} numrxqueues 1 numtxqueues 1
         link set up0 up",
        up = colons(UPLINK_MAC),
        client = colons(CLIENT_MAC),
    ))
    .expect("the uplink");
    std::fs::write("/proc/sys/net/ipv6/conf/up0/disable_ipv6", "0").expect("a sysctl of this namespace");
    ip_batch(&format!(
        "
         link set cl0 up
         addr add 192.0.2.1/24 dev up0
         addr add 2001:db8::1/64 dev up0 nodad
         neigh add {v4} lladdr {client} dev up0 nud permanent
         neigh add {v6} lladdr {client} dev up0 nud permanent",
        client = colons(CLIENT_MAC),
        v4 = Ipv4Addr::from(CLIENT_V4),
        v6 = std::net::Ipv6Addr::from(CLIENT_V6),
    ))
    .expect("the uplink's addresses");
    // Frames that XDP sends back need somebody who takes them.
    ethtool::set("cl0", ethtool::GRO, true).expect("GRO at the client's end");
    Uplink { name: "up0".to_owned(), index: ifindex("up0"), mac: UPLINK_MAC, mtu: 1500 }
}

/// Sets a pair up.
pub(crate) fn setup(id: PairId, name: &str) -> PairSetup {
    PairSetup {
        name: name.to_owned(),
        entry: vec![IpAddr::from(entry_v4(id)), IpAddr::from(entry_v6(id))],
        mac: pair_mac(id),
        timeout: Duration::from_millis(20),
        probe: false,
        tcp: false,
        compare: false,
        first: false,
        lag_limit: Duration::from_millis(10),
    }
}

/// A host under test.
pub(crate) struct Bench {
    pub(crate) plane: Dataplane,
    pub(crate) uplink: Uplink,
    pub(crate) client: Raw,
    /// `taps[pair][slot]`
    pub(crate) taps: Vec<[Tap; 2]>,
}

impl Bench {
    /// All of it, in the calling thread's namespaces. WEB and DB are held and mirrored, slot 0 active; AWAY is not.
    pub(crate) fn new() -> Bench {
        Bench::with(XdpMode::Native, false)
    }

    pub(crate) fn with(xdp: XdpMode, vnet: bool) -> Bench {
        let uplink = make_uplink();
        let (plane, opened) =
            Dataplane::open(&bpf_dir(), xdp, &uplink, HOST_INTERNAL.into(), MAX_PAIRS).expect("a data plane");
        assert_eq!(opened, Opened::Fresh);
        let mut taps = Vec::new();
        for (id, name) in [(WEB, "web"), (DB, "db"), (AWAY, "away")] {
            plane.put_pair(id, &setup(id, name)).expect("a pair");
            taps.push(Slot::BOTH.map(|slot| {
                let tap = Tap::create(&tap_name(id, slot), vnet);
                let name = tap_name(id, slot);
                ip_batch(&format!("link set {name} address {} txqueuelen 1000 up", colons(GATEWAY_MAC)))
                    .expect("a tap");
                plane
                    .attach_tap(id, slot, &name, ifindex(&name), internal(id, slot).into())
                    .expect("attaching a tap");
                tap
            }));
        }
        plane.index_entries().expect("an index");
        let bench = Bench { client: Raw::open(ifindex("cl0")), plane, uplink, taps };
        for id in [WEB, DB, AWAY] {
            for slot in Slot::BOTH {
                bench.attach(id, slot);
            }
        }
        bench.reset();
        bench
    }

    /// Attaches a member's tap, if it is not.
    pub(crate) fn attach(&self, id: PairId, slot: Slot) {
        let name = tap_name(id, slot);
        self.plane
            .attach_tap(id, slot, &name, ifindex(&name), internal(id, slot).into())
            .expect("attaching a tap");
    }

    /// The role word that tests start from.
    pub(crate) fn word() -> RoleWord {
        RoleWord::new(Epoch(5), Slot::Zero).with_held(true).with_mirror(true)
    }

    /// Brings role words, leases and members' rows back to where they were.
    pub(crate) fn reset(&self) {
        for (id, name) in [(WEB, "web"), (DB, "db"), (AWAY, "away")] {
            self.plane.put_pair(id, &setup(id, name)).expect("a pair");
            self.plane.set_role(id, Self::word().with_held(id != AWAY));
            self.plane.set_lease(id, u64::MAX);
            for slot in Slot::BOTH {
                self.plane.clear_member(id, slot);
            }
        }
    }

    /// Every counter of every row: row 0 belongs to no pair, row 1 to WEB, and so on.
    pub(crate) fn counters(&self) -> Vec<Vec<(Counter, u64)>> {
        let row = |id| self.plane.counters(id).expect("counters");
        [None, Some(WEB), Some(DB), Some(AWAY)].map(row).to_vec()
    }

    /// One counter of a pair.
    pub(crate) fn count(&self, id: PairId, counter: Counter) -> u64 {
        let counters = self.plane.counters(Some(id)).expect("counters");
        counters.iter().find(|(c, _)| *c == counter).expect("every counter is there").1
    }

    /// Runs `from_uplink` on a frame.
    pub(crate) fn run_from_uplink(&self, frame: &[u8]) -> Ran {
        test_run::xdp(self.plane.program_fd("from_uplink").expect("the program"), frame)
    }

    /// The same, and the frame goes where the program sends it.
    pub(crate) fn run_from_uplink_live(&self, frame: &[u8]) {
        self.run_from_uplink_behind(&[], frame);
    }

    /// The same, of a frame that comes with metadata.
    pub(crate) fn run_from_uplink_behind(&self, metadata: &[u8], frame: &[u8]) {
        test_run::xdp_live(self.plane.program_fd("from_uplink").expect("the program"), metadata, frame);
    }

    /// Runs `from_guest` on a frame of this member's.
    pub(crate) fn run_from_guest(&self, id: PairId, slot: Slot, frame: &[u8]) -> Ran {
        let program = self.plane.program_fd("from_guest").expect("the program");
        test_run::tc(program, frame, ifindex(&tap_name(id, slot)), 0)
    }

    /// A member's tap.
    pub(crate) fn tap(&self, id: PairId, slot: Slot) -> &Tap {
        &self.taps[id.0 as usize][slot.index()]
    }
}
