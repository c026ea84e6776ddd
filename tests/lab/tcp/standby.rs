//! A standby that fails under load: nobody's connection suffers, none stalls for longer than the standby is waited for, the pair
//! says that it is unprotected, and what is opened when it is back is protected again.
//!
//! Whether it was the standby or this machine that made somebody wait, connections to another pair tell, whose members
//! nothing happens to: they do the same work at the same time, through the same host.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Protection;
use hotpair_tests::lab::{Lab, Machine, SECOND};
use hotpair_tests::stream::{Conversation, PORT};
use hotpair_tests::wait::wait_until;

use super::chain::{all_kinds, said_to_be};
use super::{Busy, soaking};
use crate::scenario::protected;
use crate::takeover::{hasty, open};

/// How much longer than a connection to the other pair one may stall: `lag_limit`, a heartbeat's interval, which serves those
/// who wait, and what else there is between two programs.
const STALL: Duration = Duration::from_millis(10 + 20);

/// Who waits for a timer waits for longer than this beyond the connections to the other pair: the shortest is Linux's
/// retransmission timeout of 200 ms. A median would not show the one in four that does.
const TIMER: Duration = Duration::from_millis(190);

/// What happens to a standby, and how the pair says so; when it is over, a standby is there again or soon will be.
struct Fault {
    name: &'static str,
    strike: fn(&Lab, &Machine) -> Result<()>,
    /// How often at least, to tell its doing from chance: an odd number.
    tries: usize,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "frozen for a moment",
        strike: |_, standby| {
            standby.freeze()?;
            thread::sleep(Duration::from_millis(100));
            standby.thaw()
        },
        tries: 5,
    },
    Fault {
        name: "frozen and thawed",
        strike: |lab, standby| {
            standby.freeze()?;
            says_unprotected(lab)?;
            standby.thaw()?;
            lab.wait_protected()?;
            ensure!(
                lab.machine(standby.slot())?.generation() == standby.generation(),
                "replaced, and it was back in time"
            );
            Ok(())
        },
        tries: 3,
    },
    Fault {
        name: "frozen for good",
        strike: |lab, standby| {
            standby.freeze()?;
            says_unprotected(lab)?;
            replaced(lab, standby)
        },
        tries: 1,
    },
    Fault { name: "killed", strike: |lab, standby| lost(lab, standby, Machine::kill), tries: 3 },
    Fault {
        name: "unplugged",
        strike: |lab, standby| {
            lost(lab, standby, |standby| lab.host().ip(&format!("link set hpwebs{} down", standby.slot())))
        },
        tries: 3,
    },
];

/// The status says that nobody stands by, and names whom it misses.
fn says_unprotected(lab: &Lab) -> Result<()> {
    let pair = lab.wait_pair("the pair to say that it is unprotected", |pair| {
        pair.protection == Protection::Unprotected
    })?;
    ensure!(pair.why.as_ref().is_some_and(|why| why.contains("the standby")), "{pair:?}");
    Ok(())
}

/// Takes the standby away; nobody takes its place before the pair has said that it is unprotected.
fn lost(lab: &Lab, standby: &Machine, strike: impl FnOnce(&Machine) -> Result<()>) -> Result<()> {
    lab.lose_image()?;
    strike(standby)?;
    let said = says_unprotected(lab);
    lab.restore_image()?;
    said?;
    replaced(lab, standby)
}

/// Waits until another machine is in its place.
fn replaced(lab: &Lab, standby: &Machine) -> Result<()> {
    wait_until("another standby", Duration::from_secs(60), || {
        lab.machine(standby.slot()).is_ok_and(|machine| machine.generation() > standby.generation())
    })
}

/// A connection to the pair that nothing happens to.
fn open_beside(lab: &Lab) -> Result<Conversation> {
    let _inside = lab.client().netns().enter()?;
    Conversation::open(SocketAddr::new(SECOND.1.parse()?, PORT), Duration::from_secs(5))
}

/// Strikes once. For how long a download, an upload and requests stalled at most since then, and all of those beside them.
fn strike(lab: &Lab, name: &str, v6: bool, fault: &Fault) -> Result<([Duration; 3], Duration)> {
    lab.wait_protected()?;
    // What a deep buffer takes hides how long it is not sent.
    let shallow = |conversation: Result<Conversation>| -> Result<Conversation> {
        let conversation = conversation?;
        conversation.hold_little(64 << 10)?;
        Ok(conversation)
    };
    let (clients, _) = all_kinds(name, || shallow(open(lab, v6)))?;
    let (beside, _) = all_kinds(&format!("beside, {name}"), || shallow(open_beside(lab)))?;
    for client in clients.iter().chain(&beside) {
        client.goes_on(1)?;
    }
    let standby = lab.standby()?;
    let struck = Instant::now();
    (fault.strike)(lab, &standby)?;
    for client in clients.iter().chain(&beside) {
        client.goes_on(2)?;
    }
    lab.wait_protected()?;
    let stalls = |clients: Vec<Busy>| -> Result<Vec<Duration>> {
        clients.into_iter().map(|client| Ok(client.end()?.0.gap_since(struck))).collect()
    };
    let (own, others) = (stalls(clients)?, stalls(beside)?);
    let own = own.try_into().ok().context("three clients")?;
    Ok((own, others.into_iter().max().unwrap_or_default()))
}

/// A connection that is opened now is in sync. On a machine that has no time the standby may miss a handshake: that one
/// never will be, and another one tells.
fn new_ones_are_in_sync(lab: &Lab, v6: bool) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..3 {
        // Not under load: on a busy machine that would be behind for moments.
        let mut fresh = open(lab, v6)?;
        fresh.increment()?;
        last = said_to_be(lab, &[fresh.local()?.to_string()], "in_sync", "");
        if last.is_ok() {
            break;
        }
    }
    last
}

fn median(values: &[Duration]) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Strikes until it is clear that no kind of client stalls for too long, or that one does. Who waited for a timer is told of.
fn nobody_stalls(lab: &Lab, round: usize, fault: &Fault, timers: &mut Vec<String>) -> Result<()> {
    let name = format!("standby {}, round {round}", fault.name);
    let mut beyond: [Vec<Duration>; 3] = Default::default();
    for again in 0.. {
        let v6 = again % 2 == 1;
        let (own, others) = strike(lab, &name, v6, fault).with_context(|| name.clone())?;
        new_ones_are_in_sync(lab, !v6).with_context(|| name.clone())?;
        eprintln!("{name}: download, upload, requests stalled for {own:.1?}; those beside for {others:.1?}");
        for (kind, stall) in beyond.iter_mut().zip(own) {
            let stall = stall.saturating_sub(others);
            if stall >= TIMER {
                timers.push(format!("{name}, {stall:.1?}"));
            }
            kind.push(stall);
        }
        // One may be this machine's doing, which does not make everybody wait alike.
        ensure!(timers.len() <= 1, "somebody waited for a timer more than once: {timers:?}");
        let medians = beyond.each_ref().map(|kind| median(kind));
        let enough = again + 1 >= fault.tries && again % 2 == 0;
        if enough && medians.iter().all(|median| *median < STALL) {
            return Ok(());
        }
        ensure!(
            again + 1 < fault.tries + 4,
            "{name}: beyond those beside them, downloads, uploads and requests stalled for {beyond:.1?}"
        );
    }
    Ok(())
}

#[test]
fn a_standby_that_fails_under_load_costs_no_connection() -> Result<()> {
    let name = "a_standby_that_fails_under_load_costs_no_connection";
    let Some(lab) = protected(name, hasty().second_pair())? else { return Ok(()) };
    wait_until("the pair beside it to be protected", Duration::from_secs(60), || {
        lab.pair_named(SECOND.0).is_ok_and(|pair| pair.protection == Protection::Protected)
    })?;
    for round in 0..if soaking() { 10 } else { 1 } {
        let mut timers = Vec::new();
        for fault in FAULTS {
            nobody_stalls(&lab, round, fault, &mut timers)?;
        }
    }
    Ok(())
}
