//! Failures, and the way back to being protected.

use std::time::Duration;

use hotpair_abi::{Epoch, Slot, heartbeat};

use super::world::{MS, SECOND, World, settings};
use crate::api::types::{Protection, RecordKind};
use crate::pair::{Event, Phase, Settings, Sign};

#[test]
fn two_members_are_made_and_the_pair_is_protected() {
    let mut world = World::new(settings());
    assert_eq!(world.state.health.protection, Protection::Down);
    world.run(SECOND);
    assert!(!world.word.held(), "nothing is answered for before a member serves");
    world.run_until_protected(5 * SECOND);
    assert!(world.word.held() && world.word.mirror());
    assert_eq!(world.announced, 1);
    assert_eq!(world.state.health.why, None);
}

#[test]
fn standby_takes_over_when_the_primary_falls_silent() {
    let mut world = World::protected(settings());
    let (old, epoch) = (world.state.active, world.state.epoch);
    let killed = world.now;
    world.kill(old);
    world.run(20 * MS);
    assert_eq!(world.state.active, old.other());
    assert!(world.state.epoch > epoch);
    assert_eq!(world.plain_flips, 1, "the flip did not wait for its own story");
    let (at, entry) = world.last(RecordKind::Failover).clone();
    assert_eq!(entry.detected_by, Some(Sign::Heartbeat));
    assert!(at - killed <= 9 * MS, "noticed after {} ms", (at - killed) / MS);
    assert!(entry.detect.is_some_and(|detect| detect < Duration::from_millis(10)));
    assert!(world.gap(killed) <= 11 * MS);
    assert!(world.word.muted(old), "the old primary is muted in the same word that moves the address");
    world.run_until_protected(10 * SECOND);
    let wanted = [RecordKind::Failover, RecordKind::MemberLost, RecordKind::Fenced, RecordKind::Released];
    let kinds = world.kinds();
    assert!(wanted.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert_eq!(world.volumes[old.index()], [2], "the old volume is gone, the new one is there");
    assert!(world.gap(killed) <= 11 * MS, "the replacement does not disturb the service");
}

#[test]
fn a_frozen_primary_that_thaws_stays_mute() {
    let mut world = World::protected(settings());
    world.hypervisor_up = false;
    let old = world.state.active;
    world.guest(old).frozen = true;
    world.run(30 * MS);
    assert_eq!(world.state.active, old.other());
    world.guest(old).frozen = false;
    world.run(SECOND);
    assert!(world.word.muted(old), "muted for as long as it may still exist");
    assert!(matches!(world.state.place(old).phase, Phase::Fencing { .. }));
    world.hypervisor_up = true;
    world.feed(Event::Reachable);
    world.run_until_protected(10 * SECOND);
}

#[test]
fn storage_is_released_however_long_the_hypervisor_was_away() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.guest(old).frozen = true;
    while !matches!(world.state.place(old).phase, Phase::Releasing { .. }) {
        world.tick();
    }
    // The member was ended, and then nobody can be asked to release what it leaves.
    world.hypervisor_up = false;
    world.feed(Event::Unreachable);
    world.run(200 * SECOND);
    assert!(matches!(world.state.place(old).phase, Phase::Releasing { .. }), "it is not given up");
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    let why = world.state.health.why.clone().unwrap_or_default();
    assert!(why.contains("its storage cannot be released: failed to connect to the hypervisor"), "{why}");
    let told = world.kinds().iter().filter(|kind| **kind == RecordKind::Delayed).count();
    assert_eq!(told, 1, "the history says so, once");
    world.hypervisor_up = true;
    world.feed(Event::Reachable);
    world.run_until_protected(10 * SECOND);
    assert!(!world.kinds().contains(&RecordKind::ReleaseFailed));
    assert_eq!(world.volumes[old.index()], [2], "no volume is left behind");
}

#[test]
fn a_primary_that_says_it_fails_is_left_at_once() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    let since = world.now;
    world.guest(old).state = heartbeat::State::Failing;
    world.run(4 * MS);
    assert_eq!(world.state.active, old.other());
    assert_eq!(world.last(RecordKind::Failover).1.detected_by, Some(Sign::Agent));
    assert!(world.gap(since) <= 3 * MS);
}

#[test]
fn the_hypervisors_word_is_faster_than_silence() {
    let mut world = World::protected(settings());
    let old = world.state.active;
    world.kill(old);
    let generation = Some(world.state.place(old).generation);
    world.feed(Event::Lost { slot: old, generation, by: Sign::Hypervisor, how: "destroyed".into() });
    assert_eq!(world.state.active, old.other(), "within the same step");
    assert_eq!(world.last(RecordKind::Failover).1.detected_by, Some(Sign::Hypervisor));
}

#[test]
fn news_about_an_older_generation_are_ignored() {
    let mut world = World::protected(settings());
    world.kill(world.state.active);
    world.run(20 * MS);
    world.run_until_protected(10 * SECOND);
    world.run(SECOND);
    world.kill(world.state.active);
    world.run(20 * MS);
    world.run_until_protected(10 * SECOND);
    let (active, epoch) = (world.state.active, world.state.epoch);
    world.feed(Event::Lost {
        slot: active,
        generation: Some(1),
        by: Sign::Hypervisor,
        how: "stopped".into(),
    });
    world.run(100 * MS);
    assert_eq!((world.state.active, world.state.epoch), (active, epoch));
}

#[test]
fn nobody_fails_over_when_nobody_could_beat() {
    let mut world = World::protected(settings());
    let before = (world.state.active, world.state.epoch);
    // The host was suspended for ten seconds.
    world.now += 10 * SECOND;
    world.look();
    assert_eq!((world.state.active, world.state.epoch), before);
    // On waking the standby happens to beat first, and the primary 6 ms later.
    let primary = world.state.active;
    world.guest(primary).frozen = true;
    world.run(6 * MS);
    world.guest(primary).frozen = false;
    world.run(SECOND);
    assert_eq!((world.state.active, world.state.epoch), before);
    assert_eq!(world.state.health.protection, Protection::Protected);
}

#[test]
fn a_standby_that_dies_is_replaced_and_the_service_never_notices() {
    let mut world = World::protected(settings());
    let (active, epoch, since) = (world.state.active, world.state.epoch, world.now);
    world.kill(active.other());
    world.run(20 * MS);
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    assert!(
        world.state.health.why.as_ref().is_some_and(|why| why.contains("silent")),
        "{:?}",
        world.state.health
    );
    world.run_until_protected(20 * SECOND);
    assert_eq!((world.state.active, world.state.epoch), (active, epoch), "no role has changed");
    assert_eq!(world.gap(since), MS);
}

#[test]
fn a_standby_whose_agent_restarts_is_not_replaced() {
    let mut world = World::protected(settings());
    let standby = world.state.active.other();
    world.guest(standby).agent_dead = true;
    world.run(2 * SECOND);
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    world.guest(standby).agent_dead = false;
    world.run(200 * MS);
    assert_eq!(world.state.health.protection, Protection::Protected);
    assert_eq!(world.state.place(standby).generation, 1);
}

#[test]
fn a_standby_whose_service_fails_may_mend_it_for_as_long_as_a_start_may_take() {
    let mut world = World::protected(settings());
    let (active, standby) = (world.state.active, world.state.active.other());
    world.guest(standby).state = heartbeat::State::Failing;
    world.run(50 * SECOND);
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    assert_eq!(world.state.place(standby).generation, 1, "it still has time");
    world.run(15 * SECOND);
    world.run_until_protected(10 * SECOND);
    assert_eq!((world.state.active, world.state.place(standby).generation), (active, 2));
}

#[test]
fn when_a_replacement_cannot_be_made_the_service_goes_on_and_heals_later() {
    let mut world = World::protected(settings());
    world.starts_fail = Some("the image /images/web.qcow2 is not there");
    let old = world.state.active;
    let since = world.now;
    world.kill(old);
    world.run(60 * SECOND);
    assert_eq!(world.state.health.protection, Protection::Unprotected);
    let why = world.state.health.why.clone().expect("there is a reason");
    assert!(why.contains("web.qcow2 is not there"), "{why}");
    assert!(world.gap(since) <= 11 * MS);
    let tries = world.kinds().iter().filter(|kind| **kind == RecordKind::ReplaceFailed).count();
    assert!((4..=12).contains(&tries), "{tries} tries in a minute");
    world.starts_fail = None;
    world.run_until_protected(40 * SECOND);
}

#[test]
fn a_member_that_never_serves_is_given_up_and_made_again() {
    let mut world = World::protected(settings());
    world.boot = 1000 * SECOND;
    world.kill(world.state.active);
    world.run(30 * SECOND);
    world.boot = SECOND;
    world.run_until_protected(60 * SECOND);
    let lost = world.last(RecordKind::MemberLost);
    assert!(lost.1.text.contains("did not serve within"), "{}", lost.1.text);
}

#[test]
fn both_members_dead_are_both_made_again() {
    let mut world = World::protected(settings());
    let epoch = world.state.epoch;
    world.kill(Slot::Zero);
    world.kill(Slot::One);
    world.run(100 * MS);
    assert_eq!(world.state.health.protection, Protection::Down);
    assert!(world.told.is_empty(), "there is nobody to speak");
    world.run_until_protected(20 * SECOND);
    assert_eq!(
        (world.state.active, world.state.epoch),
        (Slot::Zero, epoch),
        "no other slot has become active"
    );
    assert_eq!(world.told, [true], "clients hear that the member they knew is not there any more");
    assert_eq!(world.volumes.iter().map(Vec::len).sum::<usize>(), 2, "no volume is left behind");
}

#[test]
fn a_primary_alone_that_only_stopped_beating_is_left_alone() {
    let mut world = World::protected(settings());
    let active = world.state.active;
    world.starts_fail = Some("no memory");
    world.kill(active.other());
    world.run(10 * SECOND);
    world.guest(active).agent_dead = true;
    world.run(30 * SECOND);
    assert_eq!(world.state.active, active);
    assert!(
        world.guests[active.index()].is_some(),
        "the only member there is must not be ended on suspicion"
    );
    assert_eq!(world.state.health.protection, Protection::Down, "but it is said loudly");
}

#[test]
fn the_kernels_latch_is_followed_and_voided() {
    let mut world = World::protected(settings());
    let (old, epoch) = (world.state.active, world.state.epoch);
    // The controller was stopped for a while; the data plane acted.
    world.kill(old);
    world.now += 40 * MS;
    world.signs[old.other().index()].last = world.now;
    world.tripped = epoch;
    world.look();
    assert_eq!(world.state.active, old.other());
    assert_eq!(world.last(RecordKind::Failover).1.detected_by, Some(Sign::Latch));
    assert_ne!(world.state.epoch, world.tripped, "under the new epoch the latch means nothing");
    world.run_until_protected(10 * SECOND);
    assert_ne!(world.tripped, Epoch(0));
}

#[test]
fn ten_failovers_in_a_row() {
    let mut world = World::protected(settings());
    for round in 0..10 {
        let since = world.now;
        world.kill(world.state.active);
        world.run(20 * MS);
        world.run_until_protected(10 * SECOND);
        world.run(SECOND);
        assert!(world.gap(since) <= 11 * MS, "round {round}");
    }
    assert_eq!(world.kinds().iter().filter(|kind| **kind == RecordKind::Failover).count(), 10);
    assert_eq!(world.volumes.iter().map(Vec::len).sum::<usize>(), 2);
}

#[test]
fn without_automatic_replacement_the_failed_member_is_fenced_and_waited_for() {
    let mut world = World::protected(Settings { auto_replace: false, ..settings() });
    let old = world.state.active;
    world.kill(old);
    world.run(30 * SECOND);
    assert!(matches!(world.state.place(old).phase, Phase::Empty { .. }));
    assert!(world.state.health.why.as_ref().is_some_and(|why| why.contains("hotpair replace")));
    world.ask(1, crate::pair::Request::Replace(None));
    world.run_until_protected(10 * SECOND);
    assert!(world.answers[&1].is_ok());
}

#[test]
fn a_latch_for_a_primary_that_is_not_there_is_no_detection() {
    let mut world = World::protected(settings());
    world.boot = 20 * SECOND;
    let (first, second) = (world.state.active, world.state.active.other());
    world.kill(first);
    world.run(SECOND);
    world.kill(second);
    world.run(5 * SECOND);
    assert_eq!(world.state.health.protection, Protection::Down);
    // The first one serves again, and the kernel acts upon its heartbeat before the controller has looked.
    let guest = world.guest(first);
    guest.serves_at = 0;
    world.tripped = world.word.epoch();
    world.run(20 * MS);
    assert_eq!(world.state.active, first);
    assert_eq!(world.last(RecordKind::Failover).1.detected_by, Some(Sign::Hypervisor));
    world.run_until_protected(60 * SECOND);
}
