//! `hotpair cleanup`: takes from the host what the configuration's pairs have put there, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use hotpair_abi::{PairId, Slot};
use tokio::sync::mpsc;

use super::{Exit, Globals, VerbError, complain, print};
use crate::config::{Config, Pair, Release};
use crate::controller::{self, RunError, RunLock, tap_name};
use crate::dataplane::{Dataplane, Hurry};
use crate::error::chain;
use crate::hypervisor::{Hypervisor, MemberSpec};
use crate::network::Network;

/// Pairs whose members are ended at the same time.
const MEMBERS_AT_ONCE: usize = 16;
/// How long a hypervisor may take to be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remove the data plane and the taps from this host; refused while a controller runs
///
/// Members go on running without their network unless --members is given. The state (epochs, history) stays.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Also stop the pairs' members and delete their volumes, kept ones too
    #[arg(long)]
    pub members: bool,
}

impl Cleanup {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let config = globals.load()?;
        let _lock = RunLock::take(&config.host.run_dir).map_err(|error| match error {
            RunError::AlreadyRunning(path) => VerbError::Failed(format!(
                "a controller runs on {}: stop it first (`systemctl stop hotpair`)",
                path.display()
            )),
            other => VerbError::Failed(chain(&other)),
        })?;
        let mut done = Done::default();
        // Members first: a VM whose tap is pulled away would see its link go down, and might act on it.
        if self.members {
            members(&config, &mut done).await;
        }
        let hurry = Hurry::for_pairs(config.pairs.len(), &config.host.run_dir);
        match Dataplane::remove_all(&config.host.bpf_dir) {
            Ok(removed) => removed.into_iter().for_each(|what| done.removed(what)),
            Err(error) => done.failed(chain(&error)),
        }
        // Not on this runtime's threads: each of them has a runtime of its own.
        let result = tokio::task::spawn_blocking(move || {
            taps(&config, &mut done);
            (config, done)
        });
        let (config, done) = result.await.map_err(|error| VerbError::Failed(error.to_string()))?;
        drop(hurry);
        for file in ["api.sock", "lock"] {
            let _ = std::fs::remove_file(config.host.run_dir.join(file));
        }
        // Only if they are empty.
        let _ = std::fs::remove_dir(config.host.run_dir.join("commands"));
        let _ = std::fs::remove_dir(&config.host.run_dir);
        if done.nothing {
            print("nothing was there\n");
        }
        Ok(if done.well { Exit::Well } else { Exit::Failed })
    }
}

/// What came of it, told as it happens.
struct Done {
    well: bool,
    nothing: bool,
}

impl Default for Done {
    fn default() -> Done {
        Done { well: true, nothing: true }
    }
}

impl Done {
    fn removed(&mut self, what: impl std::fmt::Display) {
        self.nothing = false;
        print(&format!("removed {what}\n"));
    }

    fn failed(&mut self, why: impl std::fmt::Display) {
        self.well = false;
        self.nothing = false;
        complain(&why.to_string());
    }
}

/// Sockets that taps are removed through. The kernel waits 17 ms with each tap that goes (`rcu_barrier` in
/// `netdev_run_todo`), but those that go at the same time wait together.
const AT_ONCE: usize = 32;

fn taps(config: &Config, done: &mut Done) {
    let names: Vec<String> =
        config.pairs.iter().flat_map(|pair| Slot::BOTH.map(|slot| tap_name(&pair.name, slot))).collect();
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = names
            .chunks(names.len().div_ceil(AT_ONCE).max(1))
            .map(|names| scope.spawn(move || remove_taps(names)))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    for result in results {
        match result {
            Ok(tap) => done.removed(format!("tap {tap}")),
            Err(why) => done.failed(why),
        }
    }
}

/// Removes these; tells which were there.
fn remove_taps(names: &[String]) -> Vec<Result<String, String>> {
    // One of its own for each thread: a request is carried out while it is sent, on the thread that sends it.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Err(format!("taps cannot be removed: {error}"))],
    };
    runtime.block_on(async {
        let network = match Network::open().await {
            Ok(network) => network,
            Err(error) => return vec![Err(chain(&error))],
        };
        let mut results = Vec::new();
        for tap in names {
            match network.remove_tap(tap).await {
                Ok(true) => results.push(Ok(tap.clone())),
                Ok(false) => {}
                Err(error) => results.push(Err(chain(&error))),
            }
        }
        results
    })
}

async fn members(config: &Config, done: &mut Done) {
    // Nobody listens to its events; the backend must live with that.
    let (events, _inbox) = mpsc::unbounded_channel();
    let hypervisor = match controller::hypervisor(config, events) {
        Ok(hypervisor) => hypervisor,
        Err(error) => return done.failed(chain(&error)),
    };
    let mut pairs = futures_util::stream::iter(&config.pairs)
        .map(|pair| {
            let hypervisor = &hypervisor;
            async move { (pair, members_of(config, pair, hypervisor).await) }
        })
        .buffered(MEMBERS_AT_ONCE);
    while let Some((pair, (removed, result))) = pairs.next().await {
        removed.into_iter().for_each(|what| done.removed(what));
        if let Err(why) = result {
            done.failed(format!("members of {}: {why}", pair.name));
        }
    }
}

/// What was removed, and why not all of it.
async fn members_of(
    config: &Config,
    pair: &Pair,
    hypervisor: &Arc<dyn Hypervisor>,
) -> (Vec<String>, Result<(), String>) {
    let mut removed = Vec::new();
    let result = remove_members(config, pair, hypervisor, &mut removed).await;
    (removed, result)
}

async fn remove_members(
    config: &Config,
    pair: &Pair,
    hypervisor: &Arc<dyn Hypervisor>,
    removed: &mut Vec<String>,
) -> Result<(), String> {
    // The first question may come before the connection stands.
    let start = tokio::time::Instant::now();
    let left = loop {
        match hypervisor.leftovers(&pair.name).await {
            Ok(left) => break left,
            Err(error) if start.elapsed() > PATIENCE => return Err(chain(&error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let running = hypervisor.running(&pair.name).await.map_err(|error| chain(&error))?;
    let mut places: BTreeSet<(Slot, u64)> =
        running.iter().map(|member| (member.slot, member.generation)).collect();
    places.extend(left.iter().filter_map(|what| place(&pair.name, what)));
    for (slot, generation) in places {
        let member = spec(config, pair, slot, generation);
        hypervisor.stop(&member).await.map_err(|error| chain(&error))?;
        hypervisor.release(&member, Release::Delete).await.map_err(|error| chain(&error))?;
        removed.push(format!("member {slot} of {}, generation {generation}", pair.name));
    }
    let left = hypervisor.leftovers(&pair.name).await.map_err(|error| chain(&error))?;
    if left.is_empty() { Ok(()) } else { Err(format!("still there: {}", left.join(", "))) }
}

/// Place and generation in the name of something that was left: `domain hotpair-web-0-g12`, with or without what stands
/// around it.
fn place(pair: &str, what: &str) -> Option<(Slot, u64)> {
    let after = what.split(&format!("hotpair-{pair}-")).last()?;
    let (slot, rest) = after.split_once("-g")?;
    let slot = match slot {
        "0" => Slot::Zero,
        "1" => Slot::One,
        _ => return None,
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((slot, digits.parse().ok()?))
}

/// Enough of a member to stop and release it; what only a start needs is made up.
fn spec(config: &Config, pair: &Pair, slot: Slot, generation: u64) -> MemberSpec {
    MemberSpec {
        pair_id: PairId(0),
        pair: pair.name.clone(),
        slot,
        generation,
        tap: tap_name(&pair.name, slot),
        mac: pair.mac.unwrap_or_else(|| controller::derived_mac(&pair.name)),
        entry: pair.entry.clone(),
        internal_ip: controller::host_internal_ip(config.host.internal_net),
        vm: pair.vm.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_tells_its_place() {
        for (what, expected) in [
            ("domain hotpair-web-0-g12", Some((Slot::Zero, 12))),
            ("volume /var/lib/libvirt/images/hotpair-web-1-g3.qcow2", Some((Slot::One, 3))),
            ("volume /pool/hotpair-web-1/hotpair-web-1-g4.qcow2", Some((Slot::One, 4))),
            ("volume /pool/hotpair-web-x-0-g4.qcow2", None),
            ("domain hotpair-web-2-g4", None),
            ("domain web", None),
        ] {
            assert_eq!(place("web", what), expected, "{what}");
        }
    }
}
