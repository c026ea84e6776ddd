//! `hotpair doctor`: what this machine can do for pairs, with and without a configuration.
//!
//! Everything that `check` looks at, and what takes longer or matters only now and then: the kernel's features, the NIC
//! and its driver, the clock, the disks, and how punctual a thread is here. It only looks.

mod disks;
mod kernel;
mod nic;
mod punctual;

use std::path::Path;

use clap::Args;

use super::check::{self, links, machine, members};
use super::finding::{Finding, Findings, Level};
use super::paint::Paint;
use super::{CONFIG, Exit, Globals, Output, VerbError, print, print_json};
use crate::config::{Accel, Config, XdpMode};

/// Look at this machine closely: kernel, NIC, clock, disks, hypervisor, and how punctual it is
///
/// Takes about three seconds. Works without a configuration too: then --uplink names the NIC. Touches nothing.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The NIC towards the clients [default: the configuration's host.uplink]
    #[arg(long, value_name = "NIC")]
    pub uplink: Option<String>,
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl Doctor {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let config = match globals.load() {
            Ok(config) => Some(config),
            // What was not named need not be there.
            Err(_) if globals.config.is_none() && !Path::new(CONFIG).exists() => None,
            Err(errors) => return Err(errors.into()),
        };
        // Begins before everything else is looked at: the measurement is to see a machine that does something.
        let punctual = tokio::task::spawn_blocking(punctual::measure);
        let mut findings = match &config {
            Some(config) => check::look(config).await.findings,
            None => without_configuration().await,
        };
        let uplink = self.uplink.as_deref().or(config.as_ref().map(|config| config.host.uplink.as_str()));
        findings.extend(kernel::look());
        match uplink {
            Some(uplink) => {
                if config.as_ref().is_none_or(|config| config.host.uplink != uplink) {
                    findings.push(links::look_at_uplink(uplink).await);
                }
                let mode = config.as_ref().map_or(XdpMode::Native, |config| config.host.xdp);
                let ipv6 = |config: &Config| {
                    config.pairs.iter().flat_map(|pair| &pair.entry).any(|entry| entry.is_ipv6())
                };
                findings.extend(nic::look(uplink, mode, config.as_ref().map(ipv6)).await);
            }
            None => findings.push(Finding::warn(
                "uplink",
                "none is named: nothing is known of the NIC",
                "`hotpair doctor --uplink eth0`, with a name from `ip link`",
            )),
        }
        findings.extend(config.iter().flat_map(disks::look));
        let timeout = config.as_ref().and_then(shortest_timeout);
        findings.push(match punctual.await {
            Ok(measured) => punctual::judge(&measured, timeout),
            Err(error) => Finding::warn("punctuality", error.to_string(), "this is a bug of hotpair's"),
        });
        let findings = Findings::of(findings);
        match self.output {
            Output::Json => print_json(&findings)?,
            Output::Text => print(&findings.text(Paint::for_stdout(), Level::Ok)),
        }
        Ok(findings.verdict.into())
    }
}

/// What `check` would look at, as far as it does not come out of a configuration.
async fn without_configuration() -> Vec<Finding> {
    let mut findings =
        vec![Finding::ok("configuration", format!("there is none at {CONFIG}: its defaults are taken"))];
    findings.extend(machine::look_without_configuration());
    findings.push(members::libvirt("qemu:///system").await);
    findings.push(members::acceleration(Accel::Auto).await);
    findings
}

fn shortest_timeout(config: &Config) -> Option<(&str, std::time::Duration)> {
    let timeouts = config.pairs.iter().map(|pair| (pair.name.as_str(), pair.heartbeat.timeout));
    timeouts.min_by_key(|(_, timeout)| *timeout)
}
