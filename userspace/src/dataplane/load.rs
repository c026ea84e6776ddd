//! Loading the programs, onto new maps or onto those of a data plane that runs.

use std::net::Ipv4Addr;

use aya::maps::{Array, MapData};
use aya::programs::{Program, ProgramFd};
use aya::{Ebpf, EbpfLoader};
use hotpair_abi::ABI_VERSION;
use hotpair_abi::index::Spread;
use hotpair_abi::maps::Host;

use super::pins::Pins;
use super::{DataplaneError, Opened, Uplink, layout};
use crate::config::XdpMode;

/// The programs, as the build script made them.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hotpair.bpf.o"));

/// The programs' names.
pub(super) const PROGRAMS: [&str; 4] = ["from_uplink", "to_guest", "from_guest", "to_guest_from_host"];

/// A loaded program.
pub(super) struct Loaded {
    pub(super) name: &'static str,
    pub(super) fd: ProgramFd,
    /// Instructions the verifier has walked through.
    pub(super) verified: u32,
}

/// Everything that `open` needs to go on.
pub(super) struct Plane {
    pub(super) opened: Opened,
    pub(super) pairs: u32,
    /// What `HOST` must say; it says so already where the start is fresh.
    pub(super) host: Host,
    /// What it says, where the data plane was there already.
    pub(super) before: Option<Host>,
    pub(super) programs: Vec<Loaded>,
    #[cfg(feature = "log")]
    pub(super) log: super::log_lines::Reader,
}

/// The row of `HOST` that is pinned, if the maps are whole.
fn adopted(pins: &Pins) -> Result<Option<Host>, DataplaneError> {
    let path = pins.map(layout::HOST);
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error: &(dyn std::error::Error + 'static)| {
        DataplaneError::map(format!("reading {}", path.display()), error)
    };
    let map = MapData::from_pin(&path).map_err(|error| failed(&error))?;
    // Of a map of another size, nothing but its version, which every version has first, may be believed.
    let other = |found| DataplaneError::OtherVersion { dir: pins.dir().to_owned(), found };
    let info = map.info().map_err(|error| failed(&error))?;
    if info.max_entries() != 1 {
        return Err(other(0));
    }
    let map = Array::<_, Host>::try_from(aya::maps::Map::Array(map)).map_err(|_| other(0))?;
    let host = map.get(&0, 0).map_err(|error| failed(&error))?;
    if host.abi_version != ABI_VERSION {
        return Err(other(host.abi_version));
    }
    Ok(Some(host))
}

/// Loads the programs, onto the maps that are there or onto new ones, which are pinned when all programs have been
/// accepted. Nothing of what runs is touched.
pub(super) fn load(
    pins: &Pins,
    uplink: &Uplink,
    xdp: XdpMode,
    is_veth: bool,
    internal_ip: Ipv4Addr,
    max_pairs: u32,
) -> Result<Plane, DataplaneError> {
    let before = adopted(pins)?;
    let pairs = before.map_or(max_pairs.max(1), |host| host.max_pairs);
    if max_pairs > pairs {
        return Err(DataplaneError::TooManyPairs { wanted: max_pairs, rows: pairs });
    }
    let layouts = layout::all(pairs);
    let mut loader = EbpfLoader::new();
    for layout in &layouts {
        loader.map_max_entries(layout.name, layout.max_entries);
        if before.is_some() {
            let path = pins.map(layout.name);
            let map = MapData::from_pin(&path)
                .map_err(|error| DataplaneError::map(format!("opening {}", path.display()), &error))?;
            layout.check(&path, &map)?;
            loader.map_pin_path(layout.name, path);
        }
    }
    if before.is_none() {
        pins.remove_half_made()
            .map_err(|source| DataplaneError::kernel("removing a half made start", source))?;
    }
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    let mut programs = Vec::new();
    for name in PROGRAMS {
        programs.push(program(&mut ebpf, name)?);
    }
    let host = Host {
        abi_version: ABI_VERSION,
        uplink_ifindex: uplink.index,
        uplink_mac: uplink.mac,
        answer_by_redirect: u8::from(is_veth),
        keeps_metadata: u8::from(xdp == XdpMode::Native),
        internal_ip: internal_ip.octets(),
        max_pairs: pairs,
        pad: 0,
        // What it says is true still, or it says that nothing is.
        spread: before.map_or(Spread::default(), |host| host.spread),
    };
    if before.is_none() {
        write_host(&mut ebpf, host)?;
        for layout in &layouts {
            let path = pins.map(layout.name);
            let failed = |error: &(dyn std::error::Error + 'static)| {
                DataplaneError::map(format!("pinning {}", path.display()), error)
            };
            ebpf.map(layout.name)
                .ok_or_else(|| {
                    load_error(std::io::Error::other(format!("the object has no map {}", layout.name)))
                })?
                .pin(&path)
                .map_err(|error| failed(&error))?;
            layout.check(&path, &MapData::from_pin(&path).map_err(|error| failed(&error))?)?;
        }
    }
    Ok(Plane {
        opened: if before.is_some() { Opened::Adopted } else { Opened::Fresh },
        pairs,
        host,
        before,
        programs,
        #[cfg(feature = "log")]
        log: super::log_lines::Reader::start(&mut ebpf).map_err(load_error)?,
    })
}

/// Tells the adopted programs of a changed host: its uplink, its internal IP.
pub(super) fn rewrite_host(pins: &Pins, host: Host) -> Result<(), DataplaneError> {
    let failed = |error: &(dyn std::error::Error + 'static)| DataplaneError::map("writing HOST", error);
    let map = MapData::from_pin(pins.map(layout::HOST)).map_err(|error| failed(&error))?;
    let mut map = Array::<_, Host>::try_from(aya::maps::Map::Array(map)).map_err(|error| failed(&error))?;
    map.set(0, host, 0).map_err(|error| failed(&error))
}

fn write_host(ebpf: &mut Ebpf, host: Host) -> Result<(), DataplaneError> {
    let map = ebpf
        .map_mut(layout::HOST)
        .ok_or_else(|| load_error(std::io::Error::other("the object has no HOST")))?;
    let mut map = Array::<_, Host>::try_from(map).map_err(load_error)?;
    map.set(0, host, 0).map_err(|error| DataplaneError::map("writing HOST", &error))
}

fn program(ebpf: &mut Ebpf, name: &'static str) -> Result<Loaded, DataplaneError> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| load_error(std::io::Error::other(format!("the object has no program {name}"))))?;
    match program {
        Program::Xdp(xdp) => xdp.load().map_err(load_error)?,
        Program::SchedClassifier(classifier) => classifier.load().map_err(load_error)?,
        _ => return Err(load_error(std::io::Error::other(format!("{name} is of an unexpected type")))),
    }
    let fd = program.fd().map_err(load_error)?.try_clone().map_err(load_error)?;
    let verified = program.info().ok().and_then(|info| info.verified_instruction_count()).unwrap_or(0);
    Ok(Loaded { name, fd, verified })
}

fn load_error(error: impl std::error::Error + Send + Sync + 'static) -> DataplaneError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.raw_os_error() == Some(libc::EPERM)) {
            return DataplaneError::NotPermitted;
        }
        cause = error.source();
    }
    DataplaneError::Load(Box::new(error))
}
