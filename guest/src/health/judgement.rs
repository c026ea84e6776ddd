//! From single looks to a state: pure, no clock.

use hotpair_abi::heartbeat::State;

/// What a check knows of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Never seen well.
    Unseen,
    /// Well.
    Well,
    /// Was well and is not any more.
    Ill,
}

/// Counts successes and failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    health: Health,
    rise: u32,
    fall: u32,
    /// Looks in a row that contradict `health`.
    against: u32,
}

impl Judgement {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(rise: u32, fall: u32) -> Judgement {
        Judgement { health: Health::Unseen, rise, fall, against: 0 }
    }

    /// Takes in one look. The first success is enough for a service that was never seen well; later changes take `rise`
    /// and `fall` looks in a row.
    pub fn saw(&mut self, well: bool) {
        let next = match (self.health, well) {
            (Health::Unseen | Health::Ill, true) => Health::Well,
            (Health::Well, false) => Health::Ill,
            (Health::Unseen | Health::Ill, false) | (Health::Well, true) => {
                self.against = 0;
                return;
            }
        };
        let needed = match self.health {
            Health::Unseen => 1,
            Health::Ill => self.rise,
            Health::Well => self.fall,
        };
        self.against += 1;
        if self.against >= needed {
            self.health = next;
            self.against = 0;
        }
    }

    /// The present judgement.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }
}

/// The member's state, given all its checks: the worst one decides. No check at all is a service that serves.
pub(super) fn together(judgements: &[Judgement]) -> State {
    let any = |health| judgements.iter().any(|judgement| judgement.health == health);
    if any(Health::Ill) {
        State::Failing
    } else if any(Health::Unseen) {
        State::Starting
    } else {
        State::Serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(looks: &str) -> Health {
        let mut judgement = Judgement::new(2, 3);
        for look in looks.bytes() {
            judgement.saw(look == b'+');
        }
        judgement.health()
    }

    #[test]
    fn it_takes_rise_and_fall_looks_in_a_row() {
        for (looks, health) in [
            ("", Health::Unseen),
            ("-----", Health::Unseen),
            ("--+", Health::Well),
            ("+--", Health::Well),
            ("+--+--", Health::Well),
            ("+---", Health::Ill),
            ("+---+", Health::Ill),
            ("+---+-+", Health::Ill),
            ("+---++", Health::Well),
        ] {
            assert_eq!(after(looks), health, "after {looks:?}");
        }
    }

    #[test]
    fn the_worst_check_decides() {
        let judged = |looks: &str| {
            let mut judgement = Judgement::new(1, 1);
            looks.bytes().for_each(|look| judgement.saw(look == b'+'));
            judgement
        };
        assert_eq!(together(&[]), State::Serving);
        assert_eq!(together(&[judged("+"), judged("")]), State::Starting);
        assert_eq!(together(&[judged("+"), judged("+")]), State::Serving);
        assert_eq!(together(&[judged("+-"), judged("+")]), State::Failing);
        assert_eq!(together(&[judged("+-"), judged("")]), State::Failing);
    }

    proptest! {
        #[test]
        fn a_service_never_seen_well_is_never_called_serving(looks in 0usize..100, rise in 1u32..5, fall in 1u32..5) {
            let mut judgement = Judgement::new(rise, fall);
            (0..looks).for_each(|_| judgement.saw(false));
            prop_assert_eq!(together(&[judgement]), State::Starting);
        }
    }
}
