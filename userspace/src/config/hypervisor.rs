//! `[hypervisor]`

use super::reader::{Section, or_default};
use super::{Accel, Hypervisor};

/// Which backend, before its own keys are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Libvirt,
    Command,
}

/// The section with what could be read of it.
pub(super) struct Draft {
    /// None if it cannot be told: then nothing is said about keys that fit only one of them.
    pub(super) kind: Option<Kind>,
    hypervisor: Option<Hypervisor>,
}

impl Draft {
    pub(super) fn finish(self) -> Option<Hypervisor> {
        self.hypervisor
    }
}

const LOCAL: &str = "qemu:///system";

pub(super) fn read(root: &mut Section<'_, '_>) -> Draft {
    let Some(value) = root.get("hypervisor") else {
        let hypervisor = Hypervisor::Libvirt { uri: LOCAL.to_owned(), accel: Accel::Auto };
        return Draft { kind: Some(Kind::Libvirt), hypervisor: Some(hypervisor) };
    };
    let Some(mut section) = value.section() else {
        return Draft { kind: None, hypervisor: None };
    };
    let kinds = [("libvirt", Kind::Libvirt), ("command", Kind::Command)];
    let kind = or_default(section.get("kind"), |value| value.choice(&kinds), Kind::Libvirt);
    let (uri, accel) = (section.get("uri"), section.get("accel"));
    section.finish();

    if kind == Some(Kind::Command) {
        for value in [&uri, &accel].into_iter().flatten() {
            value.refuse("belongs to kind = \"libvirt\"", "take it out, or choose kind = \"libvirt\"");
        }
        let well = uri.is_none() && accel.is_none();
        return Draft { kind, hypervisor: well.then_some(Hypervisor::Command) };
    }
    let uri = or_default(uri, |value| value.text().map(str::to_owned), LOCAL.to_owned());
    let accels = [("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)];
    let accel = or_default(accel, |value| value.choice(&accels), Accel::Auto);
    let hypervisor = kind.zip(uri).zip(accel).map(|((_, uri), accel)| Hypervisor::Libvirt { uri, accel });
    Draft { kind, hypervisor }
}
