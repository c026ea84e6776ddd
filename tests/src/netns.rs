//! Named network namespaces, as `ip netns` makes them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A named network namespace; removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a namespace with its loopback up. Needs root.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn create(name: &str) -> Result<Netns> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let path = Self::path_of(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let netns = Netns { name: name.to_string(), file };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a namespace of this name is found.
    #[must_use]
    pub fn path_of(name: &str) -> PathBuf {
        Path::new("/run/netns").join(name)
    }

    /// Moves the calling thread into the namespace until the guard is dropped. Threads made meanwhile stay in it, and
    /// so do sockets.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<Entered> {
        let before =
            File::open("/proc/thread-self/ns/net").context("cannot open the own network namespace")?;
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {}", self.name))?;
        Ok(Entered { before })
    }

    /// A command that will run in the namespace, sees the same `/sys` as everybody, and is killed when the calling
    /// thread ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let netns = self.file.as_raw_fd();
        let prepare = move || -> io::Result<()> {
            // SAFETY: both system calls take integers only, and the descriptor is open: `self` made the command, and
            // whoever drops it before running the command gets EBADF.
            unsafe {
                if libc::setns(netns, libc::CLONE_NEWNET) < 0
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) < 0
                {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(prepare) };
        command.stdin(Stdio::null());
        command
    }

    /// Runs `ip` in the namespace with one or more lines of arguments; all or nothing is not promised.
    ///
    /// # Errors
    /// With ip's own words.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let _inside = self.enter()?;
        ip_batch(lines)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Whatever is still in there keeps it alive, but nameless; the lab ends its processes before.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Brings the thread back to the namespace it came from.
pub struct Entered {
    before: File,
}

impl Drop for Entered {
    fn drop(&mut self) {
        move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a thread can always go back to the namespace it came from");
    }
}

/// Runs lines of `ip` in the calling thread's namespace.
///
/// # Errors
/// With ip's own words.
pub fn ip_batch(lines: &str) -> Result<()> {
    use std::io::Write as _;
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip; is iproute2 installed?")?;
    child.stdin.take().context("no stdin")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {} in\n{lines}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs a command to its end; its stderr is in the error.
///
/// # Errors
/// When it cannot be run or does not succeed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
