use super::*;

/// Shortened output of `virsh dumpxml` of a running VM.
const DUMPED: &str = r#"<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='KiB'>1048576</memory>
  <vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <features><acpi/><hyperv mode='custom'><relaxed state='on'/></hyperv></features>
  <cpu mode='host-passthrough' check='none' migratable='on'/>
  <clock offset='utc'><timer name='kvmclock'/><timer name='rtc' tickpolicy='catchup'/></clock>
  <on_poweroff>restart</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>preserve</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' discard='unmap'/>
      <source file='/images/web.img' index='1'/>
      <backingStore/>
      <target dev='sda' bus='sata'/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:aa:bb:cc'/>
      <source network='default' portid='x' bridge='virbr0'/>
      <target dev='vnet3'/>
      <model type='e1000e'/>
      <driver name='vhost' queues='4'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <interface type='bridge'><mac address='52:54:00:aa:bb:cd'/><source bridge='br1'/><target dev='vnet4'/></interface>
    <serial type='pty'><source path='/dev/pts/3'/><target port='0'/></serial>
    <serial type='file'><source path='/var/log/web.log'/><target port='1'/></serial>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-7-web/org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+108</label></seclabel>
  <qemu:commandline><qemu:arg value='-d'/></qemu:commandline>
</domain>"#;

const BARE: &str = "<domain type='qemu'><name>x</name><os><type>hvm</type></os></domain>";

fn made(text: &str, kvm: bool) -> Element {
    let image = Path::new("/images/web.img");
    let template = Template::parse(Path::new("web.xml"), text, image).unwrap();
    let identity = Identity { pair: "web".into(), slot: Slot::One, generation: 12 };
    let overlay = Path::new("/images/hotpair-web-1-g12.qcow2");
    let own = Member {
        identity,
        uuid: Uuid::from_u128(42),
        tap: "hpwebs1",
        mac: [0x52, 0x54, 0, 1, 2, 3],
        image,
        overlay,
        kvm,
    };
    Element::parse(member(&template, &own).as_bytes()).unwrap()
}

fn get<'a>(element: &'a Element, path: &str) -> &'a Element {
    path.split('/')
        .fold(element, |at, name| at.get_child(name).unwrap_or_else(|| panic!("no {name} in {path}")))
}

fn text(element: &Element, path: &str) -> String {
    get(element, path).get_text().unwrap_or_default().into_owned()
}

#[test]
fn a_member_has_its_own_name_uuid_and_identity() {
    let domain = made(DUMPED, true);
    assert_eq!(text(&domain, "name"), "hotpair-web-1-g12");
    assert_eq!(text(&domain, "uuid"), "00000000-0000-0000-0000-00000000002a");
    assert_eq!(attribute(&domain, "id"), None);
    assert_eq!(
        domain.children.iter().filter(|node| node.as_element().is_some_and(|e| e.name == "uuid")).count(),
        1
    );
    let metadata = to_text(get(&domain, "metadata/member"));
    let identity = Identity::from_metadata(&metadata).unwrap();
    assert_eq!(identity, Identity { pair: "web".into(), slot: Slot::One, generation: 12 });
    assert!(get(&domain, "metadata").get_child("libosinfo").is_some(), "the operator's own metadata stays");
    assert_eq!(Identity::from_metadata("<member pair='web' slot='2' generation='1'/>"), None);
}

#[test]
fn the_golden_disk_becomes_the_overlay_and_stays_where_the_guest_sees_it() {
    let domain = made(DUMPED, true);
    let disk = get(&domain, "devices/disk");
    assert_eq!(attribute(get(disk, "source"), "file"), Some("/images/hotpair-web-1-g12.qcow2"));
    assert_eq!(attribute(get(disk, "driver"), "type"), Some("qcow2"));
    assert_eq!(attribute(get(disk, "driver"), "discard"), Some("unmap"));
    assert_eq!(attribute(get(disk, "target"), "dev"), Some("sda"));
    assert!(disk.get_child("backingStore").is_none());

    let added = made(BARE, true);
    assert_eq!(attribute(get(&added, "devices/disk/target"), "dev"), Some("vda"));
    assert_eq!(attribute(get(&added, "devices/disk/target"), "bus"), Some("virtio"));
    assert_eq!(
        attribute(get(&added, "devices/disk/source"), "file"),
        Some("/images/hotpair-web-1-g12.qcow2")
    );
}

#[test]
fn the_first_nic_is_plugged_into_the_tap_and_looks_the_same_to_the_guest() {
    let domain = made(DUMPED, true);
    let nics: Vec<_> =
        elements(get(&domain, "devices")).filter(|device| device.name == "interface").collect();
    assert_eq!(attribute(nics[0], "type"), Some("ethernet"));
    assert_eq!(attribute(get(nics[0], "mac"), "address"), Some("52:54:00:01:02:03"));
    assert_eq!(attribute(get(nics[0], "target"), "dev"), Some("hpwebs1"));
    assert_eq!(attribute(get(nics[0], "target"), "managed"), Some("no"));
    assert_eq!(attribute(get(nics[0], "model"), "type"), Some("e1000e"));
    assert_eq!(attribute(get(nics[0], "address"), "bus"), Some("0x01"));
    assert_eq!(attribute(get(nics[0], "driver"), "queues"), None);
    assert!(nics[0].get_child("source").is_none());
    assert!(nics[1].get_child("mac").is_none(), "two VMs with one MAC on one bridge");
    assert_eq!(attribute(get(nics[1], "source"), "bridge"), Some("br1"));

    let added = made(BARE, true);
    assert_eq!(attribute(get(&added, "devices/interface/model"), "type"), Some("virtio"));
    assert_eq!(attribute(get(&added, "devices/interface/target"), "dev"), Some("hpwebs1"));
}

#[test]
fn what_another_vm_owns_is_not_taken_over() {
    let domain = made(DUMPED, true);
    let devices = get(&domain, "devices");
    let serials: Vec<_> = elements(devices).filter(|device| device.name == "serial").collect();
    assert!(serials[0].get_child("source").is_none());
    assert_eq!(attribute(get(serials[1], "source"), "path"), Some("/var/log/web.hotpair-web-1-g12.log"));
    assert!(get(devices, "channel").get_child("source").is_none());
    assert!(domain.get_child("seclabel").is_none());
}

#[test]
fn a_member_that_is_down_stays_down_and_a_reboot_is_a_reboot() {
    let domain = made(DUMPED, true);
    assert_eq!(text(&domain, "on_poweroff"), "destroy");
    assert_eq!(text(&domain, "on_crash"), "destroy");
    assert_eq!(text(&domain, "on_reboot"), "restart");
}

#[test]
fn without_kvm_the_same_template_is_emulated() {
    let domain = made(DUMPED, false);
    assert_eq!(attribute(&domain, "type"), Some("qemu"));
    assert_eq!(attribute(get(&domain, "cpu"), "mode"), Some("maximum"));
    assert!(get(&domain, "features").get_child("hyperv").is_none());
    assert!(get(&domain, "features").get_child("acpi").is_some());
    let timers: Vec<_> =
        elements(get(&domain, "clock")).filter_map(|timer| attribute(timer, "name")).collect();
    assert_eq!(timers, ["rtc"]);
    assert!(domain.get_child("commandline").is_some(), "QEMU's own options stay");
    assert_eq!(attribute(&made(DUMPED, true), "type"), Some("kvm"));
    assert_eq!(attribute(&made(BARE, true), "type"), Some("qemu"));
}
