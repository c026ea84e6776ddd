//! A standby that stands still costs a client the limit and a moment, also where nobody beats because the host probes.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair_tests::lab::Lab;

use crate::scenario::protected;
use crate::takeover::{hasty, open};

/// Uploads over IPv4 and IPv6 while the standby is frozen: half of the stalls must be shorter than any timer: acknowledgements
/// are delayed by 40 ms, and the client's retransmissions begin at 200 ms. (Without frames that serve the queue, half are 47 ms
/// and longer.)
fn nobody_waits(lab: &Lab) -> Result<()> {
    let standby = lab.standby()?;
    let mut gaps = Vec::new();
    for round in 0..8 {
        lab.wait_protected()?;
        let mut conversation = open(lab, round % 2 == 1)?;
        conversation.upload(1 << 20)?;
        conversation.take_gap();
        standby.freeze()?;
        conversation.upload(4 << 20)?;
        gaps.push(conversation.take_gap());
        standby.thaw()?;
    }
    eprintln!("longest gaps {gaps:?}");
    gaps.sort();
    ensure!(gaps[gaps.len() / 2] < Duration::from_millis(35), "{gaps:?}");
    let counters = lab.show()?.counters;
    let opened = counters.iter().find(|count| count.name == "tcp_gate_opened");
    ensure!(opened.is_some_and(|count| count.packets > 0), "{counters:?}");
    Ok(())
}

#[test]
fn with_probes_a_frozen_standby_is_not_waited_for_either() -> Result<()> {
    let name = "with_probes_a_frozen_standby_is_not_waited_for_either";
    let Some(lab) = protected(name, hasty().probe())? else { return Ok(()) };
    nobody_waits(&lab)
}

/// Its kernel takes what fits into the buffer, and the client's window is shut.
#[test]
fn a_standby_whose_service_hangs_stops_no_upload_for_long() -> Result<()> {
    let name = "a_standby_whose_service_hangs_stops_no_upload_for_long";
    let Some(lab) = protected(name, hasty())? else { return Ok(()) };
    for v6 in [false, true] {
        let mut conversation = open(&lab, v6)?;
        conversation.upload(1 << 20)?;
        conversation.take_gap();
        let standby = lab.standby()?;
        standby.set_reading(false)?;
        // More than any buffer has room for.
        conversation.upload(64 << 20)?;
        let gap = conversation.take_gap();
        eprintln!("longest gap {gap:?}");
        ensure!(gap < Duration::from_secs(3), "{gap:?}");
        ensure!(lab.wait_protected()?.epoch > 0, "the pair lives");
        standby.set_reading(true)?;
        // Who comes now is protected.
        let mut fresh = open(&lab, v6)?;
        fresh.upload(1 << 20)?;
        super::chain::said_to_be(&lab, &[fresh.local()?.to_string()], "in_sync", "")?;
    }
    Ok(())
}
