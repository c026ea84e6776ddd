//! libvirtd goes away, hangs, and comes back. The backend reaches it through a relay that can do all of that, so that
//! the libvirtd of the machine is left alone.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hotpair::hypervisor::{Hypervisor, VmEvent};
use hotpair_abi::Slot;

use crate::stage::{Stage, done};

struct Relay {
    path: PathBuf,
    refusing: Arc<AtomicBool>,
    frozen: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    _dir: tempfile::TempDir,
}

impl Relay {
    fn new() -> Relay {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let relay = Relay {
            path,
            refusing: Arc::default(),
            frozen: Arc::default(),
            streams: Arc::default(),
            _dir: dir,
        };
        let (refusing, frozen, streams) =
            (relay.refusing.clone(), relay.frozen.clone(), relay.streams.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let server = UnixStream::connect("/run/libvirt/libvirt-sock").unwrap();
                let clone = |stream: &UnixStream| stream.try_clone().unwrap();
                streams.lock().unwrap().extend([clone(&client), clone(&server)]);
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let frozen = Arc::clone(&frozen);
                    thread::spawn(move || copy(from, to, &frozen));
                }
            }
        });
        relay
    }

    fn uri(&self) -> String {
        uri(&self.path)
    }

    /// What a restart of libvirtd looks like from here.
    fn drop_connections(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn uri(socket: &Path) -> String {
    format!("qemu+unix:///system?socket={}", socket.display())
}

fn copy(mut from: UnixStream, mut to: UnixStream, frozen: &AtomicBool) {
    let mut buffer = [0; 65536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while frozen.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_goes_away_is_told_and_found_again_with_what_happened_meanwhile() {
    let relay = Relay::new();
    let mut stage = Stage::connected_to(&relay.uri());
    stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap();

    relay.refusing.store(true, Ordering::SeqCst);
    relay.drop_connections();
    let event = stage.event().await;
    assert!(
        matches!(&event, VmEvent::Unreachable { why } if why.contains("libvirtd closed the connection")),
        "{event:?}"
    );
    let began = Instant::now();
    let why = stage.backend.running(&stage.pair).await.unwrap_err().to_string();
    assert!(why.contains("cannot be reached") && began.elapsed() < Duration::from_secs(10), "{why}");
    // Nobody is there to be told of this.
    done("virsh", &["-q", "-c", "qemu:///system", "destroy", &stage.domain(Slot::Zero, 1)]);

    relay.refusing.store(false, Ordering::SeqCst);
    let (first, second) = (stage.event().await, stage.event().await);
    assert!(matches!(&first, VmEvent::Gone { generation: 1, .. }), "{first:?}");
    assert_eq!(second, VmEvent::Reachable);
    stage.backend.start(&stage.member(Slot::Zero, 2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_hangs_is_noticed_and_a_member_is_fenced_without_it() {
    let relay = Relay::new();
    let mut stage = Stage::connected_to(&relay.uri());
    let member = stage.member(Slot::Zero, 1);
    stage.backend.start(&member).await.unwrap();
    let qemu = stage.qemu(Slot::Zero, 1);

    relay.frozen.store(true, Ordering::SeqCst);
    let began = Instant::now();
    stage.backend.stop(&member).await.unwrap();
    println!("fenced with a hanging libvirtd after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(!std::fs::exists(format!("/proc/{qemu}/exe")).unwrap_or(true), "its process is gone");
    let event = stage.event().await;
    println!("told after {:?}: {event:?}", began.elapsed());
    assert!(matches!(&event, VmEvent::Unreachable { why } if why.contains("hangs")), "{event:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());

    relay.frozen.store(false, Ordering::SeqCst);
    assert_eq!(stage.event().await, VmEvent::Reachable);
    assert!(stage.backend.running(&stage.pair).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_is_not_there_at_first_is_found_when_it_comes() {
    let relay = Relay::new();
    relay.refusing.store(true, Ordering::SeqCst);
    let mut stage = Stage::connected_to(&relay.uri());
    let event = stage.event().await;
    assert!(matches!(&event, VmEvent::Unreachable { .. }), "{event:?}");
    relay.refusing.store(false, Ordering::SeqCst);
    assert_eq!(stage.event().await, VmEvent::Reachable);
    assert!(stage.backend.running(&stage.pair).await.unwrap().is_empty());
}
