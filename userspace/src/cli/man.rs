//! `hotpair man`, hidden: for packages.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, VerbError, command, print};

/// Print the manual page, or write all of them into a directory
#[derive(Debug, Args)]
pub struct Man {
    /// Write hotpair.1 and one page for each verb here
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn go(self) -> Result<Exit, VerbError> {
        let failed = |error: std::io::Error| VerbError::Failed(format!("cannot write the manual: {error}"));
        match self.directory {
            Some(directory) => {
                std::fs::create_dir_all(&directory).map_err(failed)?;
                clap_mangen::generate_to(command(), directory).map_err(failed)?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command()).render(&mut page).map_err(failed)?;
                print(&String::from_utf8_lossy(&page));
            }
        }
        Ok(Exit::Well)
    }
}
