//! Whatever happens in whatever order: the promises that `world.rs` asserts hold, and the pair heals.

use hotpair_abi::{Slot, heartbeat};
use proptest::prelude::*;

use super::restart::restart;
use super::world::{MS, SECOND, World, settings};
use crate::api::types::RecordKind;
use crate::pair::{Event, Request, Sign};

#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill(Slot),
    Freeze(Slot),
    Thaw(Slot),
    Says(Slot, heartbeat::State),
    HypervisorDown,
    HypervisorUp,
    StartsFail,
    StartsWork,
    Tells(Slot),
    Latch,
    Restart { tripped: bool },
    Ask(Request),
    Wait(u64),
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::Zero), Just(Slot::One)]
}

fn blow() -> impl Strategy<Value = Blow> {
    let state = prop_oneof![
        Just(heartbeat::State::Starting),
        Just(heartbeat::State::Serving),
        Just(heartbeat::State::Failing),
        Just(heartbeat::State::Stopping),
    ];
    let request = prop_oneof![
        Just(Request::Switchover),
        Just(Request::Failover),
        Just(Request::Pause),
        Just(Request::Resume),
        Just(Request::Replace(None)),
        slot().prop_map(|slot| Request::Replace(Some(slot))),
    ];
    prop_oneof![
        slot().prop_map(Blow::Kill),
        slot().prop_map(Blow::Freeze),
        slot().prop_map(Blow::Thaw),
        (slot(), state).prop_map(|(slot, state)| Blow::Says(slot, state)),
        Just(Blow::HypervisorDown),
        Just(Blow::HypervisorUp),
        Just(Blow::StartsFail),
        Just(Blow::StartsWork),
        slot().prop_map(Blow::Tells),
        Just(Blow::Latch),
        any::<bool>().prop_map(|tripped| Blow::Restart { tripped }),
        request.prop_map(Blow::Ask),
        (1u64..5000).prop_map(Blow::Wait),
        (1u64..40).prop_map(Blow::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_and_the_pair_heals(blows in prop::collection::vec(blow(), 1..40)) {
        let mut world = World::protected(settings());
        let (mut asked, mut unanswered) = (0, 0);
        for blow in blows {
            match blow {
                Blow::Kill(slot) => world.kill(slot),
                Blow::Freeze(slot) => {
                    if let Some(guest) = &mut world.guests[slot.index()] { guest.frozen = true; }
                }
                Blow::Thaw(slot) => {
                    if let Some(guest) = &mut world.guests[slot.index()] { guest.frozen = false; }
                }
                Blow::Says(slot, state) => {
                    if let Some(guest) = &mut world.guests[slot.index()] { guest.state = state; }
                }
                Blow::HypervisorDown => { world.hypervisor_up = false; world.feed(Event::Unreachable); }
                Blow::HypervisorUp => { world.hypervisor_up = true; world.feed(Event::Reachable); }
                Blow::StartsFail => world.starts_fail = Some("no memory"),
                Blow::StartsWork => world.starts_fail = None,
                Blow::Tells(slot) => {
                    if world.guests[slot.index()].is_none() {
                        let generation = Some(world.state.place(slot).generation);
                        world.feed(Event::Lost { slot, generation, by: Sign::Hypervisor, how: "gone".into() });
                    }
                }
                Blow::Latch => {
                    if !world.word.paused() && !world.word.handover() { world.tripped = world.word.epoch(); }
                }
                Blow::Restart { tripped } => {
                    // Also after a handover that nobody has ended.
                    if tripped && !world.word.paused() { world.tripped = world.word.epoch(); }
                    unanswered = asked - world.answers.len() as u64;
                    restart(&mut world, false);
                }
                Blow::Ask(request) => { asked += 1; world.ask(asked, request); }
                Blow::Wait(ms) => world.run(ms * MS),
            }
            world.tick();
        }
        // Everything is well again, and so is the pair, within what its patience adds up to.
        world.hypervisor_up = true;
        world.starts_fail = None;
        for guest in world.guests.iter_mut().flatten() {
            guest.frozen = false;
            guest.state = heartbeat::State::Serving;
        }
        world.feed(Event::Reachable);
        world.ask(asked + 1, Request::Resume);
        world.run(100 * MS);
        world.run_until_protected(200 * SECOND);
        world.run(SECOND);
        prop_assert!(world.glances > 0, "a pair that is well is looked at the short way");
        prop_assert_eq!(world.answers.len() as u64 + unanswered, asked + 1, "every request is answered");
        let left = world.kinds().iter().filter(|kind| **kind == RecordKind::ReleaseFailed).count();
        let volumes = world.volumes.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(volumes, 2 + left, "no volume is left behind but those that the history names");
        for slot in Slot::BOTH {
            prop_assert!(world.serving(slot));
        }
    }
}
