//! What the scenarios have in common.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{PairStatus, Record, RecordKind};
use hotpair_tests::lab::{Builder, Lab, Machine};
use hotpair_tests::load::{Load, Plan, Report};
use hotpair_tests::wait::wait_until;

/// Without a heartbeat for so long a member of a [`patient`] lab is silent.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// A lab for tests in which nobody may fail over but who is made to: its members are believed for long, whatever else the
/// machine has to do. Who is killed is missed at once all the same: his tap loses its carrier.
pub(crate) fn patient() -> Builder {
    Lab::builder().heartbeat(Duration::from_millis(5), PATIENCE)
}

/// So long a client waits at most where a member is missed by its tap, or by a timeout of up to half a second.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// So long where only the kernel's latch misses it, after twice the timeout (docs/design.md).
pub(crate) const LATCH: Duration = Duration::from_secs(2);

/// Whether the client was never without an answer for longer than this; where its own machine gave it no time to ask
/// meanwhile, that is not counted.
pub(crate) fn answered_within(most: Duration, report: &Report) -> Result<()> {
    let late = report.late_in_gap();
    ensure!(report.gap < most + late, "{}; it was late itself by {late:?}", report.line());
    Ok(())
}

/// A lab with a protected pair; `None` where labs cannot be.
pub(crate) fn protected(test: &str, builder: Builder) -> Result<Option<Lab>> {
    if !crate::may_run(test) {
        return Ok(None);
    }
    let lab = builder.start()?;
    lab.wait_protected()?;
    Ok(Some(lab))
}

/// A thousand numbered datagrams a second to the entry address, already being answered.
pub(crate) fn load(lab: &Lab) -> Result<Load> {
    let load = lab.client().load(Plan::udp(lab.client().echo()?))?;
    wait_until("answers from the entry address", Duration::from_secs(10), || load.so_far().answered() > 50)?;
    Ok(load)
}

/// A load for tests that forbid any loss over a long time: at this rate a machine that has other things to do may let the
/// frames wait for a second before a veth's ring of 256 overflows, which would look like hotpair's doing.
pub(crate) fn steady_load(lab: &Lab) -> Result<Load> {
    let load = lab.client().load(Plan::udp(lab.client().echo()?).rate(200))?;
    wait_until("answers from the entry address", Duration::from_secs(10), || load.so_far().answered() > 20)?;
    Ok(load)
}

/// What came of a failover.
pub(crate) struct Outcome {
    pub(crate) before: PairStatus,
    pub(crate) after: PairStatus,
    pub(crate) old: Machine,
    pub(crate) survivor: Machine,
    pub(crate) failover: Record,
    /// When the fault came, on the report's clock.
    pub(crate) fault_at: Duration,
    pub(crate) report: Report,
}

/// Breaks the primary under load, waits until the pair is protected again, and checks everything that must be so
/// whatever the fault was.
pub(crate) fn fail_over(lab: &Lab, fault: impl FnOnce(&Machine) -> Result<()>) -> Result<Outcome> {
    let before = lab.wait_protected()?;
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let load = load(lab)?;
    std::thread::sleep(Duration::from_millis(100));
    let fault_at = load.elapsed();
    fault(&old)?;
    lab.wait_pair("the survivor to serve", |pair| {
        pair.epoch > before.epoch && pair.primary == Some(survivor.slot())
    })?;
    let after = lab.wait_protected()?;
    std::thread::sleep(Duration::from_millis(100));
    let report = load.stop();
    let failover = lab
        .history()?
        .into_iter()
        .find(|record| record.kind == RecordKind::Failover && record.epoch_after > before.epoch)
        .context("the history does not tell of the failover")?;
    eprintln!(
        "{} (found by {}, {} µs after its last sign, flip {:.1} µs); {}",
        failover.text,
        failover.detected_by.as_deref().unwrap_or("nobody"),
        failover.detect_us.unwrap_or_default(),
        failover.flip_us.unwrap_or_default(),
        report.line()
    );
    let outcome = Outcome { before, after, old, survivor, failover, fault_at, report };
    outcome.check(lab)?;
    Ok(outcome)
}

impl Outcome {
    fn check(&self, lab: &Lab) -> Result<()> {
        let Outcome { before, after, old, survivor, failover, fault_at, report } = self;
        ensure!(after.primary == Some(survivor.slot()), "the survivor serves: {after:?}");
        ensure!(
            after.epoch == before.epoch + 1,
            "one change of role, one epoch: {} -> {}",
            before.epoch,
            after.epoch
        );
        ensure!((failover.epoch_before, failover.epoch_after) == (before.epoch, after.epoch), "{failover:?}");
        ensure!(failover.slot == Some(survivor.slot()), "{failover:?}");

        // What the client saw.
        ensure!(report.answerers() == [old.by(), survivor.by()], "answers by {:?}", report.answerers());
        answered_within(SOON, report)?;
        // Lost is only what was in flight between the fault and the flip: the longer a machine is slow, the more that is.
        let by_survivor = report.requests.iter().filter(|r| r.by == Some(survivor.by()));
        let served_again = by_survivor.map(|r| r.sent_at).min().unwrap_or(report.duration);
        let margin = Duration::from_millis(20) + report.in_flight_at(*fault_at);
        for lost in report.lost() {
            ensure!(
                lost.sent_at + margin > *fault_at && lost.sent_at < served_again + margin,
                "{lost:?} was lost; the primary fell at {fault_at:?}, and {served_again:?} was served again: {}",
                report.line()
            );
        }

        // Fenced, released, replaced.
        ensure!(!old.is_alive(), "the old primary's machine is gone");
        let new = lab.machine(old.slot())?;
        ensure!(new.generation() > old.generation(), "a new member is in its place");
        let volume = |machine: &Machine| format!("web-{}-{}.volume", machine.slot(), machine.generation());
        let volumes = lab.volumes()?;
        ensure!(volumes.contains(&volume(survivor)) && volumes.contains(&volume(&new)), "{volumes:?}");
        let kinds: Vec<_> =
            lab.history()?.iter().filter(|r| r.at_ms >= failover.at_ms).map(|r| r.kind).collect();
        let mut expected = [
            RecordKind::Failover,
            RecordKind::MemberLost,
            RecordKind::Fenced,
            RecordKind::Released,
            RecordKind::Replacing,
            RecordKind::Protected,
        ]
        .iter()
        .peekable();
        for kind in &kinds {
            expected.next_if_eq(&kind);
        }
        ensure!(expected.peek().is_none(), "the history tells it in another order: {kinds:?}");
        Ok(())
    }
}

/// Numbers of this load's datagrams among frames, in the order they came.
pub(crate) fn numbers(frames: &[Vec<u8>]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| {
            let at = frame.windows(4).position(|window| window == b"HPLD")?;
            Some(u64::from_be_bytes(frame.get(at + 8..at + 16)?.try_into().ok()?))
        })
        .collect()
}
