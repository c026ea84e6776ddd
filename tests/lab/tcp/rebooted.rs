//! A standby that reboots in its place: the connections of before are not its own any more, however silent they were.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::chain::said_to_be;
use super::kill_primary;
use crate::scenario::protected;
use crate::takeover::{open, patient};

#[test]
fn a_standby_that_has_rebooted_is_not_believed_to_know_older_connections() -> Result<()> {
    let name = "a_standby_that_has_rebooted_is_not_believed_to_know_older_connections";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let standby = lab.standby()?;
    let mut older = open(&lab, false)?;
    older.increment()?;
    let silent = [older.local()?.to_string()];
    said_to_be(&lab, &silent, "in_sync", "")?;
    // A member of the lab has the host's clock, which says nothing of its boot: what was known at its last heartbeat is forgotten.
    // So the connection must be older than that.
    std::thread::sleep(Duration::from_millis(100));
    standby.seem_rebooted()?;
    said_to_be(&lab, &silent, "unprotected", "began before the present standby came")?;
    lab.wait_protected()?;
    let mut newer = open(&lab, true)?;
    newer.increment()?;
    said_to_be(&lab, &[newer.local()?.to_string()], "in_sync", "")?;
    ensure!(lab.standby()?.generation() == standby.generation(), "it was replaced instead");
    kill_primary(&lab)?;
    newer.increment()?;
    ensure!(older.increment().is_err(), "the rebooted member cannot know it");
    Ok(())
}
