//! Every parser of this project against any bytes: one file and one function a target.
//!
//! A target takes bytes as they would come from a wire, a file or a person, and panics when a parser does, when it accepts
//! what it must not, or when what it has read does not come out again as it went in. `cargo xtask fuzz` lets libFuzzer look
//! for such bytes; `cargo xtask test` replays the corpus and mutates it a little (`tests/replay.rs`).
//!
//! A new target: a file here, a line in [`TARGETS`], a `[[bin]]` in `Cargo.toml`, a file in `fuzz_targets/`, and something to
//! begin with in `corpus/NAME/`.

mod api;
mod command_line;
mod config;
mod domain_xml;
mod frame;
mod heartbeat;
mod state;
mod tcp;

pub use api::api;
pub use command_line::command_line;
pub use config::config;
pub use domain_xml::domain_xml;
pub use frame::frame;
pub use heartbeat::heartbeat;
pub use state::state;
pub use tcp::tcp;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their binaries and of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("api", api),
    ("command_line", command_line),
    ("config", config),
    ("domain_xml", domain_xml),
    ("frame", frame),
    ("heartbeat", heartbeat),
    ("state", state),
    ("tcp", tcp),
];
