//! A service that answers with random bytes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use hotpair_tests::lab::{Machine, PAIR};
use hotpair_tests::line::Faults;
use hotpair_tests::stream::{Conversation, PORT};
use hotpair_tests::wait::wait_until;

use super::{DIVERGED, SOON, counter, flows, is_reset, kill};
use crate::scenario::protected;
use crate::takeover::{open, patient};
use crate::tcp::chain::said_to_be;
use crate::tcp::forgotten::rows;
use crate::tcp::soaking;

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

/// The old primary lives on after a switchover: it must not keep what its client was told to be over.
#[test]
fn after_a_switchover_neither_member_keeps_a_connection_that_was_reset() -> Result<()> {
    let name = "after_a_switchover_neither_member_keeps_a_connection_that_was_reset";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut conversations = Vec::new();
    for v6 in [false, true] {
        let mut conversation = open(&lab, v6)?;
        conversation.random(300_000)?;
        conversations.push(conversation);
    }
    wait_until("it to be noticed", SOON, || {
        flows(&lab).is_ok_and(|flows| flows.iter().all(|(verdict, _)| verdict == "diverged"))
    })?;
    let ports = [conversations[0].local()?.port(), conversations[1].local()?.port()];
    let members = [lab.primary()?, lab.standby()?];
    ensure!(established(&members[0], &ports)? == 2, "the primary has both");
    lab.must(&["switchover", PAIR])?;
    // Nobody says a word.
    wait_until("both members to hear of it", SOON, || {
        members.iter().all(|member| established(member, &ports).is_ok_and(|count| count == 0))
    })?;
    for (mut conversation, v6) in conversations.into_iter().zip([false, true]) {
        is_reset(conversation.random(1000))?;
        let (from, to) = (conversation.local()?, SocketAddr::new(lab.client().entry(v6)?, PORT));
        drop(conversation);
        let _inside = lab.client().netns().enter()?;
        let mut again = Conversation::open_from(from, to)?;
        again.increment()?;
        said_to_be(&lab, &[from.to_string()], "in_sync", "")?;
    }
    Ok(())
}

/// How many connections with clients' ports are open in a member.
fn established(member: &Machine, ports: &[u16]) -> Result<usize> {
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{}/net/{table}", member.pid()))?;
        let open = table.lines().filter(|line| {
            // Number, local and remote address with port, state; 01 is ESTABLISHED (proc_net_tcp(5)).
            let fields: Vec<_> = line.split_whitespace().take(4).collect();
            let port = fields.get(2).and_then(|remote| remote.rsplit_once(':'));
            let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            fields.get(3) == Some(&"01") && port.is_some_and(|port| ports.contains(&port))
        });
        count += open.count();
    }
    Ok(count)
}

/// The sums keep up with a long stream, in which a kernel sends 64 KiB at a time, and the other one not the same 64: then they
/// notice what comes at its end.
#[test]
fn a_difference_after_a_large_answer_is_noticed_like_one_at_the_beginning() -> Result<()> {
    let name = "a_difference_after_a_large_answer_is_noticed_like_one_at_the_beginning";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let bytes = if soaking() { 1 << 30 } else { 100 << 20 };
    let mut conversations = Vec::new();
    for v6 in [false, true] {
        let mut conversation = open(&lab, v6)?;
        conversation.download(bytes)?;
        ensure!(flows(&lab)?.iter().all(|(verdict, _)| verdict != "diverged"), "{:?}", flows(&lab)?);
        conversations.push(conversation);
    }
    wait_until("both to be in sync", SOON, || {
        flows(&lab).is_ok_and(|flows| flows.iter().all(|(verdict, _)| verdict == "in_sync"))
    })?;
    for conversation in &mut conversations {
        // The end of the latest answer is where the standby, held by its window, has yet to come.
        conversation.random(30_000)?;
        conversation.random(30_000)?;
    }
    wait_until("it to be noticed", SOON, || {
        flows(&lab).is_ok_and(|flows| flows.iter().all(|(verdict, _)| verdict == "diverged"))
    })?;
    kill(&lab)?;
    conversations.iter_mut().try_for_each(|conversation| is_reset(conversation.random(16)))
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

#[test]
fn of_an_answer_lost_with_its_primary_nothing_of_the_other_one_is_heard() -> Result<()> {
    let name = "of_an_answer_lost_with_its_primary_nothing_of_the_other_one_is_heard";
    let Some(lab) = protected(name, patient().cable())? else { return Ok(()) };
    for v6 in [false, true, false] {
        lab.wait_protected()?;
        let mut client = {
            let _inside = lab.client().netns().enter()?;
            TcpStream::connect(SocketAddr::new(lab.client().entry(v6)?, PORT))?
        };
        client.set_read_timeout(Some(SOON))?;
        // The answer, the first on this connection, is lost, and the primary dies before it can say it again.
        lab.set_lines(Faults::NONE, Faults { lost: 1000, ..Faults::NONE })?;
        client.write_all(b"RAND 9000\n")?;
        let local = client.local_addr()?;
        wait_until("the primary to have answered", SOON, || {
            let row = rows(&lab).ok().and_then(|rows| rows.get(&local).map(|(_, row)| *row));
            row.is_some_and(|row| row.out.nxt.wrapping_sub(row.half[row.base as usize & 1].isn) == 9001)
        })?;
        lab.primary()?.kill()?;
        lab.set_lines(Faults::NONE, Faults::NONE)?;
        let mut heard = [0; 9000];
        let error = match client.read(&mut heard) {
            Ok(bytes) => bail!("{bytes} bytes of the other answer, of which the client should not hear one"),
            Err(error) => error,
        };
        ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    }
    Ok(())
}
