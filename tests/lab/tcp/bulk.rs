//! One large transfer through a failover at a moment that nobody chose: every byte right, over the same connection.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_tests::dice::Dice;
use hotpair_tests::lab::Lab;
use hotpair_tests::stream::Conversation;

use super::{kill_primary, soaking};
use crate::scenario::protected;
use crate::takeover::{open, patient};

type Transfer = fn(&mut Conversation, u64) -> Result<()>;

/// Two transfers of so many bytes at once, over IPv4 and IPv6, and a failover after this time.
fn through_a_failover(lab: &Lab, transfer: Transfer, bytes: u64, after: Duration) -> Result<()> {
    let mut transfers = Vec::new();
    for v6 in [false, true] {
        let mut conversation = open(lab, v6)?;
        let begun = Instant::now();
        transfers.push(thread::spawn(move || -> Result<Duration> {
            transfer(&mut conversation, bytes)?;
            // It is still the same one.
            conversation.increment()?;
            eprintln!("{bytes} bytes in {:?}, longest gap {:?}", begun.elapsed(), conversation.take_gap());
            Ok(begun.elapsed())
        }));
    }
    thread::sleep(after);
    ensure!(transfers.iter().all(|transfer| !transfer.is_finished()), "over before {after:?}");
    kill_primary(lab)?;
    for transfer in transfers {
        let took = transfer.join().expect("no panic").with_context(|| format!("failover after {after:?}"))?;
        ensure!(took > after);
    }
    lab.wait_protected()?;
    Ok(())
}

#[test]
fn large_transfers_go_on_wherever_the_failover_comes() -> Result<()> {
    let name = "large_transfers_go_on_wherever_the_failover_comes";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut dice = Dice::new(name)?;
    let (rounds, bytes, longest) = if soaking() { (5, 1 << 30, 4000) } else { (1, 24 << 20, 150) };
    for _ in 0..rounds {
        let transfers: [Transfer; 2] = [Conversation::download, Conversation::upload];
        for transfer in transfers {
            let after = Duration::from_millis(20 + dice.below(longest));
            through_a_failover(&lab, transfer, bytes, after)?;
        }
    }
    Ok(())
}
