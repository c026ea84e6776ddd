//! The `hotpair` command, and what came of it.

use std::process::{Command, Output};

pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            exit: output.status.code().expect("it exits"),
            out: String::from_utf8(output.stdout).expect("text"),
            error: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Whatever this machine has a configuration or a socket for is not its business.
pub(crate) fn hotpair() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotpair"));
    command.env_remove("HOTPAIR_CONFIG").env_remove("HOTPAIR_SOCKET");
    command
}
