//! Prepares what the demo needs and hands over to `hotpair-demo`, which plays it (`tests/src/demo`): the guest, where
//! QEMU may read it, its domain template, and a running libvirtd.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::exec::{cargo, interrupts, is_root, run, say, target_dir};
use crate::guest_image::{self, Guest};
use crate::{build, libvirtd, setup};

/// The entry addresses of the demo's pair, as `tests/src/demo/stage.rs` has them.
const ENTRIES: [&str; 2] = ["203.0.113.10", "2001:db8:77::10"];
/// Between two heartbeats: an emulated guest has better things to do than to beat faster.
const INTERVAL: &str = "10ms";
/// QEMU runs as libvirt's own user, which may not enter a home directory; here it may.
const STAGE: &str = "/var/lib/libvirt/images/hotpair-demo";
const LOCK: &str = "/run/hotpair-guest.lock";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What is done to the primary: kill, freeze, destroy, agent-failing, panic.
    #[arg(long, default_value = "kill", value_parser = ["kill", "freeze", "destroy", "agent-failing", "panic"])]
    fault: String,
    /// How many times in a row.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leave everything running at the end, to look around.
    #[arg(long)]
    keep: bool,
    /// Only remove what a demo that was kept has left running.
    #[arg(long, conflicts_with = "keep")]
    clean: bool,
}

/// The verb.
pub(crate) fn verb(options: &Options) -> Result<()> {
    if !is_root() {
        return again_as_root();
    }
    setup::run()?;
    let hotpair = build::hotpair(false)?;
    run(cargo().args(["build", "--package", "hotpair-tests", "--bin", "hotpair-demo"]))?;
    // The demo ends by itself at Ctrl-C and cleans up; so do we, after it.
    let _interrupted = interrupts()?;
    let mut libvirtd = libvirtd::ensure("demo")?;
    let mut guest = Deployed::new("demo")?;
    // The controller and the measuring client come before whatever else this machine does, as the VMs do.
    let mut demo = Command::new("nice");
    demo.args(["-n", "-15"]).arg(target_dir().join("debug/hotpair-demo"));
    demo.arg("--guest")
        .arg(guest.dir())
        .arg("--out")
        .arg(target_dir().join("demo"))
        .arg("--hotpair")
        .arg(&hotpair);
    demo.args(["--fault", &options.fault, "--rounds", &options.rounds.to_string(), "--interval", INTERVAL]);
    if options.keep {
        demo.arg("--keep");
        libvirtd.keep();
        guest.keep();
    }
    if options.clean {
        demo.arg("--clean");
    }
    run(&mut demo)
}

/// The guest where QEMU may read it. Gone when dropped.
pub(crate) struct Deployed {
    kept: bool,
    _alone: File,
}

impl Deployed {
    /// Builds the guest and brings it there.
    pub(crate) fn new(verb: &str) -> Result<Deployed> {
        let guest = guest_image::build(verb, &agent_options())?;
        let deployed = Deployed { kept: false, _alone: alone(verb)? };
        deploy(&guest, deployed.dir())?;
        Ok(deployed)
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        Path::new(STAGE)
    }

    /// From now on it stays.
    fn keep(&mut self) {
        self.kept = true;
    }
}

/// One guest at a time: demos and tests of this machine share its place.
fn alone(verb: &str) -> Result<File> {
    let lock = File::create(LOCK).with_context(|| format!("cannot make {LOCK}"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        say(verb, "another demo or test uses the guest; waiting for its end");
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {LOCK}"))?;
    }
    Ok(lock)
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(STAGE)
        {
            eprintln!("warning: {STAGE} stays behind: {error}");
        }
    }
}

/// What the agent in the guest is started with. The check is the web server's own answer, which `udp_echo` can take
/// away.
fn agent_options() -> String {
    format!(
        "--interval {INTERVAL} --realtime --check http:127.0.0.1:80/health --check-interval 100ms --check-timeout 3s \
         --fall 3 --rise 1\n"
    )
}

fn again_as_root() -> Result<()> {
    say("demo", "needs root (network namespaces, eBPF, VMs): running again with sudo");
    let program = std::env::current_exe().context("cannot find myself")?;
    let mut command = Command::new("sudo");
    // PATH and HOME: cargo and rustup are the user's.
    run(command
        .args(["-E", "env", &format!("PATH={}", std::env::var("PATH").unwrap_or_default())])
        .arg(program)
        .args(std::env::args_os().skip(1)))
}

/// Brings the guest to where QEMU may read it, and writes its template.
fn deploy(guest: &Guest, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for (from, name) in [
        (&guest.kernel, "vmlinuz"),
        (&guest.initramfs, "initramfs.cpio"),
        (&guest.image, "image.qcow2"),
        (&guest.sums, "SHA256SUMS"),
    ] {
        let to = to.join(name);
        // What a running VM has open stays as it is.
        if !to.exists() {
            fs::copy(from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?;
        }
    }
    let template = to.join("domain.xml");
    fs::write(&template, domain(to)).with_context(|| format!("cannot write {}", template.display()))
}

/// The domain template: what `virsh dumpxml` of such a VM would say, without what hotpair replaces anyway.
fn domain(dir: &Path) -> String {
    let file = |name: &str| -> PathBuf { dir.join(name) };
    format!(
        "<domain type='kvm'>\n\
         \x20 <name>hotpair-demo</name>\n\
         \x20 <memory unit='MiB'>192</memory>\n\
         \x20 <vcpu>1</vcpu>\n\
         \x20 <os>\n\
         \x20   <type arch='x86_64' machine='q35'>hvm</type>\n\
         \x20   <kernel>{}</kernel>\n\
         \x20   <initrd>{}</initrd>\n\
         \x20   <cmdline>{}</cmdline>\n\
         \x20 </os>\n\
         \x20 <features><acpi/><apic/></features>\n\
         \x20 <cpu mode='host-passthrough'/>\n\
         \x20 <clock offset='utc'/>\n\
         \x20 <on_reboot>restart</on_reboot>\n\
         \x20 <devices>\n\
         \x20   <disk type='file' device='disk'>\n\
         \x20     <driver name='qemu' type='qcow2' cache='unsafe'/>\n\
         \x20     <source file='{}'/>\n\
         \x20     <target dev='vda' bus='virtio'/>\n\
         \x20   </disk>\n\
         \x20   <interface type='ethernet'><model type='virtio'/></interface>\n\
         \x20   <serial type='file'><source path='{}'/><target port='0'/></serial>\n\
         \x20   <memballoon model='none'/>\n\
         \x20 </devices>\n\
         </domain>\n",
        file("vmlinuz").display(),
        file("initramfs.cpio").display(),
        guest_image::command_line(&ENTRIES),
        file("image.qcow2").display(),
        file("console.log").display(),
    )
}
