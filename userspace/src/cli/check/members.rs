//! What the members are made from, and the hypervisor that makes them.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::config::{Accel, Command, Config, Hypervisor, Vm};
use crate::error::chain;
use crate::hypervisor::image::Image;
use crate::hypervisor::kvm;
use crate::hypervisor::template::Template;

/// How long libvirt may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Hypervisor::Libvirt { uri, accel } = &config.hypervisor {
        findings.push(libvirt(uri).await);
        findings.push(acceleration(*accel).await);
    }
    let mut needed_kib = 0;
    for pair in &config.pairs {
        match &pair.vm {
            Vm::Libvirt { domain, image } => {
                let (found, memory_kib) = libvirt_member(&pair.name, domain, image);
                findings.extend(found);
                needed_kib += memory_kib * 2;
            }
            Vm::Command(command) => findings.push(commands(&pair.name, command)),
        }
    }
    if needed_kib > 0 {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        findings.extend(judge_memory(needed_kib, &meminfo));
    }
    findings
}

/// The template and the image, and the memory a member needs.
fn libvirt_member(pair: &str, domain: &Path, image: &Path) -> ([Finding; 2], u64) {
    let check = format!("pair {pair}: domain");
    let (template, memory_kib) = match Template::read(domain, image) {
        Ok(template) => {
            (Finding::ok(&check, domain.display().to_string()), template.memory_kib().unwrap_or(0))
        }
        Err(error) => {
            let way_out =
                "`virsh dumpxml` of a VM that works is a good beginning; docs/guest.md says what it needs";
            (Finding::fail(&check, chain(&error), way_out), 0)
        }
    };
    let check = format!("pair {pair}: image");
    let image = match Image::probe(image) {
        Ok(found) => {
            let (format, size) = (found.format.name(), found.virtual_size as f64 / f64::from(1 << 30));
            Finding::ok(&check, format!("{}, {format}, {size:.1} GiB", image.display()))
        }
        Err(error) => Finding::fail(
            &check,
            chain(&error),
            "put the golden image there, or name the right one as the pair's image",
        ),
    };
    ([template, image], memory_kib)
}

fn commands(pair: &str, command: &Command) -> Finding {
    let check = format!("pair {pair}: command");
    let all = [
        ("start", &command.start),
        ("stop", &command.stop),
        ("release", &command.release),
        ("status", &command.status),
    ];
    for (key, words) in all {
        let Some(program) = words.first() else { continue };
        if !can_be_run(program) {
            return Finding::fail(
                &check,
                format!("{key}: {program} is not there, or cannot be executed"),
                "install it, make it executable, or name the right program",
            );
        }
    }
    Finding::ok(&check, "all programs are there")
}

fn can_be_run(program: &str) -> bool {
    let executable =
        |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return executable(program.as_ref());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| executable(&directory.join(program)))
}

/// Whether two members of each pair fit into memory at all.
fn judge_memory(needed_kib: u64, meminfo: &str) -> Option<Finding> {
    let total_kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))?
        .trim()
        .parse()
        .ok()?;
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    let what = format!("the members need {:.1} GiB of {:.1} GiB", gib(needed_kib), gib(total_kib));
    Some(if needed_kib < total_kib {
        Finding::ok("memory", what)
    } else {
        Finding::warn("memory", what, "give the members less memory, or the host more")
    })
}

pub(in crate::cli) async fn acceleration(accel: Accel) -> Finding {
    let works = tokio::task::spawn_blocking(kvm::works).await.unwrap_or_else(|error| Err(error.to_string()));
    judge_acceleration(accel, works)
}

fn judge_acceleration(accel: Accel, works: Result<(), String>) -> Finding {
    match (accel, works) {
        (Accel::Tcg, _) => Finding::ok("acceleration", "QEMU's emulation, as hypervisor.accel says"),
        (_, Ok(())) => Finding::ok("acceleration", "KVM"),
        (Accel::Auto, Err(why)) => Finding::warn(
            "acceleration",
            format!("KVM does not work here ({why}): the members are emulated, which is slow"),
            "turn on virtualisation in the firmware, or say hypervisor.accel = \"tcg\" if this is meant",
        ),
        (Accel::Kvm, Err(why)) => Finding::fail(
            "acceleration",
            format!("KVM does not work here: {why}"),
            "turn on virtualisation in the firmware, or say hypervisor.accel = \"auto\"",
        ),
    }
}

/// Whether libvirt answers. Its calls block, some for ever: so in a thread of its own, which is left behind if it hangs.
#[cfg(feature = "libvirt")]
pub(in crate::cli) async fn libvirt(uri: &str) -> Finding {
    let asked = uri.to_owned();
    // libvirt's own habit is to print errors to standard error as well.
    virt::error::clear_error_callback();
    let answer = tokio::task::spawn_blocking(move || {
        let text = |error: virt::error::Error| error.message().to_owned();
        let mut connection = virt::connect::Connect::open(Some(&asked)).map_err(text)?;
        let version = connection.get_lib_version().map_err(text)?;
        let _ = connection.close();
        Ok::<u32, String>(version)
    });
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(version))) => {
            let (major, minor, release) = (version / 1_000_000, version / 1_000 % 1_000, version % 1_000);
            Finding::ok("libvirt", format!("{major}.{minor}.{release} answers on {uri}"))
        }
        Ok(Ok(Err(why))) => Finding::fail(
            "libvirt",
            format!("{uri} cannot be reached: {why}"),
            "`systemctl start libvirtd` (package libvirt-daemon-system), or name the right hypervisor.uri",
        ),
        Ok(Err(error)) => Finding::fail("libvirt", error.to_string(), "this is a bug of hotpair's"),
        Err(_) => Finding::fail(
            "libvirt",
            format!("{uri} has not answered within {} s", PATIENCE.as_secs()),
            "`systemctl restart libvirtd`, or name the right hypervisor.uri",
        ),
    }
}

#[cfg(not(feature = "libvirt"))]
#[allow(clippy::unused_async, reason = "as with libvirt")]
pub(in crate::cli) async fn libvirt(uri: &str) -> Finding {
    let _ = PATIENCE;
    Finding::fail(
        "libvirt",
        format!("{uri} cannot be used: this hotpair was built without libvirt"),
        "build it with the feature `libvirt`, or use kind = \"command\"",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn kvm_that_does_not_work_is_a_failure_only_if_it_was_asked_for() {
        let broken = || Err("no virtualisation".to_owned());
        assert_eq!(judge_acceleration(Accel::Auto, Ok(())).level, Level::Ok);
        assert_eq!(judge_acceleration(Accel::Tcg, broken()).level, Level::Ok);
        assert_eq!(judge_acceleration(Accel::Auto, broken()).level, Level::Warn);
        assert_eq!(judge_acceleration(Accel::Kvm, broken()).level, Level::Fail);
    }

    #[test]
    fn members_that_do_not_fit_into_memory_are_a_warning() {
        let meminfo = "MemTotal:        8000000 kB\nMemFree: 1 kB\n";
        assert_eq!(judge_memory(7_000_000, meminfo).map(|finding| finding.level), Some(Level::Ok));
        assert_eq!(judge_memory(8_000_000, meminfo).map(|finding| finding.level), Some(Level::Warn));
        assert_eq!(judge_memory(1, ""), None);
    }

    #[test]
    fn a_missing_template_image_or_program_is_named() {
        let ([template, image], _) = libvirt_member("web", "/no/web.xml".as_ref(), "/no/web.img".as_ref());
        assert_eq!((template.level, image.level), (Level::Fail, Level::Fail));
        assert!(template.what.contains("/no/web.xml") && image.what.contains("/no/web.img"));
        let words = |program: &str| vec![program.to_owned()];
        let mut command = Command {
            start: words("/bin/sh"),
            stop: words("sh"),
            release: words("true"),
            status: words("true"),
        };
        assert_eq!(commands("web", &command).level, Level::Ok);
        command.stop = words("/bin");
        assert_eq!(commands("web", &command).level, Level::Fail, "a directory cannot be run");
        command.stop = words("no-such-program");
        assert!(commands("web", &command).what.contains("stop: no-such-program"));
    }
}
