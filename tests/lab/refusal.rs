//! What cannot work is refused before anything is touched.

use std::fs;

use anyhow::{Result, ensure};
use hotpair_tests::lab::{Lab, UPLINK};
use hotpair_tests::netns::run;

/// Everything of the host that hotpair could have touched.
fn traces(lab: &Lab) -> Result<String> {
    let links = run(lab.host().command("ip").args(["-d", "-o", "link", "show"]))?;
    // The link's MTU is the test's own doing, and its statistics are nobody's.
    let links: Vec<_> = links.lines().map(|line| line.split(" mtu ").next().unwrap_or(line)).collect();
    let programs = run(lab.host().command("ip").args(["-o", "link", "show", UPLINK]))?.contains("xdp");
    let files = |room: &str| run(lab.host().command("find").arg(lab.dir().join(room)));
    Ok(format!("{links:?} xdp: {programs} bpf: {:?} volumes: {:?}", files("bpf")?, files("volumes")?))
}

#[test]
fn what_cannot_work_is_refused_by_name_and_nothing_is_touched() -> Result<()> {
    if !crate::may_run("what_cannot_work_is_refused_by_name_and_nothing_is_touched") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let config = fs::read_to_string(lab.config_file())?;
    let change = |from: &str, to: &str| -> Result<()> {
        ensure!(config.contains(from), "{from:?} is not in the configuration");
        Ok(fs::write(lab.config_file(), config.replace(from, to))?)
    };
    let before = traces(&lab)?;
    let refused = |before: &str, code: i32, names: &[&str]| -> Result<()> {
        let spoken = lab.hotpair(&["run"])?;
        ensure!(spoken.code == code, "{names:?}: {spoken:?}");
        for name in names {
            ensure!(spoken.stderr.contains(name), "{name:?} is not in {spoken:?}");
        }
        ensure!(
            traces(&lab)? == before,
            "{names:?}: something was touched: {before} became {}",
            traces(&lab)?
        );
        Ok(())
    };

    change(UPLINK, "nosuchlink0")?;
    refused(&before, 2, &["nosuchlink0", "ip link"])?;
    change("takeover = \"mirror\"", "takeover = \"miror\"")?;
    refused(&before, 3, &["hotpair.toml:", "miror", "mirror"])?;
    change("timeout = \"50ms\"", "timeout = \"50\"")?;
    refused(&before, 3, &["hotpair.toml:", "timeout", "50ms"])?;
    change("\"2001:db8::10\"", "\"203.0.113.10\"")?;
    refused(&before, 3, &["hotpair.toml:", "203.0.113.10"])?;
    change(UPLINK, "lo")?;
    refused(&before, 2, &["lo"])?;

    // Frames that cannot be duplicated (DESIGN: over about 3.5 KB).
    change(UPLINK, "jumbo0")?;
    lab.host().ip(
        "link add jumbo0 mtu 9000 type veth peer name jumbo1 mtu 9000\nlink set jumbo0 up\nlink set jumbo1 up",
    )?;
    let before = traces(&lab)?;
    refused(&before, 2, &["MTU", "9000"])?;
    Ok(())
}

#[test]
fn a_foreign_program_on_the_uplink_is_named_and_left_alone() -> Result<()> {
    if !crate::may_run("a_foreign_program_on_the_uplink_is_named_and_left_alone") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let _foreign = {
        let _inside = lab.host().netns().enter()?;
        hotpair_tests::xdp_pass::attach(UPLINK)?
    };
    let before = traces(&lab)?;
    let spoken = lab.hotpair(&["run"])?;
    ensure!(spoken.code == 2 && spoken.stderr.contains("XDP"), "{spoken:?}");
    ensure!(traces(&lab)? == before, "something was touched: {before} became {}", traces(&lab)?);
    Ok(())
}
