//! The state file is damaged, of another version, or not ours to read: the controller says so and what to do, the file stays
//! as it is, the data plane goes on, and what it says to do works.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::{Lab, Machine};
use hotpair_tests::netns::run;
use hotpair_tests::wait::wait_for;

use crate::scenario::{fail_over, patient, protected, steady_load};

/// What becomes of the file's bytes.
type Damage = fn(Vec<u8>) -> Vec<u8>;

fn state_file(lab: &Lab) -> PathBuf {
    lab.dir().join("state/hotpair.redb")
}

/// The command between backquotes in a message: what it says to do.
fn way_out(message: &str) -> Result<Vec<String>> {
    let (_, rest) = message.split_once("(`").with_context(|| format!("no command in {message}"))?;
    let (command, _) = rest.split_once("`)").with_context(|| format!("no command in {message}"))?;
    Ok(command.split_whitespace().map(str::to_owned).collect())
}

fn follow(message: &str) -> Result<()> {
    let command = way_out(message)?;
    run(Command::new(&command[0]).args(&command[1..])).map(drop)
}

#[test]
fn a_damaged_state_file_is_refused_and_moving_it_away_works() -> Result<()> {
    let name = "a_damaged_state_file_is_refused_and_moving_it_away_works";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    fail_over(&lab, |old| old.kill())?;
    let load = steady_load(&lab)?;
    let damages: [(&str, Damage); 4] = [
        ("cut off", |bytes| bytes[..bytes.len() / 3].to_vec()),
        ("empty", |_| Vec::new()),
        ("garbage", |bytes| bytes.iter().map(|byte| byte.wrapping_mul(31) ^ 0x5a).collect()),
        ("of another version", Vec::from),
    ];
    for (what, damage) in damages {
        let before = lab.wait_protected()?;
        let machines = [lab.machine(0)?, lab.machine(1)?];
        lab.stop_controller()?;
        let file = state_file(&lab);
        fs::write(&file, damage(fs::read(&file)?))?;
        if what == "of another version" {
            // A child that the controller has just forked has the file open, and locked, until it executes.
            let database =
                wait_for("the file to be free", Duration::from_secs(5), || Ok(redb::Database::open(&file)?))?;
            let write = database.begin_write()?;
            write.open_table(redb::TableDefinition::<&str, u64>::new("meta"))?.insert("format", 7)?;
            write.commit()?;
        }
        let damaged = fs::read(&file)?;
        let spoken = lab.hotpair(&["run"])?;
        ensure!(spoken.code == 2, "{what}: {spoken:?}");
        ensure!(spoken.stderr.contains(&file.display().to_string()), "{what}: {spoken:?}");
        ensure!(fs::read(&file)? == damaged, "{what}: the file was touched");

        follow(&spoken.stderr).with_context(|| what.to_owned())?;
        ensure!(!file.exists(), "{what}: moved away by {:?}", way_out(&spoken.stderr)?);
        lab.start_controller()?;
        let after = lab.wait_protected()?;
        ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{what}: {after:?}");
        ensure!(machines.iter().all(Machine::is_alive), "{what}: nobody was replaced");
        ensure!(lab.volumes()?.len() == 2, "{what}: {:?}", lab.volumes()?);
    }
    std::thread::sleep(Duration::from_millis(100));
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_state_file_that_may_not_be_read_is_refused_by_name() -> Result<()> {
    let name = "a_state_file_that_may_not_be_read_is_refused_by_name";
    let Some(mut lab) = protected(name, patient().quiet())? else { return Ok(()) };
    let load = steady_load(&lab)?;
    let before = lab.pair()?;
    lab.stop_controller()?;
    let file = state_file(&lab);
    let content = fs::read(&file)?;
    chown(&file, Some(65534), Some(65534))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    // Root may read everything; this root not.
    let under = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"];
    lab.run_controller_under(under.map(str::to_owned).into());
    let refused = format!("{:#}", lab.start_controller().expect_err("it may not read its state"));
    ensure!(refused.contains(&file.display().to_string()), "{refused}");
    ensure!(refused.contains("Permission denied") && refused.contains("owns"), "{refused}");
    ensure!(fs::read(&file)? == content, "the file was touched");
    chown(&file, Some(0), Some(0))?;
    lab.start_controller()?;
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{after:?}");
    std::thread::sleep(Duration::from_millis(100));
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    Ok(())
}
