//! Room for the state and for members' volumes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::check::machine::existing;
use super::Finding;
use crate::config::{Config, Vm};
use crate::hypervisor::image::Image;

const MIB: u64 = 1 << 20;
/// The state is a few MiB; a disk this full is full of something else and will be fuller.
const STATE: u64 = 256 * MIB;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(free(&config.host.state_dir).map(|free| judge_state(&config.host.state_dir, free)));
    // What all members in a directory may come to, and the largest of them.
    let mut directories: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    for pair in &config.pairs {
        if let Vm::Libvirt { image, .. } = &pair.vm
            && let (Ok(found), Some(directory)) = (Image::probe(image), image.parent())
        {
            // A name alone is in the working directory.
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let (all, largest) = directories.entry(directory.to_owned()).or_default();
            *all += found.virtual_size * 2;
            *largest = (*largest).max(found.virtual_size);
        }
    }
    for (directory, (all, largest)) in directories {
        findings.extend(free(&directory).map(|free| judge_images(&directory, free, all, largest)));
    }
    findings
}

fn free(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(existing(path)).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn judge_state(path: &Path, free: u64) -> Finding {
    let what = format!("{}: {:.1} GiB free", path.display(), gib(free));
    if free >= STATE {
        return Finding::ok("state space", what);
    }
    Finding::warn(
        "state space",
        what,
        "make room: pairs go on without it, but epochs and history are not saved",
    )
}

fn judge_images(directory: &Path, free: u64, all: u64, largest: u64) -> Finding {
    let shown = directory.display();
    let what =
        format!("{shown}: {:.1} GiB free; the members' volumes can grow to {:.1} GiB", gib(free), gib(all));
    // Volumes grow as they are written to: room for one whole member is what a replacement may need at once.
    if free >= largest {
        Finding::ok("image space", what)
    } else {
        let way_out = format!("make room in {shown}, or put the golden image on a larger disk");
        Finding::warn("image space", what, way_out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_disk_that_fills_up_is_a_warning() {
        let path = Path::new("/var/lib/x");
        assert_eq!(judge_state(path, STATE).level, Level::Ok);
        assert_eq!(judge_state(path, STATE - 1).level, Level::Warn);
        assert_eq!(judge_images(path, 10, 20, 10).level, Level::Ok);
        assert_eq!(judge_images(path, 9, 20, 10).level, Level::Warn);
        assert!(free(Path::new("/no/such/directory/here")).is_some(), "the nearest that exists is asked");
    }
}
