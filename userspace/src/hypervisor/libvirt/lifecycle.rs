//! What libvirt calls back: a domain's life, and the end of a connection. The `virt` crate has no domain events, so this
//! is the one place that speaks to libvirt's C interface directly.
//!
//! Runs on libvirt's event loop: it must not call libvirt in turn and must not block.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use uuid::Uuid;
use virt::connect::Connect;
use virt_sys as sys;

use super::connection::Keeper;

/// What the callbacks need; libvirt owns it, one for each registration, and gives it back to be freed.
struct Context {
    keeper: Arc<Keeper>,
    lost: Sender<String>,
}

/// The registered callbacks.
pub(super) struct Callbacks {
    lifecycle: c_int,
}

/// Registers for domain lifecycle events and for the end of the connection, which is told to `lost`.
pub(super) fn register(
    connection: &Connect,
    keeper: &Arc<Keeper>,
    lost: Sender<String>,
) -> Result<Callbacks, String> {
    let context =
        |lost| Box::into_raw(Box::new(Context { keeper: Arc::clone(keeper), lost })).cast::<c_void>();
    let closing = context(lost.clone());
    // SAFETY: the connection is open; the callback has the type that virConnectCloseFunc documents; libvirt calls
    // `free` with `closing` once, when it needs it no more.
    let registered = unsafe {
        sys::virConnectRegisterCloseCallback(connection.as_ptr(), Some(closed), closing, Some(free))
    };
    if registered < 0 {
        let why = virt::error::Error::last_error().message().to_owned();
        // SAFETY: libvirt has not taken it.
        unsafe { free(closing) };
        return Err(format!("cannot ask libvirt to tell when the connection ends: {why}"));
    }
    let living = context(lost);
    // SAFETY: libvirt passes a lifecycle callback as a virConnectDomainEventGenericCallback, whatever its arguments are
    // (VIR_DOMAIN_EVENT_CALLBACK in libvirt-domain.h does this cast), and calls it with those of
    // virConnectDomainEventCallback, which `lived` has.
    let lifecycle = unsafe {
        let callback = std::mem::transmute::<
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int,
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        >(lived);
        let every = std::ptr::null_mut();
        let event = sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int;
        sys::virConnectDomainEventRegisterAny(
            connection.as_ptr(),
            every,
            event,
            Some(callback),
            living,
            Some(free),
        )
    };
    if lifecycle < 0 {
        let why = virt::error::Error::last_error().message().to_owned();
        // SAFETY: libvirt has not taken it; the other registration is undone with the callback it was made with.
        unsafe {
            free(living);
            sys::virConnectUnregisterCloseCallback(connection.as_ptr(), Some(closed));
        }
        return Err(format!("cannot ask libvirt for the events of domains: {why}"));
    }
    Ok(Callbacks { lifecycle })
}

/// Ends both registrations. On a connection that is dead they end with it, and these calls fail.
pub(super) fn deregister(connection: &Connect, callbacks: &Callbacks) {
    let lifecycle = callbacks.lifecycle;
    // SAFETY: the connection has not been closed yet; the id and the callback are those of `register`.
    unsafe {
        sys::virConnectDomainEventDeregisterAny(connection.as_ptr(), lifecycle);
        sys::virConnectUnregisterCloseCallback(connection.as_ptr(), Some(closed));
    }
}

unsafe extern "C" fn free(context: *mut c_void) {
    // SAFETY: made by Box::into_raw in `register`, and given back once.
    drop(unsafe { Box::from_raw(context.cast::<Context>()) });
}

unsafe extern "C" fn closed(_: sys::virConnectPtr, reason: c_int, context: *mut c_void) {
    // SAFETY: libvirt passes what was registered, and frees it only afterwards.
    let context = unsafe { &*context.cast::<Context>() };
    let why = match reason as sys::virConnectCloseReason {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "libvirtd closed the connection (it ended or was restarted)",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "libvirtd does not answer any more (it hangs)",
        sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "libvirtd was asked to close the connection",
        _ => "the connection broke",
    };
    // The keeper may have gone on already.
    let _ = context.lost.send(why.to_owned());
}

unsafe extern "C" fn lived(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    context: *mut c_void,
) -> c_int {
    let mut uuid = [0u8; 16];
    // SAFETY: `domain` is valid during the callback; virDomainGetUUID reads it without asking libvirtd and writes 16
    // bytes (VIR_UUID_BUFLEN). `context` is what was registered, and is freed only afterwards.
    let context = unsafe {
        if sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) != 0 {
            return 0;
        }
        &*context.cast::<Context>()
    };
    let uuid = Uuid::from_bytes(uuid);
    match said(event as sys::virDomainEventType, detail) {
        News::Nothing => {}
        News::Ending(how) => context.keeper.domain_gone(uuid, how, false),
        News::Gone(how) => context.keeper.domain_gone(uuid, how, true),
        News::Halted(how) => context.keeper.domain_halted(uuid, how),
    }
    0
}

#[derive(Debug, PartialEq)]
enum News {
    Nothing,
    Ending(&'static str),
    Gone(&'static str),
    Halted(&'static str),
}

/// An event as a person would say it. <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventType>
fn said(event: sys::virDomainEventType, detail: c_int) -> News {
    match event {
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
            News::Ending(match detail as sys::virDomainEventShutdownDetailType {
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST => "shut down by its guest",
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST => "its QEMU was told to end",
                _ => "shut down",
            })
        }
        sys::VIR_DOMAIN_EVENT_CRASHED => News::Ending("its kernel crashed"),
        sys::VIR_DOMAIN_EVENT_STOPPED => News::Gone(match detail as sys::virDomainEventStoppedDetailType {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => "shut down",
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => "destroyed",
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => "crashed",
            sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => "migrated away",
            sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => "saved to a file",
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => "its QEMU process died",
            _ => "stopped",
        }),
        sys::VIR_DOMAIN_EVENT_SUSPENDED => {
            News::Halted(match detail as sys::virDomainEventSuspendedDetailType {
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => "paused by a disk error",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "paused by its watchdog",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED => "paused by a migration",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR => "paused by a failed libvirt operation",
                _ => "paused",
            })
        }
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => News::Halted("suspended by its guest"),
        _ => News::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_told_and_no_beginning_is() {
        assert_eq!(
            said(sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED as c_int),
            News::Gone("its QEMU process died")
        );
        assert_eq!(said(sys::VIR_DOMAIN_EVENT_STOPPED, 99), News::Gone("stopped"));
        assert_eq!(
            said(sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR as c_int),
            News::Halted("paused by a disk error")
        );
        for quiet in
            [sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_RESUMED, sys::VIR_DOMAIN_EVENT_DEFINED]
        {
            assert_eq!(said(quiet, 0), News::Nothing);
        }
    }
}
