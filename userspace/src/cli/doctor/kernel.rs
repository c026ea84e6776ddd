//! What the kernel has, and what it tells the time by.

use std::path::Path;

use super::Finding;
use crate::dataplane;

pub(super) fn look() -> Vec<Finding> {
    vec![btf(Path::new("/sys/kernel/btf/vmlinux")), judge_tcx(&dataplane::has_tcx()), jit(), clock()]
}

fn btf(path: &Path) -> Finding {
    if path.exists() {
        Finding::ok("btf", "the kernel describes its types")
    } else {
        Finding::fail(
            "btf",
            format!("{} is not there: the programs cannot be loaded", path.display()),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; those of the distributions have it",
        )
    }
}

fn judge_tcx(answer: &std::io::Result<bool>) -> Finding {
    match answer {
        Ok(true) => Finding::ok("tcx", "the kernel has it"),
        Ok(false) => Finding::fail(
            "tcx",
            "the kernel does not have it: nothing can be attached to the taps",
            "boot Linux 6.6 or newer with CONFIG_NET_XGRESS=y; those of the distributions have it",
        ),
        Err(error) => {
            Finding::warn("tcx", format!("the kernel cannot be asked: {error}"), "ask as root (sudo)")
        }
    }
}

fn jit() -> Finding {
    let value = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    judge_jit(value.trim())
}

fn judge_jit(value: &str) -> Finding {
    match value {
        // Kernels with CONFIG_BPF_JIT_ALWAYS_ON may not show the switch in other network namespaces.
        "1" | "" => Finding::ok("jit", "eBPF programs run as machine code"),
        "0" => Finding::warn(
            "jit",
            "eBPF programs are interpreted: every packet takes several times as long",
            "`sysctl -w net.core.bpf_jit_enable=1`",
        ),
        _ => Finding::warn(
            "jit",
            "eBPF programs are compiled in debug mode, and written to the kernel's log",
            "`sysctl -w net.core.bpf_jit_enable=1`",
        ),
    }
}

fn clock() -> Finding {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    // SAFETY: all zero asks for nothing to be changed (modes = 0); adjtimex(2) then only fills in the structure.
    let synchronised = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex) >= 0 && timex.status & libc::STA_UNSYNC == 0
    };
    judge_clock(source.unwrap_or_default().trim(), synchronised)
}

/// The programs read the clock for every frame of a guest. These take microseconds each time, instead of nanoseconds.
const SLOW: [&str; 4] = ["hpet", "acpi_pm", "pit", "jiffies"];

fn judge_clock(source: &str, synchronised: bool) -> Finding {
    // Nothing is decided by wall time, so this is no warning.
    let wall = if synchronised {
        "the wall clock is synchronised"
    } else {
        "nobody says that the wall clock is synchronised: the history's times are as good as it is"
    };
    if SLOW.contains(&source) {
        return Finding::warn(
            "clock",
            format!("the clock source {source} is slow, and is read for every frame; {wall}"),
            "find out why the kernel does not trust the TSC (`dmesg | grep -i clocksource`)",
        );
    }
    Finding::ok("clock", format!("{}; {wall}", if source.is_empty() { "unknown" } else { source }))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_kernel_without_something_is_told_what_it_lacks() {
        assert_eq!(btf(Path::new("/no/such/btf")).level, Level::Fail);
        assert_eq!(judge_tcx(&Ok(true)).level, Level::Ok);
        assert_eq!(judge_tcx(&Ok(false)).level, Level::Fail);
        let not_asked = Err(std::io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(judge_tcx(&not_asked).level, Level::Warn);
        for (value, level) in [("1", Level::Ok), ("", Level::Ok), ("0", Level::Warn), ("2", Level::Warn)] {
            assert_eq!(judge_jit(value).level, level, "{value:?}");
        }
    }

    #[test]
    fn a_slow_clock_is_a_warning_and_an_unsynchronised_one_is_only_said() {
        for (source, level) in
            [("tsc", Level::Ok), ("kvm-clock", Level::Ok), ("hpet", Level::Warn), ("", Level::Ok)]
        {
            assert_eq!(judge_clock(source, true).level, level, "{source}");
        }
        let finding = judge_clock("tsc", false);
        assert!(finding.level == Level::Ok && finding.what.contains("history"), "{finding:?}");
    }
}
