//! The configuration file.

use std::path::Path;

/// The file's bytes.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match hotpair::config::parse(text, Path::new("/etc/hotpair/hotpair.toml")) {
        Ok(config) => {
            assert!(!config.pairs.is_empty());
            for pair in &config.pairs {
                assert!(!pair.entry.is_empty() && !pair.name.is_empty());
                // What is made of a name has a limit of the kernel's: 15 bytes.
                assert!(hotpair::controller::tap_name(&pair.name, hotpair_abi::Slot::One).len() <= 15);
            }
            let net = config.host.internal_net;
            assert!((8..=30).contains(&net.prefix));
            let _ = hotpair::controller::host_internal_ip(net);
        }
        Err(errors) => {
            let text = errors.to_string();
            assert!(text.contains("/etc/hotpair/hotpair.toml"), "{text}");
        }
    }
}
