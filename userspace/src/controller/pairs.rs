//! Who is who: the pairs of this host by name, by row and by tap. Settled at the start; nobody ever looks through all of
//! them to find one.

use std::collections::HashMap;
use std::sync::Arc;

use hotpair_abi::{PairId, Slot};

use super::PairFacts;

/// The pairs that this controller looks after.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// In the order of the configuration.
    all: Vec<Arc<PairFacts>>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<PairId, usize>,
    by_tap: HashMap<String, (usize, Slot)>,
}

impl Pairs {
    pub(super) fn new(all: Vec<Arc<PairFacts>>) -> Pairs {
        let mut this =
            Pairs { by_name: HashMap::new(), by_id: HashMap::new(), by_tap: HashMap::new(), all: Vec::new() };
        for (index, facts) in all.iter().enumerate() {
            this.by_name.insert(facts.config.name.clone(), index);
            this.by_id.insert(facts.id, index);
            for slot in Slot::BOTH {
                this.by_tap.insert(facts.tap(slot), (index, slot));
            }
        }
        this.all = all;
        this
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<PairFacts>> {
        self.all.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<PairFacts>> {
        self.by_name.get(name).map(|index| &self.all[*index])
    }

    pub(crate) fn with_id(&self, id: PairId) -> Option<&Arc<PairFacts>> {
        self.by_id.get(&id).map(|index| &self.all[*index])
    }

    /// Where in [`Pairs::iter`] the pair of this row is.
    pub(crate) fn position(&self, id: PairId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The pair and the slot that a tap belongs to.
    pub(crate) fn with_tap(&self, tap: &str) -> Option<(&Arc<PairFacts>, Slot)> {
        self.by_tap.get(tap).map(|(index, slot)| (&self.all[*index], *slot))
    }
}
