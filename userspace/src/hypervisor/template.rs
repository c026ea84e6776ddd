//! The operator's domain template: ordinary libvirt XML, as `virsh dumpxml` writes it, read and checked.
//!
//! What two identical VMs cannot both have (a writable disk, a passed-through device) is refused here, before anything
//! is started. What a member is made of from it is `domain_xml`'s matter.

use std::fs;
use std::path::{Path, PathBuf};

use xmltree::{Element, XMLNode};

/// A checked template.
#[derive(Clone, Debug)]
pub struct Template {
    /// The `<domain>` element.
    pub(super) domain: Element,
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("cannot read the domain template {}: {source}. Write one with `virsh dumpxml VM > {}`", path.display(), path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not XML.
    #[error("{} is not XML: {why}", path.display())]
    NotXml {
        /// Which.
        path: PathBuf,
        /// With line and column.
        why: String,
    },
    /// It is XML of something else.
    #[error("{} is not a libvirt domain: it begins with <{root}>, not with <domain>", path.display())]
    NotADomain {
        /// Which.
        path: PathBuf,
        /// What it begins with.
        root: String,
    },
    /// Two VMs cannot be made from it.
    #[error("{} cannot serve as the template of two VMs: {why}", path.display())]
    NotForTwo {
        /// Which.
        path: PathBuf,
        /// What stands in the way, and what to do.
        why: String,
    },
}

impl Template {
    /// Reads and checks a template. `image` is the pair's golden image: the disk that has it as its source becomes the
    /// member's overlay.
    ///
    /// # Errors
    /// Every reason names the file and what to change.
    pub fn read(path: &Path, image: &Path) -> Result<Template, TemplateError> {
        let text = fs::read_to_string(path)
            .map_err(|source| TemplateError::Unreadable { path: path.to_owned(), source })?;
        Template::parse(path, &text, image)
    }

    /// Checks a template that was read from `path`.
    ///
    /// # Errors
    /// As [`Template::read`].
    pub fn parse(path: &Path, text: &str, image: &Path) -> Result<Template, TemplateError> {
        let domain = Element::parse(text.as_bytes()).map_err(|error| {
            let why = match error {
                xmltree::ParseError::MalformedXml(error) => error.to_string(),
                error @ xmltree::ParseError::CannotParse => error.to_string(),
            };
            TemplateError::NotXml { path: path.to_owned(), why }
        })?;
        if domain.name != "domain" {
            return Err(TemplateError::NotADomain { path: path.to_owned(), root: domain.name });
        }
        let template = Template { domain };
        match template.not_for_two(image) {
            Some(why) => Err(TemplateError::NotForTwo { path: path.to_owned(), why }),
            None => Ok(template),
        }
    }

    /// What two VMs could not both have.
    fn not_for_two(&self, image: &Path) -> Option<String> {
        if self.domain.get_child("os").is_none() {
            return Some(
                "it has no <os>; begin with the output of `virsh dumpxml` of a VM that works".into(),
            );
        }
        for device in elements(self.domain.get_child("devices")?) {
            match device.name.as_str() {
                "disk" if is_writable_disk(device) && !is_golden(device, image) => {
                    let source = disk_source(device).unwrap_or_else(|| "(no source)".into());
                    return Some(format!(
                        "its disk {source} is writable and is not `image` ({}), so both would write to it; make it \
                         `image`, mark it <readonly/>, or take it out",
                        image.display()
                    ));
                }
                "hostdev" => {
                    return Some("it passes a host device through (<hostdev>), which only one VM can have; take it out".into());
                }
                _ => {}
            }
        }
        None
    }

    /// The MAC of the template's first NIC, which the pair's members get unless the configuration says otherwise.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        let interface = self.domain.get_child("devices")?.get_child("interface")?;
        parse_mac(interface.get_child("mac")?.attributes.get("address")?)
    }

    /// What a member needs, in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> Option<u64> {
        let memory = self.domain.get_child("memory")?;
        let amount: u64 = memory.get_text()?.trim().parse().ok()?;
        // https://libvirt.org/formatdomain.html#memory-allocation; KiB when there is no unit.
        let bytes = match memory.attributes.get("unit").map_or("KiB", String::as_str) {
            "b" | "bytes" => 1,
            "KB" => 1000,
            "k" | "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "M" | "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "G" | "GiB" => 1 << 30,
            "TB" => 1_000_000_000_000,
            "T" | "TiB" => 1 << 40,
            _ => return None,
        };
        amount.checked_mul(bytes).map(|bytes| bytes / 1024)
    }
}

/// Child elements, in order.
pub(super) fn elements(parent: &Element) -> impl Iterator<Item = &Element> {
    parent.children.iter().filter_map(XMLNode::as_element)
}

/// The file, device or volume that a disk is on.
pub(super) fn disk_source(disk: &Element) -> Option<String> {
    let source = disk.get_child("source")?;
    ["file", "dev", "volume", "name", "dir"].iter().find_map(|key| source.attributes.get(*key).cloned())
}

/// Whether this disk is on the golden image: the same path, or the same file.
pub(super) fn is_golden(disk: &Element, image: &Path) -> bool {
    disk_source(disk).is_some_and(|source| {
        let source = Path::new(&source);
        let same_file = || Some(fs::canonicalize(source).ok()? == fs::canonicalize(image).ok()?);
        source == image || same_file() == Some(true)
    })
}

fn is_writable_disk(disk: &Element) -> bool {
    let device = disk.attributes.get("device").map_or("disk", String::as_str);
    let has = |name: &str| disk.get_child(name).is_some();
    matches!(device, "disk" | "lun") && !has("readonly") && !has("shareable") && !has("transient")
}

/// `52:54:00:12:34:56`
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
    }
    bytes.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "/var/lib/libvirt/images/web.qcow2";

    fn read(text: &str) -> Result<Template, String> {
        Template::parse(Path::new("web.xml"), text, Path::new(IMAGE)).map_err(|error| error.to_string())
    }

    fn with_devices(devices: &str) -> String {
        format!(
            "<domain type='kvm'><memory unit='MiB'>256</memory><os><type>hvm</type></os><devices>{devices}</devices></domain>"
        )
    }

    #[test]
    fn what_is_no_template_is_refused_with_file_place_and_reason() {
        let text = |text| read(text).unwrap_err();
        assert!(text("this is no xml").starts_with("web.xml is not XML: 1:1"), "{}", text("this is no xml"));
        assert!(text("<domain><name>").contains("web.xml is not XML"));
        assert!(text("<network/>").contains("begins with <network>"));
        assert!(text("<domain/>").contains("no <os>"));
        let missing =
            Template::read(Path::new("/nonexistent/web.xml"), Path::new(IMAGE)).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/web.xml: No such file"), "{missing}");
    }

    #[test]
    fn what_only_one_vm_can_have_is_refused() {
        let second =
            "<disk type='file' device='disk'><source file='/data/db.img'/><target dev='vdb'/></disk>";
        let why = read(&with_devices(second)).unwrap_err();
        assert!(why.contains("/data/db.img is writable"), "{why}");
        assert!(read(&with_devices(&second.replace("<target", "<readonly/><target"))).is_ok());
        assert!(read(&with_devices(&second.replace("/data/db.img", IMAGE))).is_ok());
        assert!(read(&with_devices("<disk type='file' device='cdrom'><target dev='sda'/></disk>")).is_ok());
        assert!(
            read(&with_devices("<hostdev mode='subsystem' type='pci'/>"))
                .unwrap_err()
                .contains("host device")
        );
    }

    #[test]
    fn the_first_nics_mac_and_the_memory_are_found() {
        let template =
            read(&with_devices("<interface type='network'><mac address='52:54:00:0a:0b:0C'/></interface>"))
                .unwrap();
        assert_eq!(template.mac(), Some([0x52, 0x54, 0, 0x0a, 0x0b, 0x0c]));
        assert_eq!(template.memory_kib(), Some(256 << 10));
        let plain = read(&with_devices("").replace(" unit='MiB'", "")).unwrap();
        assert_eq!((plain.mac(), plain.memory_kib()), (None, Some(256)));
    }
}
