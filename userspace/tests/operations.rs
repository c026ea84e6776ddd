//! docs/operations.md speaks of what there is: sentences of the status, capabilities of the unit.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// First cells of the tables between two headings, without their backquotes.
fn rows<'p>(page: &'p str, from: &str, to: &str) -> Vec<&'p str> {
    let part = page.split(from).nth(1).unwrap_or_else(|| panic!("no heading {from}"));
    let part = part.split(to).next().unwrap_or(part);
    part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_sentence_that_the_page_explains_is_one_that_status_says() {
    let page = read("docs/operations.md");
    let rooms = ["pair", "controller", "store", "hypervisor", "cli"]
        .map(|room| root().join("userspace/src").join(room));
    let files = rooms.iter().flat_map(|room| std::fs::read_dir(room).expect("a room").flatten());
    let sources: String = files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let explained = rows(&page, "\n## Paged", "\n## What the service may do");
    assert!(explained.len() > 15, "{explained:?}");
    for sentence in &explained {
        let sentence = sentence.replace("PAIR", "{name}");
        assert!(sources.contains(&sentence), "nothing says {sentence:?}");
    }
}

#[test]
fn every_ailment_is_explained() {
    let page = read("docs/operations.md");
    let source = read("userspace/src/pair/report.rs");
    let ailments = source
        .split("fn ailment")
        .nth(1)
        .and_then(|rest| rest.split("fn serves").next())
        .expect("it is there");
    // Whatever is said of a member, in double quotes; what is not a sentence is a format or the word for a well one.
    let said: Vec<&str> = ailments.split('"').skip(1).step_by(2).filter(|text| text.contains(' ')).collect();
    assert!(said.len() > 8, "{said:?}");
    let explained = rows(&page, "\n## Paged", "\n## What the service may do");
    for text in said.iter().filter(|text| **text != "{text} ({why})") {
        assert!(
            explained.iter().any(|row| text.contains(row)),
            "docs/operations.md does not explain {text:?}"
        );
    }
}

#[test]
fn every_capability_of_the_unit_is_explained_and_no_other() {
    let (page, unit) = (read("docs/operations.md"), read("packaging/hotpair.service"));
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("bounded");
    let mut of_the_unit: Vec<&str> = line.split_whitespace().collect();
    let mut explained: Vec<&str> = rows(&page, "\n## What the service may do", "\nNot needed:")
        .into_iter()
        .filter(|row| row.starts_with("CAP_"))
        .collect();
    of_the_unit.sort_unstable();
    explained.sort_unstable();
    assert_eq!(of_the_unit, explained);
}

#[test]
fn what_is_taken_back_for_commands_is_all_that_the_unit_forbids() {
    let (unit, drop_in) = (read("packaging/hotpair.service"), read("packaging/hotpair-command.conf"));
    let bounds = unit
        .split("# What it may do")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("it has bounds");
    for line in bounds.lines().skip(1).filter(|line| !line.starts_with('#')) {
        let Some((key, _)) = line.split_once('=') else { continue };
        assert!(drop_in.lines().any(|line| line.starts_with(&format!("{key}="))), "{key} is not taken back");
    }
}
