//! Starting, stopping and listing members' domains. Blocks; called in an operation's own thread only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt_sys as sys;

use super::super::HypervisorError;
use super::super::domain_xml::{self, Identity, Member, NAMESPACE};
use super::super::template::Template;
use super::connection::Keeper;
use super::storage::failed;
use super::{Abandoned, process, storage};

/// How long libvirtd may take to see that a QEMU is dead, before it is not waited for any more.
const SEEING: Duration = Duration::from_millis(300);
/// How long a killed QEMU may take to be gone.
const DYING: Duration = Duration::from_secs(10);

/// A member that is to be started.
pub(super) struct Plan {
    /// For error texts: `starting hotpair-web-0-g1`.
    pub(super) what: String,
    pub(super) identity: Identity,
    pub(super) template: PathBuf,
    pub(super) image: PathBuf,
    pub(super) tap: String,
    pub(super) mac: [u8; 6],
    pub(super) kvm: bool,
}

/// A member's domain as it was found.
pub(super) struct Found {
    pub(super) uuid: Uuid,
    /// It exists but does not execute: why.
    pub(super) halted: Option<&'static str>,
}

/// Makes the overlay and the domain; undoes both when anything fails or when nobody waits for it any more.
pub(super) fn start(keeper: &Arc<Keeper>, plan: &Plan, abandoned: &Abandoned) -> Result<(), HypervisorError> {
    let refuse = |why: String| HypervisorError::Failed(format!("{}: {why}", plan.what));
    let template = Template::read(&plan.template, &plan.image).map_err(|error| refuse(error.to_string()))?;
    if let Some(why) = keeper.is_local().then(|| too_little_memory(&template)).flatten() {
        return Err(refuse(why));
    }
    let connection = keeper.connection()?;
    let name = plan.identity.name();
    make_room(keeper, &connection, &plan.identity).map_err(|error| refuse(error.to_string()))?;

    let overlay = storage::create(&connection, keeper.storage(), &plan.image, &name)
        .map_err(|error| refuse(error.to_string()))?;
    let uuid = Uuid::new_v4();
    let member = Member {
        identity: plan.identity.clone(),
        uuid,
        tap: &plan.tap,
        mac: plan.mac,
        image: &plan.image,
        overlay: &overlay,
        kvm: plan.kvm,
    };
    let xml = domain_xml::member(&template, &member);
    // Before it is made: what happens to it may be told before the call returns.
    keeper.expect(uuid, &plan.identity);
    let mut result = Domain::create_xml(&connection, &xml, 0)
        .map(drop)
        .map_err(|error| refuse(explained(error.message(), &plan.tap)));
    if abandoned.load(Ordering::SeqCst) {
        result = Err(refuse("it came up after it had been given up".into()));
    }
    if result.is_err() {
        keeper.forget(uuid);
        for undone in
            [stop(keeper, &plan.identity), storage::delete(&connection, keeper.storage(), &plan.image, &name)]
        {
            if let Err(error) = undone {
                tracing::warn!(%error, member = name, "a failed start leaves something behind");
            }
        }
        forget_nvram(&name);
    }
    result
}

/// A domain that has this member's name already: ours from a try that was given up, or somebody else's.
fn make_room(keeper: &Arc<Keeper>, connection: &Connect, identity: &Identity) -> Result<(), HypervisorError> {
    let name = identity.name();
    let Ok(present) = Domain::lookup_by_name(connection, &name) else { return Ok(()) };
    if identity_of(&present).as_ref() == Some(identity) {
        stop(keeper, identity)?;
        // The name is wanted again: libvirt must have seen it.
        return end_domain(keeper, identity);
    }
    Err(HypervisorError::Failed(format!(
        "a domain called {name} exists and is not hotpair's; rename it or take it away (`virsh undefine {name}`)"
    )))
}

/// Ends the member's domain and returns when it is seen to be gone. Well when there is none.
pub(super) fn stop(keeper: &Arc<Keeper>, identity: &Identity) -> Result<(), HypervisorError> {
    let name = identity.name();
    keeper.ours_to_end(identity);
    // First the process: at once, and also when libvirtd hangs.
    let killed = if keeper.is_local() {
        process::kill(&name, DYING)
            .map_err(|error| HypervisorError::Failed(format!("cannot kill the QEMU of {name}: {error}")))?
    } else {
        false
    };
    if !killed {
        return end_domain(keeper, identity);
    }
    // Its process is dead: it can do no harm. libvirtd sees that by itself, at once or when it sees again; a fence does
    // not wait for a libvirtd that hangs.
    let (tell, told) = mpsc::channel();
    let (keeper, identity) = (Arc::clone(keeper), identity.clone());
    thread::spawn(move || {
        let _ = tell.send(end_domain(&keeper, &identity));
    });
    let unseen = match told.recv_timeout(SEEING) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("libvirtd has not answered for {} ms", SEEING.as_millis()),
    };
    tracing::warn!(why = unseen, member = name, "its QEMU is dead, but libvirt has not confirmed it");
    Ok(())
}

fn end_domain(keeper: &Arc<Keeper>, identity: &Identity) -> Result<(), HypervisorError> {
    let name = identity.name();
    let connection = keeper.connection()?;
    let end = Instant::now() + DYING * 2;
    loop {
        let domain = match Domain::lookup_by_name(&connection, &name) {
            Ok(domain) => domain,
            Err(error) if error.code() == ErrorNumber::NoDomain => return Ok(()),
            Err(error) => return Err(failed(&format!("cannot look for the domain {name}"), &error)),
        };
        // It may have gone just now, or be somebody else's.
        match identity_of(&domain) {
            Some(found) if found == *identity => {}
            _ if matches!(domain.is_active(), Ok(true)) => {
                tracing::warn!(domain = name, "not stopped: it is not hotpair's");
                return Ok(());
            }
            _ => {}
        }
        if let Err(error) = domain.destroy()
            && !matches!(error.code(), ErrorNumber::NoDomain | ErrorNumber::OperationInvalid)
            && Instant::now() > end
        {
            return Err(failed(&format!("cannot destroy the domain {name}"), &error));
        }
        if Instant::now() > end {
            return Err(HypervisorError::Failed(format!(
                "the domain {name} was destroyed but is still there"
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// All members' domains that run on this libvirt. `local`: their processes can be looked at.
pub(super) fn members(connection: &Connect, local: bool) -> Result<Vec<(Identity, Found)>, HypervisorError> {
    let domains = connection
        .list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        .map_err(|error| failed("cannot list the domains", &error))?;
    let found = domains.iter().filter_map(|domain| {
        let identity = identity_of(domain)?;
        // libvirt may be about to learn it.
        if local && process::is_dead(&identity.name()) {
            return None;
        }
        let halted = match domain.get_state().ok()?.0 {
            sys::VIR_DOMAIN_PAUSED => Some("paused"),
            sys::VIR_DOMAIN_PMSUSPENDED => Some("suspended by its guest"),
            sys::VIR_DOMAIN_CRASHED => Some("crashed"),
            _ => None,
        };
        Some((identity, Found { uuid: domain.get_uuid().ok()?, halted }))
    });
    Ok(found.collect())
}

/// Who a domain is, by its metadata; `None` for all that are not hotpair's.
fn identity_of(domain: &Domain) -> Option<Identity> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    let xml = domain.get_metadata(kind, Some(NAMESPACE), sys::VIR_DOMAIN_AFFECT_CURRENT).ok()?;
    Identity::from_metadata(&xml)
}

/// The variables of a member's UEFI firmware: libvirt makes the file and leaves it.
pub(super) fn forget_nvram(name: &str) {
    let file = Path::new("/var/lib/libvirt/qemu/nvram").join(format!("{name}_VARS.fd"));
    if let Err(error) = fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "a member's firmware variables stay behind");
    }
}

/// Linux would let QEMU have memory that is not there, and kill something later.
fn too_little_memory(template: &Template) -> Option<String> {
    let needed = template.memory_kib()?;
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let free = |key: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim_end_matches("kB").trim().parse().unwrap_or(0)
    };
    let available = free("MemAvailable:") + free("SwapFree:");
    (needed > available).then(|| {
        format!(
            "not enough memory: the template asks for {} MiB, this host has {} MiB left",
            needed >> 10,
            available >> 10
        )
    })
}

/// libvirt's reason, with a way out where the reason alone does not show one.
fn explained(message: &str, tap: &str) -> String {
    let hint = if message.contains("Permission denied") {
        " (QEMU runs as libvirt's own user: it must be allowed to enter the directories of the image, the kernel and the \
         template's other files, and to read those)"
    } else if message.contains("managed='no'") {
        return format!("the tap {tap} does not exist ({})", message.trim_end());
    } else if message.contains(tap) && (message.contains("busy") || message.contains("Device or resource")) {
        " (another process has the tap open: is another VM plugged into it?)"
    } else if message.contains("annot allocate memory") || message.contains("cannot set up guest memory") {
        " (the host has too little free memory for this VM)"
    } else if message.contains("KVM") || message.contains("kvm") {
        " (set hypervisor.accel to \"tcg\" to have it emulated)"
    } else {
        ""
    };
    format!("libvirt refuses: {}{hint}", message.trim_end())
}
