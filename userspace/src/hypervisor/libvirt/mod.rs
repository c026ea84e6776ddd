//! Members as libvirt domains.
//!
//! libvirt's calls block, some for seconds and, when libvirtd hangs, for ever. So every operation runs in a thread of
//! its own and has a deadline; nothing here ever waits on an executor's thread. The connection is kept by
//! [`connection`], which finds it again by itself. Domains are transient: one that is gone leaves no definition behind.

mod connection;
mod domain;
mod lifecycle;
mod process;
mod storage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use self::connection::Keeper;
use super::domain_xml::Identity;
use super::{Hypervisor, HypervisorError, MemberSpec, Running, VmEvent, kvm};
use crate::config::{Accel, Release, Vm};

/// What starting a member may take; libvirt itself needs about a second.
const START: Duration = Duration::from_secs(60);
/// libvirt gives a QEMU that ignores SIGTERM ten seconds before it kills it, and may need as long again.
const STOP: Duration = Duration::from_secs(30);
const RELEASE: Duration = Duration::from_secs(30);
const LIST: Duration = Duration::from_secs(10);

/// The libvirt backend.
pub struct Libvirt {
    keeper: Arc<Keeper>,
    kvm: bool,
    /// Remembers the directories that overlays were made in, for `leftovers`.
    directories: PathBuf,
}

/// Told to an operation that has taken too long: it undoes what it has done when it comes to its end after all.
type Abandoned = Arc<AtomicBool>;

impl Libvirt {
    /// Connects in the background and stays connected; that libvirt cannot be reached is an event, not an error.
    /// What happens to members, and to the connection, is told to `events`.
    ///
    /// Blocks for up to half a second: the KVM self-test.
    ///
    /// # Errors
    /// When `accel` is [`Accel::Kvm`] and KVM does not work, and when libvirt's library cannot be initialised.
    pub fn connect(
        uri: &str,
        accel: Accel,
        state_dir: &Path,
        events: mpsc::UnboundedSender<VmEvent>,
    ) -> Result<Arc<Libvirt>, HypervisorError> {
        let kvm = match (accel, kvm::works()) {
            (Accel::Tcg, _) => false,
            (_, Ok(())) => true,
            (Accel::Auto, Err(why)) => {
                tracing::warn!(%why, "KVM does not work here: members are emulated (TCG), which is slow");
                false
            }
            (Accel::Kvm, Err(why)) => {
                return Err(HypervisorError::Failed(format!(
                    "hypervisor.accel is \"kvm\", but KVM does not work here: {why}. \
                     Use \"auto\" or \"tcg\" to have the members emulated"
                )));
            }
        };
        let keeper = Keeper::start(uri, events)?;
        Ok(Arc::new(Libvirt { keeper, kvm, directories: state_dir.join("volume-directories") }))
    }

    /// Runs `operation` in its own thread and waits for it for no longer than `limit`.
    async fn within<T: Send + 'static>(
        &self,
        what: String,
        limit: Duration,
        operation: impl FnOnce(&Arc<Keeper>, &Abandoned) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (tell, told) = oneshot::channel();
        let abandoned = Abandoned::default();
        let (keeper, flag) = (Arc::clone(&self.keeper), Arc::clone(&abandoned));
        std::thread::Builder::new()
            .name("libvirt-operation".into())
            .spawn(move || {
                // The other side may have given up; then the flag says so, and the operation has seen it.
                let _ = tell.send(operation(&keeper, &flag));
            })
            .map_err(|error| HypervisorError::Failed(format!("{what}: cannot start a thread: {error}")))?;
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HypervisorError::Failed(format!("{what}: the operation died (this is a bug)"))),
            Err(_) => {
                abandoned.store(true, Ordering::SeqCst);
                Err(HypervisorError::TimedOut { what, after: limit })
            }
        }
    }
}

fn identity(member: &MemberSpec) -> Identity {
    Identity { pair: member.pair.clone(), slot: member.slot, generation: member.generation }
}

/// The template and the golden image of a member that this backend is responsible for.
fn parts(member: &MemberSpec) -> Result<(PathBuf, PathBuf), HypervisorError> {
    match &member.vm {
        Vm::Libvirt { domain, image } => Ok((domain.clone(), image.clone())),
        Vm::Command { .. } => Err(HypervisorError::Failed(format!(
            "pair {} is run by commands, not by libvirt (this is a bug)",
            member.pair
        ))),
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    fn accel(&self) -> &'static str {
        if self.kvm { "kvm" } else { "tcg" }
    }

    async fn start(&self, member: &MemberSpec) -> Result<(), HypervisorError> {
        let (template, image) = parts(member)?;
        if let Some(directory) = image.parent() {
            storage::remember(&self.directories, directory)?;
        }
        let identity = identity(member);
        let plan = domain::Plan {
            what: format!("starting {}", identity.name()),
            identity,
            template,
            image,
            tap: member.tap.clone(),
            mac: member.mac,
            kvm: self.kvm,
        };
        self.within(plan.what.clone(), START, move |keeper, abandoned| {
            domain::start(keeper, &plan, abandoned)
        })
        .await
    }

    async fn stop(&self, member: &MemberSpec) -> Result<(), HypervisorError> {
        let identity = identity(member);
        self.within(format!("stopping {}", identity.name()), STOP, move |keeper, _| {
            domain::stop(keeper, &identity)
        })
        .await
    }

    async fn release(&self, member: &MemberSpec, how: Release) -> Result<(), HypervisorError> {
        if how == Release::Keep {
            return Ok(());
        }
        let (_, image) = parts(member)?;
        let name = identity(member).name();
        self.within(format!("deleting the volume of {name}"), RELEASE, move |keeper, _| {
            let connection = keeper.connection()?;
            domain::forget_nvram(&name);
            storage::delete(&connection, keeper.storage(), &image, &name)
        })
        .await
    }

    async fn running(&self, pair: &str) -> Result<Vec<Running>, HypervisorError> {
        let pair = pair.to_owned();
        self.within(format!("listing the members of {pair}"), LIST, move |keeper, _| {
            let connection = keeper.connection()?;
            let members = domain::members(&connection, keeper.is_local())?;
            let ours = members.into_iter().filter(|(identity, _)| identity.pair == pair);
            Ok(ours
                .map(|(identity, _)| Running { slot: identity.slot, generation: identity.generation })
                .collect())
        })
        .await
    }

    async fn leftovers(&self, pair: &str) -> Result<Vec<String>, HypervisorError> {
        let pair = pair.to_owned();
        let directories = storage::remembered(&self.directories);
        self.within(format!("listing what is left of {pair}"), LIST, move |keeper, _| {
            let connection = keeper.connection()?;
            let members = domain::members(&connection, keeper.is_local())?
                .into_iter()
                .filter(|(identity, _)| identity.pair == pair);
            let mut names: BTreeSet<String> =
                members.map(|(identity, _)| format!("domain {}", identity.name())).collect();
            let volumes = storage::volumes(&connection, &directories, &pair);
            names.extend(volumes.into_iter().map(|volume| format!("volume {}", volume.display())));
            Ok(names.into_iter().collect())
        })
        .await
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        self.keeper.close();
    }
}
