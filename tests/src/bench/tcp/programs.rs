//! What each eBPF program of a data plane costs a packet, by the kernel's own account (`bpf_stats`): it takes some tens
//! of nanoseconds itself, so nothing else is measured meanwhile.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// Time and number of the runs of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Runs {
    nanoseconds: u64,
    count: u64,
}

/// The programs of the data plane that is pinned here.
pub(super) struct Programs {
    /// The map that all of them look at, and no other data plane's programs.
    map: u32,
}

/// A program's name as the kernel keeps it, and nanoseconds a run.
pub(super) type Cost = (String, f64);

impl Programs {
    pub(super) fn pinned(bpf_dir: &Path) -> Result<Programs> {
        let pin = bpf_dir.join("maps/PAIRS");
        let map = MapData::from_pin(&pin).with_context(|| format!("cannot open {}", pin.display()))?;
        Ok(Programs { map: map.info()?.id() })
    }

    fn look(&self) -> Result<Vec<(String, Runs)>> {
        let mut found = Vec::new();
        for program in loaded_programs() {
            // Others come and go while we look.
            let Ok(program) = program else { continue };
            if program.map_ids().ok().flatten().is_some_and(|ids| ids.contains(&self.map)) {
                let runs = Runs {
                    nanoseconds: u64::try_from(program.run_time().as_nanos())?,
                    count: program.run_count(),
                };
                found.push((program.name_as_str().unwrap_or_default().to_owned(), runs));
            }
        }
        Ok(found)
    }

    /// What a run of each program took while `work` was done; of those that ran often enough to tell.
    pub(super) fn during(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<Cost>> {
        const OFTEN: u64 = 100;
        let counting = enable_stats(Stats::RunTime).context("bpf_stats")?;
        let before = self.look()?;
        work()?;
        let after = self.look()?;
        drop(counting);
        let costs = after.into_iter().zip(before).filter_map(|((name, after), (_, before))| {
            let count = after.count - before.count;
            let nanoseconds = after.nanoseconds - before.nanoseconds;
            (count >= OFTEN).then(|| (name, nanoseconds as f64 / count as f64))
        });
        Ok(costs.collect())
    }
}
