//! The libvirtd of the machine is killed, hangs, and is gone for good, under a pair that serves; and a guest's kernel
//! panics, which libvirt knows nothing of.

use std::time::{Duration, Instant};

use hotpair::api::types::{Protection, Record, RecordKind};
use hotpair_tests::demo::{Demo, DemoReport, Fault, Round, Stage, Voice};
use hotpair_tests::libvirtd::Libvirtd;
use hotpair_tests::load;

use crate::scenario::{demo, soaking};

/// Far longer than it takes on a machine at rest.
const PATIENCE: Duration = Duration::from_secs(180);

fn wait(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// libvirtd is killed and started again: members and roles do not change, no client notices, the controller finds it.
///
/// An emulated guest that gets no CPU may fall silent by itself just then; that it does so twice is no chance.
fn killed(stage: &Stage) {
    if !killed_once(stage) {
        println!("the pair has failed over; once more, to see whether it was for libvirtd");
        stage.wait_protected(PATIENCE, None).unwrap();
        assert!(killed_once(stage), "nobody is failed over for it");
    }
}

/// The same; `false` if the pair has failed over meanwhile, and everything else was not looked at.
fn killed_once(stage: &Stage) -> bool {
    let before = stage.pair().unwrap();
    let lines = stage.history().unwrap().len();
    let plan = load::Plan { timeout: Duration::from_secs(5), ..load::Plan::udp(stage.echo()) };
    let load = stage.load(plan.rate(100)).unwrap();
    Libvirtd::find().unwrap().kill().unwrap();
    wait("the controller to notice", || stage.log().contains("libvirtd closed the connection"));
    wait("the controller to be connected again", || {
        stage.log().contains("libvirt can be reached again") && stage.status().unwrap().hypervisor.reachable
    });
    std::thread::sleep(Duration::from_secs(1));
    let load = load.stop();
    if stage.pair().unwrap().epoch != before.epoch {
        return false;
    }
    assert!(load.sent() > 50, "{} requests", load.sent());
    assert_eq!(load.lost().count(), 0, "no packet is lost");
    assert_eq!(load.doubled().count(), 0, "none is answered twice");
    let after = stage.pair().unwrap();
    let who = |pair: &hotpair::api::types::PairStatus| {
        (pair.primary, pair.epoch, pair.members.iter().map(|member| member.generation).collect::<Vec<_>>())
    };
    assert_eq!(who(&after), who(&before), "nobody is failed over or replaced for it");
    assert_eq!(after.protection, Protection::Protected);
    assert_eq!(stage.history().unwrap().len(), lines, "and it is no news of the pair");
    true
}

/// The primary dies while nobody answers for libvirt. `absent` is dropped, and libvirtd with it back, when the failover
/// has been seen, `status` has said what is wrong, and `hold` has passed.
fn dies_without_libvirtd(
    stage: &Stage,
    demo: &Demo,
    fault: Fault,
    absent: impl Send,
    hold: Duration,
) -> Round {
    let before = stage.pair().unwrap();
    let watch = move || {
        wait("the failover", || stage.pair().unwrap().epoch > before.epoch);
        wait("status to say that libvirt is away", || !stage.status().unwrap().hypervisor.reachable);
        wait("the history to say what is not done for now", || {
            let told =
                |record: &Record| record.kind == RecordKind::Delayed && record.epoch_after > before.epoch;
            stage.history().unwrap().iter().any(told)
        });
        std::thread::sleep(hold);
        let status = stage.status().unwrap();
        let pair = &status.pairs[0];
        assert_eq!(status.protection, Protection::Unprotected, "{status:?}");
        assert_ne!(pair.primary, before.primary, "the survivor serves");
        assert!(pair.why.as_ref().is_some_and(|why| why.contains("the standby")), "{:?}", pair.why);
        let text = stage.status_text().unwrap();
        println!("{text}");
        assert!(text.starts_with("UNPROTECTED: "), "{text}");
        assert!(text.contains("trouble: libvirt cannot be reached: "), "{text}");
        let old = before.members[usize::from(before.primary.unwrap())].generation;
        let made = stage.history().unwrap().into_iter().any(|record| {
            record.slot == before.primary
                && record.generation.is_some_and(|generation| generation > old)
                && record.kind == RecordKind::Replacing
        });
        assert!(!made, "nobody is made before the old one's storage is released");
        drop(absent);
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        let round = stage.round(demo, fault, 1);
        watcher.join().unwrap();
        round.unwrap()
    })
}

#[test]
fn a_libvirtd_that_is_killed_hangs_or_is_gone_delays_no_failover_and_all_is_finished_when_it_is_back() {
    let hold = Duration::from_secs(if soaking() { 60 } else { 1 });
    let demo = Demo { timeout: Duration::from_secs(2), ..demo("libvirtd", Fault::Kill, 1) };
    let mut stage = Stage::set(&demo, Voice::new()).unwrap();
    stage.wait_protected(PATIENCE, None).unwrap();
    killed(&stage);
    // And what fails after that is handled to its end: here by a member that libvirt thinks well of.
    let panicked = stage.round(&demo, Fault::Panic, 1).unwrap();
    assert_eq!(panicked.detected_by, "heartbeat", "{panicked:?}");
    assert!(panicked.detect_ms >= 2000.0, "{panicked:?}");
    let libvirtd = Libvirtd::find().unwrap();
    let hung = dies_without_libvirtd(&stage, &demo, Fault::Kill, libvirtd.hang().unwrap(), hold);
    let libvirtd = Libvirtd::find().unwrap();
    let gone = dies_without_libvirtd(&stage, &demo, Fault::Freeze, libvirtd.take_away().unwrap(), hold);
    assert_eq!(stage.strike().unwrap(), Vec::<String>::new(), "nothing is left behind");
    let report = DemoReport { accel: "any".to_owned(), rounds: vec![panicked, hung, gone] };
    report.verdict().unwrap();
}
