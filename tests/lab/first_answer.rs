//! `answer = "first"`: a primary that dies is not missed by those who only ask.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hotpair_tests::lab::Lab;

use crate::scenario::protected;
use crate::takeover::open;

#[test]
fn an_answer_does_not_wait_until_the_primary_is_missed() -> Result<()> {
    let name = "an_answer_does_not_wait_until_the_primary_is_missed";
    let detection = Duration::from_secs(4);
    let builder = Lab::builder()
        .first_answers()
        .lag_limit(Duration::from_secs(1))
        .heartbeat(Duration::from_millis(20), detection);
    let Some(lab) = protected(name, builder)? else { return Ok(()) };
    let mut conversations = [open(&lab, false)?, open(&lab, true)?];
    for conversation in &mut conversations {
        for _ in 0..100 {
            conversation.increment()?;
        }
        conversation.download(5 << 20)?;
        conversation.upload(5 << 20)?;
    }
    let before = lab.pair()?;
    lab.primary()?.freeze()?;
    let frozen = Instant::now();
    for conversation in &mut conversations {
        conversation.take_gap();
        for _ in 0..3 {
            conversation.increment()?;
        }
        eprintln!("longest gap {:?}", conversation.take_gap());
    }
    let took = frozen.elapsed();
    // In milliseconds, on a machine at rest; and with anything else to do before anybody could have been missed.
    ensure!(took < detection, "{took:?}");
    ensure!(lab.pair()?.epoch == before.epoch, "answered before anybody took over");

    // And afterwards everything goes on as ever.
    lab.wait_pair("the survivor to serve", |pair| pair.epoch > before.epoch)?;
    for conversation in &mut conversations {
        conversation.increment()?;
        conversation.upload(1 << 20)?;
        conversation.download(1 << 20)?;
    }
    let counters = lab.show()?.counters;
    let first = counters.iter().find(|count| count.name == "tcp_answered_first");
    ensure!(first.is_some_and(|count| count.packets > 0), "{counters:?}");
    Ok(())
}
