//! `[[pair]]`

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hotpair_abi::role::HANDOVER_LIMIT_NS;

use super::host::InternalNet;
use super::hypervisor::Kind;
use super::reader::{Section, Value, or_default};
use super::{
    Ack, Answer, Command, Heartbeat, Ipv4Net, Pair, Release, Replace, Source, Takeover, Vm, address, time,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LONGEST_HANDOVER: Duration = SECOND;

/// The data plane ends a handover that lasts longer.
const _: () = assert!(LONGEST_HANDOVER.as_nanos() + SECOND.as_nanos() <= HANDOVER_LIMIT_NS as u128);

/// Where names and addresses were first seen, to say it to the second who wants them.
#[derive(Default)]
struct Seen {
    names: HashMap<String, usize>,
    entries: HashMap<IpAddr, usize>,
}

pub(super) fn read<'r, 't>(
    root: &mut Section<'r, 't>,
    internal_net: Option<&InternalNet<'r, 't>>,
    kind: Option<Kind>,
) -> Option<Vec<Pair>> {
    let written = root.get("pair").is_some();
    let sections = root.tables("pair");
    if sections.is_empty() {
        if !written {
            root.missing("pair", "add a section [[pair]] with name, entry, domain and image");
        }
        return None;
    }
    let count = sections.len();
    if let Some((net, value)) = internal_net {
        // The host has the first address; the members follow, two a pair.
        let last = u32::try_from(count * 2 + 1).unwrap_or(u32::MAX);
        if net.host(last).is_none() {
            let needed = count * 2 + 3;
            let prefix = 32 - needed.next_power_of_two().trailing_zeros();
            value.refuse(
                &format!("{net} is too small for {count} pairs and the host"),
                &format!("write a prefix length of {prefix} or less"),
            );
        }
    }
    let net = internal_net.map(|(net, _)| *net);
    let mut seen = Seen::default();
    let pairs: Vec<Option<Pair>> =
        sections.into_iter().map(|section| read_one(section, net, kind, &mut seen)).collect();
    pairs.into_iter().collect()
}

fn read_one(
    mut section: Section<'_, '_>,
    net: Option<Ipv4Net>,
    kind: Option<Kind>,
    seen: &mut Seen,
) -> Option<Pair> {
    let name = section.require("name").and_then(|value| {
        let name = read_name(value.text()?, &value, seen)?;
        section.rename(format!("pair.{name}"));
        Some(name)
    });
    let entry = section.require("entry").and_then(|value| read_entry(&value, net, seen));
    let takeovers = [("mirror", Takeover::Mirror), ("address", Takeover::Address)];
    let takeover = or_default(section.get("takeover"), |value| value.choice(&takeovers), Takeover::Mirror);
    let acks = [Ack::Both, Ack::Primary, Ack::None].map(|ack| (ack.name(), ack));
    let ack = or_default(section.get("ack"), |value| value.choice(&acks), Ack::Both);
    let answers = [("primary", Answer::Primary), ("first", Answer::First)];
    let gated = (takeover, ack) == (Some(Takeover::Mirror), Some(Ack::Both));
    let answer = or_default(
        section.get("answer"),
        |value| match value.choice(&answers)? {
            Answer::First if takeover.is_some() && ack.is_some() && !gated => {
                value.refuse(
                    "\"first\" needs takeover = \"mirror\" and ack = \"both\": without them it does nothing",
                    "write those, or answer = \"primary\"",
                );
                None
            }
            answer => Some(answer),
        },
        Answer::Primary,
    );
    let compare = or_default(section.get("compare"), Value::boolean, true);
    let lag_limit = or_default(
        section.get("lag_limit"),
        |value| value.time(&(MILLISECOND..=60 * SECOND)),
        Duration::from_millis(10),
    );
    let vm = read_vm(&mut section, kind);
    let mac = or_default(section.get("mac"), |value| read_mac(value).map(Some), None);
    let heartbeat = read_heartbeat(&mut section);
    let replace = read_replace(&mut section);
    let handover = or_default(
        section.get("handover"),
        |value| value.time(&(MILLISECOND..=LONGEST_HANDOVER)),
        Duration::from_millis(20),
    );
    section.finish();
    Some(Pair {
        name: name?,
        entry: entry?,
        takeover: takeover?,
        ack: ack?,
        answer: answer?,
        compare: compare?,
        lag_limit: lag_limit?,
        vm: vm?,
        mac: mac?,
        heartbeat: heartbeat?,
        replace: replace?,
        handover: handover?,
    })
}

fn read_name(text: &str, value: &Value<'_, '_>, seen: &mut Seen) -> Option<String> {
    let well = (1..=11).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if !well {
        value.refuse(
            &format!("{text:?} cannot be a pair's name (its taps are called hp<name>s0 and s1)"),
            "write 1 to 11 characters of a-z, 0-9 and -, beginning with a letter",
        );
        return None;
    }
    if let Some(line) = seen.names.get(text) {
        value
            .refuse(&format!("the pair of line {line} has this name already"), "give each pair its own name");
        return None;
    }
    seen.names.insert(text.to_owned(), value.line());
    Some(text.to_owned())
}

fn read_entry(value: &Value<'_, '_>, net: Option<Ipv4Net>, seen: &mut Seen) -> Option<Vec<IpAddr>> {
    let elements = value.list()?;
    let addresses: Vec<IpAddr> = elements
        .iter()
        .filter_map(|element| {
            let ip = element.ip()?;
            if let Some(objection) = address::entry_objection(ip) {
                element.refuse(&format!("{ip} {objection}"), "write the address that clients use");
                return None;
            }
            if let Some(net) = net.filter(|net| matches!(ip, IpAddr::V4(v4) if net.contains(v4))) {
                element.refuse(
                    &format!("{ip} is in host.internal_net, {net}"),
                    "choose another internal_net: it is only for the host and its members",
                );
                return None;
            }
            if let Some(line) = seen.entries.get(&ip) {
                element.refuse(
                    &format!("{ip} is an entry address already, in line {line}"),
                    "give each address to one pair, once",
                );
                return None;
            }
            seen.entries.insert(ip, element.line());
            Some(ip)
        })
        .collect();
    (addresses.len() == elements.len()).then_some(addresses)
}

fn read_mac(value: &Value<'_, '_>) -> Option<[u8; 6]> {
    match address::parse_mac(value.text()?) {
        Ok(mac) => Some(mac),
        Err((what, way_out)) => {
            value.refuse(&what, &way_out);
            None
        }
    }
}

fn read_vm(section: &mut Section<'_, '_>, kind: Option<Kind>) -> Option<Vm> {
    let (domain, image, command) = (section.get("domain"), section.get("image"), section.get("command"));
    match kind? {
        Kind::Libvirt => {
            if let Some(command) = &command {
                command.refuse(
                    "belongs to hypervisor.kind = \"command\"",
                    "write domain and image instead, or choose kind = \"command\"",
                );
            }
            if domain.is_none() {
                section.missing(
                    "domain",
                    "add domain = \"web.xml\", the libvirt domain template of the members",
                );
            }
            if image.is_none() {
                section.missing(
                    "image",
                    "add image = \"/var/lib/libvirt/images/web.qcow2\", which every member gets an overlay on",
                );
            }
            // Both are read even if one is missing, so that everything wrong is said.
            let (domain, image) = (domain.map(|value| value.file()), image.map(|value| value.file()));
            let vm = Vm::Libvirt { domain: domain??, image: image?? };
            command.is_none().then_some(vm)
        }
        Kind::Command => {
            for value in [&domain, &image].into_iter().flatten() {
                value.refuse(
                    "belongs to hypervisor.kind = \"libvirt\"",
                    "write command instead, or choose kind = \"libvirt\"",
                );
            }
            let Some(command) = command else {
                section.missing(
                    "command",
                    "add command = { start = [\"...\"], stop = [\"...\"], release = [\"...\"], status = [\"...\"] }",
                );
                return None;
            };
            let command = read_command(command.section()?);
            (domain.is_none() && image.is_none()).then(|| command.map(Vm::Command)).flatten()
        }
    }
}

fn read_command(mut section: Section<'_, '_>) -> Option<Command> {
    let mut program = |key| section.require(key)?.program();
    let (start, stop, release) = (program("start"), program("stop"), program("release"));
    let status = program("status");
    section.finish();
    Some(Command { start: start?, stop: stop?, release: release?, status: status? })
}

fn read_heartbeat(pair: &mut Section<'_, '_>) -> Option<Heartbeat> {
    let defaults = Heartbeat {
        source: Source::Agent,
        interval: Duration::from_millis(2),
        timeout: Duration::from_millis(8),
        start: Duration::from_secs(60),
    };
    let Some(value) = pair.get("heartbeat") else { return Some(defaults) };
    let mut section = value.section()?;
    let sources = [("agent", Source::Agent), ("probe", Source::Probe)];
    let source = or_default(section.get("source"), |value| value.choice(&sources), defaults.source);
    let written_interval = section.get("interval");
    let written_timeout = section.get("timeout");
    let interval = match &written_interval {
        None => Some(defaults.interval),
        Some(value) => value.time(&(MILLISECOND..=SECOND)),
    };
    let longest = Duration::from_secs(60);
    let timeout = match &written_timeout {
        None => Some(defaults.timeout),
        Some(value) => value.time(&(MILLISECOND..=longest)),
    };
    let fits = match (interval, timeout) {
        (Some(interval), Some(timeout)) if timeout < interval * 2 => {
            let (needed, shown) = (time::show(interval * 2), time::show(timeout));
            // Said where it can be changed: at what is written, and rather at the timeout.
            let what = match &written_timeout {
                Some(_) => format!("{shown} is less than twice the interval of {}", time::show(interval)),
                None => format!("the timeout, {shown} unless written, is less than twice this interval"),
            };
            if let Some(value) = written_timeout.as_ref().or(written_interval.as_ref()) {
                value.refuse(
                    &what,
                    &format!(
                        "write a timeout of at least {needed}, so that one lost heartbeat is no failure"
                    ),
                );
            }
            false
        }
        _ => true,
    };
    let start = or_default(
        section.get("start"),
        |value| value.time(&(SECOND..=Duration::from_secs(3600))),
        defaults.start,
    );
    section.finish();
    let heartbeat = Heartbeat { source: source?, interval: interval?, timeout: timeout?, start: start? };
    fits.then_some(heartbeat)
}

fn read_replace(pair: &mut Section<'_, '_>) -> Option<Replace> {
    let defaults = Replace { auto: true, release: Release::Delete };
    let Some(value) = pair.get("replace") else { return Some(defaults) };
    let mut section = value.section()?;
    let auto = or_default(section.get("auto"), Value::boolean, defaults.auto);
    let releases = [("delete", Release::Delete), ("keep", Release::Keep)];
    let release = or_default(section.get("release"), |value| value.choice(&releases), defaults.release);
    section.finish();
    Some(Replace { auto: auto?, release: release? })
}
