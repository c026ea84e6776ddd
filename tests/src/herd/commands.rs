//! The commands that start and stop members of a herd: they only write down which there are.

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::inotify;

/// A file for each member, with its generation in it. As little as can be: with a thousand pairs, two thousand of these
/// run one after the other.
const SCRIPT: &str = r#"#!/bin/sh
member="${0%/*}/members/$HOTPAIR_PAIR-$HOTPAIR_SLOT"
case "$1" in
start) echo "$HOTPAIR_GENERATION" > "$member" ;;
stop)
    while [ -e "${0%/*}/hang-$HOTPAIR_PAIR" ]; do sleep 0.2; done
    exec rm -f "$member" ;;
status)
    [ -e "$member" ] || exit 1
    read -r generation < "$member" && echo "$generation" ;;
esac
"#;

/// Writes the commands into `dir`, which it makes; returns the program that takes a verb.
pub(crate) fn write_commands(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir.join("members"))?;
    let script = dir.join("herd");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

pub(super) fn hang_stops(dir: &Path, pair: &str, hang: bool) -> Result<()> {
    let file = dir.join(format!("hang-{pair}"));
    if hang { fs::write(&file, "") } else { fs::remove_file(&file) }
        .with_context(|| format!("cannot change {}", file.display()))
}

/// Whose file has changed: pair, slot, and the generation that is there now.
pub(super) type News = (String, usize, Option<u64>);

/// What the commands have written.
pub(super) struct Diary {
    members: PathBuf,
    events: OwnedFd,
    /// What was there before.
    first: bool,
}

impl Diary {
    pub(super) fn open(dir: &Path) -> Result<Diary> {
        let members = dir.join("members");
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::DELETE;
        inotify::add_watch(&events, &members, flags)
            .with_context(|| format!("cannot watch {}", members.display()))?;
        Ok(Diary { members, events, first: true })
    }

    /// Whose files have changed.
    pub(super) fn news(&mut self) -> Result<Vec<News>> {
        let mut names = Vec::new();
        if std::mem::take(&mut self.first) {
            names.extend(fs::read_dir(&self.members)?.flatten().map(|entry| entry.file_name()));
        }
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    names.extend(event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()));
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error).context("cannot read what the commands have written"),
            }
        }
        let told = names.into_iter().filter_map(|name| {
            let name = name.to_str()?;
            let (pair, slot) = name.rsplit_once('-')?;
            let generation = fs::read_to_string(self.members.join(name)).ok();
            Some((pair.to_owned(), slot.parse().ok()?, generation.and_then(|text| text.trim().parse().ok())))
        });
        Ok(told.collect())
    }
}
