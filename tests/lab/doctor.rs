//! `hotpair doctor` beside a running controller, and beside somebody else's XDP program.

use std::time::Duration;

use anyhow::{Context, Result};
use hotpair_tests::lab::{Lab, UPLINK};
use hotpair_tests::xdp_pass;
use serde_json::Value;

fn doctor(lab: &Lab, arguments: &[&str]) -> Result<(i32, Vec<Value>)> {
    let spoken = lab.hotpair(&[&["doctor", "-o", "json"], arguments].concat())?;
    let findings: Value = serde_json::from_str(&spoken.stdout).with_context(|| spoken.stderr.clone())?;
    Ok((spoken.code, findings["findings"].as_array().context("a list")?.clone()))
}

fn of<'f>(findings: &'f [Value], check: &str) -> &'f Value {
    findings.iter().find(|finding| finding["check"] == check).expect("it is looked at")
}

#[test]
fn the_doctor_finds_nothing_wrong_beside_a_running_controller() -> Result<()> {
    if !crate::may_run("the_doctor_finds_nothing_wrong_beside_a_running_controller") {
        return Ok(());
    }
    let lab = Lab::builder().heartbeat(Duration::from_millis(5), Duration::from_millis(250)).start()?;
    let before = lab.wait_protected()?;
    let config = lab.config_file().display().to_string();
    let (code, findings) = doctor(&lab, &["--config", &config])?;
    let failures: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "fail").collect();
    assert!(code < 2 && failures.is_empty(), "{failures:#?}");
    let program = of(&findings, "xdp_program");
    assert!(program["what"].as_str().is_some_and(|what| what.contains("hotpair's own")), "{program}");
    let after = lab.pair()?;
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary), "it only looks");
    Ok(())
}

#[test]
fn somebody_elses_program_on_the_uplink_is_named() -> Result<()> {
    if !crate::may_run("somebody_elses_program_on_the_uplink_is_named") {
        return Ok(());
    }
    let lab = Lab::builder()
        .heartbeat(Duration::from_millis(5), Duration::from_millis(250))
        .without_controller()?;
    let theirs = {
        let _inside = lab.host().netns().enter()?;
        xdp_pass::attach(UPLINK)?
    };
    let (code, findings) = doctor(&lab, &["--uplink", UPLINK])?;
    let program = of(&findings, "xdp_program");
    assert_eq!((code, program["level"].as_str()), (2, Some("fail")), "{program}");
    assert!(program["what"].as_str().is_some_and(|what| what.contains("\"xdp_pass\" (id ")), "{program}");
    assert!(
        program["way_out"].as_str().is_some_and(|way| way.contains("bpftool prog show id ")),
        "{program}"
    );
    drop(theirs);
    let (_, findings) = doctor(&lab, &["--uplink", UPLINK])?;
    assert_eq!(of(&findings, "xdp_program")["level"], "ok", "{findings:#?}");
    Ok(())
}
