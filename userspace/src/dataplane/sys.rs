//! The bpf(2) calls that aya does not offer, or offers with a detour that we must not take.
//!
//! Links are made here and not by aya, because aya falls back to netlink where a link is refused, and what is attached
//! by netlink can neither be pinned nor replaced in place.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_map_type};

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole bpf_attr, zeroed but for what the command reads; its pointers outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers; zero means "not given" in every field.
    unsafe { std::mem::zeroed() }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us (bpf descriptors are close-on-exec).
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Whether the kernel has TCX: it is asked for the programs on the loopback. Needs CAP_NET_ADMIN.
///
/// # Errors
/// When it may not be asked.
pub fn has_tcx() -> io::Result<bool> {
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_ifindex = 1;
    attr.query.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    match bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        Ok(_) => Ok(true),
        // A kernel that does not know the attach type; the loopback without any program.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Attaches a program to an interface by a link.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Replaces a link's program in place: every packet is seen by the old one or by the new one.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link now, whoever else still holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// The interface that a link is attached to; 0 if that is gone.
pub(super) fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: a structure of plain integers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: XDP and TCX links both have the interface index first.
    Ok(unsafe { info.__bindgen_anon_1.xdp.ifindex })
}

/// Pins an object.
pub(super) fn pin(fd: impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = fd.as_fd().as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Deletes an element of a map with such keys; success when there is none.
pub(super) fn delete<K: aya::Pod>(map: impl AsFd, key: &K) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    match bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the kernel says about a map.
pub(super) fn map_info(map: i32) -> io::Result<bpf_map_info> {
    // SAFETY: a structure of plain integers.
    let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = map as u32;
    attr.info.info_len = size_of::<bpf_map_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

fn map_create(kind: bpf_map_type, inner: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_1.map_type = kind as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 4;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.inner_map_fd = inner.map_or(0, |map| map.as_raw_fd() as u32);
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)
}

/// Returns when no program runs that ran when this was called: some 10 ms. A map that is put into a map tells its user so much
/// (`maybe_wait_bpf_programs`).
pub(super) fn wait_for_programs() -> io::Result<()> {
    let inner = map_create(bpf_map_type::BPF_MAP_TYPE_ARRAY, None)?;
    let outer = map_create(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(inner.as_fd()))?;
    set(outer, 0, &[inner.as_raw_fd() as u32])
}

/// Enters an interface into a devmap, with the program that each frame passes on its way out, if any.
pub(super) fn set_device(
    map: impl AsFd,
    key: u32,
    ifindex: u32,
    program: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // bpf_devmap_val: the interface, then the program's descriptor.
    set(map, key, &[ifindex, program.map_or(0, |program| program.as_raw_fd() as u32)])
}

/// Sets an element whose value has as many words.
fn set<const N: usize>(map: impl AsFd, key: u32, value: &[u32; N]) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// BPF_F_LOCK: a value is copied under its own lock.
const LOCK: u64 = 4;

/// What a map whose values have a lock has under a key, as it was at one moment.
pub(super) fn lookup<K: aya::Pod, V: aya::Pod>(map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    read(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key)
}

/// The same, and from then on it has nothing there.
pub(super) fn take<K: aya::Pod, V: aya::Pod>(map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    read(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, key)
}

fn read<K: aya::Pod, V: aya::Pod>(command: bpf_cmd, map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    attr.__bindgen_anon_2.flags = LOCK;
    match bpf(command, &mut attr) {
        // SAFETY: the kernel has written all of it, and it is plain data.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Enters a value under a key that the map does not have; success when it has it meanwhile, which stays.
pub(super) fn put_back<K: aya::Pod, V: aya::Pod>(map: impl AsFd, key: &K, value: &V) -> io::Result<()> {
    /// BPF_NOEXIST
    const NOEXIST: u64 = 1;
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_ref(value) as u64;
    attr.__bindgen_anon_2.flags = NOEXIST;
    match bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Shows everything that is in a hash map whose values have a lock, each value as it was at one moment. What is shown may be
/// deleted meanwhile.
pub(super) fn for_each<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    at_once: usize,
    mut look: impl FnMut(&K, &V) -> io::Result<()>,
) -> io::Result<()> {
    let mut keys: Vec<K> = Vec::with_capacity(at_once);
    let mut values: Vec<V> = Vec::with_capacity(at_once);
    // Where the kernel is to go on: its own business, as large as a key at most.
    let (mut from, mut next) = (vec![0u8; size_of::<K>().max(8)], vec![0u8; size_of::<K>().max(8)]);
    let mut begun = false;
    loop {
        let mut attr = zeroed();
        attr.batch.in_batch = if begun { from.as_mut_ptr() as u64 } else { 0 };
        attr.batch.out_batch = next.as_mut_ptr() as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = u32::try_from(at_once).unwrap_or(u32::MAX);
        attr.batch.map_fd = map.as_raw_fd() as u32;
        attr.batch.elem_flags = LOCK;
        let done = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        let last = match done {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has set the number of pairs that it has written, at most as many as there is room for; both
        // are plain data.
        unsafe {
            let count = (attr.batch.count as usize).min(at_once);
            keys.set_len(count);
            values.set_len(count);
        }
        for (key, value) in keys.iter().zip(&values) {
            look(key, value)?;
        }
        if last {
            return Ok(());
        }
        begun = true;
        std::mem::swap(&mut from, &mut next);
    }
}
