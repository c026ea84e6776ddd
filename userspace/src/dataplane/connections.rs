//! The TCP connections that the programs know.

use std::os::fd::AsFd;

use aya::maps::MapData;
use hotpair_abi::maps::{PAIR_COMPARE, PAIR_FIRST, Tuple};
use hotpair_abi::tcp::connection::{CLOSE_LIMIT_NS, CLOSED, Connection, Scene};
use hotpair_abi::{PairId, Slot, voice};

use super::{Dataplane, DataplaneError, rows, sys};

/// Rows that are read at once.
const AT_ONCE: usize = 4096;

impl Dataplane {
    /// The connections of a pair that are not over, each as it was at one moment.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn connections(&self, id: PairId) -> Result<Vec<(Tuple, Connection)>, DataplaneError> {
        let mut found = Vec::new();
        // Where they come and go, most are over, and the table is large: they are not carried along.
        self.each_connection(|tuple, connection| {
            if connection.pair == id.0 && connection.flags & CLOSED == 0 {
                found.push((*tuple, *connection));
            }
        })?;
        Ok(found)
    }

    /// The connections of all pairs, those that are over as well.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn all_connections(&self) -> Result<Vec<(Tuple, Connection)>, DataplaneError> {
        let mut found = Vec::new();
        self.each_connection(|tuple, connection| found.push((*tuple, *connection)))?;
        Ok(found)
    }

    /// Shows all of them, as [`Dataplane::all_connections`] has them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn each_connection(&self, mut look: impl FnMut(&Tuple, &Connection)) -> Result<(), DataplaneError> {
        let map = self.connections_map()?;
        let look = |tuple: &Tuple, connection: &Connection| {
            look(tuple, connection);
            Ok(())
        };
        sys::for_each(map.fd().as_fd(), AT_ONCE, look)
            .map_err(|source| DataplaneError::kernel("reading CONNECTIONS", source))
    }

    /// Forgets the connections of which this is so. Each is looked at again, before it goes and when it has gone: since it was
    /// read, its client may have used the port again, and what has begun anew must not be forgotten.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_connections(&self, is_past: impl Fn(&Connection) -> bool) -> Result<(), DataplaneError> {
        let map = self.connections_map()?;
        let map = map.fd().as_fd();
        let look = |tuple: &Tuple, connection: &Connection| {
            let still = || sys::lookup(map, tuple).map(|now| now.is_some_and(|now| is_past(&now)));
            if !is_past(connection) || !still()? {
                return Ok(());
            }
            match sys::take(map, tuple)? {
                // Begun in this very moment: nobody has answered yet.
                Some(gone) if !is_past(&gone) => sys::put_back(map, tuple, &gone),
                _ => Ok(()),
            }
        };
        sys::for_each(map, AT_ONCE, look)
            .map_err(|source| DataplaneError::kernel("forgetting connections", source))
    }

    fn connections_map(&self) -> Result<MapData, DataplaneError> {
        let path = self.pins.map("CONNECTIONS");
        MapData::from_pin(&path)
            .map_err(|error| DataplaneError::map(format!("opening {}", path.display()), &error))
    }

    /// What the programs know of a pair when they look at one of its connections.
    #[must_use]
    pub fn scene(&self, id: PairId, now_ns: u64) -> Scene {
        let Some(row) = self.pairs.get(id.0) else { return Scene::default() };
        let row = rows::copy(row);
        let word = self.role(id).in_force(row.handover_until_ns, || now_ns);
        let speaker = voice::active(word, row.tripped_epoch) as u32;
        Scene {
            speaker,
            protect: Scene::protects(word, speaker),
            gate: u32::from(word.gate()),
            handover: u32::from(word.handover()),
            first: u32::from(row.flags & PAIR_FIRST != 0),
            compare: u32::from(row.flags & PAIR_COMPARE != 0),
            now_ns,
            since_ns: row.since_ns,
            lag_limit_ns: row.lag_limit_ns,
            close_limit_ns: CLOSE_LIMIT_NS,
        }
    }

    /// The tap of a slot; 0 for none.
    #[must_use]
    pub fn tap_index(&self, id: PairId, slot: Slot) -> u32 {
        self.pairs.get(id.0).map_or(0, |row| rows::copy(row).tap_ifindex[slot.index()])
    }
}
