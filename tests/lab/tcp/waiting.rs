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
