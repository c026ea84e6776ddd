//! What is accepted, and what it comes to.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::*;
use super::{COMMAND, LIBVIRT, read};

#[test]
fn every_key_arrives_where_it_belongs() {
    let config = read(LIBVIRT).expect("nothing is wrong with it");
    assert_eq!(
        config.host,
        Host {
            name: "hv1".into(),
            uplink: "eth0".into(),
            xdp: XdpMode::Native,
            internal_net: Ipv4Net { address: Ipv4Addr::new(10, 78, 0, 0), prefix: 16 },
            state_dir: "/var/lib/hotpair".into(),
            run_dir: "/run/hotpair".into(),
            bpf_dir: "/sys/fs/bpf/hotpair".into(),
            metrics: Some(([127, 0, 0, 1], 9477).into()),
        }
    );
    assert_eq!(config.hypervisor, Hypervisor::Libvirt { uri: "qemu:///system".into(), accel: Accel::Auto });
    assert_eq!(
        config.pairs,
        [Pair {
            name: "web".into(),
            entry: vec![
                "203.0.113.10".parse().expect("an address"),
                "2001:db8::10".parse().expect("an address")
            ],
            takeover: Takeover::Mirror,
            ack: Ack::Both,
            answer: Answer::Primary,
            compare: true,
            lag_limit: Duration::from_millis(10),
            vm: Vm::Libvirt {
                domain: "/etc/hotpair/web.xml".into(),
                image: "/var/lib/libvirt/images/web.qcow2".into(),
            },
            mac: Some([2, 0x68, 0x70, 0, 0, 1]),
            heartbeat: Heartbeat {
                source: Source::Agent,
                interval: Duration::from_millis(2),
                timeout: Duration::from_millis(8),
                start: Duration::from_secs(60),
            },
            replace: Replace { auto: true, release: Release::Delete },
            handover: Duration::from_millis(20),
        }]
    );
}

#[test]
fn what_is_not_written_has_its_default() {
    let short = "[host]\nuplink = 'eth0'\ninternal_net = '10.78.0.0/16'\n[[pair]]\nname = 'web'\n\
                 entry = ['203.0.113.10', '2001:db8::10']\ndomain = 'web.xml'\n\
                 image = '/var/lib/libvirt/images/web.qcow2'\n";
    let (mut short, mut long) = (read(short).expect("enough"), read(LIBVIRT).expect("right"));
    assert!(!short.host.name.is_empty());
    short.host.name = "hv1".into();
    long.pairs[0].mac = None;
    long.host.metrics = None;
    assert_eq!(short, long);
}

#[test]
fn every_word_of_a_choice_is_understood() {
    let pair = |from: &str, to: &str| read(&super::edit(LIBVIRT, from, to)).expect(to).pairs.remove(0);
    let host = |from: &str, to: &str| read(&super::edit(LIBVIRT, from, to)).expect(to);
    assert_eq!(host("\"native\"", "\"generic\"").host.xdp, XdpMode::Generic);
    for (word, accel) in [("kvm", Accel::Kvm), ("tcg", Accel::Tcg)] {
        let config = host("\"auto\"", &format!("{word:?}"));
        assert_eq!(config.hypervisor, Hypervisor::Libvirt { uri: "qemu:///system".into(), accel });
    }
    assert_eq!(pair("\"mirror\"", "\"address\"").takeover, Takeover::Address);
    for (word, ack) in [("none", Ack::None), ("primary", Ack::Primary)] {
        assert_eq!(pair("ack = \"both\"", &format!("ack = {word:?}")).ack, ack);
    }
    assert_eq!(pair("\"agent\"", "\"probe\"").heartbeat.source, Source::Probe);
    assert_eq!(pair("\"delete\"", "\"keep\"").replace.release, Release::Keep);
    assert!(!pair("auto = true", "auto = false").replace.auto);
    assert_eq!(pair("answer = \"primary\"", "answer = \"first\"").answer, Answer::First);
    assert!(!pair("compare = true", "compare = false").compare);
}

#[test]
fn times_are_understood_in_any_unit_and_at_the_edges() {
    for (from, to, expected) in [
        ("\"20ms\"", "\"1ms\"", Duration::from_millis(1)),
        ("\"20ms\"", "\"1s\"", Duration::from_secs(1)),
        ("\"20ms\"", "\"2500us\"", Duration::from_micros(2500)),
        ("\"20ms\"", "\"100ms 500us\"", Duration::from_micros(100_500)),
    ] {
        assert_eq!(read(&super::edit(LIBVIRT, from, to)).expect(to).pairs[0].handover, expected);
    }
    for (interval, timeout, start) in [("1ms", "2ms", "1s"), ("1s", "60s", "1h"), ("1s", "2s", "60min")] {
        let text = LIBVIRT
            .replace("\"2ms\"", &format!("{interval:?}"))
            .replace("\"8ms\"", &format!("{timeout:?}"))
            .replace("\"60s\"\n\n[pair.r", &format!("{start:?}\n\n[pair.r"));
        read(&text).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let config = read(COMMAND).expect("right");
    let Vm::Command(command) = &config.pairs[0].vm else { panic!("kind is command") };
    assert_eq!(command.start, ["/etc/hotpair/bin/start", "now"], "the program alone is a path");
    assert_eq!(command.stop, ["/bin/stop"]);
    assert_eq!(command.release, ["true"], "without a slash it is looked for in PATH");
    assert_eq!(command.status, ["/etc/hotpair/./status"]);
    let text = super::edit(LIBVIRT, "\"/var/lib/hotpair\"", "\"state\"");
    assert_eq!(read(&text).expect("right").host.state_dir, PathBuf::from("/etc/hotpair/state"));
}

#[test]
fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
    let text = super::edit(LIBVIRT, "\"203.0.113.10\"", "\"::ffff:203.0.113.10\"");
    assert_eq!(read(&text).expect("right").pairs[0].entry[0].to_string(), "203.0.113.10");
}

#[test]
fn the_smallest_network_is_enough_for_the_pairs_that_fit_into_it() {
    // Host and two members: three of the six usable addresses of a /29; a second pair makes five, a third seven.
    let with = |pairs: usize| {
        let pairs: String = (0..pairs)
            .map(|n| format!("[[pair]]\nname='p{n}'\nentry=['198.51.100.{n}']\ndomain='d'\nimage='i'\n"))
            .collect();
        format!("[host]\nuplink='e'\ninternal_net='10.0.0.0/29'\n{pairs}")
    };
    read(&with(2)).expect("five of six addresses");
    let errors = super::refused(&with(3));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].key, "host.internal_net");
    assert!(errors[0].what.contains("too small for 3 pairs"), "{}", errors[0]);
    assert!(errors[0].way_out.contains("28 or less"), "{}", errors[0]);
    read(&with(3).replace("/29", "/28")).expect("the advice is right");
}

#[test]
fn the_example_that_is_shipped_is_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/hotpair.toml");
    let config = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.pairs.len(), 1);
    let text = std::fs::read_to_string(&path).expect("it was read before");
    for key in SCHEMA {
        assert!(text.contains(key.name), "the example does not show {}.{}", key.section, key.name);
    }
}
