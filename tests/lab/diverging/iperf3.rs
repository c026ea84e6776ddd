//! iperf3, whose server tells its own times at the end of a run, and sends bytes of its own if it is to send.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_abi::tcp::connection::{CLOSED, Connection};
use hotpair_abi::tcp::verdict::Verdict;
use hotpair_tests::lab::Lab;
use hotpair_tests::wait::{wait_for, wait_until};
use serde_json::Value;

use super::{DIVERGED, SOON, counter, flows, kill};
use crate::scenario::protected;
use crate::takeover::patient;

/// A run of the client, which is killed when this is dropped.
struct Run(Child);

impl Run {
    fn start(lab: &Lab, v6: bool, seconds: u32, more: &[&str]) -> Result<Run> {
        let entry = lab.client().entry(v6)?.to_string();
        let seconds = seconds.to_string();
        let child = lab
            .client()
            .command("iperf3")
            .args(["--client", &entry, "--time", &seconds, "--connect-timeout", "2000", "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run iperf3; is it installed?")?;
        Ok(Run(child))
    }

    /// What it reports when it ends, which it must within this time.
    fn report(mut self, within: Duration) -> Result<Value> {
        let mut output = self.0.stdout.take().context("no stdout")?;
        let text = std::thread::spawn(move || std::io::read_to_string(&mut output));
        wait_until("iperf3 to end", within, || self.0.try_wait().is_ok_and(|ended| ended.is_some()))?;
        Ok(serde_json::from_str(&text.join().expect("no panic")?)?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that have arrived in a whole run; what it says if it has not run to its end.
fn received(report: &Value) -> Result<u64> {
    let error = report["error"].as_str().unwrap_or_default();
    ensure!(error.is_empty(), "iperf3 says: {error}");
    report["end"]["sum_received"]["bytes"].as_u64().with_context(|| format!("no bytes in {report}"))
}

/// A run ends with the reset of its stream; or with its control channel, which the survivor's server closes when its own half of
/// that stream is reset.
fn must_say_that_it_ended(report: &Value) -> Result<()> {
    let error = report["error"].as_str().unwrap_or_default();
    let known = ["reset", "control socket has closed"].iter().any(|words| error.contains(words));
    ensure!(known, "{error:?} in {report}");
    Ok(())
}

/// A run of a second, from its beginning to its end.
fn one_second(lab: &Lab, v6: bool, more: &[&str]) -> Result<u64> {
    let begun = Instant::now();
    let bytes = received(&Run::start(lab, v6, 1, more)?.report(Duration::from_secs(4))?)?;
    let took = begun.elapsed();
    eprintln!("{more:?}: {bytes} bytes in {took:?}");
    // Who holds anything up here costs a second (`patient`).
    ensure!(took < Duration::from_millis(1800), "a run of a second took {took:?}");
    ensure!(bytes > 4 << 20, "only {bytes} bytes");
    Ok(bytes)
}

/// Whether a connection is the control channel of a run that is over: both sides say little more than parameters and results.
fn is_control(connection: &Connection) -> bool {
    let said = connection.client.nxt.wrapping_sub(connection.client.isn);
    let heard = connection.out.nxt.wrapping_sub(connection.half(connection.base).isn);
    connection.flags & CLOSED != 0 && said < 4096 && heard < 4096
}

#[test]
fn iperf3_is_not_held_up_by_what_its_servers_say_differently() -> Result<()> {
    let name = "iperf3_is_not_held_up_by_what_its_servers_say_differently";
    let Some(lab) = protected(name, patient().iperf3())? else { return Ok(()) };
    for (run, v6) in [false, true].into_iter().enumerate() {
        one_second(&lab, v6, &[])?;
        // Of the data nothing comes from the servers, but each has times of its own to tell.
        wait_for("its results to be compared", SOON, || {
            let connections = lab.connections()?;
            let control: Vec<_> = connections.iter().filter(|row| is_control(row)).collect();
            let verdicts: Vec<_> = control.iter().map(|row| row.verdict).collect();
            ensure!(verdicts == vec![Verdict::Diverged as u32; 2 * run + 1], "{verdicts:?}");
            Ok(())
        })?;
        let before = counter(&lab, "tcp_diverged")?;
        one_second(&lab, v6, &["--reverse"])?;
        wait_until("its data to be compared", SOON, || {
            counter(&lab, "tcp_diverged").is_ok_and(|now| now > before)
        })?;
    }
    ensure!(counter(&lab, "tcp_gate_opened")? == 0, "somebody was waited for until it was too long");
    Ok(())
}

#[test]
fn iperf3_whose_servers_send_differently_ends_at_once_at_the_failover() -> Result<()> {
    let name = "iperf3_whose_servers_send_differently_ends_at_once_at_the_failover";
    let Some(lab) = protected(name, patient().iperf3())? else { return Ok(()) };
    let run = Run::start(&lab, false, 60, &["--reverse"])?;
    wait_for("it to be noticed", SOON, || {
        let seen = flows(&lab)?;
        ensure!(seen.iter().any(|(verdict, why)| verdict == "diverged" && why == DIVERGED), "{seen:?}");
        Ok(())
    })?;
    // That is in nobody's way.
    let moved = || -> Result<u32> {
        let connections = lab.connections()?;
        let row = connections.iter().find(|row| row.verdict == Verdict::Diverged as u32).context("a row")?;
        Ok(row.client.ack)
    };
    let before = moved()?;
    std::thread::sleep(Duration::from_millis(500));
    let bytes = moved()?.wrapping_sub(before);
    eprintln!("{bytes} bytes in half a second");
    ensure!(bytes > 4 << 20, "only {bytes} bytes in half a second");

    kill(&lab)?;
    let report = run.report(Duration::from_secs(1))?;
    must_say_that_it_ended(&report)?;
    // The survivor's own iperf3 has to see that run end first.
    wait_for("another run", SOON, || one_second(&lab, false, &["--reverse"]))?;
    one_second(&lab, true, &[])?;
    Ok(())
}

#[test]
fn an_iperf3_upload_goes_on_through_a_failover_if_flows_says_so() -> Result<()> {
    let name = "an_iperf3_upload_goes_on_through_a_failover_if_flows_says_so";
    let Some(lab) = protected(name, patient().iperf3())? else { return Ok(()) };
    let run = Run::start(&lab, true, 3, &[])?;
    std::thread::sleep(Duration::from_millis(1500));
    let said = flows(&lab)?;
    ensure!(said.len() == 2, "a control channel and one stream: {said:?}");
    kill(&lab)?;
    let report = run.report(Duration::from_secs(4))?;
    if said.iter().any(|(verdict, _)| verdict != "in_sync") {
        // iperf3's server does things in the order in which it gets round to them, and the members may differ in that.
        eprintln!("{said:?}: {}", report["error"]);
        return must_say_that_it_ended(&report);
    }
    // The survivor's server tells what it has received, from before and after.
    let (bytes, sent) = (received(&report)?, report["end"]["sum_sent"]["bytes"].as_u64().context("sent")?);
    eprintln!("{bytes} of {sent} bytes have arrived by the end");
    ensure!(
        sent - bytes < 32 << 20,
        "{bytes} of {sent} bytes have arrived: more is missing than was under way"
    );
    Ok(())
}
