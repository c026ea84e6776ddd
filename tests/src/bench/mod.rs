//! The benchmarks, run by `cargo xtask bench NAME`: what they have in common, and each in a room of its own.
//!
//! | file | about |
//! | --- | --- |
//! | `sheet.rs` | the figures of a run: as a table, as JSON |
//! | `chart.rs` | the picture |
//! | `machine.rs` | what was measured on |
//! | `preferred.rs` | that who measures comes first |
//!
//! A figure is only worth what stands beside it: what is compared is measured in one run, in turns, and a ratio is the
//! median of the turns' ratios, so that a machine that is slow for a while is slow for both. Progress goes to standard
//! error; standard output is the table alone.

mod chart;
pub mod failover;
mod machine;
pub mod packets;
mod preferred;
pub mod scale;
mod sheet;
pub mod tcp;

use std::fmt::Display;

pub use machine::Machine;
pub use preferred::Preferred;
pub use sheet::{Figure, Series, Sheet};

/// A line of progress, for whoever waits.
pub fn say(what: impl Display) {
    eprintln!(" bench: {what}");
}
