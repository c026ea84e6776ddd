//! The directory under which everything is pinned: what makes the data plane outlive the controller.
//!
//! ```text
//! bpf_dir/maps/NAME             the maps; HOST last, so that its presence says the others are whole
//! bpf_dir/groups/P              the devmap of pair P's two taps, which is in GROUPS: reached by its pin, because by its id
//!                               the kernel hands it to CAP_SYS_ADMIN alone (bpf_map_get_fd_by_id)
//! bpf_dir/links/uplink          from_uplink
//! bpf_dir/links/P-S-ingress     from_guest at the tap of pair P, slot S
//! bpf_dir/links/P-S-egress      to_guest_from_host there
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData};
use hotpair_abi::maps::{Entry, Host};
use hotpair_abi::{PairId, Slot};
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{DataplaneError, hear, layout, sys};

/// <linux/magic.h>
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

const SUBDIRECTORIES: [&str; 3] = ["maps", "groups", "links"];

/// The pins, and the right to be the only one to change them.
pub(super) struct Pins {
    dir: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Pins {
    /// Makes the directory on a bpffs, mounting one where there is none, and locks it.
    pub(super) fn open(dir: &Path) -> Result<Pins, DataplaneError> {
        let failed = |what| move |source| DataplaneError::BpfDir { dir: dir.to_owned(), what, source };
        make(dir)?;
        let lock = lock(dir)?;
        for sub in SUBDIRECTORIES {
            match fs::create_dir(dir.join(sub)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("making its subdirectories")(error));
                }
                _ => {}
            }
        }
        Ok(Pins { dir: dir.to_owned(), _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join("maps").join(name)
    }

    pub(super) fn group(&self, pair: PairId) -> PathBuf {
        self.dir.join("groups").join(pair.0.to_string())
    }

    pub(super) fn uplink(&self) -> PathBuf {
        self.dir.join("links/uplink")
    }

    pub(super) fn tap(&self, pair: PairId, slot: Slot, hook: &str) -> PathBuf {
        self.dir.join(format!("links/{}-{slot}-{hook}", pair.0))
    }

    /// Removes the maps of a start that did not come to its end. Nothing is attached to them.
    pub(super) fn remove_half_made(&self) -> io::Result<()> {
        for layout in layout::all(1) {
            remove_file(&self.map(layout.name))?;
        }
        remove_groups(&self.dir).map(drop)
    }

    /// Whether what is here was never finished: `HOST` is pinned last.
    pub(super) fn is_half_made(&self) -> bool {
        !self.map(layout::HOST).exists()
    }

    /// Leaves no trace of a start that was refused: neither maps nor the directories that were made for them.
    pub(super) fn forget_half_made(&self) {
        if let Err(error) = self.remove_half_made() {
            tracing::warn!(dir = %self.dir.display(), "the maps of the refused start stay: {error}");
        }
        // What somebody else has put there keeps its directory.
        for sub in SUBDIRECTORIES {
            let _ = fs::remove_dir(self.dir.join(sub));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Removes the pins of pairs' devmaps; how many there were.
fn remove_groups(dir: &Path) -> io::Result<usize> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.parse::<u32>().is_ok())
    };
    let groups: Vec<PathBuf> = entries(&dir.join("groups"))?.into_iter().filter(ours).collect();
    for group in &groups {
        remove_file(group)?;
    }
    Ok(groups.len())
}

/// Detaches a pinned link and removes its pin; success when there is none. The kernel lets go of a link some time after
/// its last pin is gone, and until then its place is taken: so it is detached first, at once.
pub(super) fn remove_link(path: &Path) -> io::Result<()> {
    if let Ok(link) = sys::open_pin(path) {
        sys::link_detach(link.as_fd())?;
    }
    remove_file(path)
}

/// Removes a file; success when there is none.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_bpffs(dir: &Path) -> io::Result<bool> {
    #[allow(clippy::unnecessary_cast, reason = "the width of f_type depends on the architecture")]
    Ok(statfs(dir)?.f_type as i64 == BPF_FS_MAGIC)
}

fn make(dir: &Path) -> Result<(), DataplaneError> {
    let failed = |what| move |source| DataplaneError::BpfDir { dir: dir.to_owned(), what, source };
    let there = dir.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let on_bpffs = is_bpffs(there).map_err(failed("looking at its filesystem"))?;
    if !on_bpffs {
        // Where systemd does not run nobody has mounted the usual place; anywhere else only our own directory is.
        let usual = Path::new("/sys/fs/bpf");
        let at = if dir.starts_with(usual) { usual } else { dir };
        fs::create_dir_all(at).map_err(failed("making the directory"))?;
        mount("bpf", at, "bpf", MountFlags::empty(), Some(c"mode=0700"))
            .map_err(|error| failed("mounting a bpffs")(error.into()))?;
        tracing::info!(at = %at.display(), "mounted a bpffs for the data plane's pins");
    }
    fs::create_dir_all(dir).map_err(failed("making the directory"))
}

fn lock(dir: &Path) -> Result<File, DataplaneError> {
    let failed =
        |source| DataplaneError::BpfDir { dir: dir.to_owned(), what: "locking the directory", source };
    let lock = File::open(dir).map_err(failed)?;
    // A child that somebody has just forked holds our descriptors until it executes, those of a killed controller too.
    for _ in 0..50 {
        match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(DataplaneError::Busy(dir.to_owned()))
}

/// Detaches and unpins all that is ours; says what.
pub(super) fn remove_all(dir: &Path) -> Result<Vec<String>, DataplaneError> {
    let mut removed = Vec::new();
    if !dir.exists() || !is_bpffs(dir).unwrap_or(false) {
        return Ok(removed);
    }
    let held = lock(dir)?;
    let failed = |path: &Path| {
        let what = format!("removing {}", path.display());
        move |source| DataplaneError::kernel(what, source)
    };
    for path in entries(&dir.join("links")).map_err(failed(&dir.join("links")))? {
        let Some(what) = path.file_name().and_then(|name| name.to_str()).and_then(describe) else {
            continue;
        };
        let at = match sys::open_pin(&path) {
            Ok(link) => {
                let at = sys::link_ifindex(link.as_fd()).ok().and_then(interface_name);
                // The pin alone does not hold it if somebody has it open; detaching does not fail where it is gone.
                let _ = sys::link_detach(link.as_fd());
                at
            }
            Err(_) => None,
        };
        fs::remove_file(&path).map_err(failed(&path))?;
        removed.push(format!("{what} on {}", at.unwrap_or_else(|| "an interface that is gone".to_owned())));
    }
    hear_no_more(dir);
    // HOST first: without it, what is left of an interrupted removal counts as half made.
    for layout in layout::all(1).iter().rev() {
        let path = dir.join("maps").join(layout.name);
        if path.exists() {
            fs::remove_file(&path).map_err(failed(&path))?;
            removed.push(format!("map {}", layout.name));
        }
    }
    let groups = dir.join("groups");
    match remove_groups(dir).map_err(failed(&groups))? {
        0 => {}
        count => removed.push(format!("{count} devmaps of pairs")),
    }
    // Somebody else's files keep the directories; that is their right.
    let emptied =
        SUBDIRECTORIES.iter().all(|sub| fs::remove_dir(dir.join(sub)).is_ok() || !dir.join(sub).exists());
    drop(held);
    if emptied && fs::remove_dir(dir).is_err() && unmount(dir, UnmountFlags::empty()).is_ok() {
        removed.push(format!("the bpffs mounted at {}", dir.display()));
        let _ = fs::remove_dir(dir);
    }
    Ok(removed)
}

/// Takes the entry addresses' groups out of the uplink's filter again, if all of it is still there.
fn hear_no_more(dir: &Path) {
    let open = |name: &str| MapData::from_pin(dir.join("maps").join(name)).ok();
    let host = open(layout::HOST).and_then(|map| Array::<_, Host>::try_from(Map::Array(map)).ok());
    let Some(uplink) =
        host.and_then(|map| map.get(&0, 0).ok()).and_then(|host| interface_name(host.uplink_ifindex))
    else {
        return;
    };
    let entries =
        open("ENTRIES").and_then(|map| HashMap::<_, [u8; 16], Entry>::try_from(Map::HashMap(map)).ok());
    for key in entries.iter().flat_map(|entries| entries.keys()).filter_map(Result::ok) {
        if !hotpair_abi::is_v4_key(&key) {
            let _ = hear::hear(&uplink, hear::solicited_node_mac(key), false);
        }
    }
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// What a link's pin is, by its name; `None` for a name that is not ours.
fn describe(name: &str) -> Option<String> {
    if name == "uplink" {
        return Some("XDP program from_uplink".to_owned());
    }
    let mut parts = name.split('-');
    let (pair, slot, hook) = (parts.next()?.parse::<u32>().ok()?, parts.next()?, parts.next()?);
    let program = match hook {
        "ingress" => "from_guest",
        "egress" => "to_guest_from_host",
        _ => return None,
    };
    (parts.next().is_none() && matches!(slot, "0" | "1"))
        .then(|| format!("TCX program {program} of pair {pair}, slot {slot}"))
}

fn interface_name(index: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the buffer has IF_NAMESIZE bytes, and is terminated on success.
    unsafe {
        (!libc::if_indextoname(index, name.as_mut_ptr()).is_null())
            .then(|| std::ffi::CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn only_our_own_links_are_ours() {
        assert!(describe("uplink").is_some());
        assert_eq!(describe("3-1-ingress").as_deref(), Some("TCX program from_guest of pair 3, slot 1"));
        for other in ["uplink2", "3-2-ingress", "3-1-other", "a-1-ingress", "3-1-ingress-x", ""] {
            assert_eq!(describe(other), None, "{other}");
        }
    }
}
