//! How much the service has worked: requests processed and in flight.
//!
//! Only a figure that the members and the controller compare; nothing waits for it, and a source that cannot be read
//! leaves the last figure as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::health::{self, Target};
use crate::vitals::Vitals;
use crate::{info, warning};

/// Between two readings.
const EVERY: Duration = Duration::from_millis(100);
/// How long a reading may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where the figures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel's counters: TCP connections accepted plus UDP datagrams received (the agent's own not), and open TCP
    /// connections.
    Kernel,
    /// nginx' stub_status page.
    Nginx {
        /// Where nginx is.
        target: Target,
        /// The page.
        path: String,
    },
    /// A file with one or two numbers: processed, in flight.
    File(PathBuf),
    /// No figures.
    None,
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        match text.split_once(':') {
            None if text == "kernel" => Ok(Source::Kernel),
            None if text == "none" => Ok(Source::None),
            Some(("nginx", url)) => {
                let (target, path) = health::split_url(url)?;
                Ok(Source::Nginx { target, path })
            }
            Some(("file", path)) if !path.is_empty() => Ok(Source::File(path.into())),
            _ => Err("a source is kernel, nginx:ADDRESS:PORT/PATH, file:PATH or none".to_owned()),
        }
    }
}

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    requests: u64,
    in_flight: u32,
}

/// Reads the figures for good.
pub async fn follow(source: Source, vitals: Arc<Vitals>) {
    if source == Source::None {
        return;
    }
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut total = Total::default();
    let mut own_requests = 0;
    let mut said = None;
    loop {
        tick.tick().await;
        let reading = match &source {
            Source::Kernel => kernel(vitals.received.load(Relaxed)),
            Source::Nginx { target, path } => {
                own_requests += 1;
                match tokio::time::timeout(TIMEOUT, health::get(*target, path)).await {
                    Ok(page) => page.and_then(|page| nginx(&page, own_requests)),
                    Err(_) => Err(format!("{target} does not answer")),
                }
            }
            Source::File(path) => read(path).and_then(|text| numbers(&text)),
            Source::None => return,
        };
        match reading {
            Ok(figures) => {
                vitals.requests.store(total.with(figures.requests), Relaxed);
                vitals.in_flight.store(figures.in_flight, Relaxed);
                if said.take().is_some() {
                    info!("requests are counted again");
                }
            }
            Err(why) if said.as_ref() != Some(&why) => {
                warning!("requests are not counted: {why}");
                said = Some(why);
            }
            Err(_) => {}
        }
    }
}

/// A count that goes on where it was when its source begins anew (a restarted server).
#[derive(Debug, Default)]
struct Total {
    before: u64,
    last: u64,
}

impl Total {
    fn with(&mut self, reading: u64) -> u64 {
        if reading < self.last {
            self.before += self.last;
        }
        self.last = reading;
        self.before + reading
    }
}

fn read(path: &std::path::Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn kernel(own_datagrams: u64) -> Result<Figures, String> {
    let snmp = read("/proc/net/snmp".as_ref())?;
    // Without IPv6 in the kernel the file is not there.
    let snmp6 = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    snmp_figures(&snmp, &snmp6, own_datagrams)
}

/// TCP's counters are for both address families, UDP's are not.
fn snmp_figures(snmp: &str, snmp6: &str, own_datagrams: u64) -> Result<Figures, String> {
    let counter = |group: &str, name: &str| -> Result<u64, String> {
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let found = lines.next().zip(lines.next()).and_then(|(names, values)| {
            let column = names.split(' ').position(|candidate| candidate == name)?;
            values.split(' ').nth(column)?.parse().ok()
        });
        found.ok_or_else(|| format!("/proc/net/snmp has no {group} {name}"))
    };
    let udp6 = snmp6
        .lines()
        .find_map(|line| line.strip_prefix("Udp6InDatagrams")?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let udp = (counter("Udp", "InDatagrams")? + udp6).saturating_sub(own_datagrams);
    Ok(Figures {
        requests: counter("Tcp", "PassiveOpens")? + udp,
        in_flight: counter("Tcp", "CurrEstab")?.try_into().unwrap_or(u32::MAX),
    })
}

/// ```text
/// Active connections: 3
/// server accepts handled requests
///  10 10 25
/// Reading: 0 Writing: 1 Waiting: 2
/// ```
/// The connection that asks is one of those that are written to.
fn nginx(page: &str, own_requests: u64) -> Result<Figures, String> {
    let figures = || {
        let mut lines = page.lines().skip(2);
        let requests: u64 = lines.next()?.split_whitespace().nth(2)?.parse().ok()?;
        let words: Vec<&str> = lines.next()?.split_whitespace().collect();
        let after = |name| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse::<u32>().ok()
        };
        let in_flight = after("Reading:")? + after("Writing:")?;
        Some(Figures {
            requests: requests.saturating_sub(own_requests),
            in_flight: in_flight.saturating_sub(1),
        })
    };
    figures().ok_or_else(|| "that is not nginx' stub_status page".to_owned())
}

fn numbers(text: &str) -> Result<Figures, String> {
    let mut words = text.split_whitespace();
    let requests = words.next().and_then(|word| word.parse().ok());
    let in_flight = words.next().map_or(Some(0), |word| word.parse().ok());
    match (requests, in_flight) {
        (Some(requests), Some(in_flight)) => Ok(Figures { requests, in_flight }),
        _ => Err("the file must hold one or two numbers: processed, in flight".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_added_without_the_agents_own_datagrams() {
        let snmp = "Tcp: RtoMin PassiveOpens CurrEstab\nTcp: 200 40 3\n\
                    Udp: InDatagrams NoPorts\nUdp: 1000 0\nUdpLite: InDatagrams\nUdpLite: 7\n";
        let snmp6 = "Ip6InReceives  99\nUdp6InDatagrams    \t5\n";
        assert_eq!(snmp_figures(snmp, snmp6, 900), Ok(Figures { requests: 145, in_flight: 3 }));
        assert_eq!(snmp_figures(snmp, "", 5000), Ok(Figures { requests: 40, in_flight: 3 }));
        assert_eq!(
            snmp_figures("Udp: InDatagrams\nUdp: 1\n", "", 0),
            Err("/proc/net/snmp has no Tcp PassiveOpens".to_owned())
        );
    }

    #[test]
    fn this_kernel_has_the_counters() {
        kernel(0).expect("readable here");
    }

    #[test]
    fn stub_status_is_read() {
        let page = "Active connections: 3 \nserver accepts handled requests\n 10 10 25 \nReading: 1 Writing: 2 Waiting: 2 \n";
        assert_eq!(nginx(page, 5), Ok(Figures { requests: 20, in_flight: 2 }));
        nginx("<html>", 0).expect_err("no stub_status");
    }

    #[test]
    fn a_file_holds_one_or_two_numbers() {
        assert_eq!(numbers("12 3\n"), Ok(Figures { requests: 12, in_flight: 3 }));
        assert_eq!(numbers("12"), Ok(Figures { requests: 12, in_flight: 0 }));
        for text in ["", "x", "12 x", "-1"] {
            numbers(text).expect_err(text);
        }
    }

    #[test]
    fn a_restarted_server_does_not_take_the_count_back() {
        let mut total = Total::default();
        let shown: Vec<u64> = [5, 9, 2, 4, 0, 1].into_iter().map(|reading| total.with(reading)).collect();
        assert_eq!(shown, [5, 9, 11, 13, 13, 14]);
    }
}
