//! What the agent takes is what its page says.

use clap::CommandFactory;
use hotpair_guest::options::Cli;

#[test]
fn every_option_is_documented_with_its_default() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guest.md");
    let page = std::fs::read_to_string(page).expect("docs/guest.md is there");
    for option in Cli::command().get_arguments().filter(|option| !option.is_hide_set()) {
        let Some(name) = option.get_long().filter(|name| !["help", "version"].contains(name)) else {
            continue;
        };
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `--{name}` |")))
            .unwrap_or_else(|| panic!("docs/guest.md does not have --{name}"));
        for default in option.get_default_values() {
            let default = default.to_string_lossy();
            assert!(row.contains(&*default), "--{name}: the default is {default}: {row}");
        }
    }
}

#[test]
fn the_unit_and_cloud_init_start_the_agent_with_options_it_takes() {
    use clap::Parser;
    for file in ["hotpair-guest.service", "cloud-init/user-data"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file);
        let text = std::fs::read_to_string(&path).expect("it is there");
        let after = |key: &str| {
            text.lines().find_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix(key)).expect(key)
        };
        let options = after("HOTPAIR_GUEST_OPTIONS=").trim_matches('"');
        let command = after("ExecStart=").replace("$HOTPAIR_GUEST_OPTIONS", options);
        Cli::try_parse_from(command.split_whitespace()).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn cloud_init_installs_the_unit_that_is_shipped() {
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let read = |name: &str| std::fs::read_to_string(packaging.join(name)).expect("it is there");
    let unit = read("hotpair-guest.service");
    let user_data = read("cloud-init/user-data");
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(user_data.contains(&format!("      {line}\n")), "cloud-init's unit does not have: {line}");
    }
}
