//! The uplink: what it must be like, whose XDP program it has, and putting ours there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type::BPF_XDP;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};

use super::pins::{self, Pins};
use super::{DataplaneError, MAX_UPLINK_MTU, Uplink, sys};
use crate::config::XdpMode;
use crate::netlink::{self, attributes, half, word};

/// What the kernel says about a link.
struct Link {
    arphrd: u16,
    mtu: u32,
    is_veth: bool,
    /// Attached XDP program: in which mode (see `XDP_ATTACHED_*`) and which.
    xdp: Option<(u8, u32)>,
}

const XDP_ATTACHED_SKB: u8 = 2;

/// Refuses an uplink that frames cannot be duplicated from. Says whether it is a veth.
pub(super) fn check(uplink: &Uplink) -> Result<bool, DataplaneError> {
    let link = query(uplink)?;
    if link.arphrd != libc::ARPHRD_ETHER {
        return Err(DataplaneError::NotEthernet(uplink.name.clone()));
    }
    let mtu = link.mtu.max(uplink.mtu);
    if mtu > MAX_UPLINK_MTU {
        return Err(DataplaneError::MtuTooLarge { name: uplink.name.clone(), mtu });
    }
    Ok(link.is_veth)
}

/// Puts the program on the uplink, or in place of its older version there.
pub(super) fn attach(
    pins: &Pins,
    uplink: &Uplink,
    mode: XdpMode,
    program: BorrowedFd<'_>,
) -> Result<(), DataplaneError> {
    let path = pins.uplink();
    let old = match sys::open_pin(&path) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(DataplaneError::kernel(format!("opening {}", path.display()), source)),
    };
    let Some(old) = old else {
        let link = create(uplink, mode, program)?;
        return pin(&link, &path);
    };
    let at = sys::link_ifindex(old.as_fd()).unwrap_or(0);
    if at == uplink.index && same_mode(uplink, mode)? {
        return sys::link_update(old.as_fd(), program).map_err(|source| attach_error(uplink, source));
    }
    if at == uplink.index {
        // One interface cannot have XDP in both modes, not even for a moment.
        tracing::warn!(uplink = uplink.name, "the XDP mode has changed: packets are lost for a moment");
        sys::link_detach(old.as_fd())
            .map_err(|source| DataplaneError::kernel("detaching from the uplink", source))?;
    }
    let link = match create(uplink, mode, program) {
        Ok(link) => link,
        Err(error) if at == uplink.index => {
            let other = if mode == XdpMode::Native { XdpMode::Generic } else { XdpMode::Native };
            remove(&path)?;
            pin(&create(uplink, other, program)?, &path)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    // The uplink is another one (or a new one of the same name): ours first, then the old one's goes.
    remove(&path)?;
    pin(&link, &path)
}

fn remove(path: &std::path::Path) -> Result<(), DataplaneError> {
    pins::remove_link(path)
        .map_err(|source| DataplaneError::kernel(format!("removing {}", path.display()), source))
}

fn pin(link: &OwnedFd, path: &std::path::Path) -> Result<(), DataplaneError> {
    sys::pin(link, path)
        .map_err(|source| DataplaneError::kernel(format!("pinning {}", path.display()), source))
}

fn same_mode(uplink: &Uplink, mode: XdpMode) -> Result<bool, DataplaneError> {
    let generic = query(uplink)?.xdp.map(|(attached, _)| attached == XDP_ATTACHED_SKB);
    Ok(generic.is_none_or(|generic| generic == (mode == XdpMode::Generic)))
}

fn create(uplink: &Uplink, mode: XdpMode, program: BorrowedFd<'_>) -> Result<OwnedFd, DataplaneError> {
    if let Some((_, id)) = query(uplink)?.xdp {
        return Err(DataplaneError::XdpTaken { name: uplink.name.clone(), program: program_name(id) });
    }
    let flags = match mode {
        XdpMode::Native => XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => XDP_FLAGS_SKB_MODE,
    };
    sys::link_create(program, uplink.index, BPF_XDP, flags).map_err(|source| attach_error(uplink, source))
}

fn attach_error(uplink: &Uplink, source: io::Error) -> DataplaneError {
    let name = uplink.name.clone();
    let hint = match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => return DataplaneError::NoNativeXdp { name, source },
        Some(libc::EBUSY | libc::EEXIST) => {
            return DataplaneError::XdpTaken { name, program: "attached at this very moment".to_owned() };
        }
        Some(libc::EINVAL | libc::ERANGE | libc::E2BIG) => {
            ". The driver refuses: often because of the MTU, of LRO, or of too few queues (see the kernel's log); xdp = \"generic\" under [host] works everywhere"
        }
        _ => "",
    };
    DataplaneError::Attach { program: "from_uplink", name, source, hint }
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its id.
    pub id: u32,
    /// Its name; none if it has none or may not be asked.
    pub name: Option<String>,
    /// Whether it is in the stack instead of in the driver.
    pub generic: bool,
}

/// The XDP program on an interface, whosever it is. Only looks.
///
/// # Errors
/// When there is no such interface.
pub fn attached(index: u32) -> io::Result<Option<Attached>> {
    Ok(ask(index)?.xdp.map(|(mode, id)| Attached {
        id,
        name: name_of(id),
        generic: mode == XDP_ATTACHED_SKB,
    }))
}

fn name_of(id: u32) -> Option<String> {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
}

fn program_name(id: u32) -> String {
    let name = name_of(id).unwrap_or_else(|| "unnamed".to_owned());
    format!("{name:?} (id {id})")
}

// From <linux/if_link.h>.
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// sizeof(struct ifinfomsg): family, type, index, flags, change.
const IFINFOMSG: usize = 16;

/// Asks the kernel about one link.
fn query(uplink: &Uplink) -> Result<Link, DataplaneError> {
    ask(uplink.index).map_err(|source| DataplaneError::NoUplink { name: uplink.name.clone(), source })
}

fn ask(index: u32) -> io::Result<Link> {
    let mut question = [0u8; IFINFOMSG];
    question[4..8].copy_from_slice(&index.to_ne_bytes());
    parse(&netlink::ask(netlink::socket(netlink::ROUTE)?, libc::RTM_GETLINK, &question)?)
}

fn parse(answer: &[u8]) -> io::Result<Link> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut link = Link { arphrd: half(answer, 2).ok_or_else(short)?, mtu: 0, is_veth: false, xdp: None };
    for (kind, value) in attributes(answer.get(IFINFOMSG..).ok_or_else(short)?) {
        match kind {
            IFLA_MTU => link.mtu = word(value, 0).ok_or_else(short)?,
            IFLA_LINKINFO => {
                link.is_veth =
                    attributes(value).any(|(kind, value)| kind == IFLA_INFO_KIND && value == b"veth\0");
            }
            IFLA_XDP => {
                let mut mode = 0;
                let mut id = 0;
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_XDP_ATTACHED => mode = value.first().copied().unwrap_or(0),
                        IFLA_XDP_PROG_ID => id = word(value, 0).unwrap_or(0),
                        _ => {}
                    }
                }
                link.xdp = (mode != 0).then_some((mode, id));
            }
            _ => {}
        }
    }
    Ok(link)
}
