//! The table runner: each case is one frame in one state, with everything that must come of it.

use std::collections::{BTreeMap, BTreeSet};

use hotpair_abi::PairId;
use hotpair_abi::count::Counter;

use crate::bench::Bench;
use crate::test_run::Ran;

/// What the frame must be afterwards.
pub(crate) enum Output {
    /// What it was.
    Same,
    /// This, byte for byte.
    Is(Vec<u8>),
    /// Whatever: it is dropped.
    Dropped,
}

/// One case.
pub(crate) struct Case {
    /// What is promised.
    pub(crate) name: &'static str,
    /// The frame.
    pub(crate) frame: Vec<u8>,
    /// What is different from [`Bench::reset`].
    pub(crate) state: Box<dyn Fn(&Bench)>,
    /// The program's verdict.
    pub(crate) verdict: i32,
    /// The frame afterwards.
    pub(crate) output: Output,
    /// The counters that rise by one for each time they are named, and no other does: the pair (`None`: no pair's) and
    /// which.
    pub(crate) counters: Vec<(Option<PairId>, Counter)>,
}

impl Case {
    /// A case in the state that [`Bench::reset`] leaves.
    pub(crate) fn new(
        name: &'static str,
        frame: Vec<u8>,
        verdict: i32,
        counter: (Option<PairId>, Counter),
    ) -> Case {
        Case { name, frame, state: Box::new(|_| {}), verdict, output: Output::Same, counters: vec![counter] }
    }

    /// In another state.
    pub(crate) fn when(self, state: impl Fn(&Bench) + 'static) -> Case {
        Case { state: Box::new(state), ..self }
    }

    /// With this output.
    pub(crate) fn gives(self, frame: Vec<u8>) -> Case {
        Case { output: Output::Is(frame), ..self }
    }

    /// Whose frame nobody sees any more.
    pub(crate) fn dropped(self) -> Case {
        Case { output: Output::Dropped, ..self }
    }

    /// With another counter too.
    pub(crate) fn and(mut self, id: PairId, counter: Counter) -> Case {
        self.counters.push((Some(id), counter));
        self
    }
}

/// Runs all cases; panics with every one that is not as it should be. Returns the counters that have risen.
pub(crate) fn run(bench: &Bench, cases: &[Case], program: impl Fn(&Case) -> Ran) -> BTreeSet<Counter> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for case in cases {
        bench.reset();
        (case.state)(bench);
        let before = bench.counters();
        let ran = program(case);
        let mut rose = rise(&before, &bench.counters());
        seen.extend(rose.iter().map(|(_, counter, _)| *counter));
        if ran.verdict as i32 != case.verdict {
            wrong.push(format!("{}: the verdict is {}, not {}", case.name, ran.verdict as i32, case.verdict));
        }
        let expected = match &case.output {
            Output::Same => Some(&case.frame),
            Output::Is(frame) => Some(frame),
            Output::Dropped => None,
        };
        if let Some(expected) = expected
            && *expected != ran.frame
        {
            wrong
                .push(format!("{}: the frame is\n  {:02x?}, not\n  {:02x?}", case.name, ran.frame, expected));
        }
        let mut expected: BTreeMap<_, u64> = BTreeMap::new();
        for (id, counter) in &case.counters {
            *expected.entry((id.map_or(0, |id| id.0 as usize + 1), *counter)).or_default() += 1;
        }
        let expected: Vec<_> = expected.into_iter().map(|((row, counter), by)| (row, counter, by)).collect();
        rose.sort_unstable();
        if rose != expected {
            wrong.push(format!("{}: the counters that rose are {rose:?}, not {expected:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    seen
}

/// What has risen, by row.
fn rise(before: &[Vec<(Counter, u64)>], after: &[Vec<(Counter, u64)>]) -> Vec<(usize, Counter, u64)> {
    let mut rose = Vec::new();
    for (row, (before, after)) in before.iter().zip(after).enumerate() {
        for ((counter, before), (_, after)) in before.iter().zip(after) {
            if after > before {
                rose.push((row, *counter, after - before));
            }
        }
    }
    rose
}
