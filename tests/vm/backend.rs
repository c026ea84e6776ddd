//! The libvirt backend: what a start makes, what a stop and a release take away, and what is told in between.

use std::time::{Duration, Instant};
use std::{fs, thread};

use hotpair::config::Release;
use hotpair::hypervisor::{Hypervisor, Running, VmEvent};
use hotpair_abi::Slot;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Stage, done, output};

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_runs_on_its_own_overlay_and_nothing_is_left_when_it_is_released() {
    let stage = Stage::new();
    let golden = fs::read(stage.image()).unwrap();
    let (first, second) = (stage.member(Slot::Zero, 1), stage.member(Slot::One, 1));
    let began = Instant::now();
    let (a, b) = tokio::join!(stage.backend.start(&first), stage.backend.start(&second));
    println!("two starts at once: {:?}", began.elapsed());
    a.unwrap();
    b.unwrap();
    let mut running = stage.backend.running(&stage.pair).await.unwrap();
    running.sort_by_key(|member| member.slot);
    assert_eq!(running, Slot::BOTH.map(|slot| Running { slot, generation: 1 }));
    let chain = output("qemu-img", &["info", "-U", &stage.volume(Slot::Zero, 1).to_string_lossy()]);
    assert!(chain.contains("golden.qcow2") && chain.contains("backing file format: qcow2"), "{chain}");
    assert_eq!(stage.backend.leftovers(&stage.pair).await.unwrap().len(), 4, "two domains, two volumes");

    for member in [&first, &second] {
        let began = Instant::now();
        stage.backend.stop(member).await.unwrap();
        println!("stop: {:?}", began.elapsed());
        let began = Instant::now();
        stage.backend.release(member, Release::Delete).await.unwrap();
        println!("release: {:?}", began.elapsed());
    }
    assert_eq!(stage.backend.leftovers(&stage.pair).await.unwrap(), Vec::<String>::new());
    assert_eq!(stage.remains(), Vec::<String>::new());
    assert_eq!(fs::read(stage.image()).unwrap(), golden, "the golden image is untouched");
    // Again: all of it is well when there is nothing.
    stage.backend.stop(&first).await.unwrap();
    stage.backend.release(&first, Release::Delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_destroyed_or_paused_member_is_told_and_one_stopped_by_us_is_not() {
    let mut stage = Stage::new();
    stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap();
    let began = Instant::now();
    signal(stage.qemu(Slot::Zero, 1), Signal::KILL);
    let event = stage.event().await;
    println!("SIGKILL told after {:?}: {event:?}", began.elapsed());
    assert!(matches!(&event, VmEvent::Gone { generation: 1, .. }), "{event:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "told after {:?}", began.elapsed());

    stage.backend.start(&stage.member(Slot::Zero, 2)).await.unwrap();
    done("virsh", &["-q", "-c", "qemu:///system", "suspend", &stage.domain(Slot::Zero, 2)]);
    let event = stage.event().await;
    assert!(matches!(&event, VmEvent::Halted { generation: 2, how, .. } if how == "paused"), "{event:?}");
    done("virsh", &["-q", "-c", "qemu:///system", "destroy", &stage.domain(Slot::Zero, 2)]);
    let event = stage.event().await;
    assert!(matches!(&event, VmEvent::Gone { generation: 2, .. }), "{event:?}");

    stage.backend.start(&stage.member(Slot::Zero, 3)).await.unwrap();
    stage.backend.stop(&stage.member(Slot::Zero, 3)).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(300), stage.events.recv()).await;
    assert!(quiet.is_err(), "what we did ourselves is no news: {quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_member_is_fenced_at_once_and_not_after_libvirts_ten_seconds() {
    let stage = Stage::new();
    let member = stage.member(Slot::Zero, 1);
    stage.backend.start(&member).await.unwrap();
    let qemu = stage.qemu(Slot::Zero, 1);
    signal(qemu, Signal::STOP);
    thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    stage.backend.stop(&member).await.unwrap();
    println!("stop of a frozen member: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
    assert!(!fs::exists(format!("/proc/{qemu}/exe")).unwrap_or(true), "its process is gone");
    assert!(stage.backend.running(&stage.pair).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let mut member = stage.member(Slot::Zero, 1);
    member.tap = "hpnosuchtap".into();
    let why = stage.backend.start(&member).await.unwrap_err().to_string();
    let wanted = format!("starting {}: the tap hpnosuchtap does not exist", stage.domain(Slot::Zero, 1));
    assert!(why.starts_with(&wanted), "{why}");
    assert_eq!(stage.remains(), Vec::<String>::new());

    let good = fs::read_to_string(stage.template()).unwrap();
    for (template, wanted) in [
        ("nonsense".to_owned(), "is not XML"),
        (good.replace("<memory unit='MiB'>32", "<memory unit='TiB'>9"), "not enough memory"),
        (good.replace("q35", "no-such-machine"), "libvirt refuses: "),
    ] {
        stage.write_template(&template);
        let why = stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap_err().to_string();
        assert!(why.contains(wanted), "{why}");
        assert_eq!(stage.remains(), Vec::<String>::new(), "after {why}");
    }
    stage.write_template(&good);
    fs::rename(stage.image(), stage.dir.join("elsewhere")).unwrap();
    let why = stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap_err().to_string();
    assert!(
        why.contains("cannot read the golden image") && why.contains("golden.qcow2: No such file"),
        "{why}"
    );
    assert_eq!(stage.remains(), Vec::<String>::new());
    // And when the cause is gone, it works.
    fs::rename(stage.dir.join("elsewhere"), stage.image()).unwrap();
    stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_volume_stays_and_a_leftover_of_the_same_generation_is_replaced() {
    let stage = Stage::new();
    let member = stage.member(Slot::One, 7);
    fs::write(stage.volume(Slot::One, 7), b"a half-made volume").unwrap();
    stage.backend.start(&member).await.unwrap();
    // A try that was given up and came up after all is replaced as well.
    let before = stage.qemu(Slot::One, 7);
    stage.backend.start(&member).await.unwrap();
    assert_ne!(stage.qemu(Slot::One, 7), before);
    stage.backend.stop(&member).await.unwrap();
    stage.backend.release(&member, Release::Keep).await.unwrap();
    assert!(stage.volume(Slot::One, 7).exists());
    let left = stage.backend.leftovers(&stage.pair).await.unwrap();
    assert_eq!(left, [format!("volume {}", stage.volume(Slot::One, 7).display())]);
    stage.backend.release(&member, Release::Delete).await.unwrap();
    assert!(!stage.volume(Slot::One, 7).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_of_somebody_else_is_never_touched_even_if_it_has_our_name() {
    let stage = Stage::new();
    let name = stage.domain(Slot::Zero, 1);
    let foreign = stage.dir.join("foreign.xml");
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os>\
         <devices><memballoon model='none'/></devices></domain>"
    );
    fs::write(&foreign, xml).unwrap();
    done("virsh", &["-q", "-c", "qemu:///system", "create", &foreign.to_string_lossy()]);
    let qemu = stage.qemu(Slot::Zero, 1);
    let why = stage.backend.start(&stage.member(Slot::Zero, 1)).await.unwrap_err().to_string();
    assert!(why.contains("is not hotpair's"), "{why}");
    stage.backend.stop(&stage.member(Slot::Zero, 1)).await.unwrap();
    assert!(stage.backend.running(&stage.pair).await.unwrap().is_empty());
    assert_eq!(stage.qemu(Slot::Zero, 1), qemu, "it still runs");
}
