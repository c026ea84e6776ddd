//! A lab's "virtual machine": one process with a network namespace of its own that plugs into a tap as QEMU would.
//!
//! It shuffles frames, virtio headers and all, between the host's tap and an `eth0` in its namespace. A SIGKILL of the
//! process is the death of its hypervisor: the tap loses its carrier and everything inside goes with it. A SIGSTOP
//! freezes it: nothing goes in or out, and what has queued up comes out when it is thawed.

pub mod control;
pub mod fault;
pub mod place;

mod guest;
mod machine;
mod numbers;
mod programs;
mod services;
pub(crate) mod tap;
mod verbs;

pub(crate) use machine::prefer_at;
pub use machine::{NO_AGENT, Options as MachineOptions};
pub use programs::{IPERF3, REDIS, TLS};
pub use services::echo;
pub use verbs::{Member, REFUSE_STOP, Verb, run};
