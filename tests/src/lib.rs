//! What the integration tests, the lab, the demo and the benchmarks share: network namespaces, raw frames, load, and a whole lab of
//! them around a real controller.
//!
//! Nothing in here is part of hotpair, and nothing in here may outlive the process that uses it: what a killed process
//! leaves behind is removed by the next one.

pub mod alone;
pub mod bench;
pub mod bpf;
pub mod demo;
pub mod dice;
pub mod ethtool;
pub mod frames;
pub mod held;
pub mod herd;
pub mod ifreq;
pub mod interrupt;
pub mod lab;
pub mod late;
pub mod libvirtd;
pub mod line;
pub mod load;
pub mod netns;
pub mod ping;
pub mod redis;
pub mod stream;
pub mod tls;
pub mod vm;
pub mod wait;
pub mod wire;
pub mod xdp_pass;
