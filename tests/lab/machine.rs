//! The lab's machines by themselves, without hotpair: what the other tests rely on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hotpair_tests::lab::Lab;
use hotpair_tests::load::{By, Plan};
use hotpair_tests::netns::run;
use hotpair_tests::wait::{wait_for, wait_until};

/// A lab with one tap in the host's namespace that the host can reach its machine through.
fn lab_with_tap() -> Result<Lab> {
    let lab = Lab::builder().without_controller()?;
    lab.host().ip("tuntap add hpwebs0 mode tap vnet_hdr\n\
         addr add 169.254.77.3/29 dev hpwebs0\n\
         link set hpwebs0 up\n\
         route add 203.0.113.10/32 dev hpwebs0\n")?;
    Ok(lab)
}

fn echo_from_host(lab: &Lab, during: Duration) -> Result<hotpair_tests::load::Load> {
    let _inside = lab.host().netns().enter()?;
    Plan::udp("203.0.113.10:7".parse()?).rate(500).during(during).start()
}

#[test]
fn a_machine_starts_serves_stops_and_leaves_nothing() -> Result<()> {
    if !crate::may_run("a_machine_starts_serves_stops_and_leaves_nothing") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    assert!(lab.command_machine("status", 0, 0).is_err(), "nothing runs yet");
    lab.command_machine("start", 0, 7)?;
    assert_eq!(lab.command_machine("status", 0, 0)?.trim(), "7");
    assert_eq!(lab.volumes()?, ["web-0-7.volume"]);
    let error = lab.command_machine("start", 0, 8).expect_err("the place is taken");
    assert!(error.to_string().contains("generation 7 runs"), "{error}");

    let report = echo_from_host(&lab, Duration::from_millis(300))?.wait();
    assert_eq!(
        (report.lost().count(), report.answerers()),
        (0, vec![By { slot: 0, generation: 7 }]),
        "{}",
        report.line()
    );
    let web = {
        let _inside = lab.host().netns().enter()?;
        Plan::http("203.0.113.10:80".parse()?, "/").during(Duration::from_millis(200)).start()?.wait()
    };
    assert!(web.sent() >= 10 && web.lost().count() == 0, "{}: {:?}", web.line(), web.lost().next());

    lab.command_machine("stop", 0, 7)?;
    lab.command_machine("stop", 0, 7)?;
    assert!(lab.command_machine("status", 0, 0).is_err(), "it has stopped");
    assert_eq!(lab.volumes()?, ["web-0-7.volume"], "storage is another matter");
    lab.command_machine("release", 0, 7)?;
    lab.command_machine("release", 0, 7)?;
    assert!(lab.volumes()?.is_empty());

    let (dir, netns) = (lab.dir().to_path_buf(), lab.host().netns().name().to_string());
    drop(lab);
    assert!(!dir.exists(), "files");
    assert!(!run(std::process::Command::new("ip").args(["netns", "list"]))?.contains(&netns), "namespaces");
    Ok(())
}

#[test]
fn large_segments_and_checksums_cross_the_tap_unharmed() -> Result<()> {
    if !crate::may_run("large_segments_and_checksums_cross_the_tap_unharmed") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    lab.command_machine("start", 0, 1)?;
    // Fragments both ways; the kernel checks every sum.
    let _inside = lab.host().netns().enter()?;
    let kind = hotpair_tests::load::Kind::Udp { size: 9000 };
    let plan =
        Plan { kind, ..Plan::udp("203.0.113.10:7".parse()?).rate(200).during(Duration::from_millis(200)) };
    let report = plan.start()?.wait();
    assert!(report.sent() > 10 && report.lost().count() == 0, "{}", report.line());
    Ok(())
}

#[test]
fn a_frozen_machine_is_silent_at_once_and_goes_on_when_thawed() -> Result<()> {
    if !crate::may_run("a_frozen_machine_is_silent_at_once_and_goes_on_when_thawed") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    lab.command_machine("start", 0, 1)?;
    let machine = lab.machine(0)?;
    let load = echo_from_host(&lab, Duration::from_secs(10))?;
    wait_until("answers", Duration::from_secs(5), || load.so_far().answered() > 50)?;
    machine.freeze()?;
    let frozen_at = load.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    machine.thaw()?;
    let thawed_at = load.elapsed();
    wait_until("answers again", Duration::from_secs(5), || {
        load.so_far()
            .requests
            .last()
            .is_some_and(|last| last.sent_at > thawed_at + Duration::from_millis(100))
    })?;
    let report = load.stop();
    // An answer comes when the client has read it, which may take as long as any other answer did.
    let margin = Duration::from_millis(5) + report.in_flight_at(frozen_at);
    let while_frozen = report.requests.iter().filter_map(|r| r.answered_at);
    assert_eq!(
        while_frozen.filter(|at| *at > frozen_at + margin && *at < thawed_at - margin).count(),
        0,
        "silent"
    );
    assert!(report.gap > Duration::from_millis(250), "{}", report.line());
    assert_eq!(report.lost().count(), 0, "what had queued up was answered late: {}", report.line());
    Ok(())
}

#[test]
fn a_killed_machine_takes_the_carrier_along_and_its_agent() -> Result<()> {
    if !crate::may_run("a_killed_machine_takes_the_carrier_along_and_its_agent") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    lab.command_machine("start", 0, 1)?;
    let machine = lab.machine(0)?;
    let agent = wait_for("the agent", Duration::from_secs(5), || {
        let list = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", machine.pid()))?;
        list.split_whitespace().next().map(str::to_string).context("it has no child")
    })?;
    let carrier = |lab: &Lab| -> Result<String> {
        run(lab.host().command("ip").args(["-br", "link", "show", "hpwebs0"]))
    };
    wait_until("the carrier", Duration::from_secs(5), || {
        carrier(&lab).is_ok_and(|line| line.contains("LOWER_UP"))
    })?;
    machine.kill()?;
    wait_until("the end", Duration::from_secs(5), || !machine.is_alive())?;
    wait_until("no carrier", Duration::from_secs(5), || {
        carrier(&lab).is_ok_and(|line| line.contains("NO-CARRIER"))
    })?;
    wait_until("no agent", Duration::from_secs(5), || {
        std::fs::read_to_string(format!("/proc/{agent}/stat")).map_or(true, |stat| stat.contains(") Z "))
    })?;
    Ok(())
}

#[test]
fn a_machine_sends_and_sees_any_frame() -> Result<()> {
    if !crate::may_run("a_machine_sends_and_sees_any_frame") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    lab.command_machine("start", 0, 1)?;
    let machine = lab.machine(0)?;
    let capture = hotpair_tests::wire::Capture::start(lab.host().netns(), "hpwebs0")?;
    let lldp = [&[1, 0x80, 0xc2, 0, 0, 0xe, 2, 0, 0, 0, 0, 9, 0x88, 0xcc][..], b"made up by hand", &[0; 40]]
        .concat();
    machine.inject(std::slice::from_ref(&lldp))?;
    assert!(capture.stop()?.iter().any(|frame| frame.bytes == lldp), "it leaves the tap as it is");

    machine.capture()?;
    let report = echo_from_host(&lab, Duration::from_millis(200))?.wait();
    let frames = machine.captured()?;
    let seen = frames.iter().filter(|frame| frame.windows(4).any(|w| w == b"HPLD")).count();
    assert_eq!((report.lost().count(), seen), (0, report.sent()), "{}", report.line());
    Ok(())
}

#[test]
fn without_the_image_no_machine_starts_and_nothing_is_left() -> Result<()> {
    if !crate::may_run("without_the_image_no_machine_starts_and_nothing_is_left") {
        return Ok(());
    }
    let lab = lab_with_tap()?;
    lab.lose_image()?;
    let error = lab.command_machine("start", 0, 1).expect_err("no image").to_string();
    assert!(error.contains("cannot make a volume from the image"), "{error}");
    assert!(lab.volumes()?.is_empty());
    lab.restore_image()?;
    lab.command_machine("start", 0, 2)?;
    Ok(())
}

#[test]
fn the_next_lab_removes_what_a_killed_one_left() -> Result<()> {
    if !crate::may_run("the_next_lab_removes_what_a_killed_one_left") {
        return Ok(());
    }
    // A lab of another process, which is killed before it can clean up.
    let exe = std::env::current_exe()?;
    let mut other = std::process::Command::new(exe)
        .args(["machine::a_lab_that_waits_to_be_killed", "--exact", "--ignored", "--nocapture"])
        .env("HOTPAIR_LAB_VICTIM", "1")
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let began = Instant::now();
    let left = format!("hplab-{}-", other.id());
    let machine_runs = || -> Result<()> {
        let dir = std::path::PathBuf::from(format!("/run/hotpair-lab/{}-0", other.id()));
        Lab::machine_in(&dir, 0).map(drop)
    };
    let up = wait_for("the other lab", Duration::from_secs(10), machine_runs);
    other.kill()?;
    other.wait()?;
    up?;
    let names = || run(std::process::Command::new("ip").args(["netns", "list"]));
    assert!(names()?.contains(&left), "a killed process leaves its namespaces");
    let lab = Lab::builder().without_controller()?;
    assert!(!names()?.contains(&left), "{}", names()?);
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(lab);
    Ok(())
}

#[test]
#[ignore = "only ever run, and killed, by another test"]
fn a_lab_that_waits_to_be_killed() -> Result<()> {
    if std::env::var_os("HOTPAIR_LAB_VICTIM").is_some() {
        let lab = lab_with_tap()?;
        lab.command_machine("start", 0, 1)?;
        std::thread::sleep(Duration::from_secs(30));
    }
    Ok(())
}
