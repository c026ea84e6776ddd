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
    change("timeout = \"200ms\"", "timeout = \"50\"")?;
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
fn a_nic_without_native_xdp_is_refused_by_name_and_taken_in_generic_mode_loudly() -> Result<()> {
    if !crate::may_run("a_nic_without_native_xdp_is_refused_by_name_and_taken_in_generic_mode_loudly") {
        return Ok(());
    }
    let mut lab = Lab::builder().without_controller()?;
    let config = fs::read_to_string(lab.config_file())?;
    lab.host().ip(&format!(
        "link add ifb9 type ifb\nlink set ifb9 up\n\
         link add br9 type bridge\nlink set br9 up\nlink add mv9 link {UPLINK} type macvlan\nlink set mv9 up"
    ))?;
    for nic in ["ifb9", "br9", "mv9"] {
        fs::write(lab.config_file(), config.replace(&format!("\"{UPLINK}\""), &format!("\"{nic}\"")))?;
        let before = traces(&lab)?;
        let spoken = lab.hotpair(&["run"])?;
        ensure!(spoken.code != 0, "{nic}: {spoken:?}");
        for word in [nic, "generic"] {
            ensure!(spoken.stderr.contains(word), "{word} is not in {spoken:?}");
        }
        ensure!(traces(&lab)? == before, "{nic}: something was touched: {before} became {}", traces(&lab)?);
    }
    lab.host().ip("link del mv9")?;
    fs::write(lab.config_file(), config.replace("xdp = \"native\"", "xdp = \"generic\""))?;
    lab.start_controller()?;
    lab.wait_protected()?;
    let loud = "XDP runs in the stack (host.xdp = \"generic\")";
    let status = lab.status()?;
    ensure!(
        status.notes.iter().any(|note| note.contains(loud) && note.contains(UPLINK)),
        "{:?}",
        status.notes
    );
    let shown = lab.must(&["status"])?;
    ensure!(shown.contains(&format!("note: {UPLINK}: {loud}")), "{shown}");
    ensure!(lab.log().contains(loud), "{}", lab.log());
    let doctor = lab.hotpair(&["doctor"])?;
    ensure!(doctor.code == 1 && doctor.stdout.contains("in the stack, as host.xdp"), "{doctor:?}");
    Ok(())
}

/// What `run` refuses of the machine itself, each made for the command alone.
#[test]
fn a_machine_that_cannot_carry_it_is_refused_and_nothing_is_touched() -> Result<()> {
    if !crate::may_run("a_machine_that_cannot_carry_it_is_refused_and_nothing_is_touched") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let before = traces(&lab)?;
    let old = lab.dir().join("osrelease");
    fs::write(&old, "6.1.0-13-amd64\n")?;
    for (made, names) in [
        (
            format!("mount --bind {} /proc/sys/kernel/osrelease", old.display()),
            ["6.1.0-13-amd64 is older", "6.6"],
        ),
        (format!("mount -t tmpfs none {}", lab.dir().join("bpf").display()), ["bpf_dir", "mount -t bpf"]),
    ] {
        let script = format!("mount --make-rprivate / && {made} && exec timeout 30 \"$@\"");
        let mut command = lab.host().command("unshare");
        command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(Lab::usual_controller());
        let output = command.arg("--config").arg(lab.config_file()).arg("run").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{made}: {output:?}");
        for name in names {
            ensure!(said.contains(name), "{made}: {name:?} is not in {said}");
        }
        ensure!(traces(&lab)? == before, "{made}: something was touched: {before} became {}", traces(&lab)?);
    }
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
