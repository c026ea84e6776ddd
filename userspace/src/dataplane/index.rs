//! `INDEX`: what `ENTRIES` says, where the programs find it faster. They read it while `HOST` says so; it is written while `HOST`
//! does not, and nobody reads it any more.

use std::os::fd::AsFd as _;

use aya::maps::{Array, MapData};
use hotpair_abi::Address;
use hotpair_abi::index::{self, Row, Spread};
use hotpair_abi::maps::Host;

use super::{DataplaneError, rows, sys};

/// The rows, and the map that says whether they are read.
pub(super) struct Index {
    host: Array<MapData, Host>,
    rows: rows::Rows<Row>,
}

impl Index {
    /// Over these maps. `count`: rows of `INDEX`.
    pub(super) fn over(
        host: Array<MapData, Host>,
        index: &MapData,
        count: u32,
    ) -> Result<Index, DataplaneError> {
        let rows = rows::Rows::new(index.fd().as_fd(), count)
            .map_err(|source| DataplaneError::kernel("mapping INDEX", source))?;
        Ok(Index { host, rows })
    }

    fn host(&self) -> Result<Host, DataplaneError> {
        self.host.get(&0, 0).map_err(|error| DataplaneError::map("reading HOST", &error))
    }

    fn tell(&mut self, spread: Spread) -> Result<(), DataplaneError> {
        let host = Host { spread, ..self.host()? };
        self.host.set(0, host, 0).map_err(|error| DataplaneError::map("writing HOST", &error))
    }

    /// Has the programs ask `ENTRIES`, all of them when this returns (some 10 ms).
    pub(super) fn take_away(&mut self) -> Result<(), DataplaneError> {
        let spread = self.host()?.spread;
        if spread.mask == 0 {
            return Ok(());
        }
        self.tell(Spread { mask: 0, ..spread })?;
        wait_for_programs()
    }

    /// Makes it of these entries.
    pub(super) fn make(&mut self, entries: &[(Address, u32)]) -> Result<(), DataplaneError> {
        let (spread, index) = index::build(entries, self.rows.len());
        self.tell(Spread { mask: 0, ..spread })?;
        // Whoever told so before may have died before it had waited.
        wait_for_programs()?;
        for (number, row) in (0..self.rows.len()).zip(index) {
            if let Some(to) = self.rows.get(number) {
                // SAFETY: a mapped row, which nobody reads now.
                unsafe { to.write_volatile(row) };
            }
        }
        // Who sees that it is to be read must see what is in it, on processors too that promise nothing about the order of
        // loads: whoever begins after this sees it all.
        wait_for_programs()?;
        self.tell(spread)
    }
}

/// Returns when no program runs that ran when this was called.
fn wait_for_programs() -> Result<(), DataplaneError> {
    sys::wait_for_programs().map_err(|source| DataplaneError::kernel("waiting for the programs", source))
}
