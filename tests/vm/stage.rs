//! What a test of the libvirt backend plays on: a directory that QEMU may read, a golden image, a template, taps, and
//! the backend itself. Everything is taken away again, whatever the test has done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotpair::config::{Accel, Vm};
use hotpair::hypervisor::libvirt::Libvirt;
use hotpair::hypervisor::{MemberSpec, VmEvent};
use hotpair_abi::{PairId, Slot};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A VM without anything to boot: its firmware comes up and waits. Enough for everything that is not the guest's doing.
const TEMPLATE: &str = "<domain type='kvm'>
  <name>template</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='IMAGE'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><mac address='52:54:00:68:70:01'/><source network='default'/><model type='virtio'/></interface>
    <serial type='pty'/>
    <memballoon model='none'/>
  </devices>
</domain>";

pub(crate) struct Stage {
    pub(crate) pair: String,
    pub(crate) dir: PathBuf,
    pub(crate) backend: Arc<Libvirt>,
    pub(crate) events: UnboundedReceiver<VmEvent>,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage::connected_to("qemu:///system")
    }

    pub(crate) fn connected_to(uri: &str) -> Stage {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "real VMs on taps of their own need root");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pair = format!("t{}x{number}", std::process::id() % 100_000);
        // Not under /tmp or a home directory: QEMU runs as libvirt's own user and must be able to enter it.
        let dir = PathBuf::from("/var/lib/libvirt/images").join(format!("hotpair-{pair}"));
        fs::create_dir(&dir).expect("libvirt's image directory exists");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let (tell, events) = unbounded_channel();
        let backend = Libvirt::connect(uri, Accel::Auto, &dir.join("state"), tell).unwrap();
        let stage = Stage { pair, dir, backend, events };
        done("qemu-img", &["create", "-q", "-f", "qcow2", &stage.image().to_string_lossy(), "8M"]);
        stage.write_template(&TEMPLATE.replace("IMAGE", &stage.image().to_string_lossy()));
        for slot in Slot::BOTH {
            done("ip", &["tuntap", "add", "dev", &stage.tap(slot), "mode", "tap"]);
            done("ip", &["link", "set", &stage.tap(slot), "up"]);
        }
        stage
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("golden.qcow2")
    }

    pub(crate) fn template(&self) -> PathBuf {
        self.dir.join("template.xml")
    }

    pub(crate) fn write_template(&self, text: &str) {
        fs::write(self.template(), text).unwrap();
    }

    fn tap(&self, slot: Slot) -> String {
        format!("hp{}s{slot}", self.pair)
    }

    pub(crate) fn member(&self, slot: Slot, generation: u64) -> MemberSpec {
        MemberSpec {
            pair_id: PairId(0),
            pair: self.pair.clone(),
            slot,
            generation,
            tap: self.tap(slot),
            mac: [0x52, 0x54, 0, 0x68, 0x70, 1],
            entry: Vec::new(),
            internal_ip: [10, 78, 0, 1].into(),
            vm: Vm::Libvirt { domain: self.template(), image: self.image() },
        }
    }

    pub(crate) fn domain(&self, slot: Slot, generation: u64) -> String {
        format!("hotpair-{}-{slot}-g{generation}", self.pair)
    }

    pub(crate) fn volume(&self, slot: Slot, generation: u64) -> PathBuf {
        self.dir.join(format!("{}.qcow2", self.domain(slot, generation)))
    }

    /// The process id of a member's QEMU.
    pub(crate) fn qemu(&self, slot: Slot, generation: u64) -> i32 {
        let file = format!("/run/libvirt/qemu/{}.pid", self.domain(slot, generation));
        fs::read_to_string(file).expect("the member runs").trim().parse().unwrap()
    }

    /// The next event, within half a minute: that libvirtd hangs is known after ten seconds of its silence.
    pub(crate) async fn event(&mut self) -> VmEvent {
        tokio::time::timeout(Duration::from_secs(30), self.events.recv())
            .await
            .expect("an event within 30 s")
            .expect("the backend lives")
    }

    /// What libvirt and the directory still have of this pair, found without the backend.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut found: Vec<String> =
            output("virsh", &["-q", "-c", "qemu:///system", "list", "--all", "--name"])
                .lines()
                .filter(|name| name.contains(&self.pair))
                .map(str::to_owned)
                .collect();
        let pools = output("virsh", &["-q", "-c", "qemu:///system", "pool-list", "--all", "--details"]);
        found.extend(pools.lines().filter(|line| line.contains(&self.pair)).map(str::to_owned));
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        found.extend(
            files
                .map(|file| file.file_name().to_string_lossy().into_owned())
                .filter(|name| name.starts_with("hotpair-")),
        );
        found
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in output("virsh", &["-q", "-c", "qemu:///system", "list", "--all", "--name"]).lines() {
            if name.contains(&self.pair) {
                output("virsh", &["-q", "-c", "qemu:///system", "destroy", name]);
                output("virsh", &["-q", "-c", "qemu:///system", "undefine", name]);
            }
        }
        for slot in Slot::BOTH {
            // The tap is free only when QEMU is really gone.
            let end = Instant::now() + Duration::from_secs(5);
            while !output("ip", &["link", "del", &self.tap(slot)]).is_empty() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn done(program: &str, arguments: &[&str]) {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
