//! Where a member's files are in the lab's directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The place of a member, and of the members that were or will be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    lab: PathBuf,
    name: String,
}

/// Who is in a place: `members/PAIR-SLOT.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The machine's process.
    pub pid: i32,
    /// When that process started (`/proc/PID/stat`, field 22): tells it from a later one of the same number.
    pub started: u64,
    /// Its generation.
    pub generation: u64,
}

impl Place {
    /// The place of a pair's slot.
    #[must_use]
    pub fn new(lab: &Path, pair: &str, slot: u8) -> Place {
        Place { lab: lab.to_path_buf(), name: format!("{pair}-{slot}") }
    }

    fn file(&self, room: &str, name: &str) -> PathBuf {
        self.lab.join(room).join(name)
    }

    /// Says who is there.
    #[must_use]
    pub fn tenant_file(&self) -> PathBuf {
        self.file("members", &format!("{}.json", self.name))
    }

    /// The member's storage.
    #[must_use]
    pub fn volume(&self, generation: u64) -> PathBuf {
        self.file("volumes", &format!("{}-{generation}.volume", self.name))
    }

    /// What the machine says.
    #[must_use]
    pub fn log(&self, generation: u64) -> PathBuf {
        self.file("log", &format!("vm-{}-{generation}.log", self.name))
    }

    /// Where it takes orders.
    #[must_use]
    pub fn control(&self, generation: u64) -> PathBuf {
        self.file("members", &format!("{}-{generation}.sock", self.name))
    }

    /// Its certificate for TLS and the key to it, in one file.
    #[must_use]
    pub fn certificate(&self, generation: u64) -> PathBuf {
        self.file("members", &format!("{}-{generation}.pem", self.name))
    }

    /// The golden image: no member starts without it.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.lab.join("image")
    }

    /// Who lives there now; `None` when nobody does.
    ///
    /// # Errors
    /// When the file cannot be read as what it should be.
    pub fn tenant(&self) -> Result<Option<Tenant>> {
        let path = self.tenant_file();
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let tenant: Tenant =
            serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
        Ok((started(tenant.pid) == Some(tenant.started)).then_some(tenant))
    }

    /// Books a process as the tenant.
    ///
    /// # Errors
    /// When the file cannot be written, or the process is gone already.
    pub fn move_in(&self, pid: i32, generation: u64) -> Result<()> {
        let started = started(pid).context("it is gone already")?;
        let path = self.tenant_file();
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string(&Tenant { pid, started, generation })?)?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// When a process started, in clock ticks since boot; `None` when it is gone, or a zombie all of whose threads have
/// ended (before that, some still have its files open).
#[must_use]
pub fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; what follows its last `)` is fields from number 3 on.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    // Fields 20 and 22.
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    (state != "Z" || threads > 1).then_some(started)
}
