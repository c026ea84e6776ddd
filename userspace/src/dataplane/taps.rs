//! Taps: which interface is whose, and the programs at its two ends.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use aya_obj::generated::BPF_F_BEFORE;
use aya_obj::generated::bpf_attach_type::{self, BPF_TCX_EGRESS, BPF_TCX_INGRESS};
use hotpair_abi::ids::member_index;
use hotpair_abi::maps::{Pair, Port};
use hotpair_abi::{PairId, Slot};

use super::pins::remove_link;
use super::{Dataplane, DataplaneError, Maps, rows, sys};

/// Where a tap's programs sit. Ours come first: nobody else's may redirect a guest's frame past them.
const HOOKS: [(&str, &str, bpf_attach_type, u32); 2] = [
    ("ingress", "from_guest", BPF_TCX_INGRESS, BPF_F_BEFORE),
    ("egress", "to_guest_from_host", BPF_TCX_EGRESS, 0),
];

fn tap_of<'a>(row: *mut Pair, slot: Slot) -> &'a AtomicU32 {
    // SAFETY: a field of a mapped row.
    unsafe { rows::half((&raw mut (*row).tap_ifindex).cast::<u32>().add(slot.index())) }
}

impl Dataplane {
    /// Attaches a slot's tap, in place of the one it had. The same tap again only refreshes it.
    ///
    /// # Errors
    /// When the pair or the tap does not exist, or the kernel refuses. Then the slot has no tap.
    pub fn attach_tap(
        &self,
        id: PairId,
        slot: Slot,
        tap: &str,
        ifindex: u32,
        internal_ip: Ipv4Addr,
    ) -> Result<(), DataplaneError> {
        let row = self.used_row(id)?;
        let former = tap_of(row, slot).load(Ordering::Acquire);
        if former != 0 && former != ifindex {
            self.detach_tap(id, slot)?;
        }
        let done = self.attach(id, slot, tap, ifindex, internal_ip);
        if done.is_err() {
            // A tap is wholly attached or not at all. What cannot be undone either has been said by the first error.
            let _ = self.detach_tap(id, slot);
            let _ = self.maps().ports.remove(&ifindex);
        }
        done
    }

    fn attach(
        &self,
        id: PairId,
        slot: Slot,
        tap: &str,
        ifindex: u32,
        internal_ip: Ipv4Addr,
    ) -> Result<(), DataplaneError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            DataplaneError::map(format!("attaching the tap {tap}"), error)
        };
        let port = Port { pair: id.0, slot: slot.index() as u32, internal_ip: internal_ip.octets() };
        self.maps().ports.insert(ifindex, port, 0).map_err(|error| failed(&error))?;
        for hook in HOOKS {
            self.hook(id, slot, tap, ifindex, hook)?;
        }
        self.enter(id, slot, ifindex, self.carries_tcp(id)).map_err(|error| failed(&error))?;
        tap_of(self.row(id)?, slot).store(ifindex, Ordering::Release);
        Ok(())
    }

    /// Enters a tap into both devmaps, each with the program that translates TCP segments, where the pair has that. Always
    /// both alike: frames for one device are sent in one bulk, and the first one's program is all the others'.
    fn enter(&self, id: PairId, slot: Slot, ifindex: u32, carries_tcp: bool) -> io::Result<()> {
        let program = carries_tcp.then(|| self.program("to_guest").as_fd());
        let maps = self.maps();
        sys::set_device(maps.taps.fd(), member_index(id, slot), ifindex, program)?;
        let group = self.group(&maps, id)?;
        sys::set_device(&group, slot.index() as u32, ifindex, program)
    }

    /// Enters the tap of a slot once more, with that program. Success when there is none.
    pub(super) fn enter_again(&self, id: PairId, slot: Slot) -> Result<(), DataplaneError> {
        let ifindex = tap_of(self.row(id)?, slot).load(Ordering::Acquire);
        if ifindex == 0 {
            return Ok(());
        }
        let entered = self.enter(id, slot, ifindex, true);
        // Its interface may be gone by now; then nothing reaches it anyhow.
        match entered {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            entered => entered.map_err(|source| {
                DataplaneError::kernel(
                    format!("entering the tap of pair {}, slot {slot}, again", id.0),
                    source,
                )
            }),
        }
    }

    /// The devmap of the pair's two taps. One without a pin is of an older version's making.
    fn group(&self, maps: &Maps, id: PairId) -> io::Result<OwnedFd> {
        match sys::open_pin(&self.pins.group(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                maps.groups.get(&id.0, 0).map_err(io::Error::other)?.fd().as_fd().try_clone_to_owned()
            }
            opened => opened,
        }
    }

    fn hook(
        &self,
        id: PairId,
        slot: Slot,
        tap: &str,
        ifindex: u32,
        (hook, program, attach_type, flags): (&'static str, &'static str, bpf_attach_type, u32),
    ) -> Result<(), DataplaneError> {
        let failed = |source| DataplaneError::Attach { program, name: tap.to_owned(), source, hint: "" };
        let path = self.pins.tap(id, slot, hook);
        let fd = self.program(program).as_fd();
        if let Ok(link) = sys::open_pin(&path)
            && sys::link_ifindex(link.as_fd()).map_err(failed)? == ifindex
        {
            return sys::link_update(link.as_fd(), fd).map_err(failed);
        }
        remove_link(&path).map_err(failed)?;
        let link = sys::link_create(fd, ifindex, attach_type, flags).map_err(failed)?;
        sys::pin(&link, &path).map_err(failed)
    }

    /// Whether both of the pair's taps are attached.
    #[must_use]
    pub fn has_taps(&self, id: PairId) -> bool {
        self.used_row(id).is_ok_and(|row| {
            Slot::BOTH.into_iter().all(|slot| tap_of(row, slot).load(Ordering::Acquire) != 0)
        })
    }

    /// Detaches a slot's tap. Success when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach_tap(&self, id: PairId, slot: Slot) -> Result<(), DataplaneError> {
        let Some(row) = self.pairs.get(id.0) else {
            return Ok(());
        };
        let failed = |source: io::Error| {
            DataplaneError::kernel(format!("detaching the tap of pair {}, slot {slot}", id.0), source)
        };
        let ifindex = tap_of(row, slot).swap(0, Ordering::AcqRel);
        let mut maps = self.maps();
        if let Ok(group) = self.group(&maps, id) {
            sys::delete(&group, &(slot.index() as u32)).map_err(failed)?;
        }
        sys::delete(maps.taps.fd(), &member_index(id, slot)).map_err(failed)?;
        for (hook, ..) in HOOKS {
            remove_link(&self.pins.tap(id, slot, hook)).map_err(failed)?;
        }
        if ifindex != 0
            && maps
                .ports
                .get(&ifindex, 0)
                .is_ok_and(|port| port.pair == id.0 && port.slot == slot.index() as u32)
        {
            maps.ports.remove(&ifindex).map_err(|error| DataplaneError::map("removing a port", &error))?;
        }
        Ok(())
    }

    /// After adoption: the programs of every tap that is still there are replaced in place, and what is left of taps
    /// that are gone is removed.
    pub(super) fn refresh_taps(&self) -> Result<(), DataplaneError> {
        for (id, name) in self.pairs() {
            for slot in Slot::BOTH {
                let ifindex = tap_of(self.row(id)?, slot).load(Ordering::Acquire);
                if ifindex == 0 {
                    continue;
                }
                let port = self.maps().ports.get(&ifindex, 0);
                let internal_ip = port.map_or(Ipv4Addr::UNSPECIFIED, |port| port.internal_ip.into());
                let tap = format!("of pair {name}, slot {slot} (interface {ifindex})");
                if let Err(error) = self.attach_tap(id, slot, &tap, ifindex, internal_ip) {
                    tracing::warn!(pair = name, %slot, %error, "a tap of the adopted data plane is gone");
                }
            }
        }
        Ok(())
    }
}
