//! Overlay volumes, through libvirt's storage API, so that they are made with the right owner and label and that other
//! libvirt tools see them.
//!
//! libvirt wants a pool around a volume. If the operator has one for the golden image's directory, it is used; else one
//! is made for the time of the operation, and nothing of it stays.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use super::super::HypervisorError;
use super::super::image::Image;

/// Makes the overlay `name`.qcow2 on the golden image, in the same directory, in place of one that is left over.
/// Returns its path.
pub(super) fn create(
    connection: &Connect,
    guard: &Mutex<()>,
    image: &Path,
    name: &str,
) -> Result<PathBuf, HypervisorError> {
    let golden = Image::probe(image).map_err(|error| HypervisorError::Failed(error.to_string()))?;
    let image = fs::canonicalize(image).map_err(|error| {
        HypervisorError::Failed(format!("cannot find the golden image {}: {error}", image.display()))
    })?;
    let volume = format!("{name}.qcow2");
    with_pool(connection, guard, &image, |pool| {
        delete_volume(pool, &volume)?;
        let xml = format!(
            "<volume><name>{}</name><capacity unit='bytes'>{}</capacity><target><format type='qcow2'/></target>\
             <backingStore><path>{}</path><format type='{}'/></backingStore></volume>",
            escaped(&volume),
            golden.virtual_size,
            escaped(&image.to_string_lossy()),
            golden.format.name()
        );
        let made = StorageVol::create_xml(pool, &xml, 0)
            .map_err(|error| failed(&format!("cannot make the overlay {volume}"), &error))?;
        made.get_path()
            .map(PathBuf::from)
            .map_err(|error| failed("cannot find the overlay just made", &error))
    })
}

/// Deletes the overlay, and looks whether it is gone. Well when there is none.
pub(super) fn delete(
    connection: &Connect,
    guard: &Mutex<()>,
    image: &Path,
    name: &str,
) -> Result<(), HypervisorError> {
    let volume = format!("{name}.qcow2");
    with_pool(connection, guard, image, |pool| delete_volume(pool, &volume))?;
    if let Some(path) = image.parent().map(|directory| directory.join(&volume))
        && path.exists()
    {
        return Err(HypervisorError::Failed(format!("{} was deleted but is still there", path.display())));
    }
    Ok(())
}

fn delete_volume(pool: &StoragePool, volume: &str) -> Result<(), HypervisorError> {
    match StorageVol::lookup_by_name(pool, volume) {
        Ok(found) => {
            found.delete(0).map_err(|error| failed(&format!("cannot delete the volume {volume}"), &error))?;
        }
        Err(error) if error.code() == ErrorNumber::NoStorageVolume => return Ok(()),
        Err(error) => return Err(failed(&format!("cannot look for the volume {volume}"), &error)),
    }
    match StorageVol::lookup_by_name(pool, volume) {
        Err(error) if error.code() == ErrorNumber::NoStorageVolume => Ok(()),
        _ => Err(HypervisorError::Failed(format!("libvirt deleted the volume {volume}, but still has it"))),
    }
}

/// Runs `operation` with a fresh view of the pool around the directory of `image`.
fn with_pool<T>(
    connection: &Connect,
    guard: &Mutex<()>,
    image: &Path,
    operation: impl FnOnce(&StoragePool) -> Result<T, HypervisorError>,
) -> Result<T, HypervisorError> {
    let _alone = guard.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = image.parent().unwrap_or(Path::new("/"));
    let directory = fs::canonicalize(directory).map_err(|error| {
        HypervisorError::Failed(format!(
            "cannot read the golden image's directory {}: {error}",
            directory.display()
        ))
    })?;
    let path = directory.to_string_lossy();
    let (pool, ours) = match StoragePool::lookup_by_target_path(connection, &path) {
        Ok(pool) => (pool, false),
        Err(_) => (make_pool(connection, &path)?, true),
    };
    let result = refresh(&pool, &path).and_then(|()| operation(&pool));
    if ours && let Err(error) = pool.destroy() {
        tracing::warn!(
            pool = pool.get_name().unwrap_or_default(),
            why = error.message(),
            "a storage pool of ours stays behind"
        );
    }
    result
}

fn make_pool(connection: &Connect, path: &str) -> Result<StoragePool, HypervisorError> {
    // Any name that tells where it comes from and that no other directory has.
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let xml = format!(
        "<pool type='dir'><name>hotpair-{hash:016x}</name><target><path>{}</path></target></pool>",
        escaped(path)
    );
    StoragePool::create_xml(connection, &xml, 0).or_else(|error| {
        // Another controller may have made one in the meantime.
        StoragePool::lookup_by_target_path(connection, path).map_err(|_| {
            failed(&format!("cannot use {path} as a storage pool (libvirtd must be able to read it)"), &error)
        })
    })
}

fn refresh(pool: &StoragePool, path: &str) -> Result<(), HypervisorError> {
    if !pool.is_active().unwrap_or(true) {
        pool.create(0)
            .map_err(|error| failed(&format!("cannot start the storage pool of {path}"), &error))?;
    }
    pool.refresh(0)
        .map(|_| ())
        .map_err(|error| failed(&format!("cannot read the storage pool of {path}"), &error))
}

/// A pair's volumes: in the remembered directories, and in every active pool.
pub(super) fn volumes(connection: &Connect, directories: &[PathBuf], pair: &str) -> Vec<PathBuf> {
    let pools =
        connection.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE).unwrap_or_default();
    let in_pools = pools.iter().flat_map(|pool| pool.list_all_volumes(0).unwrap_or_default());
    let in_pools = in_pools.filter_map(|volume| volume.get_path().ok().map(PathBuf::from));
    let in_directories = directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
    let in_directories = in_directories.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> = in_pools
        .chain(in_directories)
        .filter(|path| {
            path.file_name().is_some_and(|name| is_of(&name.to_string_lossy(), pair)) && path.exists()
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// `hotpair-PAIR-SLOT-gGENERATION.qcow2`
fn is_of(file: &str, pair: &str) -> bool {
    let rest = file
        .strip_prefix("hotpair-")
        .and_then(|rest| rest.strip_prefix(pair)?.strip_prefix('-')?.strip_suffix(".qcow2"));
    rest.and_then(|rest| rest.split_once("-g")).is_some_and(|(slot, generation)| {
        matches!(slot, "0" | "1")
            && !generation.is_empty()
            && generation.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Writes down a directory in which volumes are made, once.
pub(super) fn remember(list: &Path, directory: &Path) -> Result<(), HypervisorError> {
    if remembered(list).iter().any(|known| known == directory) {
        return Ok(());
    }
    let append = || {
        if let Some(parent) = list.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(list)?;
        writeln!(file, "{}", directory.display())
    };
    append().map_err(|error| HypervisorError::Failed(format!("cannot write {}: {error}", list.display())))
}

/// The directories written down by [`remember`].
pub(super) fn remembered(list: &Path) -> Vec<PathBuf> {
    fs::read_to_string(list).unwrap_or_default().lines().map(PathBuf::from).collect()
}

pub(super) fn failed(what: &str, error: &Error) -> HypervisorError {
    HypervisorError::Failed(format!("{what}: {}", error.message()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pairs_volumes_are_told_from_those_of_a_pair_with_a_longer_name() {
        assert!(is_of("hotpair-web-0-g1.qcow2", "web"));
        assert!(is_of("hotpair-web-1-g27.qcow2", "web"));
        for other in [
            "hotpair-web-2-0-g1.qcow2",
            "hotpair-web-0-g1.img",
            "hotpair-web-0-gx.qcow2",
            "hotpair-webx-0-g1.qcow2",
            "web.qcow2",
        ] {
            assert!(!is_of(other, "web"), "{other}");
        }
        assert!(is_of("hotpair-web-2-0-g1.qcow2", "web-2"));
    }

    #[test]
    fn directories_are_remembered_once() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("state/volume-directories");
        remember(&list, Path::new("/a")).unwrap();
        remember(&list, Path::new("/b")).unwrap();
        remember(&list, Path::new("/a")).unwrap();
        assert_eq!(remembered(&list), [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
