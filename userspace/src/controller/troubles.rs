//! What is wrong with the host itself, for as long as it is.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Troubles of the host itself, by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<String, String>>);

impl Troubles {
    /// What is about the hypervisor as a whole. No pair can have this name.
    pub(crate) const HYPERVISOR: &str = "the hypervisor";

    pub(crate) fn set(&self, about: &str, what: Option<String>) {
        let mut troubles = self.0.lock().expect("nobody panics with it");
        match what {
            Some(what) => {
                if troubles.get(about) != Some(&what) {
                    tracing::error!(about, "{what}");
                    troubles.insert(about.to_owned(), what);
                }
            }
            None => {
                if troubles.remove(about).is_some() {
                    tracing::info!(about, "well again");
                }
            }
        }
    }

    pub(super) fn of(&self, about: &str) -> Option<String> {
        self.0.lock().expect("nobody panics with it").get(about).cloned()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").values().cloned().collect()
    }
}
