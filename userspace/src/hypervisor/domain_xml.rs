//! Makes a member's domain from the pair's template. Pure: XML in, XML out.
//!
//! What identifies a member (name, UUID, tap, overlay) is its own; everything a guest can see stays as the template has
//! it, so that both members, and the one that replaces either, are the same machine.

use std::path::Path;

use hotpair_abi::Slot;
use uuid::Uuid;
use xmltree::{Element, EmitterConfig, Namespace, XMLNode};

use super::template::{Template, elements, is_golden};

/// The XML namespace of hotpair's metadata in a domain. Members are known by it, never by their names.
pub const NAMESPACE: &str = "urn:hotpair:member:1";

/// What a domain of ours says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Name of the pair.
    pub pair: String,
    /// The member's place.
    pub slot: Slot,
    /// The member's generation.
    pub generation: u64,
}

impl Identity {
    /// Name of the member's domain; with `.qcow2`, of its volume.
    #[must_use]
    pub fn name(&self) -> String {
        format!("hotpair-{}-{}-g{}", self.pair, self.slot, self.generation)
    }

    /// Reads the metadata element, as libvirt returns it.
    #[must_use]
    pub fn from_metadata(xml: &str) -> Option<Identity> {
        let element = Element::parse(xml.as_bytes()).ok()?;
        let attribute = |key: &str| element.attributes.get(key);
        let slot = match attribute("slot")?.as_str() {
            "0" => Slot::Zero,
            "1" => Slot::One,
            _ => return None,
        };
        Some(Identity {
            pair: attribute("pair")?.clone(),
            slot,
            generation: attribute("generation")?.parse().ok()?,
        })
    }

    fn to_metadata(&self) -> Element {
        let mut element = Element::new("member");
        element.prefix = Some("hotpair".into());
        element.namespace = Some(NAMESPACE.into());
        let mut namespaces = Namespace::empty();
        namespaces.put("hotpair", NAMESPACE);
        element.namespaces = Some(namespaces);
        element.attributes.insert("pair".into(), self.pair.clone());
        element.attributes.insert("slot".into(), self.slot.to_string());
        element.attributes.insert("generation".into(), self.generation.to_string());
        element
    }
}

/// What is a member's own.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Who it is.
    pub identity: Identity,
    /// A new one for every domain.
    pub uuid: Uuid,
    /// The tap it plugs into.
    pub tap: &'a str,
    /// MAC of its NIC.
    pub mac: [u8; 6],
    /// The golden image.
    pub image: &'a Path,
    /// Its overlay on that.
    pub overlay: &'a Path,
    /// Whether KVM works here. Where it does not, a template for KVM is run by QEMU's emulation.
    pub kvm: bool,
}

/// The member's domain XML.
#[must_use]
pub fn member(template: &Template, member: &Member<'_>) -> String {
    let mut domain = template.domain.clone();
    domain.attributes.shift_remove("id");
    set_text(&mut domain, "name", &member.identity.name());
    set_text(&mut domain, "uuid", &member.uuid.to_string());
    set_metadata(&mut domain, &member.identity);
    // A member that is down is down: what follows is decided by the controller. A reboot stays a reboot.
    set_text(&mut domain, "on_poweroff", "destroy");
    set_text(&mut domain, "on_crash", "destroy");
    // Labels and paths that libvirt gave the VM that the template was dumped from; it gives each member its own.
    remove_where(&mut domain, |child| {
        child.name == "seclabel" && attribute(child, "type") == Some("dynamic")
    });
    if let Some(nvram) = domain.get_mut_child("os").and_then(|os| os.get_mut_child("nvram")) {
        nvram.children.clear();
    }
    if !member.kvm {
        without_kvm(&mut domain);
    }
    if domain.get_child("devices").is_none() {
        domain.children.push(XMLNode::Element(Element::new("devices")));
    }
    if let Some(devices) = domain.get_mut_child("devices") {
        set_disk(devices, member);
        set_interface(devices, member);
        for device in child_elements_mut(devices) {
            separate(device, &member.identity.name());
        }
    }
    to_text(&domain)
}

fn set_metadata(domain: &mut Element, identity: &Identity) {
    if domain.get_child("metadata").is_none() {
        domain.children.insert(0, XMLNode::Element(Element::new("metadata")));
    }
    if let Some(metadata) = domain.get_mut_child("metadata") {
        remove_where(metadata, |child| child.namespace.as_deref() == Some(NAMESPACE));
        metadata.children.push(XMLNode::Element(identity.to_metadata()));
    }
}

/// The golden disk becomes the overlay; a template without one gets it as its first virtio disk.
fn set_disk(devices: &mut Element, member: &Member<'_>) {
    let golden =
        child_elements_mut(devices).find(|device| device.name == "disk" && is_golden(device, member.image));
    let disk = match golden {
        Some(disk) => disk,
        None => {
            let mut disk = Element::new("disk");
            disk.attributes.insert("device".into(), "disk".into());
            disk.children.push(XMLNode::Element(with("target", &[("dev", "vda"), ("bus", "virtio")])));
            devices.children.insert(0, XMLNode::Element(disk));
            child_elements_mut(devices).next().expect("just inserted")
        }
    };
    disk.attributes.insert("type".into(), "file".into());
    // libvirt finds the chain in the overlay's own header; the template's would be that of another VM.
    remove_where(disk, |child| {
        matches!(child.name.as_str(), "source" | "backingStore" | "mirror" | "encryption")
    });
    if disk.get_child("driver").is_none() {
        disk.children.insert(0, XMLNode::Element(Element::new("driver")));
    }
    if let Some(driver) = disk.get_mut_child("driver") {
        driver.attributes.insert("name".into(), "qemu".into());
        driver.attributes.insert("type".into(), "qcow2".into());
    }
    disk.children.push(XMLNode::Element(with("source", &[("file", &member.overlay.to_string_lossy())])));
}

/// The first NIC is plugged into the member's tap; it keeps what the guest sees of it (model, driver, PCI address).
fn set_interface(devices: &mut Element, member: &Member<'_>) {
    let mut first = true;
    for interface in child_elements_mut(devices).filter(|device| device.name == "interface") {
        if std::mem::replace(&mut first, false) {
            plug_in(interface, member);
        } else {
            // Two VMs on one network cannot have one MAC: libvirt makes one up for each.
            remove_where(interface, |child| matches!(child.name.as_str(), "mac" | "target"));
        }
    }
    if first {
        let mut interface = Element::new("interface");
        plug_in(&mut interface, member);
        devices.children.push(XMLNode::Element(interface));
    }
}

fn plug_in(interface: &mut Element, member: &Member<'_>) {
    const GUEST_SEES: [&str; 9] =
        ["model", "driver", "address", "boot", "rom", "mtu", "alias", "acpi", "coalesce"];
    interface.attributes.insert("type".into(), "ethernet".into());
    remove_where(interface, |child| !GUEST_SEES.contains(&child.name.as_str()));
    if let Some(driver) = interface.get_mut_child("driver") {
        // The tap has one queue, and one that exists cannot get more.
        driver.attributes.shift_remove("queues");
    }
    if interface.get_child("model").is_none() {
        interface.children.push(XMLNode::Element(with("model", &[("type", "virtio")])));
    }
    let mac = member.mac.map(|byte| format!("{byte:02x}")).join(":");
    interface.children.insert(0, XMLNode::Element(with("mac", &[("address", &mac)])));
    // managed='no': the tap is hotpair's, libvirt neither creates nor removes it.
    interface.children.insert(1, XMLNode::Element(with("target", &[("dev", member.tap), ("managed", "no")])));
}

/// Files and sockets on the host that one VM writes to must not be the other's.
fn separate(device: &mut Element, name: &str) {
    match device.name.as_str() {
        "serial" | "console" | "parallel" | "channel" => {
            device.attributes.shift_remove("tty");
            let kind = attribute(device, "type").unwrap_or_default().to_owned();
            if let Some(source) = device.get_mut_child("source") {
                match (kind.as_str(), attribute(source, "path")) {
                    ("file", Some(path)) => {
                        let own = own_file(path, name);
                        source.attributes.insert("path".into(), own);
                    }
                    ("pty", _) => remove_where(device, |child| child.name == "source"),
                    // What libvirt has named after the VM it was dumped from; it makes a new one.
                    ("unix", Some(path)) if path.contains("/libvirt/qemu/") => {
                        remove_where(device, |child| child.name == "source");
                    }
                    _ => {}
                }
            }
            if let Some(log) = device.get_mut_child("log")
                && let Some(path) = attribute(log, "file")
            {
                let own = own_file(path, name);
                log.attributes.insert("file".into(), own);
            }
        }
        _ => {}
    }
}

/// `/var/log/web.log` -> `/var/log/web.hotpair-web-0-g1.log`
fn own_file(path: &str, name: &str) -> String {
    let path = Path::new(path);
    let own = match (path.file_stem(), path.extension()) {
        (Some(stem), Some(extension)) => {
            format!("{}.{name}.{}", stem.to_string_lossy(), extension.to_string_lossy())
        }
        (Some(stem), None) => format!("{}.{name}", stem.to_string_lossy()),
        _ => name.to_owned(),
    };
    path.with_file_name(own).to_string_lossy().into_owned()
}

/// Turns a template for KVM into one that QEMU can emulate; others are left as they are.
fn without_kvm(domain: &mut Element) {
    if attribute(domain, "type") != Some("kvm") {
        return;
    }
    domain.attributes.insert("type".into(), "qemu".into());
    // The host's CPU cannot be passed to an emulated VM; `maximum` is all that the emulation can do.
    let host_cpu = domain
        .get_child("cpu")
        .and_then(|cpu| attribute(cpu, "mode"))
        .is_some_and(|mode| mode.starts_with("host-"));
    if host_cpu {
        remove_where(domain, |child| child.name == "cpu");
        domain.children.push(XMLNode::Element(with("cpu", &[("mode", "maximum")])));
    }
    if let Some(features) = domain.get_mut_child("features") {
        remove_where(features, |child| matches!(child.name.as_str(), "kvm" | "hyperv"));
    }
    if let Some(clock) = domain.get_mut_child("clock") {
        remove_where(clock, |child| matches!(attribute(child, "name"), Some("kvmclock" | "hypervclock")));
    }
}

fn attribute<'a>(element: &'a Element, key: &str) -> Option<&'a str> {
    element.attributes.get(key).map(String::as_str)
}

fn with(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    element.attributes.extend(attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    element
}

fn child_elements_mut(parent: &mut Element) -> impl Iterator<Item = &mut Element> {
    parent.children.iter_mut().filter_map(XMLNode::as_mut_element)
}

fn remove_where(parent: &mut Element, condition: impl Fn(&Element) -> bool) {
    parent.children.retain(|node| !node.as_element().is_some_and(&condition));
}

/// The first child of that name says `text`; there is none besides it.
fn set_text(parent: &mut Element, name: &str, text: &str) {
    let place = elements(parent).position(|child| child.name == name);
    remove_where(parent, |child| child.name == name);
    let mut element = Element::new(name);
    element.children.push(XMLNode::Text(text.into()));
    parent.children.insert(place.unwrap_or(0).min(parent.children.len()), XMLNode::Element(element));
}

fn to_text(element: &Element) -> String {
    let mut text = Vec::new();
    let layout = EmitterConfig::new().perform_indent(true).write_document_declaration(false);
    element.write_with_config(&mut text, layout).expect("writing XML to memory does not fail");
    String::from_utf8(text).expect("the writer writes UTF-8")
}

#[cfg(test)]
#[path = "domain_xml_tests.rs"]
mod tests;
