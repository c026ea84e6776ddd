//! The same four mistakes with every key of the schema.

use super::super::{SCHEMA, Unwritten};
use super::{COMMAND, LIBVIRT, edit, position, read, refused};

/// The line in which a key is written, and the file that has it.
fn place(section: &str, name: &str) -> (&'static str, &'static str) {
    let header = match section {
        "pair" => "[[pair]]\n".to_owned(),
        section => format!("[{section}]\n"),
    };
    let text = if section == "pair.command" { COMMAND } else { LIBVIRT };
    let from = text.find(&header).unwrap_or_else(|| panic!("{header} is in no example")) + header.len();
    let line = text[from..]
        .lines()
        .find(|line| line.starts_with(&format!("{name} = ")))
        .unwrap_or_else(|| panic!("{section}.{name} is in no example"));
    (text, line)
}

/// Keys with a line of their own.
fn lines() -> impl Iterator<Item = (&'static super::super::Key, String, &'static str, &'static str)> {
    SCHEMA
        .iter()
        .filter(|key| !key.section.is_empty() && !["command", "heartbeat", "replace"].contains(&key.name))
        .map(|key| {
            let (text, line) = place(key.section, key.name);
            (key, format!("{}.{}", key.section.replacen("pair", "pair.web", 1), key.name), text, line)
        })
}

#[test]
fn a_wrong_type_is_said_with_the_right_form() {
    for (key, path, text, line) in lines() {
        let text = edit(text, &format!("\n{line}\n"), &format!("\n{} = 2026-11-22\n", key.name));
        let errors = refused(&text);
        let path = if path == "pair.web.name" { "pair[1].name".to_owned() } else { path };
        let error =
            errors.iter().find(|error| error.key == path).unwrap_or_else(|| panic!("{path}: {errors:?}"));
        assert_eq!((error.line, error.column), position(&text, "2026-11-22"), "{error}");
        assert!(error.what.contains(&format!("must be {}", key.form)), "{error}");
        assert!(error.what.contains("and is a date"), "{error}");
        assert!(error.way_out.contains(key.example), "{error}");
        assert_eq!(errors.len(), 1, "one mistake, one error: {errors:?}");
    }
}

#[test]
fn a_missing_key_is_an_error_exactly_if_it_is_required() {
    for (key, path, text, line) in lines() {
        let without = edit(text, &format!("\n{line}\n"), "\n");
        let needed = key.default == Unwritten::Required || ["domain", "image"].contains(&key.name);
        if !needed {
            read(&without).unwrap_or_else(|errors| panic!("{path} has a default: {errors}"));
            continue;
        }
        let path = if path == "pair.web.name" { "pair[1].name".to_owned() } else { path };
        let errors = refused(&without);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].key, path);
        assert_eq!(errors[0].what, "is missing");
        assert!(errors[0].way_out.contains(&format!("add {} = ", key.name)), "{}", errors[0]);
        let header = if key.section == "pair" { "[[pair]]".to_owned() } else { format!("[{}]", key.section) };
        assert_eq!(errors[0].line, position(&without, &header).0, "{}", errors[0]);
    }
}

#[test]
fn a_misspelt_key_is_answered_with_the_right_one() {
    for (key, path, text, line) in lines() {
        let misspelt = format!("{}e", key.name);
        let text = edit(text, &format!("\n{line}\n"), &format!("\n{line}\n{misspelt} = 1\n"));
        let errors = refused(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = &errors[0];
        assert_eq!(error.key, format!("{path}e"));
        assert_eq!((error.line, error.column), position(&text, &format!("{misspelt} = 1")), "{error}");
        assert!(error.what.starts_with("is not a key of "), "{error}");
        assert!(error.way_out.starts_with(&format!("did you mean {}? ", key.name)), "{error}");
        assert!(error.way_out.contains(", ") && error.way_out.contains("the keys here are"), "{error}");
    }
}

#[test]
fn a_key_written_twice_is_refused() {
    for (_, path, text, line) in lines() {
        let text = edit(text, &format!("\n{line}\n"), &format!("\n{line}\n{line}\n"));
        let errors = refused(&text);
        assert!(errors[0].what.contains("duplicate key"), "{path}: {}", errors[0]);
        let (first, _) = position(&text, &format!("\n{line}\n"));
        assert_eq!(errors[0].line, first + 2, "the second of them is meant: {}", errors[0]);
    }
}

#[test]
fn every_key_is_documented() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(page).expect("docs/configuration.md is there");
    for key in SCHEMA.iter().filter(|key| !key.section.is_empty()) {
        let path = format!("{}.{}", key.section, key.name);
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{path}` |")))
            .unwrap_or_else(|| panic!("docs/configuration.md has no row for {path}"));
        let default = key.default.text();
        assert!(row.contains(default.trim_matches('"')), "{path}: the default is {default}: {row}");
    }
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let path = row.split('`').next().unwrap_or_default();
        let known = SCHEMA.iter().any(|key| format!("{}.{}", key.section, key.name) == path);
        assert!(known, "docs/configuration.md has a row for {path}, which is no key");
    }
}
