//! The right moment for a switchover: when neither member owes an answer.
//!
//! A handover gives each conversation to one member from one packet on. If a member is late just then (the host is busy,
//! the guest collects its garbage), answers to what came before are lost (the old primary was late) or leave twice (the
//! new one was). So the data plane counts what each conversation is owed, from a little before on, and lets it go over in a
//! moment in which it is owed nothing (`hotpair_abi::handover`). A handover does not last for ever, and what has not gone
//! over by then must; so a planned change also waits a little for a moment in which both have answered all that they were
//! asked (`pair/switchover.rs` says how long).
//!
//! What a member owes is counted by the data plane: packets in minus packets out, against the lowest that this
//! difference has been while it was watched. Services that give one answer to one request are seen through by that, within
//! the bounds that `hotpair_abi::handover` names; others come to no harm: the switchover does not wait for ever.

use std::time::{Duration, Instant};

use hotpair_abi::PairId;
use hotpair_abi::count::Counter;

use super::boottime;
use crate::dataplane::Dataplane;
use crate::pair::Nanos;

/// So long is looked before the first conclusion: a member that owes for longer than this is not late but slow.
const WATCH: Duration = Duration::from_millis(20);
/// Between two looks.
const PERIOD: Duration = Duration::from_micros(200);

/// What the members owe, compared with the least they have owed.
#[derive(Debug)]
struct Debts {
    least: [i64; 2],
}

impl Debts {
    fn new() -> Debts {
        Debts { least: [i64::MAX; 2] }
    }

    /// Books packets in and each member's packets out; whether nobody owes anything.
    fn none_at(&mut self, asked: u64, answered: [u64; 2]) -> bool {
        let mut none = true;
        for (least, answered) in self.least.iter_mut().zip(answered) {
            let owed = asked.wrapping_sub(answered).cast_signed();
            *least = (*least).min(owed);
            none &= owed == *least;
        }
        none
    }
}

/// Whether every TCP connection that could go on with the standby can do so now. One with which the standby is late would
/// be lost.
fn is_level(plane: &Dataplane, id: PairId) -> bool {
    let scene = plane.scene(id, boottime());
    // What cannot be read keeps nobody waiting.
    plane.connections(id).map_or(true, |all| all.iter().all(|(_, connection)| !connection.is_behind(&scene)))
}

/// Waits for the moment until then, on the calling thread; whether it has come.
pub(super) fn wait(plane: &Dataplane, id: PairId, until: Nanos) -> bool {
    let began = Instant::now();
    let mut debts = Debts::new();
    loop {
        // The answers first: what is asked between the two readings then looks owed, never the other way round.
        let answered =
            [Counter::ActiveSent, Counter::StandbySuppressed].map(|counter| plane.counter(id, counter));
        let asked = plane.counter(id, Counter::UplinkMirrored);
        let (Ok(asked), [Ok(active), Ok(standby)]) = (asked, answered) else { return true };
        let none = debts.none_at(asked, [active, standby]);
        if none && began.elapsed() >= WATCH && is_level(plane, id) {
            return true;
        }
        if boottime() >= until {
            tracing::debug!("no quiet moment for a switchover: it begins all the same");
            return false;
        }
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_member_is_waited_for_whatever_was_counted_before() {
        let mut debts = Debts::new();
        // The standby is younger: it has answered fewer in all.
        assert!(debts.none_at(1000, [1000, 400]));
        assert!(!debts.none_at(1003, [1003, 400]), "the standby owes three");
        assert!(!debts.none_at(1003, [1003, 402]), "the standby owes one");
        assert!(debts.none_at(1003, [1003, 403]));
        assert!(!debts.none_at(1004, [1003, 404]), "the primary owes one");
        assert!(debts.none_at(1004, [1004, 404]));
    }

    #[test]
    fn a_member_that_was_late_from_the_beginning_is_found_out_when_it_catches_up() {
        let mut debts = Debts::new();
        assert!(debts.none_at(1000, [990, 1000]), "nothing better is known yet");
        assert!(debts.none_at(1000, [1000, 1000]));
        assert!(!debts.none_at(1001, [1000, 1001]));
    }

    #[test]
    fn quiet_and_one_way_traffic_are_no_debts() {
        let mut debts = Debts::new();
        assert!(debts.none_at(7, [5, 5]));
        assert!(debts.none_at(7, [5, 5]));
        assert!(debts.none_at(7, [9, 9]), "a download");
    }
}
