//! Every key there is: what it must be, an example, its default. Messages and documentation are made and checked
//! against this list.

/// A key of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Section, without a pair's name: `pair.heartbeat`; empty for the sections themselves.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// What its value must be.
    pub form: &'static str,
    /// A value, as it is written in the file.
    pub example: &'static str,
    /// What it is without being written.
    pub default: Unwritten,
}

/// What a key is without being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It must be written.
    Required,
    /// It may be left out, and then nothing is set.
    Nothing,
    /// This, as text.
    Is(&'static str),
}

impl Unwritten {
    /// `required`, the default as it would be written, or `-`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Required => "required",
            Nothing => "-",
            Is(text) => text,
        }
    }
}

use Unwritten::{Is, Nothing, Required};

const fn key(
    section: &'static str,
    name: &'static str,
    form: &'static str,
    example: &'static str,
    default: Unwritten,
) -> Key {
    Key { section, name, form, example, default }
}

/// Every key, in the order in which a file usually has them.
pub const SCHEMA: &[Key] = &[
    key("", "host", "a section, [host]", "", Required),
    key("", "hypervisor", "a section, [hypervisor]", "", Is("kind = \"libvirt\"")),
    key("", "pair", "one section for each pair, [[pair]]", "", Required),
    key("host", "name", "a string, the host's name", "\"hv1\"", Is("the hostname")),
    key("host", "uplink", "a string, the NIC towards the clients", "\"eth0\"", Required),
    key("host", "xdp", "\"native\" or \"generic\"", "\"native\"", Is("\"native\"")),
    key("host", "internal_net", "a string, an IPv4 network", "\"10.78.0.0/16\"", Required),
    key("host", "state_dir", "a string, a directory", "\"/var/lib/hotpair\"", Is("\"/var/lib/hotpair\"")),
    key("host", "run_dir", "a string, a directory", "\"/run/hotpair\"", Is("\"/run/hotpair\"")),
    key(
        "host",
        "bpf_dir",
        "a string, a directory on a bpffs",
        "\"/sys/fs/bpf/hotpair\"",
        Is("\"/sys/fs/bpf/hotpair\""),
    ),
    key("host", "metrics", "a string, an IP address and a port", "\"127.0.0.1:9477\"", Nothing),
    key("hypervisor", "kind", "\"libvirt\" or \"command\"", "\"libvirt\"", Is("\"libvirt\"")),
    key(
        "hypervisor",
        "uri",
        "a string, libvirt's connection URI",
        "\"qemu:///system\"",
        Is("\"qemu:///system\""),
    ),
    key("hypervisor", "accel", "\"auto\", \"kvm\" or \"tcg\"", "\"auto\"", Is("\"auto\"")),
    key("pair", "name", "a string, 1 to 11 characters of a-z 0-9 -", "\"web\"", Required),
    key("pair", "entry", "a list of IP addresses", "[\"203.0.113.10\"]", Required),
    key("pair", "takeover", "\"mirror\" or \"address\"", "\"mirror\"", Is("\"mirror\"")),
    key("pair", "ack", "\"both\", \"primary\" or \"none\"", "\"both\"", Is("\"both\"")),
    key("pair", "answer", "\"primary\" or \"first\"", "\"primary\"", Is("\"primary\"")),
    key("pair", "compare", "true or false", "true", Is("true")),
    key("pair", "lag_limit", "a time from 1ms to 1m", "\"10ms\"", Is("\"10ms\"")),
    key("pair", "domain", "a string, the file of the libvirt domain template", "\"web.xml\"", Nothing),
    key(
        "pair",
        "image",
        "a string, the file of the golden image",
        "\"/var/lib/libvirt/images/web.qcow2\"",
        Nothing,
    ),
    key(
        "pair",
        "command",
        "a table of start, stop, release and status",
        "{ start = [\"/usr/local/lib/web/start\"], stop = [\"/usr/local/lib/web/stop\"], release = [\"/bin/true\"], status = [\"/usr/local/lib/web/status\"] }",
        Nothing,
    ),
    key("pair", "mac", "a string, a MAC address", "\"02:68:70:00:00:01\"", Is("derived from the name")),
    key(
        "pair",
        "heartbeat",
        "a table of source, interval, timeout and start",
        "{ timeout = \"8ms\" }",
        Nothing,
    ),
    key("pair", "replace", "a table of auto and release", "{ auto = true }", Nothing),
    key("pair", "handover", "a time from 1ms to 1s", "\"20ms\"", Is("\"20ms\"")),
    key(
        "pair.command",
        "start",
        "a list of strings, program and arguments",
        "[\"/usr/local/lib/web/start\"]",
        Required,
    ),
    key(
        "pair.command",
        "stop",
        "a list of strings, program and arguments",
        "[\"/usr/local/lib/web/stop\"]",
        Required,
    ),
    key("pair.command", "release", "a list of strings, program and arguments", "[\"/bin/true\"]", Required),
    key(
        "pair.command",
        "status",
        "a list of strings, program and arguments",
        "[\"/usr/local/lib/web/status\"]",
        Required,
    ),
    key("pair.heartbeat", "source", "\"agent\" or \"probe\"", "\"agent\"", Is("\"agent\"")),
    key("pair.heartbeat", "interval", "a time from 1ms to 1s", "\"2ms\"", Is("\"2ms\"")),
    key(
        "pair.heartbeat",
        "timeout",
        "a time of at least twice the interval, at most 60s",
        "\"8ms\"",
        Is("\"8ms\""),
    ),
    key("pair.heartbeat", "start", "a time from 1s to 1h", "\"60s\"", Is("\"60s\"")),
    key("pair.replace", "auto", "true or false", "true", Is("true")),
    key("pair.replace", "release", "\"delete\" or \"keep\"", "\"delete\"", Is("\"delete\"")),
];

/// Keys that the design has and this version does not.
pub(super) const NOT_YET: &[(&str, &str)] = &[("", "cluster")];

/// The key of a section.
///
/// # Panics
/// When there is none: the code asks for a key that it has not declared.
pub(super) fn find(section: &str, name: &str) -> &'static Key {
    SCHEMA
        .iter()
        .find(|key| key.section == section && key.name == name)
        .unwrap_or_else(|| panic!("{section}.{name} is not in the schema"))
}

/// The names of a section's keys.
pub(super) fn names(section: &str) -> impl Iterator<Item = &'static str> {
    SCHEMA.iter().filter(move |key| key.section == section).map(|key| key.name)
}
