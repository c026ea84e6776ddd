//! Many taps at once, in seconds.
//!
//! Each tap's two programs, and each pair's devmap, make the kernel wait for an RCU grace period (`tcx_entry_sync`,
//! `maybe_wait_bpf_programs`), one after the other because the first holds the RTNL: 12 ms each were measured, 61 ms a
//! pair, a minute for a thousand pairs. Expedited grace periods take 20 to 60 microseconds and cost every CPU an
//! interrupt, which is what `/sys/kernel/rcu_expedited` is for (Documentation/RCU/whatisRCU and kernel-parameters:
//! "useful for boot and configuration changes"). So it is switched on while a host is set up or taken down, and never
//! while it only runs.
//!
//! It must never stay on because of us: what a killed process has left on is put back by the next one.

use std::fs;
use std::path::{Path, PathBuf};

const KNOB: &str = "/sys/kernel/rcu_expedited";
/// In the run directory, while the knob is ours.
const MARK: &str = "rcu_expedited";
/// Fewer new pairs than this are not worth it.
const MANY: usize = 8;

/// The kernel's grace periods are short while this lives. Where the knob cannot be turned, everything is as slow as it is
/// by itself.
#[derive(Debug)]
pub struct Hurry {
    knob: PathBuf,
    mark: PathBuf,
}

impl Hurry {
    /// Hurries if so many pairs to be set up or taken down are worth it. In any case puts back what a killed process
    /// has left.
    #[must_use]
    pub fn for_pairs(count: usize, run_dir: &Path) -> Option<Hurry> {
        Hurry::with(Path::new(KNOB), count, run_dir)
    }

    fn with(knob: &Path, count: usize, run_dir: &Path) -> Option<Hurry> {
        let hurry = Hurry { knob: knob.to_owned(), mark: run_dir.join(MARK) };
        let left = hurry.mark.exists();
        // What somebody else has chosen stays.
        let free = left || fs::read_to_string(knob).is_ok_and(|value| value.trim() == "0");
        if count < MANY || !free {
            return None;
        }
        match fs::write(&hurry.mark, "").and_then(|()| fs::write(knob, "1")) {
            Ok(()) => Some(hurry),
            Err(why) => {
                if !left {
                    let _ = fs::remove_file(&hurry.mark);
                }
                tracing::info!(
                    %why, pairs = count,
                    "{KNOB} cannot be set: setting up so many pairs takes the kernel about 60 ms a pair"
                );
                None
            }
        }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        // Without the mark the knob is not ours.
        if !self.mark.exists() {
            return;
        }
        match fs::write(&self.knob, "0") {
            Ok(()) => drop(fs::remove_file(&self.mark)),
            Err(why) => tracing::warn!(%why, "{KNOB} stays at 1: write 0 to it by hand"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(value: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let knob = directory.path().join("knob");
        fs::write(&knob, value).expect("it is written");
        (directory, knob)
    }

    fn value(knob: &Path) -> String {
        fs::read_to_string(knob).expect("it is there").trim().to_owned()
    }

    #[test]
    fn it_is_on_for_many_and_off_afterwards() {
        let (directory, knob) = place("0\n");
        let hurry = Hurry::with(&knob, MANY, directory.path());
        assert_eq!(value(&knob), "1");
        drop(hurry);
        assert_eq!(value(&knob), "0");
        assert!(Hurry::with(&knob, MANY - 1, directory.path()).is_none());
        assert_eq!(value(&knob), "0");
    }

    #[test]
    fn what_somebody_else_has_chosen_stays() {
        let (directory, knob) = place("1\n");
        drop(Hurry::with(&knob, MANY, directory.path()));
        assert_eq!(value(&knob), "1");
    }

    #[test]
    fn what_a_killed_process_left_on_is_put_back_by_the_next_one() {
        for count in [0, MANY] {
            let (directory, knob) = place("0\n");
            std::mem::forget(Hurry::with(&knob, MANY, directory.path()));
            assert_eq!(value(&knob), "1");
            drop(Hurry::with(&knob, count, directory.path()));
            assert_eq!(value(&knob), "0");
        }
    }

    #[test]
    fn without_the_knob_it_goes_on_slowly() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let nowhere = directory.path().join("no/knob");
        assert!(Hurry::with(&nowhere, MANY, directory.path()).is_none());
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0, "no mark is left");
    }
}
