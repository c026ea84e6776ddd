//! `hotpair doctor` beside a running controller, and beside somebody else's XDP program.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use hotpair_tests::lab::{Lab, UPLINK};
use serde_json::Value;

fn doctor(lab: &Lab, arguments: &[&str]) -> Result<(i32, Vec<Value>)> {
    let spoken = lab.hotpair(&[&["doctor", "-o", "json"], arguments].concat())?;
    let findings: Value = serde_json::from_str(&spoken.stdout).with_context(|| spoken.stderr.clone())?;
    Ok((spoken.code, findings["findings"].as_array().context("a list")?.clone()))
}

fn of<'f>(findings: &'f [Value], check: &str) -> &'f Value {
    findings.iter().find(|finding| finding["check"] == check).expect("it is looked at")
}

fn bpf(command: libc::c_int, attributes: &mut [u32]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as is said, and what they point to outlives the call; the result is a new
    // descriptor, checked before it is owned.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes));
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}

/// A program that passes everything, attached to the uplink until it is dropped.
fn somebody_elses_program() -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let license = c"GPL";
    let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
    let [code, code_high] = halves(instructions.as_ptr() as u64);
    let [terms, terms_high] = halves(license.as_ptr() as u64);
    let mut name = [0u8; 16];
    name[..9].copy_from_slice(b"elsewhere");
    let name = |at: usize| u32::from_ne_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    // Type, instructions, license, log (level, size, buffer), kernel version, flags, name.
    let mut load = [
        BPF_PROG_TYPE_XDP,
        2,
        code,
        code_high,
        terms,
        terms_high,
        0,
        0,
        0,
        0,
        0,
        0,
        name(0),
        name(4),
        name(8),
        name(12),
    ];
    let program = bpf(BPF_PROG_LOAD, &mut load).context("cannot load a program")?;
    // SAFETY: if_nametoindex(3) reads a terminated string.
    let index = unsafe { libc::if_nametoindex(std::ffi::CString::new(UPLINK)?.as_ptr()) };
    let mut create = [program.as_raw_fd() as u32, index, BPF_XDP, 0];
    bpf(BPF_LINK_CREATE, &mut create).context("cannot attach it")
}

#[test]
fn the_doctor_finds_nothing_wrong_beside_a_running_controller() -> Result<()> {
    if !crate::may_run("the_doctor_finds_nothing_wrong_beside_a_running_controller") {
        return Ok(());
    }
    let lab = Lab::builder().start()?;
    let before = lab.wait_protected()?;
    let config = lab.config_file().display().to_string();
    let (code, findings) = doctor(&lab, &["--config", &config])?;
    let failures: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "fail").collect();
    assert!(code < 2 && failures.is_empty(), "{failures:#?}");
    let program = of(&findings, "xdp_program");
    assert!(program["what"].as_str().is_some_and(|what| what.contains("hotpair's own")), "{program}");
    let after = lab.pair()?;
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary), "it only looks");
    Ok(())
}

#[test]
fn somebody_elses_program_on_the_uplink_is_named() -> Result<()> {
    if !crate::may_run("somebody_elses_program_on_the_uplink_is_named") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let theirs = {
        let _inside = lab.host().netns().enter()?;
        somebody_elses_program()?
    };
    let (code, findings) = doctor(&lab, &["--uplink", UPLINK])?;
    let program = of(&findings, "xdp_program");
    assert_eq!((code, program["level"].as_str()), (2, Some("fail")), "{program}");
    assert!(program["what"].as_str().is_some_and(|what| what.contains("\"elsewhere\" (id ")), "{program}");
    assert!(
        program["way_out"].as_str().is_some_and(|way| way.contains("bpftool prog show id ")),
        "{program}"
    );
    drop(theirs);
    let (_, findings) = doctor(&lab, &["--uplink", UPLINK])?;
    assert_eq!(of(&findings, "xdp_program")["level"], "ok", "{findings:#?}");
    Ok(())
}
