//! Opening, adopting, refusing, removing.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{Array, Map, MapData};
use hotpair::config::XdpMode;
use hotpair::dataplane::{Dataplane, DataplaneError, MAX_UPLINK_MTU, Opened, PairSetup, Uplink};
use hotpair_abi::count::Counter;
use hotpair_abi::heartbeat::State;
use hotpair_abi::maps::Host;
use hotpair_abi::{ABI_VERSION, Epoch, GATEWAY_MAC, PairId, RoleWord, Slot};
use hotpair_tests::bpf;
use hotpair_tests::netns::ip_batch;

use crate::bench::{
    Bench, DB, HOST_INTERNAL, MAX_PAIRS, WEB, alone, bpf_dir, entry_v4, entry_v6, ifindex, internal,
    make_uplink, pair_mac, setup, tap_name,
};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, addressed, arp, colons, heartbeat, lladdr,
    nd, udp,
};
use crate::ports::{Port, Raw, Tap};

fn open(dir: &Path, uplink: &Uplink, pairs: u32) -> Result<(Dataplane, Opened), DataplaneError> {
    Dataplane::open(dir, XdpMode::Native, uplink, HOST_INTERNAL.into(), pairs)
}

/// The error of an opening that must fail, in the words that an operator reads.
fn refused(dir: &Path, xdp: XdpMode, uplink: &Uplink, pairs: u32) -> String {
    match Dataplane::open(dir, xdp, uplink, HOST_INTERNAL.into(), pairs) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

fn question(number: u32) -> Vec<u8> {
    udp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), Ip::V4(entry_v4(WEB)), (4000, 53), &number.to_be_bytes())
}

fn number(frame: &[u8]) -> Option<u32> {
    let is_question = frame.len() == 46 && frame[36..38] == 53u16.to_be_bytes();
    is_question.then(|| u32::from_be_bytes(frame[42..46].try_into().expect("four bytes")))
}

/// Sends numbered questions for as long as this lasts, and sees every one of them come out of both taps.
pub(crate) fn while_questions_flow(client: &Raw, taps: &[Tap; 2], what: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    let (sent, seen) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0u32; 2];
            loop {
                let last = done.load(Ordering::Acquire);
                let mut idle = true;
                for (slot, tap) in taps.iter().enumerate() {
                    while let Some(frame) = tap.try_receive() {
                        if let Some(number) = number(&frame) {
                            assert_eq!(number, seen[slot], "a question is missing at slot {slot}");
                            seen[slot] += 1;
                        }
                        idle = false;
                    }
                }
                if idle && last {
                    return seen;
                }
            }
        });
        let opener = scope.spawn(what);
        let mut sent = 0;
        while !opener.is_finished() {
            client.send(&question(sent));
            sent += 1;
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        done.store(true, Ordering::Release);
        opener.join().expect("it is done");
        (sent, reader.join().expect("no question is missing"))
    });
    assert!(sent > 100, "only {sent} questions meanwhile");
    assert_eq!(seen, [sent; 2]);
}

#[test]
fn a_restarted_controller_adopts_everything_and_no_packet_is_lost() {
    alone(|| {
        let bench = Bench::new();
        let word = Bench::word().with_epoch(Epoch(41)).with_active(Slot::One);
        bench.plane.set_role(WEB, word);
        bench.plane.set_lease(WEB, u64::MAX - 1);
        bench.tap(WEB, Slot::One).send(&heartbeat(pair_mac(WEB), 7, 70, State::Serving));
        bench.tap(WEB, Slot::Zero).receive("the heartbeat", |frame| frame.len() == 90);
        let Bench { plane, uplink, client, taps } = bench;
        drop(plane);
        while_questions_flow(&client, &taps[0], || {
            for _ in 0..5 {
                let (plane, opened) = open(&bpf_dir(), &uplink, MAX_PAIRS).expect("adopting");
                assert_eq!(opened, Opened::Adopted);
                assert_eq!(plane.role(WEB), word);
                let names: Vec<_> = plane.pairs().into_iter().map(|(id, name)| (id.0, name)).collect();
                assert_eq!(names, [(0, "web".to_owned()), (1, "db".to_owned()), (2, "away".to_owned())]);
                let member = plane.member(WEB, Slot::One);
                assert_eq!((member.boot_id, member.sequence), (7, 70));
            }
        });
        let (plane, _) = open(&bpf_dir(), &uplink, MAX_PAIRS).expect("adopting");
        // The new controller's hands work.
        plane.set_role(WEB, word.with_epoch(Epoch(42)).with_mirror(false));
        client.send(&question(0));
        taps[0][1].receive("the active one's question", |frame| number(frame) == Some(0));
        assert_eq!(taps[0][0].sees(|frame| number(frame).is_some()), None);
    });
}

/// The ids of the programs that run: at each pinned link, and in each pair's devmap; by where they run.
fn running() -> Vec<(String, u32)> {
    let named = |dir: &str| -> Vec<(String, std::path::PathBuf)> {
        let pins = std::fs::read_dir(bpf_dir().join(dir)).expect("pins").map(|pin| pin.expect("a pin"));
        pins.map(|pin| (pin.file_name().to_string_lossy().into_owned(), pin.path())).collect()
    };
    let of_link =
        |(name, pin): (String, std::path::PathBuf)| (name, bpf::program_of_link(&pin).expect("a link"));
    let mut running: Vec<_> = named("links").into_iter().map(of_link).collect();
    for (pair, pin) in named("groups") {
        let map = MapData::from_pin(pin).expect("a devmap");
        for slot in 0..2 {
            let [_, id] = bpf::get(map.fd(), slot).expect("a tap in the devmap");
            running.push((format!("{pair}-{slot}-devmap"), id));
        }
    }
    running.sort();
    running
}

#[test]
fn an_upgrade_replaces_every_program_where_it_runs_and_no_packet_is_lost() {
    alone(|| {
        let bench = Bench::new();
        // Its copies pass through `to_guest`.
        bench.plane.put_pair(WEB, &PairSetup { tcp: true, ..setup(WEB, "web") }).expect("a pair");
        let Bench { plane, uplink, client, taps } = bench;
        let is = |plane: &Dataplane, name: &str| {
            bpf::program_id(plane.program_fd(name).expect("it is loaded")).expect("its id")
        };
        let old = running();
        let (links, devmaps) = (1 + 3 * 2 * 2, 3 * 2);
        assert_eq!(old.len(), links + devmaps, "{old:?}");
        drop(plane);
        // Loaded once more, the programs are others to the kernel, as those of a newer build are.
        while_questions_flow(&client, &taps[0], || {
            let (plane, opened) = open(&bpf_dir(), &uplink, MAX_PAIRS).expect("adopting");
            assert_eq!(opened, Opened::Adopted);
            let new = running();
            for ((place, before), (same, now)) in old.iter().zip(&new) {
                assert_eq!(place, same);
                let expected = match place.rsplit('-').next() {
                    Some("uplink") => is(&plane, "from_uplink"),
                    Some("ingress") => is(&plane, "from_guest"),
                    Some("egress") => is(&plane, "to_guest_from_host"),
                    // Only WEB carries connections over.
                    Some("devmap") if place.starts_with("0-") => is(&plane, "to_guest"),
                    _ => 0,
                };
                assert_eq!(*now, expected, "{place}: of {new:?}");
                assert!(now != before || expected == 0, "{place} still has the old program");
            }
        });
    });
}

#[test]
fn more_pairs_than_rows_are_refused_and_fewer_are_not() {
    alone(|| {
        let uplink = make_uplink();
        drop(open(&bpf_dir(), &uplink, 2).expect("a data plane"));
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 3);
        assert!(
            error.contains("3 pairs") && error.contains("room for 2") && error.contains("hotpair cleanup"),
            "{error}"
        );
        let (plane, opened) = open(&bpf_dir(), &uplink, 1).expect("fewer fit");
        assert_eq!((opened, plane.max_pairs()), (Opened::Adopted, 2));
    });
}

#[test]
fn another_versions_data_plane_is_refused_and_left_alone() {
    alone(|| {
        let uplink = make_uplink();
        drop(open(&bpf_dir(), &uplink, 2).expect("a data plane"));
        let map = MapData::from_pin(bpf_dir().join("maps/HOST")).expect("HOST");
        let mut map = Array::<_, Host>::try_from(Map::Array(map)).expect("HOST");
        let mut host = map.get(&0, 0).expect("its row");
        host.abi_version = ABI_VERSION + 1;
        map.set(0, host, 0).expect("writing");
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 2);
        assert!(
            error.contains(&format!("version {}", ABI_VERSION + 1)) && error.contains("hotpair cleanup"),
            "{error}"
        );
        assert!(!Dataplane::remove_all(&bpf_dir()).expect("cleaning up").is_empty());
    });
}

#[test]
fn a_map_of_another_shape_is_refused() {
    alone(|| {
        let uplink = make_uplink();
        drop(open(&bpf_dir(), &uplink, 2).expect("a data plane"));
        let path = bpf_dir().join("maps/PORTS");
        std::fs::remove_file(&path).expect("unpinning");
        let other = aya::maps::HashMap::<MapData, u32, u64>::create(8, 0).expect("a map");
        other.pin(&path).expect("pinning");
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 2);
        assert!(error.contains("PORTS") && error.contains("value size is 8, expected 12"), "{error}");
    });
}

#[test]
fn a_start_that_was_interrupted_is_begun_anew() {
    alone(|| {
        let uplink = make_uplink();
        drop(open(&bpf_dir(), &uplink, 2).expect("a data plane"));
        std::fs::remove_file(bpf_dir().join("links/uplink")).expect("unpinning");
        std::fs::remove_file(bpf_dir().join("maps/HOST")).expect("unpinning");
        std::thread::sleep(std::time::Duration::from_millis(200));
        let (plane, opened) = open(&bpf_dir(), &uplink, 3).expect("a fresh one");
        assert_eq!((opened, plane.max_pairs()), (Opened::Fresh, 3));
    });
}

#[test]
fn an_unfit_uplink_is_refused_with_the_reason_and_a_way_out() {
    alone(|| {
        let uplink = make_uplink();
        ip_batch("link add ifb9 type ifb\nlink set ifb9 up\nlink set up0 mtu 3499").expect("links");
        let named =
            |name: &str| Uplink { name: name.to_owned(), index: ifindex(name), mac: UPLINK_MAC, mtu: 1500 };
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 2);
        assert!(error.contains("MTU of 3499") && error.contains(&MAX_UPLINK_MTU.to_string()), "{error}");
        ip_batch("link set up0 mtu 1500").expect("links");
        let error = refused(&bpf_dir(), XdpMode::Native, &named("lo"), 2);
        assert!(error.contains("lo is not an Ethernet interface"), "{error}");
        let gone = Uplink { name: "gone0".to_owned(), index: 999, mac: UPLINK_MAC, mtu: 1500 };
        let error = refused(&bpf_dir(), XdpMode::Native, &gone, 2);
        assert!(error.contains("gone0 does not exist") && error.contains("ip link"), "{error}");
        let error = refused(&bpf_dir(), XdpMode::Native, &named("ifb9"), 2);
        assert!(error.contains("ifb9") && error.contains("xdp = \"generic\""), "{error}");
        Dataplane::open(&bpf_dir(), XdpMode::Generic, &named("ifb9"), HOST_INTERNAL.into(), 2)
            .expect("generic works");
        let (_other, _) = open(Path::new("/mnt/other"), &uplink, 2).expect("somebody else's");
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 2);
        assert!(error.contains("up0 already has an XDP program") && error.contains("from_uplink"), "{error}");
    });
}

#[test]
fn only_one_controller_has_it_open() {
    alone(|| {
        let uplink = make_uplink();
        let first = open(&bpf_dir(), &uplink, 2).expect("a data plane");
        let error = refused(&bpf_dir(), XdpMode::Native, &uplink, 2);
        assert!(error.contains("in use by a running hotpair"), "{error}");
        let error = Dataplane::remove_all(&bpf_dir()).expect_err("it is in use").to_string();
        assert!(error.contains("in use by a running hotpair"), "{error}");
        drop(first);
        open(&bpf_dir(), &uplink, 2).expect("now it is free");
    });
}

#[test]
fn cleaning_up_removes_what_is_ours_and_nothing_else() {
    alone(|| {
        let bench = Bench::new();
        let Bench { plane, client, taps, .. } = bench;
        drop(plane);
        let theirs = bpf_dir().join("maps/theirs");
        aya::maps::HashMap::<MapData, u32, u64>::create(8, 0).expect("a map").pin(&theirs).expect("pinning");
        let removed = Dataplane::remove_all(&bpf_dir()).expect("cleaning up");
        let all = removed.join("\n");
        for what in
            ["from_uplink on up0", "from_guest of pair 0, slot 1 on hp0s1", "to_guest_from_host", "map PAIRS"]
        {
            assert!(all.contains(what), "{what} is not among\n{all}");
        }
        assert!(theirs.exists(), "it was not ours");
        client.send(&question(1));
        assert_eq!(taps[0][0].sees(|frame| number(frame).is_some()), None, "it still steers");
        std::fs::remove_file(theirs).expect("unpinning");
        let rest = Dataplane::remove_all(&bpf_dir()).expect("cleaning up again");
        assert_eq!(rest.len(), 1, "the bpffs that was mounted: {rest:?}");
        assert!(!bpf_dir().exists());
        assert!(Dataplane::remove_all(&bpf_dir()).expect("nothing to do").is_empty());
        // And all can begin again.
        open(&bpf_dir(), &make_again(), 2).expect("a fresh one");
    });
}

/// The uplink that is there already.
fn make_again() -> Uplink {
    Uplink { name: "up0".to_owned(), index: ifindex("up0"), mac: UPLINK_MAC, mtu: 1500 }
}

#[test]
fn an_uplink_that_was_made_anew_is_taken_up_again() {
    alone(|| {
        let bench = Bench::new();
        let Bench { plane, client, taps, .. } = bench;
        drop((plane, client));
        ip_batch("link del up0").expect("removing the uplink");
        let uplink = make_uplink();
        let (_plane, opened) = open(&bpf_dir(), &uplink, MAX_PAIRS).expect("adopting");
        assert_eq!(opened, Opened::Adopted);
        let client = Raw::open(ifindex("cl0"));
        client.send(&question(3));
        for tap in &taps[0] {
            tap.receive("the question", |frame| number(frame) == Some(3));
        }
        // The answers know the new one as well.
        let answer =
            udp(GATEWAY_MAC, pair_mac(WEB), Ip::V4(entry_v4(WEB)), Ip::V4(CLIENT_V4), (53, 4000), b"here");
        taps[0][0].send(&answer);
        client.expect("the answer", &addressed(&answer, CLIENT_MAC, UPLINK_MAC));
    });
}

#[test]
fn a_change_of_uplink_that_is_refused_leaves_what_runs_alone() {
    alone(|| {
        let bench = Bench::new();
        let Bench { plane, client, taps, .. } = bench;
        drop(plane);
        ip_batch("link add ifb9 type ifb\nlink set ifb9 up").expect("another uplink");
        let other = Uplink { name: "ifb9".to_owned(), index: ifindex("ifb9"), mac: CLIENT_MAC, mtu: 1500 };
        let error = refused(&bpf_dir(), XdpMode::Native, &other, MAX_PAIRS);
        assert!(error.contains("ifb9") && error.contains("xdp = \"generic\""), "{error}");
        client.send(&question(7));
        taps[0][0].receive("the question", |frame| number(frame) == Some(7));
        let answer =
            udp(GATEWAY_MAC, pair_mac(WEB), Ip::V4(entry_v4(WEB)), Ip::V4(CLIENT_V4), (53, 4000), b"here");
        taps[0][0].send(&answer);
        client.expect("the answer", &addressed(&answer, CLIENT_MAC, UPLINK_MAC));
    });
}

#[test]
fn the_xdp_mode_can_be_changed() {
    alone(|| {
        let bench = Bench::new();
        let Bench { plane, uplink, client, taps } = bench;
        drop(plane);
        for xdp in [XdpMode::Generic, XdpMode::Native] {
            drop(
                Dataplane::open(&bpf_dir(), xdp, &uplink, HOST_INTERNAL.into(), MAX_PAIRS).expect("adopting"),
            );
            client.send(&question(4));
            taps[0][0].receive("the question", |frame| number(frame) == Some(4));
        }
    });
}

/// On a NIC that sends back what XDP_TX gives it. Here that is a tap.
#[test]
fn an_uplink_answers_by_itself_where_it_can() {
    alone(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("a sysctl");
        let nic = Tap::create("nic0", false);
        ip_batch(&format!("link set nic0 address {} up", colons(UPLINK_MAC))).expect("the uplink");
        let uplink = Uplink { name: "nic0".to_owned(), index: ifindex("nic0"), mac: UPLINK_MAC, mtu: 1500 };
        let (plane, _) = open(&bpf_dir(), &uplink, 2).expect("a data plane");
        plane.put_pair(WEB, &setup(WEB, "web")).expect("a pair");
        plane.set_role(WEB, Bench::word());
        nic.send(&arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, CLIENT_V4), ([0; 6], entry_v4(WEB))));
        nic.expect(
            "the ARP reply",
            &arp(CLIENT_MAC, UPLINK_MAC, 2, (UPLINK_MAC, entry_v4(WEB)), (CLIENT_MAC, CLIENT_V4)),
        );
        let entry = entry_v6(WEB);
        nic.send(&nd(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry, (135, 0), entry, &[]));
        nic.expect(
            "the advertisement",
            &nd(CLIENT_MAC, UPLINK_MAC, entry, CLIENT_V6, (136, 0x60), entry, &lladdr(2, UPLINK_MAC)),
        );
    });
}

#[test]
fn a_slots_new_tap_takes_the_old_ones_place() {
    alone(|| {
        let bench = Bench::new();
        let new = Tap::create("newtap", false);
        ip_batch(&format!("link set newtap address {} up", colons(GATEWAY_MAC))).expect("the tap");
        bench
            .plane
            .attach_tap(WEB, Slot::Zero, "newtap", ifindex("newtap"), internal(WEB, Slot::Zero).into())
            .expect("attaching");
        bench.client.send(&question(5));
        new.receive("the question", |frame| number(frame) == Some(5));
        assert_eq!(bench.tap(WEB, Slot::Zero).sees(|_| true), None, "the old tap still gets it");
        let answer =
            udp(GATEWAY_MAC, pair_mac(WEB), Ip::V4(entry_v4(WEB)), Ip::V4(CLIENT_V4), (53, 4000), b"new");
        new.send(&answer);
        bench.client.expect("the answer", &addressed(&answer, CLIENT_MAC, UPLINK_MAC));
        bench.plane.detach_tap(WEB, Slot::Zero).expect("detaching");
        bench.plane.detach_tap(WEB, Slot::Zero).expect("detaching again");
        bench.client.send(&question(6));
        bench.tap(WEB, Slot::One).receive("the other one's", |frame| number(frame) == Some(6));
        assert_eq!(new.sees(|frame| number(frame).is_some()), None);
    });
}

#[test]
fn a_tap_that_does_not_exist_is_refused_and_leaves_nothing() {
    alone(|| {
        let bench = Bench::new();
        let error = bench.plane.attach_tap(DB, Slot::Zero, "gone0", 999, internal(DB, Slot::Zero).into());
        let error = error.expect_err("there is no such tap").to_string();
        assert!(error.contains("gone0"), "{error}");
        bench.attach(DB, Slot::Zero);
        let error =
            bench.plane.attach_tap(PairId(3), Slot::Zero, "hp0s0", ifindex("hp0s0"), [10, 0, 0, 1].into());
        assert!(matches!(error, Err(DataplaneError::NoSuchPair(3))));
    });
}

#[test]
fn a_pairs_addresses_are_its_own_and_can_change() {
    alone(|| {
        let bench = Bench::new();
        let taken = PairSetup { entry: vec![IpAddr::from(entry_v4(WEB))], ..setup(DB, "db") };
        let error = bench.plane.put_pair(DB, &taken).expect_err("it is WEB's").to_string();
        assert!(error.contains("192.0.2.100") && error.contains("the pair web"), "{error}");
        let word = bench.plane.role(WEB);
        let moved = PairSetup { entry: vec![IpAddr::from([192, 0, 2, 200])], ..setup(WEB, "web") };
        bench.plane.put_pair(WEB, &moved).expect("new addresses");
        assert_eq!(bench.plane.role(WEB), word, "the role stays");
        let to = |dst| udp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), Ip::V4(dst), (4000, 53), &[0, 0, 0, 9]);
        bench.client.send(&to(entry_v4(WEB)));
        bench.client.send(&to([192, 0, 2, 200]));
        bench.tap(WEB, Slot::Zero).receive("the new address's question", |frame| {
            assert_ne!(frame[30..34], entry_v4(WEB), "the old address is still steered");
            number(frame) == Some(9)
        });
        for name in ["", "sixteen-bytes-ab", "a\0b"] {
            let named = PairSetup { name: name.to_owned(), ..setup(WEB, "web") };
            assert!(matches!(bench.plane.put_pair(WEB, &named), Err(DataplaneError::BadName(_))), "{name:?}");
        }
        assert!(matches!(
            bench.plane.put_pair(PairId(MAX_PAIRS), &setup(WEB, "web")),
            Err(DataplaneError::NoSuchPair(_))
        ));
    });
}

/// What `ip maddr` says of the uplink's filter.
fn hears(address: [u8; 16]) -> bool {
    let [.., a, b, c] = address;
    let output = std::process::Command::new("ip").args(["maddr", "show", "dev", "up0"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).contains(&format!("33:33:ff:{a:02x}:{b:02x}:{c:02x}"))
}

#[test]
fn the_uplink_lets_the_questions_for_an_entry_address_in() {
    alone(|| {
        let bench = Bench::new();
        assert!(hears(entry_v6(WEB)) && hears(entry_v6(DB)));
        bench.plane.put_pair(DB, &PairSetup { entry: vec![], ..setup(DB, "db") }).expect("no addresses");
        assert!(hears(entry_v6(WEB)) && !hears(entry_v6(DB)));
        let Bench { plane, .. } = bench;
        drop(plane);
        assert!(hears(entry_v6(WEB)), "without a controller as well");
        Dataplane::remove_all(&bpf_dir()).expect("cleaning up");
        assert!(!hears(entry_v6(WEB)));
    });
}

#[test]
fn a_removed_pair_leaves_nothing_behind() {
    alone(|| {
        let bench = Bench::new();
        bench.client.send(&question(1));
        bench.tap(WEB, Slot::Zero).receive("the question", |frame| number(frame) == Some(1));
        bench.tap(WEB, Slot::One).receive("the question", |frame| number(frame) == Some(1));
        bench.plane.remove_pair(WEB).expect("removing");
        bench.plane.remove_pair(WEB).expect("removing again");
        assert_eq!(bench.plane.pairs().len(), 2);
        assert_eq!(bench.plane.role(WEB), RoleWord::default());
        assert_eq!(bench.count(WEB, Counter::UplinkMirrored), 0);
        bench.client.send(&question(2));
        assert_eq!(bench.tap(WEB, Slot::One).sees(|frame| number(frame).is_some()), None);
        // The row can be used again, and its addresses by others.
        let heir = PairSetup { entry: setup(WEB, "web").entry, ..setup(PairId(3), "heir") };
        bench.plane.put_pair(PairId(3), &heir).expect("the addresses are free");
        bench
            .plane
            .put_pair(WEB, &PairSetup { entry: vec![], ..setup(WEB, "next") })
            .expect("the row is free");
        let name = tap_name(WEB, Slot::Zero);
        bench
            .plane
            .attach_tap(PairId(3), Slot::Zero, &name, ifindex(&name), internal(PairId(3), Slot::Zero).into())
            .expect("the tap is free");
    });
}

#[test]
fn a_row_that_does_not_exist_is_harmless() {
    alone(|| {
        let uplink = make_uplink();
        let (plane, _) = open(&bpf_dir(), &uplink, 2).expect("a data plane");
        let none = PairId(2);
        plane.set_role(none, Bench::word());
        plane.set_lease(none, 1);
        plane.clear_member(none, Slot::Zero);
        assert_eq!((plane.role(none), plane.tripped(none)), (RoleWord::default(), Epoch(0)));
        assert_eq!(plane.member(none, Slot::One).beats, 0);
        assert!(plane.counters(Some(none)).is_err());
        plane.detach_tap(none, Slot::One).expect("nothing to detach");
        assert!(plane.program_fd("from_guest").is_some_and(|fd| fd.as_fd().try_clone_to_owned().is_ok()));
    });
}
