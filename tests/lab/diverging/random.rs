//! A service that answers with random bytes.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use hotpair_tests::stream::{Conversation, PORT};
use hotpair_tests::wait::wait_until;

use super::{DIVERGED, SOON, counter, flows, is_reset, kill};
use crate::scenario::protected;
use crate::takeover::{open, patient};

#[test]
fn members_that_answer_differently_are_noticed_and_their_connection_is_reset() -> Result<()> {
    let name = "members_that_answer_differently_are_noticed_and_their_connection_is_reset";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut conversations: Vec<Conversation> = Vec::new();
    for v6 in [false, true] {
        let mut conversation = open(&lab, v6)?;
        conversation.random(300_000)?;
        conversations.push(conversation);
    }
    // A third one, whose members agree.
    let mut agreeing = open(&lab, false)?;
    agreeing.download(3_000_000)?;
    agreeing.increment()?;
    let expected = [("diverged", DIVERGED), ("diverged", DIVERGED), ("in_sync", "")];
    wait_until("it to be noticed", SOON, || {
        let Ok(mut seen) = flows(&lab) else { return false };
        seen.sort();
        seen == expected.map(|(verdict, why)| (verdict.to_owned(), why.to_owned()))
    })?;
    ensure!(counter(&lab, "tcp_diverged")? == 2, "{}", counter(&lab, "tcp_diverged")?);
    // Nothing waits for the other member any more.
    let standby = lab.standby()?;
    standby.freeze()?;
    for conversation in &mut conversations {
        conversation.upload(1 << 20)?;
        conversation.random(1000)?;
    }
    standby.thaw()?;
    lab.wait_protected()?;

    kill(&lab)?;
    for (mut conversation, v6) in conversations.into_iter().zip([false, true]) {
        is_reset(conversation.random(1000))?;
        // Its port is free again, for the client and for us.
        let (from, to) = (conversation.local()?, SocketAddr::new(lab.client().entry(v6)?, PORT));
        drop(conversation);
        let _inside = lab.client().netns().enter()?;
        Conversation::open_from(from, to)?.random(1000).context("again from the same port")?;
    }
    agreeing.increment()?;
    agreeing.download(1_000_000)?;
    open(&lab, true)?.random(1000)
}

#[test]
fn a_difference_too_young_to_be_noticed_is_not_heard_either() -> Result<()> {
    let name = "a_difference_too_young_to_be_noticed_is_not_heard_either";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    // So short that the standby, held by a window that is a multiple of 128 bytes, has not sent it yet.
    let mut token = open(&lab, false)?;
    token.random(16)?;
    let mut equal = open(&lab, false)?;
    equal.increment()?;
    ensure!(flows(&lab)?.iter().all(|(verdict, _)| verdict == "in_sync"), "{:?}", flows(&lab)?);
    kill(&lab)?;
    is_reset(token.random(16))?;
    equal.increment()
}
