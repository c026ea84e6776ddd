//! What actions come to outside the engine: taps, members, the hypervisor's list.

use std::sync::Arc;

use hotpair_abi::Slot;

use super::{PairFacts, RunError, Shared, boottime, host_internal_ip};
use crate::error::chain;
use crate::hypervisor::MemberSpec;
use crate::network::TapSpec;
use crate::pair::{Action, Event};

/// Makes the slot's tap, or mends it, and attaches it to the data plane. Changes nothing where all is well.
pub(super) async fn plug(shared: &Shared, facts: &PairFacts, slot: Slot) -> Result<(), RunError> {
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

/// Does it in a task of its own; its end comes back as an event.
pub(super) fn spawn(shared: &Arc<Shared>, facts: Arc<PairFacts>, action: Action) {
    let task = Arc::clone(shared);
    shared.runtime.spawn(async move {
        let shared = task;
        let id = facts.id;
        let event = match action {
            Action::Start { slot, generation } => {
                let result = start(&shared, &facts, slot, generation).await;
                Event::Started { slot, generation, result }
            }
            Action::Stop { slot, generation } => {
                let result = shared.hypervisor.stop(&member(&facts, slot, generation)).await;
                Event::Stopped { slot, generation, result: result.map_err(|error| chain(&error)) }
            }
            Action::Release { slot, generation } => {
                let how = facts.config.replace.release;
                let result = shared.hypervisor.release(&member(&facts, slot, generation), how).await;
                Event::Released { slot, generation, result: result.map_err(|error| chain(&error)) }
            }
            Action::AskRunning => {
                let asked_at = boottime();
                match shared.hypervisor.running(&facts.config.name).await {
                    Ok(running) => {
                        let list = running.into_iter().map(|one| (one.slot, one.generation)).collect();
                        *shared.hypervisor_trouble.lock().expect("nobody panics with it") = None;
                        Event::Running { list, asked_at }
                    }
                    Err(error) => {
                        // Asked again by the pair while it matters.
                        let why = chain(&error);
                        tracing::warn!(pair = %facts.config.name, "what runs cannot be told: {why}");
                        *shared.hypervisor_trouble.lock().expect("nobody panics with it") = Some(why);
                        return;
                    }
                }
            }
            _ => return,
        };
        shared.engine.event(id, event);
    });
}

async fn start(shared: &Shared, facts: &PairFacts, slot: Slot, generation: u64) -> Result<(), String> {
    // The generation must be on the disk before anything carries it: after a power cut nothing is made twice.
    shared.store.flush().await?;
    plug(shared, facts, slot).await.map_err(|error| chain(&error))?;
    shared.hypervisor.start(&member(facts, slot, generation)).await.map_err(|error| chain(&error))
}
