//! Keeps the connection to libvirt: opens it, notices that it is lost (also by a libvirtd that hangs), opens it again.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;
use virt::connect::Connect;

use super::super::domain_xml::Identity;
use super::super::{HypervisorError, VmEvent};
use super::{domain, lifecycle};

/// How long an operation waits for a connection that is just being made.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long opening may take before libvirt counts as unreachable. It is waited for all the same.
const OPENING: Duration = Duration::from_secs(10);
/// Between two attempts: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A libvirtd that answers none of three pings, two seconds apart, is taken for dead.
const KEEPALIVE: (i32, u32) = (2, 3);

/// The connection, and what is known of the members through it.
pub(super) struct Keeper {
    uri: String,
    state: Mutex<State>,
    changed: Condvar,
    events: UnboundedSender<VmEvent>,
    /// Members by the UUID of their domain: when a domain is gone, its metadata cannot be asked for any more.
    known: Mutex<HashMap<Uuid, Known>>,
    /// Pools come and go with the operations that use them, so those must not overlap.
    storage: Mutex<()>,
    closing: AtomicBool,
}

/// A member whose domain runs, or ran until now.
struct Known {
    identity: Identity,
    /// Its end is ours, or has been told.
    expected: bool,
}

enum State {
    /// Not connected, and why not once that is known.
    Down(Option<String>),
    Up(Connect),
}

/// A connection that is in use: counted by libvirt, given back on drop.
pub(super) struct Lent(Connect);

impl Deref for Lent {
    type Target = Connect;

    fn deref(&self) -> &Connect {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // An error would mean that it was closed too often; there is nothing left to do about it.
        let _ = self.0.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Starts libvirt's event loop (once per process) and the thread that keeps this connection.
    pub(super) fn start(uri: &str, events: UnboundedSender<VmEvent>) -> Result<Arc<Keeper>, HypervisorError> {
        event_loop()?;
        let keeper = Arc::new(Keeper {
            uri: uri.to_owned(),
            state: Mutex::new(State::Down(None)),
            changed: Condvar::new(),
            events,
            known: Mutex::default(),
            storage: Mutex::new(()),
            closing: AtomicBool::new(false),
        });
        let own = Arc::clone(&keeper);
        thread::Builder::new()
            .name("libvirt-connection".into())
            .spawn(move || own.keep())
            .map_err(|error| HypervisorError::Failed(format!("cannot start libvirt's thread: {error}")))?;
        Ok(keeper)
    }

    /// Ends the thread, and with it the connection.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Whether libvirt's QEMU processes are on this host.
    pub(super) fn is_local(&self) -> bool {
        self.uri.starts_with("qemu:///") || self.uri.starts_with("qemu+unix:///")
    }

    /// Held while pools and volumes are changed.
    pub(super) fn storage(&self) -> &Mutex<()> {
        &self.storage
    }

    /// The connection; waited for, for a short while, if there is none.
    pub(super) fn connection(&self) -> Result<Lent, HypervisorError> {
        let waiting =
            |state: &mut State| matches!(state, State::Down(_)) && !self.closing.load(Ordering::SeqCst);
        let (state, _) = self
            .changed
            .wait_timeout_while(lock(&self.state), PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Up(connection) => Ok(Lent(connection.clone())),
            State::Down(why) => Err(HypervisorError::Failed(unreachable(&self.uri, why.as_deref()))),
        }
    }

    fn keep(self: &Arc<Keeper>) {
        let mut backoff = BACKOFF.0;
        let mut told = false;
        while !self.closing.load(Ordering::SeqCst) {
            let why = match self.open(&mut told) {
                Ok(connection) => {
                    backoff = BACKOFF.0;
                    self.serve(connection, &mut told)
                }
                Err(why) => why,
            };
            *lock(&self.state) = State::Down(Some(why.clone()));
            if self.closing.load(Ordering::SeqCst) {
                break;
            }
            self.tell_unreachable(&mut told, &why);
            thread::sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    fn tell_unreachable(&self, told: &mut bool, why: &str) {
        if !std::mem::replace(told, true) {
            tracing::warn!(uri = self.uri, why, "libvirt cannot be reached; trying again until it can");
            self.tell(VmEvent::Unreachable { why: unreachable(&self.uri, Some(why)) });
        }
    }

    /// Opening blocks for as long as a stopped libvirtd is stopped. It is done in a thread of its own, so that this can
    /// be said; and only ever one at a time.
    fn open(&self, told: &mut bool) -> Result<Connect, String> {
        let (tell, opened) = mpsc::channel();
        let uri = self.uri.clone();
        thread::Builder::new()
            .name("libvirt-open".into())
            .spawn(move || {
                if let Err(mpsc::SendError(Ok(mut late))) =
                    tell.send(Connect::open(Some(&uri)).map_err(|error| error.message().to_owned()))
                {
                    let _ = late.close();
                }
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        loop {
            match opened.recv_timeout(OPENING) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err("the thread that opens it died".into()),
                Err(RecvTimeoutError::Timeout) => {
                    let why = format!("it does not answer ({} s)", OPENING.as_secs());
                    *lock(&self.state) = State::Down(Some(why.clone()));
                    self.tell_unreachable(told, &why);
                    if self.closing.load(Ordering::SeqCst) {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// Lends the connection out until it is lost; returns why it was.
    fn serve(self: &Arc<Keeper>, mut connection: Connect, told: &mut bool) -> String {
        // Drivers without keepalive (a local test driver) cannot hang either.
        let _ = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
        let (tell, lost) = mpsc::channel();
        let callbacks = match lifecycle::register(&connection, self, tell) {
            Ok(callbacks) => callbacks,
            Err(why) => {
                let _ = connection.close();
                return why;
            }
        };
        let why = match self.learn(&connection) {
            Err(error) => error.to_string(),
            Ok(()) => {
                *lock(&self.state) = State::Up(connection.clone());
                self.changed.notify_all();
                if std::mem::take(told) {
                    tracing::info!(uri = self.uri, "libvirt can be reached again");
                    self.tell(VmEvent::Reachable);
                }
                loop {
                    match lost.recv_timeout(Duration::from_millis(500)) {
                        Ok(why) => break why,
                        Err(RecvTimeoutError::Disconnected) => {
                            break "libvirt gave up its callbacks".to_owned();
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                    }
                    if self.closing.load(Ordering::SeqCst) {
                        break "closing".to_owned();
                    }
                    if matches!(connection.is_alive(), Ok(false) | Err(_)) {
                        break "the connection is dead".to_owned();
                    }
                }
            }
        };
        if let State::Up(mut lent) =
            std::mem::replace(&mut *lock(&self.state), State::Down(Some(why.clone())))
        {
            let _ = lent.close();
        }
        lifecycle::deregister(&connection, &callbacks);
        let _ = connection.close();
        why
    }

    /// What runs now, compared with what ran when we last looked: events that nobody heard are made up for.
    fn learn(&self, connection: &Connect) -> Result<(), HypervisorError> {
        let members = domain::members(connection, self.is_local())?;
        let mut events = Vec::new();
        {
            let mut known = lock(&self.known);
            known.retain(|uuid, member| {
                let runs = members.iter().any(|(_, found)| found.uuid == *uuid);
                if !runs && !member.expected {
                    events.push(gone(&member.identity, "gone while libvirt could not be asked"));
                }
                runs
            });
            for (identity, found) in members {
                if let Some(how) = found.halted {
                    events.push(halted(&identity, how));
                }
                known.entry(found.uuid).or_insert(Known { identity, expected: false });
            }
        }
        events.into_iter().for_each(|event| self.tell(event));
        Ok(())
    }

    /// A domain is about to be started as this member.
    pub(super) fn expect(&self, uuid: Uuid, identity: &Identity) {
        lock(&self.known).insert(uuid, Known { identity: identity.clone(), expected: false });
    }

    /// What happens to this member's domain from now on is our own doing, and no news.
    pub(super) fn ours_to_end(&self, identity: &Identity) {
        for member in lock(&self.known).values_mut().filter(|member| member.identity == *identity) {
            member.expected = true;
        }
    }

    /// The domain could not be started, or is gone.
    pub(super) fn forget(&self, uuid: Uuid) {
        lock(&self.known).remove(&uuid);
    }

    /// A domain has come to its end, or is about to.
    pub(super) fn domain_gone(&self, uuid: Uuid, how: &str, for_good: bool) {
        let mut known = lock(&self.known);
        let Some(member) = known.get_mut(&uuid) else { return };
        let news = (!std::mem::replace(&mut member.expected, true)).then(|| gone(&member.identity, how));
        if for_good {
            known.remove(&uuid);
        }
        drop(known);
        if let Some(event) = news {
            self.tell(event);
        }
    }

    /// A domain does not execute any more.
    pub(super) fn domain_halted(&self, uuid: Uuid, how: &str) {
        let event = lock(&self.known)
            .get(&uuid)
            .filter(|member| !member.expected)
            .map(|member| halted(&member.identity, how));
        if let Some(event) = event {
            self.tell(event);
        }
    }

    fn tell(&self, event: VmEvent) {
        // The controller may be on its way out.
        let _ = self.events.send(event);
    }
}

fn gone(identity: &Identity, how: &str) -> VmEvent {
    let Identity { pair, slot, generation } = identity.clone();
    VmEvent::Gone { pair, slot, generation, how: how.to_owned() }
}

fn halted(identity: &Identity, how: &str) -> VmEvent {
    let Identity { pair, slot, generation } = identity.clone();
    VmEvent::Halted { pair, slot, generation, how: how.to_owned() }
}

fn unreachable(uri: &str, why: Option<&str>) -> String {
    format!(
        "libvirt at {uri} cannot be reached: {}. Is libvirtd running (`systemctl status libvirtd`)?",
        why.unwrap_or("the connection is still being made")
    )
}

/// libvirt delivers events and sees to keepalives only while its event loop turns. One for the whole process.
fn event_loop() -> Result<(), HypervisorError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // Errors are returned; libvirt's library would print each to standard error as well.
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|error| error.message().to_owned())?;
            let turn = || {
                loop {
                    if virt::event::event_run_default_impl().is_err() {
                        // It fails only when poll does; turning on at once would only burn a CPU.
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            };
            thread::Builder::new()
                .name("libvirt-events".into())
                .spawn(turn)
                .map_err(|error| error.to_string())?;
            Ok(())
        })
        .clone()
        .map_err(|why| HypervisorError::Failed(format!("libvirt's event loop cannot be started: {why}")))
}
