//! TLS, which a server answers with numbers of its own, and here with a key of its own, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use hotpair_tests::dice::Dice;
use hotpair_tests::lab::{Lab, Machine};
use hotpair_tests::tls::Session;
use hotpair_tests::vm::TLS;
use hotpair_tests::wait::wait_for;

use super::{DIVERGED, SOON, counter, flows, kill};
use crate::scenario::protected;
use crate::takeover::patient;
use crate::tcp::soaking;

/// Half of what the gate would cost whoever it holds up (`patient`), or a lost SYN.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Connects to who has this machine's key, and nobody else, and has a first answer.
fn session(lab: &Lab, v6: bool, with: &Machine) -> Result<Session> {
    let to = SocketAddr::new(lab.client().entry(v6)?, TLS);
    let begun = Instant::now();
    let mut session = Session::open(lab.client(), to, with.certificate())?;
    session.increment()?;
    let took = begun.elapsed();
    eprintln!("{to}, {}: a first answer after {took:?}", with.by());
    ensure!(took < AT_ONCE, "a first answer took {took:?}");
    Ok(session)
}

#[test]
fn tls_with_a_key_of_each_members_own_is_not_in_its_own_way_and_is_reset_at_the_failover() -> Result<()> {
    let name = "tls_with_a_key_of_each_members_own_is_not_in_its_own_way_and_is_reset_at_the_failover";
    let Some(lab) = protected(name, patient().tls())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let mut sessions = Vec::new();
    for v6 in [false, true, false] {
        let mut session = session(&lab, v6, &primary)?;
        session.ask(2 << 20)?;
        session.receive(2 << 20)?;
        sessions.push(session);
    }
    wait_for("it to be noticed", SOON, || {
        let seen = flows(&lab)?;
        ensure!(seen.len() == 3 && seen.iter().all(|(verdict, _)| verdict == "diverged"), "{seen:?}");
        // The standby's server cannot read what is said with the other one's key, and may be faster with that.
        ensure!(
            seen.iter().all(|(_, why)| [DIVERGED, "the standby has reset it"].contains(&&**why)),
            "{seen:?}"
        );
        Ok(())
    })?;
    ensure!(counter(&lab, "tcp_gate_opened")? == 0, "somebody was waited for until it was too long");

    // One of them is in the middle of an answer.
    let busy = sessions.last_mut().context("three")?;
    busy.ask(256 << 20)?;
    busy.receive(1 << 20)?;
    kill(&lab)?;
    for (number, session) in sessions.into_iter().enumerate() {
        session.must_be_reset(AT_ONCE).with_context(|| format!("session {number}"))?;
    }
    for v6 in [false, true] {
        let mut fresh = session(&lab, v6, &standby)?;
        fresh.ask(1 << 20)?;
        fresh.receive(1 << 20)?;
    }
    let error = session(&lab, false, &primary).err().context("the survivor has the dead one's key")?;
    ensure!(format!("{error:#}").contains("verify"), "{error:#}");
    Ok(())
}

#[test]
fn a_tls_handshake_in_the_middle_of_a_failover_is_one_members_or_is_reset() -> Result<()> {
    let name = "a_tls_handshake_in_the_middle_of_a_failover_is_one_members_or_is_reset";
    let Some(lab) = protected(name, patient().tls())? else { return Ok(()) };
    let lab = Arc::new(lab);
    let mut dice = Dice::new(name)?;
    for round in 0..if soaking() { 20 } else { 2 } {
        let both = lab.dir().join(format!("both-{round}.pem"));
        let certificates = [lab.primary()?, lab.standby()?].map(|member| fs::read(member.certificate()));
        fs::write(&both, certificates.into_iter().collect::<io::Result<Vec<_>>>()?.concat())?;
        let opening: Vec<JoinHandle<Result<()>>> = (0..24)
            .map(|number| {
                let (lab, both, wait) = (Arc::clone(&lab), both.clone(), dice.below(200_000));
                thread::spawn(move || {
                    thread::sleep(Duration::from_micros(wait));
                    let to = SocketAddr::new(lab.client().entry(number % 2 == 1)?, TLS);
                    Session::open(lab.client(), to, &both)?.increment()
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(80));
        dice.wait(80);
        kill(&lab)?;
        let mut reset = 0;
        for one in opening {
            // A record of the other one would be a fatal alert: nothing of it can be read.
            if let Err(error) = one.join().expect("no panic") {
                let error = format!("{error:#}");
                ensure!(error.contains(&format!("errno={}", libc::ECONNRESET)), "reset, or nothing: {error}");
                reset += 1;
            }
        }
        eprintln!("round {round}: {reset} of 24 were reset");
        lab.wait_protected()?;
    }
    Ok(())
}
