//! A standby that fails under load: nobody's connection suffers, and what is opened when it is back is protected again.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hotpair_tests::lab::{Lab, Machine};

use super::chain::{at_work, said_to_be};
use super::soaking;
use crate::scenario::protected;
use crate::takeover::hasty;

/// What happens to a standby; when it is over, a standby is there again or soon will be.
type Fault = fn(&Lab, &Machine) -> Result<()>;

const FAULTS: &[(&str, Fault)] = &[
    ("frozen for a moment", |_, standby| {
        standby.freeze()?;
        thread::sleep(Duration::from_millis(100));
        standby.thaw()
    }),
    ("frozen", |lab, standby| {
        standby.freeze()?;
        replaced(lab, standby)
    }),
    ("killed", |lab, standby| {
        standby.kill()?;
        replaced(lab, standby)
    }),
    ("unplugged", |lab, standby| {
        lab.host().ip(&format!("link set hpwebs{} down", standby.slot()))?;
        replaced(lab, standby)
    }),
];

/// Waits until another machine is in its place.
fn replaced(lab: &Lab, standby: &Machine) -> Result<()> {
    hotpair_tests::wait::wait_until("another standby", Duration::from_secs(20), || {
        lab.machine(standby.slot()).is_ok_and(|machine| machine.generation() > standby.generation())
    })
}

#[test]
fn a_standby_that_fails_under_load_costs_no_connection() -> Result<()> {
    let name = "a_standby_that_fails_under_load_costs_no_connection";
    let Some(lab) = protected(name, hasty())? else { return Ok(()) };
    let mut all = Vec::new();
    for round in 0..if soaking() { 10 } else { 1 } {
        for (index, (name, fault)) in FAULTS.iter().enumerate() {
            lab.wait_protected()?;
            let name = format!("standby {name}, round {round}");
            all.extend(at_work(&lab, &name, index % 2 == 1)?.0);
            let standby = lab.standby()?;
            for client in &all {
                client.goes_on(1)?;
            }
            fault(&lab, &standby).with_context(|| name.clone())?;
            for client in &all {
                client.goes_on(2).with_context(|| name.clone())?;
            }
            lab.wait_protected().with_context(|| name.clone())?;
            // Not under load: on a busy machine that would be behind for moments.
            let mut fresh = crate::takeover::open(&lab, index % 2 == 0)?;
            fresh.increment()?;
            said_to_be(&lab, &[fresh.local()?.to_string()], "in_sync", "")?;
        }
    }
    for client in all {
        client.stop()?;
    }
    Ok(())
}
