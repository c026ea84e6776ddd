//! `ENTRIES`: which pair an address belongs to, and `INDEX` of it. What the map says is also known here, because asking the kernel takes two
//! system calls an address, and with ten thousand pairs everybody asks about everybody. This process is the only one that
//! writes the map: it has the pins' lock.

use std::collections::HashMap;

use aya::maps::{MapData, MapError};
use hotpair_abi::Address;
use hotpair_abi::maps::Entry;

use super::DataplaneError;
use super::index::Index;

type Key = [u8; 16];

/// The map, and what is in it.
pub(super) struct Entries {
    map: aya::maps::HashMap<MapData, Key, Entry>,
    index: Index,
    owners: HashMap<Key, u32>,
    of_pair: HashMap<u32, Vec<Key>>,
}

impl Entries {
    /// Reads the map.
    pub(super) fn read(
        map: aya::maps::HashMap<MapData, Key, Entry>,
        index: Index,
    ) -> Result<Entries, MapError> {
        let mut this = Entries { owners: HashMap::new(), of_pair: HashMap::new(), map, index };
        for entry in this.map.iter() {
            let (key, entry) = entry?;
            this.owners.insert(key, entry.pair);
            this.of_pair.entry(entry.pair).or_default().push(key);
        }
        Ok(this)
    }

    /// Whose an address is.
    pub(super) fn owner(&self, key: &Key) -> Option<u32> {
        self.owners.get(key).copied()
    }

    /// A pair's addresses.
    pub(super) fn of(&self, pair: u32) -> &[Key] {
        self.of_pair.get(&pair).map_or(&[], Vec::as_slice)
    }

    /// Every address.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.owners.keys()
    }

    /// Gives an address to a pair. It must not be another one's.
    pub(super) fn insert(&mut self, key: Key, pair: u32) -> Result<(), DataplaneError> {
        if self.owner(&key) == Some(pair) {
            return Ok(());
        }
        self.index.take_away()?;
        self.map
            .insert(key, Entry { pair }, 0)
            .map_err(|error| DataplaneError::map("adding an entry address", &error))?;
        self.owners.insert(key, pair);
        self.of_pair.entry(pair).or_default().push(key);
        Ok(())
    }

    /// Takes an address away.
    pub(super) fn remove(&mut self, key: &Key) -> Result<(), DataplaneError> {
        self.index.take_away()?;
        self.map.remove(key).map_err(|error| DataplaneError::map("removing an entry address", &error))?;
        if let Some(keys) = self.owners.remove(key).and_then(|pair| self.of_pair.get_mut(&pair)) {
            keys.retain(|other| other != key);
        }
        Ok(())
    }

    /// Has the programs find addresses faster, until the next one is added or taken away.
    pub(super) fn index(&mut self) -> Result<(), DataplaneError> {
        let entries: Vec<_> = self.owners.iter().map(|(key, pair)| (Address::new(*key), *pair)).collect();
        self.index.make(&entries)
    }
}
