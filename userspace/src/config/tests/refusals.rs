//! One mistake a row: what is changed, where it is pointed at, what is said, and which way out.

use std::path::Path;

use super::super::load;
use super::{COMMAND, LIBVIRT, edit, position, refused};

struct Mistake {
    base: &'static str,
    from: &'static str,
    to: &'static str,
    /// The error points at the first occurrence of this.
    at: &'static str,
    key: &'static str,
    what: &'static str,
    way_out: &'static str,
}

const fn wrong(
    from: &'static str,
    to: &'static str,
    at: &'static str,
    key: &'static str,
    what: &'static str,
    way_out: &'static str,
) -> Mistake {
    Mistake { base: LIBVIRT, from, to, at, key, what, way_out }
}

const fn wrong_command(
    from: &'static str,
    to: &'static str,
    at: &'static str,
    key: &'static str,
    what: &'static str,
    way_out: &'static str,
) -> Mistake {
    Mistake { base: COMMAND, from, to, at, key, what, way_out }
}

#[rustfmt::skip] // one mistake a row
const MISTAKES: &[Mistake] = &[
    // [host]
    wrong("\"hv1\"", "\"hv 1\"", "\"hv 1\"", "host.name", "is not a host's name", "like \"hv1\""),
    wrong("\"eth0\"", "\"\"", "\"\"", "host.uplink", "is empty", "uplink = \"eth0\""),
    wrong("\"eth0\"", "\"a-name-too-long-for-it\"", "\"a-name", "host.uplink", "is not the name of a NIC", "ip link"),
    wrong("\"eth0\"", "\"eth/0\"", "\"eth/0\"", "host.uplink", "is not the name of a NIC", "ip link"),
    wrong("\"eth0\"", "0", "0\nxdp", "host.uplink", "must be a string, the NIC towards the clients, and is a number", "uplink = \"eth0\""),
    wrong("\"native\"", "\"skb\"", "\"skb\"", "host.xdp", "\"skb\" is none of its words", "\"native\" or \"generic\""),
    wrong("\"native\"", "\"Native\"", "\"Native\"", "host.xdp", "is none of its words", "\"native\" or \"generic\""),
    wrong("/16\"", "\"", "\"10.78.0.0\"", "host.internal_net", "has no prefix length", "\"10.78.0.0/16\""),
    wrong("/16\"", "/31\"", "\"10.78.0.0/31\"", "host.internal_net", "prefix length of 31 is out of range", "from 8 to 30"),
    wrong("/16\"", "/7\"", "\"10.78.0.0/7\"", "host.internal_net", "prefix length of 7 is out of range", "from 8 to 30"),
    wrong("/16\"", "/x\"", "\"10.78.0.0/x\"", "host.internal_net", "is not a prefix length", "\"10.78.0.0/16\""),
    wrong("/16\"", "/+9\"", "\"10.78.0.0/+9\"", "host.internal_net", "is not a prefix length", "\"10.78.0.0/16\""),
    wrong("10.78.0.0/16", "10.78.0.1/16", "\"10.78.0.1/16\"", "host.internal_net", "not the network", "\"10.78.0.0/16\""),
    wrong("10.78.0.0/16", "fd00::/64", "\"fd00::/64\"", "host.internal_net", "is an IPv6 network", "\"10.78.0.0/16\""),
    wrong("10.78.0.0/16", "lan/16", "\"lan/16\"", "host.internal_net", "is not a network", "\"10.78.0.0/16\""),
    wrong("10.78.0.0/16", "169.254.0.0/16", "\"169.254", "host.internal_net", "is not a network for hosts", "private network"),
    wrong("10.78.0.0/16", "127.0.0.0/8", "\"127", "host.internal_net", "is not a network for hosts", "private network"),
    wrong("10.78.0.0/16", "224.0.0.0/8", "\"224", "host.internal_net", "is not a network for hosts", "private network"),
    wrong("10.78.0.0/16", "10.78.0.0/30", "\"10.78.0.0/30\"", "host.internal_net", "is too small for 1 pairs", "29 or less"),
    wrong("\"/run/hotpair\"", "\"\"", "\"\"", "host.run_dir", "is empty", "run_dir = \"/run/hotpair\""),
    wrong("127.0.0.1:9477", "127.0.0.1", "\"127.0.0.1\"", "host.metrics", "has no port", "\"127.0.0.1:9477\""),
    wrong("127.0.0.1:9477", "::1", "\"::1\"", "host.metrics", "has no port", "\"[::1]:9477\""),
    wrong("127.0.0.1:9477", "127.0.0.1:0", "\"127", "host.metrics", "port 0 is none that can be asked", "\"127.0.0.1:9477\""),
    wrong("127.0.0.1:9477", "127.0.0.1:70000", "\"127", "host.metrics", "is not an IP address and a port", "\"127.0.0.1:9477\""),
    wrong("127.0.0.1:9477", "localhost:9477", "\"local", "host.metrics", "is not an IP address and a port", "\"127.0.0.1:9477\""),
    wrong("name = \"hv1\"", "entry = []", "entry", "host.entry", "is not a key of [host]", "it belongs to [[pair]]"),
    wrong("name = \"hv1\"", "zzz = 1", "zzz", "host.zzz", "is not a key of [host]", "the keys here are: name, uplink, xdp, internal_net, state_dir, run_dir, bpf_dir, metrics"),
    // The top level
    wrong("[hypervisor]\n", "[cluster]\n[hypervisor]\n", "cluster", "cluster", "is not supported in this version", "take it out"),
    wrong("[hypervisor]\n", "[metrics]\n[hypervisor]\n", "metrics]", "metrics", "is not a key of the file's top level", "it belongs to [host]"),
    wrong("[hypervisor]\n", "[hypervizor]\n", "hypervizor", "hypervizor", "is not a key of the file's top level", "did you mean hypervisor?"),
    // [hypervisor]
    wrong("\"libvirt\"", "\"xen\"", "\"xen\"", "hypervisor.kind", "\"xen\" is none of its words", "\"libvirt\" or \"command\""),
    wrong("\"auto\"", "\"hvf\"", "\"hvf\"", "hypervisor.accel", "is none of its words", "\"auto\" or \"kvm\" or \"tcg\""),
    wrong_command("\"command\"", "\"command\"\nuri = \"x\"", "\"x\"", "hypervisor.uri", "belongs to kind = \"libvirt\"", "take it out"),
    wrong_command("\"command\"", "\"command\"\naccel = \"kvm\"", "\"kvm\"", "hypervisor.accel", "belongs to kind = \"libvirt\"", "take it out"),
    // [[pair]]
    wrong("name = \"web\"", "name = \"Web\"", "\"Web\"", "pair[1].name", "cannot be a pair's name", "a-z, 0-9 and -"),
    wrong("name = \"web\"", "name = \"1web\"", "\"1web\"", "pair[1].name", "cannot be a pair's name", "beginning with a letter"),
    wrong("name = \"web\"", "name = \"a-dozen-of-c\"", "\"a-dozen", "pair[1].name", "cannot be a pair's name", "1 to 11 characters"),
    wrong("name = \"web\"", "name = \"web/../x\"", "\"web/", "pair[1].name", "cannot be a pair's name", "1 to 11 characters"),
    wrong("entry = [\"203.0.113.10\", \"2001:db8::10\"]", "entry = []", "[]", "pair.web.entry", "is an empty list", "entry = [\"203.0.113.10\"]"),
    wrong("entry = [\"203.0.113.10\", \"2001:db8::10\"]", "entry = \"203.0.113.10\"", "\"203", "pair.web.entry", "must be a list of IP addresses, and is a string", "entry = [\"203.0.113.10\"]"),
    wrong("\"2001:db8::10\"", "7", "7]", "pair.web.entry", "must be a string", "put it into quotes"),
    wrong("\"2001:db8::10\"", "\"web.example\"", "\"web.ex", "pair.web.entry", "is not an IP address", "no name"),
    wrong("\"2001:db8::10\"", "\"198.51.100.1/24\"", "\"198", "pair.web.entry", "is not an IP address", "without the prefix length: \"198.51.100.1\""),
    wrong("\"2001:db8::10\"", "\"127.0.0.1\"", "\"127.0.0.1\"", "pair.web.entry", "is a loopback address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"::1\"", "\"::1", "pair.web.entry", "is a loopback address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"169.254.1.1\"", "\"169", "pair.web.entry", "is a link-local address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"fe80::1\"", "\"fe80", "pair.web.entry", "is a link-local address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"239.0.0.1\"", "\"239", "pair.web.entry", "is a multicast address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"ff02::1\"", "\"ff02", "pair.web.entry", "is a multicast address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"255.255.255.255\"", "\"255", "pair.web.entry", "is not a unicast address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"240.0.0.1\"", "\"240", "pair.web.entry", "is not a unicast address", "that clients use"),
    wrong("\"2001:db8::10\"", "\"0.0.0.0\"", "\"0.0", "pair.web.entry", "is no address of anybody", "that clients use"),
    wrong("\"2001:db8::10\"", "\"::\"", "\"::\"", "pair.web.entry", "is no address of anybody", "that clients use"),
    wrong("\"2001:db8::10\"", "\"10.78.3.4\"", "\"10.78.3.4", "pair.web.entry", "is in host.internal_net, 10.78.0.0/16", "another internal_net"),
    wrong("\"2001:db8::10\"", "\"203.0.113.10\"", "\"203.0.113.10\"]", "pair.web.entry", "is an entry address already, in line 18", "one pair, once"),
    wrong("\"2001:db8::10\"", "\"::ffff:203.0.113.10\"", "\"::ffff", "pair.web.entry", "203.0.113.10 is an entry address already", "one pair, once"),
    wrong("\"mirror\"", "\"first\"", "\"first\"", "pair.web.takeover", "is none of its words", "\"mirror\" or \"address\""),
    wrong("domain = \"web.xml\"", "domain = \" \"", "\" \"", "pair.web.domain", "is empty", "domain = \"web.xml\""),
    wrong("\"02:68:70:00:00:01\"", "\"02:68:70:00:01\"", "\"02", "pair.web.mac", "is not a MAC address", "\"02:68:70:00:00:01\""),
    wrong("\"02:68:70:00:00:01\"", "\"02:68:70:00:00:01:02\"", "\"02", "pair.web.mac", "is not a MAC address", "\"02:68:70:00:00:01\""),
    wrong("\"02:68:70:00:00:01\"", "\"02:68:70:00:00:0g\"", "\"02", "pair.web.mac", "is not a MAC address", "six bytes"),
    wrong("\"02:68:70:00:00:01\"", "\"03:68:70:00:00:01\"", "\"03", "pair.web.mac", "is a group address", "\"02:68:70:00:00:01\""),
    wrong("\"02:68:70:00:00:01\"", "\"00:00:00:00:00:00\"", "\"00", "pair.web.mac", "is no address of anybody", "six bytes"),
    wrong("\"02:68:70:00:00:01\"", "\"02:68:70:77:00:03\"", "\"02", "pair.web.mac", "is the MAC of the guests' gateway", "six bytes"),
    wrong("\"20ms\"", "20", "20\n", "pair.web.handover", "20 has no unit", "handover = \"20ms\""),
    wrong("\"20ms\"", "\"20\"", "\"20\"", "pair.web.handover", "has no unit", "\"20ms\" or \"20s\""),
    wrong("\"20ms\"", "\"20 parsecs\"", "\"20 p", "pair.web.handover", "\"parsecs\" is no unit of time", "\"8ms\""),
    wrong("\"20ms\"", "\"soon\"", "\"soon", "pair.web.handover", "is not a time", "\"8ms\""),
    wrong("\"20ms\"", "\"-20ms\"", "\"-20", "pair.web.handover", "is not a time", "\"8ms\""),
    wrong("\"20ms\"", "\"999us\"", "\"999", "pair.web.handover", "999us is too short", "from 1ms to 1s"),
    wrong("\"20ms\"", "\"1001ms\"", "\"1001", "pair.web.handover", "1001ms is too long", "from 1ms to 1s"),
    wrong("domain = \"web.xml\"\n", "domain = \"web.xml\"\ncommand = {}\n", "{}", "pair.web.command", "belongs to hypervisor.kind = \"command\"", "domain and image"),
    // heartbeat
    wrong("\"agent\"", "\"ping\"", "\"ping\"", "pair.web.heartbeat.source", "is none of its words", "\"agent\" or \"probe\""),
    wrong("\"2ms\"", "\"500us\"", "\"500us\"", "pair.web.heartbeat.interval", "too short", "from 1ms to 1s"),
    wrong("\"2ms\"", "\"2s\"", "\"2s\"", "pair.web.heartbeat.interval", "too long", "from 1ms to 1s"),
    wrong("\"2ms\"", "2", "2\n", "pair.web.heartbeat.interval", "2 has no unit", "interval = \"2ms\""),
    wrong("\"2ms\"", "2.5", "2.5", "pair.web.heartbeat.interval", "must be a time from 1ms to 1s, and is a number with a point", "interval = \"2ms\""),
    wrong("\"8ms\"", "\"3ms\"", "\"3ms\"", "pair.web.heartbeat.timeout", "3ms is less than twice the interval of 2ms", "at least 4ms"),
    wrong("\"8ms\"", "\"61s\"", "\"61s\"", "pair.web.heartbeat.timeout", "too long", "to 1m"),
    wrong("interval = \"2ms\"\ntimeout = \"8ms\"", "interval = \"5ms\"", "\"5ms\"", "pair.web.heartbeat.interval", "the timeout, 8ms unless written", "at least 10ms"),
    wrong("timeout = \"8ms\"\nstart = \"60s\"", "start = \"999ms\"", "\"999ms\"", "pair.web.heartbeat.start", "too short", "from 1s to 1h"),
    wrong("timeout = \"8ms\"\nstart = \"60s\"", "start = \"61min\"", "\"61min\"", "pair.web.heartbeat.start", "too long", "from 1s to 1h"),
    wrong("\"agent\"", "\"agent\"\nlease = \"1s\"", "lease", "pair.web.heartbeat.lease", "is not a key of heartbeat of a [[pair]]", "source, interval, timeout, start"),
    // replace
    wrong("auto = true", "auto = \"yes\"", "\"yes\"", "pair.web.replace.auto", "must be true or false, and is a string", "auto = true"),
    wrong("ack = \"both\"\nanswer = \"primary\"", "ack = \"primary\"\nanswer = \"first\"", "\"first\"", "pair.web.answer", "needs takeover = \"mirror\" and ack = \"both\"", "answer = \"primary\""),
    wrong("takeover = \"mirror\"\nack = \"both\"\nanswer = \"primary\"", "takeover = \"address\"\nanswer = \"first\"", "\"first\"", "pair.web.answer", "without them it does nothing", "answer = \"primary\""),
    wrong("compare = true", "compare = 7", "7\nlag", "pair.web.compare", "must be true or false, and is a number", "compare = true"),
    wrong("\"delete\"", "\"destroy\"", "\"destroy\"", "pair.web.replace.release", "is none of its words", "\"delete\" or \"keep\""),
    // command
    wrong_command("[\"/bin/stop\"]", "\"/bin/stop\"", "\"/bin/stop\"", "pair.web.command.stop", "must be a list of strings, program and arguments, and is a string", "stop = ["),
    wrong_command("[\"/bin/stop\"]", "[]", "[]", "pair.web.command.stop", "is an empty list", "stop = ["),
    wrong_command("\"now\"", "5", "5]", "pair.web.command.start", "must be a string", "quotes"),
    wrong_command("\"bin/start\"", "\"\"", "\"\"", "pair.web.command.start", "is not something that can be run", "the program's path"),
    wrong_command("entry = [", "domain = \"web.xml\"\nentry = [", "\"web.xml\"", "pair.web.domain", "belongs to hypervisor.kind = \"libvirt\"", "write command instead"),
    wrong_command("entry = [", "image = \"web.img\"\nentry = [", "\"web.img\"", "pair.web.image", "belongs to hypervisor.kind = \"libvirt\"", "write command instead"),
    // No TOML
    wrong("\"eth0\"", "eth0", "eth0", "", "", "write TOML"),
    wrong("[host]\n", "[host\n", "\n", "", "", "write TOML"),
];

#[test]
fn every_mistake_is_pointed_at_and_has_a_way_out() {
    for Mistake { base, from, to, at, key, what, way_out } in MISTAKES {
        let text = edit(base, from, to);
        let errors = refused(&text);
        assert_eq!(errors.len(), 1, "one mistake, one error: {errors:#?}");
        let error = &errors[0];
        assert_eq!(error.key, *key, "{error}");
        assert_eq!((error.line, error.column), position(&text, at), "{error}");
        assert!(error.what.contains(what), "{error}");
        assert!(error.way_out.contains(way_out), "{error}");
        let (line, column) = (error.line, error.column);
        assert!(
            error.to_string().starts_with(&format!("/etc/hotpair/hotpair.toml:{line}:{column}: {key}")),
            "{error}"
        );
    }
}

#[test]
fn sections_that_are_missing_or_wrong_are_said() {
    let pair = "[[pair]]\nname='a'\nentry=['198.51.100.1']\ndomain='d'\nimage='i'\n";
    let host = "[host]\nuplink='e'\ninternal_net='10.0.0.0/8'\n";
    for (text, line, key, what, way_out) in [
        (pair.to_owned(), 1, "host", "is missing", "uplink = \"eth0\""),
        (host.to_owned(), 1, "pair", "is missing", "[[pair]]"),
        (format!("{host}{}", pair.replace("[[pair]]", "[pair]")), 4, "pair", "is one table", "two brackets"),
        (format!("pair = 5\n{host}"), 1, "pair", "must be one section for each pair", "[[pair]]"),
        (format!("host = 5\n{pair}"), 1, "host", "must be a section, [host], and is a number", "[host]"),
        (format!("pair = [5]\n{host}"), 1, "pair[1]", "must be one section for each pair", "[[pair]]"),
        (
            format!("{host}{}", pair.replace("domain='d'\nimage='i'\n", ""))
                .replace("[[pair]]", "[hypervisor]\nkind='command'\n[[pair]]"),
            6,
            "pair.a.command",
            "is missing",
            "command = { start",
        ),
        (
            format!("{host}{pair}heartbeat = 5\n"),
            9,
            "pair.a.heartbeat",
            "must be a table of source",
            "heartbeat = {",
        ),
        (
            format!("{host}{pair}replace = []\n"),
            9,
            "pair.a.replace",
            "must be a table of auto",
            "replace = {",
        ),
        (format!("pair = []\n{host}"), 1, "pair", "is an empty list", "[[pair]]"),
        (String::new(), 1, "host", "is missing", "[host]"),
    ] {
        let errors = refused(&text);
        assert_eq!(errors[0].line, line, "{}", errors[0]);
        assert_eq!(errors[0].key, key, "{}", errors[0]);
        assert!(errors[0].what.contains(what), "{}", errors[0]);
        assert!(errors[0].way_out.contains(way_out), "{}", errors[0]);
    }
}

#[test]
fn all_errors_are_said_at_once_in_the_order_of_the_file() {
    let text = LIBVIRT
        .replace("\"native\"", "\"fast\"")
        .replace("uri = ", "url = ")
        .replace("[\"203.0.113.10\", \"2001:db8::10\"]", "[\"203.0.113.10\", \"::1\", 5]")
        .replace("\"2ms\"", "2")
        .replace("auto = true", "auto = 1");
    let errors = refused(&text);
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "host.xdp",
            "hypervisor.url",
            "pair.web.entry",
            "pair.web.entry",
            "pair.web.heartbeat.interval",
            "pair.web.replace.auto"
        ]
    );
    let shown = super::read(&text).expect_err("refused above").to_string();
    assert!(shown.ends_with("The configuration has 6 errors."), "{shown}");
    assert!(shown.contains("\n 4 | xdp = \"fast\"\n   |       ^^^^^^\n"), "{shown}");
}

#[test]
fn two_pairs_cannot_share_a_name_or_an_address() {
    let second = "[[pair]]\nname = \"web\"\nentry = [\"198.51.100.7\", \"::ffff:203.0.113.10\"]\ndomain = \"d\"\nimage = \"i\"\n";
    let text = format!("{LIBVIRT}{second}");
    let errors = refused(&text);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let (line, _) = position(&text, second);
    assert_eq!((errors[0].line, errors[0].key.as_str()), (line + 1, "pair[2].name"));
    assert!(errors[0].what.contains("the pair of line 17 has this name already"), "{}", errors[0]);
    assert_eq!((errors[1].line, errors[1].column), (line + 2, 26));
    assert!(errors[1].what.contains("203.0.113.10 is an entry address already, in line 18"), "{}", errors[1]);
}

#[test]
fn a_file_that_cannot_be_read_is_said_with_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("hotpair.toml");
    let text = load(&path).expect_err("there is none").to_string();
    assert!(text.starts_with(&format!("{}: cannot be read: ", path.display())), "{text}");
    assert!(text.contains("--config"), "{text}");
    std::fs::write(&path, b"[host]\nname = \"\xff\"\n").expect("writable");
    let text = load(&path).expect_err("no UTF-8").to_string();
    assert!(text.contains("line 2 has another encoding"), "{text}");
    let text = load(Path::new("/")).expect_err("a directory").to_string();
    assert!(text.starts_with("/: cannot be read"), "{text}");
}

mod anything {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::super::{SCHEMA, parse};

    /// Values of every kind, some of them right somewhere.
    fn value() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("\"8ms\"".to_owned()),
            Just("true".to_owned()),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just("-0x1f".to_owned()),
            Just("1e400".to_owned()),
            Just("\"10.0.0.0/8\"".to_owned()),
            Just("\"::ffff:1.2.3.4\"".to_owned()),
            Just("1979-05-27T07:32:00Z".to_owned()),
            Just("'''\nmany\nlines'''".to_owned()),
            "\"\\PC{0,20}\"",
            "[0-9]{1,30}",
            "\\PC{0,20}",
        ];
        prop_oneof![
            word.clone(),
            prop::collection::vec(word, 0..4).prop_map(|words| format!("[{}]", words.join(", ")))
        ]
    }

    fn line() -> impl Strategy<Value = String> {
        let key = prop::sample::select(SCHEMA);
        prop_oneof![
            (key.clone(), value()).prop_map(|(key, value)| format!("{} = {value}", key.name)),
            key.prop_map(|key| format!("[{}]", key.section)),
            Just("[[pair]]".to_owned()),
            Just("[host]".to_owned()),
            "\\PC{0,40}",
        ]
    }

    proptest! {
        #[test]
        fn nothing_written_makes_it_panic(lines in prop::collection::vec(line(), 0..20), end in "[\\n\\r\\t ]{0,3}") {
            let text = lines.join("\n") + &end;
            match parse(&text, Path::new("x.toml")) {
                Ok(config) => prop_assert!(!config.pairs.is_empty()),
                Err(errors) => {
                    prop_assert!(!errors.errors().is_empty());
                    prop_assert!(!errors.to_string().is_empty());
                    for error in errors.errors() {
                        prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1, "{}", error);
                        prop_assert!(!error.way_out.is_empty() && !error.what.is_empty());
                    }
                }
            }
        }

        #[test]
        fn a_good_file_cut_anywhere_is_answered(at in 0usize..700, noise in "\\PC{0,3}") {
            let mut text = super::super::LIBVIRT.to_owned();
            let at = at.min(text.len());
            text.replace_range(at.., &noise);
            if let Err(errors) = parse(&text, Path::new("x.toml")) {
                prop_assert!(!errors.to_string().is_empty());
            }
        }
    }
}
