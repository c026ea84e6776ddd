//! The client's side of a lab.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};

use super::builder::Plan;
use super::topology::CLIENT_LINK;
use crate::load;
use crate::netns::Netns;
use crate::wire::{Capture, Wire};

/// Where clients are.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    pub(super) netns: &'a Netns,
    pub(super) plan: &'a Plan,
}

impl<'a> Client<'a> {
    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &'a Netns {
        self.netns
    }

    /// The pair's first entry address of a family.
    ///
    /// # Errors
    /// When the pair has none.
    pub fn entry(&self, v6: bool) -> Result<IpAddr> {
        let wanted = self.plan.entry.iter().find(|address| address.is_ipv6() == v6);
        wanted.copied().with_context(|| format!("the pair has no IPv{} entry", if v6 { 6 } else { 4 }))
    }

    /// The echo at the IPv4 entry address.
    ///
    /// # Errors
    /// When the pair has none.
    pub fn echo(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.entry(false)?, 7))
    }

    /// The web server at the IPv4 entry address.
    ///
    /// # Errors
    /// When the pair has none.
    pub fn web(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.entry(false)?, 80))
    }

    /// Starts a load from here.
    ///
    /// # Errors
    /// As [`load::Plan::start`].
    pub fn load(&self, plan: load::Plan) -> Result<load::Load> {
        let _inside = self.netns.enter()?;
        plan.start()
    }

    /// Begins to capture what comes out of the host.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture(&self) -> Result<Capture> {
        Capture::start(self.netns, CLIENT_LINK)
    }

    /// A raw socket on the wire to the host.
    ///
    /// # Errors
    /// As [`Wire::open`].
    pub fn wire(&self) -> Result<Wire> {
        let _inside = self.netns.enter()?;
        Wire::open(CLIENT_LINK)
    }

    /// A command that will run here.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.netns.command(program)
    }

    /// Sets a network setting of the client's kernel, e.g. `ipv4/tcp_sack`: its name below `/proc/sys/net`.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        let _inside = self.netns.enter()?;
        std::fs::write(format!("/proc/sys/net/{setting}"), value)
            .with_context(|| format!("cannot set {setting} to {value}"))
    }
}
