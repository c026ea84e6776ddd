//! Controllers that end and begin.

use hotpair_abi::{Epoch, Slot};

use super::world::{MS, SECOND, World, settings};
use crate::api::types::{Protection, RecordKind};
use crate::pair::{Event, Found, State};

pub(super) fn restart(world: &mut World, power_cut: bool) {
    world.under_way.clear();
    world.watched = None;
    if power_cut {
        world.word = hotpair_abi::RoleWord::default();
        world.signs = Default::default();
        world.guests = [None, None];
    }
    let word = (!power_cut).then_some(world.word);
    let found = Found { saved: world.saved.clone(), word, tripped: world.tripped };
    let (state, actions) = State::begin(settings(), &found, world.now);
    world.state = state;
    world.execute(actions);
}

#[test]
fn a_restarted_controller_takes_over_what_runs() {
    let mut world = World::protected(settings());
    world.kill(world.state.active);
    world.run(20 * MS);
    world.run_until_protected(10 * SECOND);
    let (word, since) = (world.word, world.now);
    restart(&mut world, false);
    world.run(SECOND);
    assert_eq!(world.word, word, "nothing was touched");
    assert_eq!(world.state.health.protection, Protection::Protected);
    assert!(world.kinds().contains(&RecordKind::Adopted));
    assert_eq!(world.gap(since), MS);
    // And it knows what to do.
    world.kill(world.state.active);
    world.run(20 * MS);
    assert_ne!(world.state.active, word.active());
    world.run_until_protected(10 * SECOND);
}

#[test]
fn a_restart_leaves_connections_protected_until_somebody_has_been_looked_at() {
    let mut world = World::protected(settings());
    let word = world.word;
    assert!(word.protect() && word.gate());
    restart(&mut world, false);
    assert_eq!(world.word, word, "nobody has been looked at yet");
    assert_eq!(world.told, [false], "who did not hear of the last takeover hears of it now");
    world.look();
    assert_eq!(world.word, word);
    // A standby that has died meanwhile is found out at the first look.
    let standby = word.active().other();
    world.kill(standby);
    world.now += SECOND;
    world.signs[word.active().index()].last = world.now;
    restart(&mut world, false);
    assert_eq!(world.word, word);
    world.look();
    assert!(!world.word.protect() && !world.word.gate());
    // What no longer waits for the standby does not begin to by a restart.
    world.run_until_protected(20 * SECOND);
    let ungated = crate::pair::Settings { gate: false, ..settings() };
    let found = Found { saved: world.saved.clone(), word: Some(world.word), tripped: world.tripped };
    let (state, _) = State::begin(ungated, &found, world.now);
    assert!(state.word.protect() && !state.word.gate());
}

#[test]
fn after_a_power_cut_the_epoch_and_the_generations_rise() {
    let mut world = World::protected(settings());
    let mut epochs = vec![world.state.epoch];
    for _ in 0..3 {
        world.kill(world.state.active);
        world.run(20 * MS);
        restart(&mut world, true);
        assert!(
            world.state.epoch > *epochs.last().expect("there is one"),
            "{:?} {epochs:?}",
            world.state.epoch
        );
        epochs.push(world.state.epoch);
        world.run_until_protected(20 * SECOND);
        assert_eq!(
            world.volumes.iter().map(Vec::len).sum::<usize>(),
            2,
            "volumes of before the cut are released"
        );
    }
    assert!(epochs[0] > Epoch(0));
}

#[test]
fn a_member_that_died_while_no_controller_ran_is_found_out() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.kill(old);
    world.now += 500 * MS;
    world.signs[old.other().index()].last = world.now;
    restart(&mut world, false);
    world.run(100 * MS);
    assert_eq!(world.state.active, old.other());
    world.run_until_protected(10 * SECOND);
}

#[test]
fn a_fence_that_a_restart_interrupted_is_finished() {
    let mut world = World::protected(settings());
    world.hypervisor_up = false;
    let old = world.state.active;
    world.guest(old).frozen = true;
    world.run(100 * MS);
    assert!(world.word.muted(old));
    restart(&mut world, false);
    world.run(100 * MS);
    assert!(world.word.muted(old), "still muted");
    assert_eq!(world.state.active, old.other());
    world.hypervisor_up = true;
    world.feed(Event::Reachable);
    world.run_until_protected(20 * SECOND);
    assert_eq!(world.state.place(old).generation, 2);
}

#[test]
fn a_handover_that_a_restart_interrupted_is_taken_back() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.ask(1, crate::pair::Request::Switchover);
    while !world.word.handover() {
        world.tick();
    }
    restart(&mut world, false);
    assert!(!world.word.handover());
    assert_eq!(world.word.active(), old);
    assert_eq!(world.told, [true], "who had gone over hears that he is back");
    world.run(SECOND);
    assert_eq!(world.state.health.protection, Protection::Protected);
}

#[test]
fn a_latch_that_tripped_after_an_interrupted_handover_stays_in_force() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.ask(1, crate::pair::Request::Switchover);
    while !world.word.handover() {
        world.tick();
    }
    // No controller; the handover has ended by itself, and the primary falls silent.
    let epoch = world.word.epoch();
    world.now += 3 * SECOND;
    world.tripped = epoch;
    world.signs[old.other().index()].last = world.now;
    world.signs[old.other().index()].streak_since = world.now - SECOND;
    // It thaws just when the next controller starts.
    world.signs[old.index()].last = world.now;
    restart(&mut world, false);
    assert!(!world.word.handover());
    assert_eq!(
        (world.word.epoch(), world.word.active()),
        (epoch, old),
        "the latch is in force until it is followed"
    );
    assert!(!world.word.protect() && !world.word.gate(), "nothing waits for the dead member");
    assert!(world.told.is_empty(), "they are told when the latch is followed");
    world.look();
    assert_eq!(world.word.active(), old.other());
    assert!(world.word.muted(old));
    world.run_until_protected(20 * SECOND);
}

#[test]
fn a_lost_state_finds_running_members_through_the_hypervisor() {
    let mut world = World::protected(settings());
    world.kill(Slot::Zero);
    world.run(20 * MS);
    world.run_until_protected(10 * SECOND);
    let guests = world.guests;
    world.saved = None;
    restart(&mut world, false);
    world.run(SECOND);
    assert_eq!(world.guests, guests, "they were taken over, not made again");
    assert_eq!(world.state.health.protection, Protection::Protected);
}

#[test]
fn who_is_fenced_is_certain_even_when_the_state_is_lost_and_the_hypervisor_is_away() {
    let mut world = World::protected(settings());
    world.kill(Slot::Zero);
    world.run(20 * MS);
    world.run_until_protected(10 * SECOND);
    world.saved = None;
    world.hypervisor_up = false;
    restart(&mut world, false);
    world.run(SECOND);
    let old = world.state.active;
    world.guest(old).frozen = true;
    world.run(20 * MS);
    assert_eq!(world.state.active, old.other(), "failing over needs no hypervisor");
    world.run(10 * SECOND);
    world.hypervisor_up = true;
    world.feed(Event::Reachable);
    // `world.rs` asserts that nothing is started over what runs, and nothing is unmuted while it does.
    world.run_until_protected(20 * SECOND);
    assert_eq!(world.volumes.iter().map(Vec::len).sum::<usize>(), 2);
}
