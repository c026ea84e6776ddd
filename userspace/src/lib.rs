//! hotpair's controller: everything that runs outside the kernel on a hypervisor host.
//!
//! Data goes one way: an event (heartbeat, libvirt, netlink, operator) enters [`pair`]'s pure `step`, which returns
//! actions; [`controller`] executes them through [`dataplane`], [`network`], [`hypervisor`] and [`store`]; what they
//! bring about comes back as events. The pure core knows nobody.

pub mod api;
pub mod cli;
pub mod config;
pub mod controller;
pub mod dataplane;
pub mod error;
pub mod hypervisor;
mod netlink;
pub mod network;
pub mod pair;
pub mod store;
