//! Connections in the middle of a switchover.

use hotpair_abi::Epoch;
use hotpair_abi::count::Counter;
use hotpair_abi::tcp::verdict::Verdict;

use super::conversation::{Conversation, arrive, carry, say};
use crate::bench::{Bench, WEB, alone};

/// The new primary cannot go on yet: the old one still speaks, and what the new one says is a standby's.
#[test]
fn who_differs_before_it_speaks_is_a_standby_that_differs() {
    alone(|| {
        let bench = Bench::new();
        for v6 in [false, true] {
            carry(&bench);
            // Nobody waits for the standby: the client believes to have arrived what it lacks.
            let word = Bench::word().with_protect(true);
            bench.plane.set_role(WEB, word);
            let conversation = Conversation { v6, ..Conversation::new(4000) };
            conversation.open(&bench);
            conversation.client(&bench, &say(1, 1).data(10));
            assert!(conversation.member(&bench, 0, &say(1, 11).data(100)).client.is_some());
            conversation.client(&bench, &say(11, 101));
            bench.plane.set_role(WEB, word.with_epoch(Epoch(6)).with_handover(true));
            // A SYN that comes late: the conversation is the new primary's.
            arrive(&bench, &conversation.syn());
            let before = bench.count(WEB, Counter::TcpDiverged);
            let came = conversation.member(&bench, 1, &say(1, 1).data(100).other());
            assert!(came.client.is_none(), "{came:?}");
            let rows = bench.plane.all_connections().expect("the table");
            let verdicts: Vec<_> = rows.iter().map(|(_, row)| (row.verdict, row.speaker)).collect();
            assert_eq!(verdicts, [(Verdict::Diverged as u32, 0)], "v6 {v6}");
            assert_eq!(bench.count(WEB, Counter::TcpDiverged), before + 1);
        }
    });
}
