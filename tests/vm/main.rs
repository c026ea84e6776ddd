//! Real VMs under the real libvirtd. Needs root, libvirtd and QEMU; `cargo xtask test` sees to all of them.

mod backend;
mod libvirtd;
mod reconnect;
mod scenario;
mod stage;
