//! The initramfs: busybox, the modules that a virtio disk and a virtio NIC need, and a script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::INIT;

/// Loaded with everything they depend on; ext4 and the serial console are part of the cloud kernel.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_net"];

/// The kernel image of an unpacked kernel package.
pub(super) fn kernel_file(kernel: &Path) -> Result<PathBuf> {
    let boot = fs::read_dir(kernel.join("boot")).context("the kernel package has no boot directory")?;
    let mut files = boot.flatten().map(|entry| entry.path());
    files
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .context("the kernel package has no kernel")
}

/// Writes `initramfs.cpio` into `work`. Not compressed: unpacking would cost an emulated guest more than reading.
pub(super) fn build(kernel: &Path, work: &Path) -> Result<()> {
    let root = work.join("initramfs");
    for dir in ["bin", "dev", "proc", "disk", "lib/modules"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let busybox =
        crate::exec::find("busybox").context("busybox is not installed (package busybox-static)")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;

    let available = modules_below(&kernel.join("lib/modules"))?;
    let mut order = Vec::new();
    for module in MODULES {
        add(module, &available, &mut order)?;
    }
    let names: Vec<_> = order.iter().map(|path| name_of(path)).collect();
    for (path, name) in order.iter().zip(&names) {
        fs::copy(path, root.join("lib/modules").join(format!("{name}.ko")))?;
    }
    fs::write(root.join("modules"), names.join("\n"))?;

    let archive = fs::File::create(work.join("initramfs.cpio"))?;
    let mut list = Command::new("find").arg(".").current_dir(&root).stdout(Stdio::piped()).spawn()?;
    let names = list.stdout.take().context("find has no output")?;
    let packed = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(&root)
        .stdin(names)
        .stdout(archive)
        .status()
        .context("cannot run cpio")?;
    if !packed.success() || !list.wait()?.success() {
        bail!("cannot pack the initramfs");
    }
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// The module, after everything that it depends on.
fn add(name: &str, available: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    let same = |path: &&PathBuf| name_of(path).replace('-', "_") == name.replace('-', "_");
    if order.iter().any(|path| same(&path)) {
        return Ok(());
    }
    let path =
        available.iter().find(same).with_context(|| format!("the kernel package has no module {name}"))?;
    for dependency in dependencies(&fs::read(path)?) {
        add(&dependency, available, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// `depends=` in a module's .modinfo section, which holds zero-terminated `key=value` strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn modules_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        // Not followed: the package has links to a build directory that is not there.
        if entry.file_type()?.is_dir() {
            found.extend(modules_below(&entry.path())?);
        } else if entry.path().extension().is_some_and(|extension| extension == "ko") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn a_modules_dependencies_are_read_from_its_modinfo() {
        assert_eq!(
            dependencies(b"\0license=GPL\0depends=virtio,virtio_ring\0retpoline=Y\0"),
            ["virtio", "virtio_ring"]
        );
        assert!(dependencies(b"\0license=GPL\0depends=\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }
}
