//! libvirt's XML: the operator's template, and what running domains say of themselves.

use std::path::Path;

use hotpair::hypervisor::domain_xml::Identity;
use hotpair::hypervisor::template::Template;

/// XML.
pub fn domain_xml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(identity) = Identity::from_metadata(text) {
        assert!(identity.name().starts_with("hotpair-"));
    }
    match Template::parse(Path::new("web.xml"), text, Path::new("/images/web.qcow2")) {
        Ok(template) => {
            let (_, _) = (template.mac(), template.memory_kib());
        }
        Err(error) => assert!(error.to_string().contains("web.xml"), "{error}"),
    }
}
