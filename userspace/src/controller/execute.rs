//! What actions come to outside the engine: taps, members, the hypervisor's list, the wait for a quiet moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_abi::Slot;

use super::turnstile::Turnstile;
use super::{PairFacts, RunError, Shared, boottime, host_internal_ip, quiet, watch};
use crate::error::chain;
use crate::hypervisor::MemberSpec;
use crate::network::TapSpec;
use crate::pair::{Action, Event};

/// Pause before a question is asked again that was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Makes the slot's tap, or mends it, and attaches it to the data plane. Changes nothing where all is well.
pub(super) async fn plug(shared: &Shared, facts: &PairFacts, slot: Slot) -> Result<(), RunError> {
    // Two at a time would take each other's work for a tap that is half attached.
    let _one = facts.plugging.lock().await;
    let internal_ip = facts.internal[slot.index()];
    let spec = TapSpec {
        name: facts.tap(slot),
        mtu: shared.uplink.mtu,
        host_ip: host_internal_ip(shared.config.host.internal_net),
        member_ip: internal_ip,
        member_mac: facts.mac,
    };
    let link = shared.network.ensure_tap(&spec).await?;
    shared.plane.attach_tap(facts.id, slot, &link.name, link.index, internal_ip)?;
    Ok(())
}

fn member(facts: &PairFacts, slot: Slot, generation: u64) -> MemberSpec {
    MemberSpec {
        pair_id: facts.id,
        pair: facts.config.name.clone(),
        slot,
        generation,
        tap: facts.tap(slot),
        mac: facts.mac,
        entry: facts.config.entry.clone(),
        internal_ip: facts.internal[slot.index()],
        vm: facts.config.vm.clone(),
    }
}

/// Who waits for which turn.
#[derive(Debug)]
pub(crate) struct Turns {
    starts: Turnstile,
    /// Stops and releases.
    ends: Turnstile,
    questions: Turnstile,
}

/// Of each kind, so many are begun at once.
const AT_ONCE: usize = 16;

impl Turns {
    pub(super) fn new() -> Turns {
        Turns {
            starts: Turnstile::new(AT_ONCE),
            ends: Turnstile::new(AT_ONCE),
            questions: Turnstile::new(AT_ONCE),
        }
    }
}

/// Does it in a task of its own; its end comes back as an event.
pub(super) fn spawn(shared: &Arc<Shared>, facts: Arc<PairFacts>, action: Action) {
    let task = Arc::clone(shared);
    shared.runtime.spawn(async move {
        let shared = task;
        let (id, turns) = (facts.id, &shared.turns);
        let event = match action {
            Action::Watch { since, until } => {
                let plane = Arc::clone(&shared.plane);
                let wait = move || quiet::wait(&plane, id, until);
                match tokio::task::spawn_blocking(wait).await {
                    Ok(true) => Event::Quiet { since },
                    _ => return,
                }
            }
            Action::Start { slot, generation } => {
                // The generation must be on the disk before anything carries it: after a power cut nothing is made
                // twice. Those that are started together are saved together, before they wait for their turns.
                let result = match shared.store.flush().await {
                    Ok(()) => turns.starts.pass(start(&shared, &facts, slot, generation)).await,
                    Err(why) => Err(why),
                };
                Event::Started { slot, generation, result }
            }
            Action::Stop { slot, generation } => {
                let member = member(&facts, slot, generation);
                let result = turns.ends.pass(shared.hypervisor.stop(&member)).await;
                Event::Stopped { slot, generation, result: result.map_err(|error| chain(&error)) }
            }
            Action::Release { slot, generation } => {
                let (how, member) = (facts.config.replace.release, member(&facts, slot, generation));
                let result = turns.ends.pass(shared.hypervisor.release(&member, how)).await;
                Event::Released { slot, generation, result: result.map_err(|error| chain(&error)) }
            }
            Action::AskRunning => return ask_running(&shared, &facts).await,
            _ => return,
        };
        shared.engine.event(id, event);
    });
}

/// One question at a time for each pair: where answers take long, questions must not pile up. What is asked meanwhile is
/// asked once more after that, because the first answer may be too old for it.
async fn ask_running(shared: &Shared, facts: &PairFacts) {
    let name = &facts.config.name;
    if facts.questions.fetch_add(1, Ordering::AcqRel) > 0 {
        return;
    }
    loop {
        let (heard, asked_at, answer) = shared
            .turns
            .questions
            .pass(async {
                let heard = facts.questions.load(Ordering::Acquire);
                (heard, boottime(), shared.hypervisor.running(name).await)
            })
            .await;
        let trouble = match answer {
            Ok(running) => {
                // A member may run and have lost its tap while no controller was there to see it. Later that is news, and
                // one that was just started may be about to plug in.
                if !facts.taken_stock.swap(true, Ordering::AcqRel) {
                    for slot in Slot::BOTH {
                        watch::watch_tap(shared, facts, slot).await;
                    }
                }
                let list = running.into_iter().map(|one| (one.slot, one.generation)).collect();
                shared.engine.event(facts.id, Event::Running { list, asked_at });
                None
            }
            Err(error) => Some(format!("what runs of {name} cannot be told: {}", chain(&error))),
        };
        let failed = trouble.is_some();
        shared.hypervisor_troubles.set(name, trouble);
        if failed {
            // Until it is known: else the trouble would be told for as long as nobody asks again.
            tokio::time::sleep(ASK_AGAIN).await;
            continue;
        }
        if facts.questions.fetch_sub(heard, Ordering::AcqRel) == heard {
            return;
        }
    }
}

async fn start(shared: &Shared, facts: &PairFacts, slot: Slot, generation: u64) -> Result<(), String> {
    plug(shared, facts, slot).await.map_err(|error| chain(&error))?;
    shared.hypervisor.start(&member(facts, slot, generation)).await.map_err(|error| chain(&error))
}
