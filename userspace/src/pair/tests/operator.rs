//! What operators ask for.

use hotpair_abi::heartbeat;

use super::world::{MS, SECOND, World, settings};
use crate::api::types::{Protection, RecordKind};
use crate::pair::{Phase, Request, Settings};

#[test]
fn switchover_there_and_back_drains_and_loses_nobody() {
    let mut world = World::protected(settings());
    let (first, since) = (world.state.active, world.now);
    for round in 1..=2 {
        let (old, epoch) = (world.state.active, world.state.epoch);
        world.ask(round, Request::Switchover);
        assert!(!world.word.handover() && world.watched == Some(epoch), "it is prepared first");
        world.run(world.quiet_after);
        assert!(world.word.handover() && world.word.active() == old, "then it drains");
        assert!(!world.answers.contains_key(&round), "answered when it has ended");
        world.run(25 * MS);
        assert_eq!(world.word.active(), old.other());
        assert!(!world.word.handover());
        assert!(world.answers[&round].is_ok(), "{:?}", world.answers[&round]);
        assert!(world.state.epoch > epoch);
        assert_eq!(world.state.health.protection, Protection::Protected, "the old primary stands by");
    }
    assert_eq!(world.plain_flips, 2, "neither flip waited for its own story");
    assert_eq!(world.state.active, first);
    assert_eq!(world.gap(since), MS);
    assert_eq!(world.volumes.iter().map(Vec::len).sum::<usize>(), 2, "nobody was replaced");
}

#[test]
fn switchover_refuses_while_the_standby_is_not_ready_and_says_why() {
    let mut world = World::protected(settings());
    let before = world.state.active;
    world.kill(before.other());
    world.run(20 * MS);
    world.ask(1, Request::Switchover);
    let refusal = world.answers[&1].clone().expect_err("it is refused");
    assert!(refusal.why.contains("silent"), "{refusal}");
    assert!(!refusal.way_out.is_empty());
    world.ask(2, Request::Failover);
    assert!(world.answers[&2].is_err());
    assert_eq!(world.state.active, before);
}

#[test]
fn a_switchover_is_taken_back_when_the_new_primary_dies_on_the_way() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.ask(1, Request::Switchover);
    world.run(world.quiet_after);
    world.kill(old.other());
    world.run(30 * MS);
    assert_eq!(world.state.active, old);
    assert!(!world.word.handover());
    assert!(world.answers[&1].is_err());
    assert!(world.kinds().contains(&RecordKind::SwitchoverAborted));
    assert_eq!(world.told, [true], "who had gone over hears that he is back");
    world.run_until_protected(20 * SECOND);
}

#[test]
fn a_switchover_is_refused_when_the_new_primary_dies_before_its_moment() {
    let mut world = World::protected(settings());
    let (old, epoch) = (world.state.active, world.state.epoch);
    world.quiet_after = 500 * MS;
    world.ask(1, Request::Switchover);
    world.kill(old.other());
    world.run(510 * MS);
    assert!(world.answers[&1].as_ref().is_err_and(|refusal| refusal.why.contains("not ready")));
    assert_eq!(
        (world.word.epoch(), world.watched),
        (epoch, None),
        "nothing has changed, and nothing is counted"
    );
}

#[test]
fn a_switchover_becomes_a_failover_when_the_old_primary_dies_on_the_way() {
    for on_the_way in [5 * MS, 25 * MS] {
        let mut world = World::protected(settings());
        let old = world.state.active;
        world.ask(1, Request::Switchover);
        world.run(on_the_way);
        world.kill(old);
        world.run(15 * MS);
        assert_eq!(world.state.active, old.other());
        assert!(!world.word.handover());
        assert!(world.answers[&1].is_ok());
        world.run_until_protected(20 * SECOND);
    }
}

#[test]
fn a_switchover_without_a_quiet_moment_begins_all_the_same() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.quiet_after = 20 * SECOND;
    world.ask(1, Request::Switchover);
    world.run(990 * MS);
    assert!(!world.word.handover());
    world.run(40 * MS);
    assert_eq!(world.state.active, old.other());
    assert!(world.answers[&1].is_ok());
    // What that one waited for comes at last, and is nothing to the next one.
    world.run(18_950 * MS);
    world.ask(2, Request::Switchover);
    world.run(100 * MS);
    assert!(!world.word.handover());
    assert_eq!(world.state.active, old.other());
}

#[test]
fn two_switchovers_at_once_are_one_and_a_refusal() {
    // The second one comes while the first waits, and while it drains; `world.rs` looks after what is counted.
    for later in [0, 25 * MS] {
        let mut world = World::protected(settings());
        world.ask(1, Request::Switchover);
        world.run(later);
        let watched = world.watched;
        world.ask(2, Request::Switchover);
        assert!(world.answers[&2].as_ref().is_err_and(|refusal| refusal.why.contains("another one")));
        assert_eq!(world.watched, watched, "the first one's count goes on");
        world.run(50 * MS);
        assert!(world.answers[&1].is_ok());
    }
}

#[test]
fn without_mirroring_there_is_nothing_to_wait_for() {
    let mut world = World::protected(Settings { mirror: false, ..settings() });
    world.ask(1, Request::Switchover);
    assert!(world.word.handover() && world.watched.is_none());
}

#[test]
fn forced_failover_fences_and_replaces_the_old_primary() {
    let mut world = World::protected(settings());
    let (old, since) = (world.state.active, world.now);
    world.ask(1, Request::Failover);
    assert_eq!(world.word.active(), old.other(), "at once");
    assert!(world.word.muted(old));
    world.run_until_protected(10 * SECOND);
    assert_eq!(world.state.place(old).generation, 2);
    assert_eq!(world.gap(since), MS);
}

#[test]
fn a_paused_pair_is_left_as_it_is_until_it_is_resumed() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.ask(1, Request::Pause);
    assert!(world.word.paused(), "the kernel's latch is off as well");
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    world.guest(old).frozen = true;
    world.run(SECOND);
    assert_eq!(world.state.active, old);
    assert_eq!(world.state.health.protection, Protection::Down);
    world.guest(old).frozen = false;
    world.run(SECOND);
    world.kill(old.other());
    world.run(20 * SECOND);
    assert_eq!(world.state.place(old.other()).generation, 1, "nothing is replaced");
    world.ask(2, Request::Resume);
    world.run_until_protected(20 * SECOND);
    assert_eq!(world.state.place(old.other()).generation, 2);
}

#[test]
fn the_primary_is_not_replaced_under_its_clients() {
    let mut world = World::protected(settings());
    let active = world.state.active;
    world.ask(1, Request::Replace(Some(active)));
    let refusal = world.answers[&1].clone().expect_err("it is refused");
    assert!(refusal.way_out.contains("switch over first"), "{refusal}");
    world.ask(2, Request::Replace(None));
    assert!(world.answers[&2].is_ok());
    world.run(MS);
    assert!(matches!(world.state.place(active.other()).phase, Phase::Fencing { .. }));
    world.run_until_protected(10 * SECOND);
}

#[test]
fn a_reboot_of_the_primary_is_a_switchover_and_not_a_detection() {
    let mut world = World::protected(settings());
    let (old, since) = (world.state.active, world.now);
    let epoch = world.state.epoch;
    world.guest(old).state = heartbeat::State::Stopping;
    world.run(10 * MS);
    assert!(!world.word.handover() && world.watched == Some(epoch), "it is prepared as an operator's is");
    world.run(40 * MS);
    assert_eq!(world.state.active, old.other());
    assert!(world.kinds().contains(&RecordKind::Switchover));
    assert!(!world.kinds().contains(&RecordKind::Failover));
    // Its kernel goes down, comes up, and the agent starts again.
    world.guest(old).agent_dead = true;
    world.run(20 * SECOND);
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    world.guest(old).agent_dead = false;
    world.guest(old).state = heartbeat::State::Serving;
    world.run(100 * MS);
    assert_eq!(world.state.health.protection, Protection::Protected, "the same member stands by again");
    assert_eq!(world.state.place(old).generation, 1);
    assert_eq!(world.gap(since), MS);
}

#[test]
fn a_primary_that_stops_is_not_waited_for_as_long_as_an_operator_would() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.quiet_after = 20 * SECOND;
    world.guest(old).state = heartbeat::State::Stopping;
    world.run(130 * MS);
    assert_eq!(world.state.active, old.other());
}

#[test]
fn a_primary_that_serves_on_after_all_is_not_handed_over_from() {
    let mut world = World::protected(settings());
    let (old, epoch) = (world.state.active, world.state.epoch);
    world.guest(old).state = heartbeat::State::Stopping;
    world.run(10 * MS);
    world.guest(old).state = heartbeat::State::Serving;
    world.run(SECOND);
    assert_eq!((world.state.active, world.word.epoch(), world.watched), (old, epoch, None));
    // Nor is one of a pair that was paused meanwhile.
    world.guest(old).state = heartbeat::State::Stopping;
    world.run(10 * MS);
    world.ask(1, Request::Pause);
    world.run(SECOND);
    assert_eq!((world.state.active, world.word.epoch(), world.watched), (old, epoch, None));
}
