//! What a person types: durations, addresses, checks, sources.

use clap::Parser;
use hotpair_guest::health::Check;
use hotpair_guest::options::Cli;
use hotpair_guest::progress::Source;

/// Arguments, one a line.
pub fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(check) = text.parse::<Check>() {
        assert_eq!(check.to_string().parse::<Check>().as_ref(), Ok(&check), "what is shown can be typed");
    }
    let _ = text.parse::<Source>();
    let words = || std::iter::once("hotpair").chain(text.lines());
    let _ = Cli::try_parse_from(words());
    if let Err(error) = hotpair::cli::Cli::try_parse_from(words()) {
        assert!(!error.to_string().is_empty());
    }
}
