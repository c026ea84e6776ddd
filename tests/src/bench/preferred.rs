//! Who measures comes before whatever else this machine does.

/// Below the members' own threads, above everything ordinary.
const PRIORITY: i32 = 2;

/// While it lives, the calling thread and those that it begins run before ordinary ones, if that is allowed.
pub struct Preferred(());

impl Preferred {
    /// Asks for it.
    #[must_use]
    pub fn from_now_on() -> Preferred {
        schedule(libc::SCHED_FIFO, PRIORITY);
        Preferred(())
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: libc::c_int, priority: i32) {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: sched_setscheduler(2) reads the parameter and changes this thread alone. Where it is refused, what is
    // measured is as punctual as the machine lets it be.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
}
