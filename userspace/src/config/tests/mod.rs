//! What a configuration may say, and what each wrong word is answered with.

mod every_key;
mod good;
mod refusals;

use std::path::Path;

use super::{Config, ConfigError, ConfigErrors, parse};

/// One key a line, each of them written.
const LIBVIRT: &str = r#"[host]
name = "hv1"
uplink = "eth0"
xdp = "native"
internal_net = "10.78.0.0/16"
state_dir = "/var/lib/hotpair"
run_dir = "/run/hotpair"
bpf_dir = "/sys/fs/bpf/hotpair"
metrics = "127.0.0.1:9477"

[hypervisor]
kind = "libvirt"
uri = "qemu:///system"
accel = "auto"

[[pair]]
name = "web"
entry = ["203.0.113.10", "2001:db8::10"]
takeover = "mirror"
ack = "both"
answer = "primary"
compare = true
lag_limit = "10ms"
domain = "web.xml"
image = "/var/lib/libvirt/images/web.qcow2"
mac = "02:68:70:00:00:01"
handover = "20ms"

[pair.heartbeat]
source = "agent"
interval = "2ms"
timeout = "8ms"
start = "60s"

[pair.replace]
auto = true
release = "delete"
"#;

/// The same for the backend `command`.
const COMMAND: &str = r#"[host]
uplink = "eth0"
internal_net = "10.78.0.0/16"

[hypervisor]
kind = "command"

[[pair]]
name = "web"
entry = ["203.0.113.10"]

[pair.command]
start = ["bin/start", "now"]
stop = ["/bin/stop"]
release = ["true"]
status = ["./status"]
"#;

fn read(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, Path::new("/etc/hotpair/hotpair.toml"))
}

fn refused(text: &str) -> Vec<ConfigError> {
    match read(text) {
        Ok(_) => panic!("this is accepted:\n{text}"),
        Err(errors) => errors.errors().to_vec(),
    }
}

/// Line and column, from 1, of the first occurrence.
fn position(text: &str, needle: &str) -> (usize, usize) {
    let at = text.find(needle).unwrap_or_else(|| panic!("{needle:?} is not in\n{text}"));
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text[..at].matches('\n').count() + 1, text[line_start..at].chars().count() + 1)
}

/// Replaces exactly one occurrence.
fn edit(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} must be there once");
    text.replacen(from, to, 1)
}
