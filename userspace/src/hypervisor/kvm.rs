//! Whether KVM really works here: a virtual CPU is made to count to a million.
//!
//! That `/dev/kvm` exists and opens says little. Inside some clouds it is there and hands out virtual machines, but
//! emulates each instruction of a guest that is not made for it: 22 µs an instruction were measured, so a kernel there
//! hangs in its decompressor without an error, far slower than QEMU's own emulation. So this asks for a proof, within
//! half a second, once per process.

use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the count may take. A working KVM, also a nested one, needs about a millisecond.
const DEADLINE: Duration = Duration::from_millis(500);

/// The port the guest writes to, and what it writes: a value that nothing else would produce.
const PORT: u16 = 0x4850;
const ANSWER: u8 = 0x2a;

/// Whether KVM works; the error says why it does not, as a clause ("/dev/kvm is not there"). Tested once per process.
///
/// Blocks for up to half a second the first time: not to be called on an async executor's thread.
pub fn works() -> Result<(), String> {
    static RESULT: OnceLock<Result<(), String>> = OnceLock::new();
    RESULT.get_or_init(test).clone()
}

fn test() -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let tester = thread::Builder::new()
        .name("kvm-self-test".into())
        .spawn(move || {
            // The receiver may have given up.
            let _ = tell.send(run_a_loop());
        })
        .map_err(|error| format!("its self-test cannot start a thread: {error}"))?;
    match told.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("its self-test died".into()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            interrupt(&tester);
            Err(format!(
                "/dev/kvm is there, but a virtual CPU could not count to a million within {} ms (is this a VM without \
                 nested virtualisation?)",
                DEADLINE.as_millis()
            ))
        }
    }
}

/// Gets a thread out of a virtual CPU that runs for ever: KVM_RUN returns EINTR on a signal. Repeated for a short while,
/// because a signal that arrives just before KVM_RUN is lost.
fn interrupt(tester: &thread::JoinHandle<()>) {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn nothing(_: libc::c_int) {}
    let signal = libc::SIGRTMAX() - 3;
    if !INSTALLED.swap(true, Ordering::SeqCst) {
        // SAFETY: the handler does nothing, so it is async-signal-safe; a zeroed sigaction is valid (no flags, empty
        // mask). Without SA_RESTART, so that the ioctl returns.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    let end = Instant::now() + Duration::from_millis(100);
    while !tester.is_finished() && Instant::now() < end {
        // SAFETY: the thread has not been joined, so its pthread_t is valid.
        unsafe { libc::pthread_kill(tester.as_pthread_t(), signal) };
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_arch = "x86_64")]
fn run_a_loop() -> Result<(), String> {
    use kvm_bindings::{kvm_segment, kvm_userspace_memory_region};
    use kvm_ioctls::{Kvm, VcpuExit};
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    // The guest's memory: page tables that map the first 2 MiB to themselves, then the code.
    const SIZE: usize = 0x5000;
    const TABLES: [(usize, u64); 3] = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x83)];
    const CODE_AT: usize = 0x4000;
    // mov $1000000, %ecx; 1: dec %ecx; jnz 1b; mov $ANSWER, %al; mov $PORT, %dx; out %al, %dx; hlt
    #[rustfmt::skip]
    const CODE: [u8; 17] = [
        0xb9, 0x40, 0x42, 0x0f, 0x00,
        0xff, 0xc9,
        0x75, 0xfc,
        0xb0, ANSWER,
        0x66, 0xba, PORT.to_le_bytes()[0], PORT.to_le_bytes()[1],
        0xee,
        0xf4,
    ];

    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: kvm_ioctls::Error| format!("{what}: {}", std::io::Error::from(error))
    };
    let kvm = Kvm::new().map_err(failed("cannot open /dev/kvm"))?;
    let vm = kvm.create_vm().map_err(failed("cannot create a virtual machine"))?;

    // SAFETY: a new private anonymous mapping, at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(std::ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }
    .map_err(|error| format!("cannot get memory for a virtual machine: {error}"))?;
    for (at, entry) in TABLES {
        // SAFETY: `at` lies inside the mapping, is aligned, and nothing else knows of the mapping yet.
        unsafe { memory.byte_add(at).cast::<u64>().write(entry) };
    }
    // SAFETY: as above; CODE ends before SIZE.
    unsafe { memory.byte_add(CODE_AT).cast::<[u8; 17]>().write(CODE) };

    let outcome = (|| {
        let region = kvm_userspace_memory_region {
            slot: 0,
            guest_phys_addr: 0,
            memory_size: SIZE as u64,
            userspace_addr: memory as u64,
            flags: 0,
        };
        // SAFETY: the mapping lives until the virtual machine is dropped, see below.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(failed("cannot give the virtual machine memory"))?;
        let mut vcpu = vm.create_vcpu(0).map_err(failed("cannot create a virtual CPU"))?;

        // 64-bit mode with paging, as an operating system runs. In real mode older CPUs need the emulator.
        let mut control = vcpu.get_sregs().map_err(failed("cannot read a virtual CPU's registers"))?;
        let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
        control.cs = kvm_segment { selector: 8, type_: 11, l: 1, ..flat };
        for segment in [&mut control.ds, &mut control.es, &mut control.fs, &mut control.gs, &mut control.ss] {
            *segment = kvm_segment { selector: 16, type_: 3, db: 1, ..flat };
        }
        control.cr0 = 0x8000_0031; // paging, FPU errors, 387, protected mode
        control.cr3 = 0x1000;
        control.cr4 = 0x20; // physical address extension
        control.efer = 0x500; // long mode enabled and active
        vcpu.set_sregs(&control).map_err(failed("cannot set a virtual CPU's registers"))?;
        let mut registers = vcpu.get_regs().map_err(failed("cannot read a virtual CPU's registers"))?;
        registers.rip = CODE_AT as u64;
        registers.rflags = 2;
        vcpu.set_regs(&registers).map_err(failed("cannot set a virtual CPU's registers"))?;

        let mut written = false;
        loop {
            match vcpu.run().map_err(failed("a virtual CPU does not run"))? {
                VcpuExit::IoOut(PORT, [ANSWER]) if !written => written = true,
                VcpuExit::Hlt if written => return Ok(()),
                other => {
                    return Err(format!(
                        "a virtual CPU does not execute its program (it stopped with {other:?})"
                    ));
                }
            }
        }
    })();
    drop(vm);
    // SAFETY: the mapping is ours, SIZE bytes, and the virtual machine that used it is gone.
    let _ = unsafe { munmap(memory, SIZE) };
    outcome
}

#[cfg(not(target_arch = "x86_64"))]
fn run_a_loop() -> Result<(), String> {
    if std::path::Path::new("/dev/kvm").exists() { Ok(()) } else { Err("/dev/kvm is not there".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_comes_to_a_verdict_in_time_and_says_why() {
        let started = Instant::now();
        let verdict = works();
        assert!(started.elapsed() < DEADLINE * 3, "took {:?}", started.elapsed());
        if let Err(why) = verdict {
            assert!(!why.is_empty());
            println!("KVM does not work here: {why} ({:?})", started.elapsed());
        } else {
            assert!(std::path::Path::new("/dev/kvm").exists());
        }
    }
}
