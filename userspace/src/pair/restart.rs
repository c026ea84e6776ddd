//! What outlives a controller and a power cut, and the state that the next controller begins with.

use hotpair_abi::{Epoch, RoleWord, Slot, voice};

use super::{Action, Health, Nanos, Phase, Place, Settings, Signs, State};
use crate::api::types::RecordKind;

/// What must survive a power cut.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// No epoch above this one has been used.
    #[serde(deserialize_with = "ceiling")]
    pub ceiling: u64,
    /// 0 or 1.
    #[serde(deserialize_with = "slot")]
    pub active: u8,
    /// Automatic failover and replacement are off.
    pub paused: bool,
    /// Highest generation ever used in each place.
    #[serde(deserialize_with = "generations")]
    pub generations: [u64; 2],
}

/// Refuses what only a damaged entry can say: counting on from there would begin anew at zero.
fn bounded<'de, D, T>(from: D, is_sound: impl FnOnce(&T) -> bool, why: &'static str) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    let value = T::deserialize(from)?;
    if is_sound(&value) { Ok(value) } else { Err(serde::de::Error::custom(why)) }
}

fn ceiling<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, |ceiling| *ceiling < Epoch::MAX.0 / 2, "its ceiling of epochs cannot be right")
}

fn slot<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    bounded(from, |slot| *slot < 2, "its active slot is neither 0 nor 1")
}

fn generations<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[u64; 2], D::Error> {
    bounded(
        from,
        |each: &[u64; 2]| each.iter().all(|one| *one < u64::MAX / 2),
        "its generations cannot be right",
    )
}

/// What a controller finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// From the store; none for a new pair.
    pub saved: Option<Saved>,
    /// The role word of a data plane that was adopted.
    pub word: Option<RoleWord>,
    /// The epoch in which its latch last tripped; `Epoch(0)` for never.
    pub tripped: Epoch,
}

impl State {
    /// The state a controller begins with. Follow it with [`Event::Running`] as soon as the hypervisor has answered.
    #[must_use]
    pub fn begin(settings: Settings, found: &Found, now: Nanos) -> (State, Vec<Action>) {
        let saved = found.saved.clone().unwrap_or(Saved {
            ceiling: 0,
            active: 0,
            paused: false,
            generations: [0, 0],
        });
        // A running data plane knows best; without one, nothing at or below the ceiling may come again.
        let live = found.word.filter(|word| word.epoch() > Epoch(0));
        let epoch = live.map_or(Epoch(saved.ceiling + 1), RoleWord::epoch);
        let active = live.map_or(Slot::from_bit(u64::from(saved.active)), RoleWord::active);
        let place = |slot: Slot| Place {
            phase: Phase::Unknown,
            since: now,
            generation: saved.generations[slot.index()],
            known: false,
            highest: saved.generations[slot.index()],
            signs: Signs::default(),
            lost: None,
            muted: live.is_some_and(|word| word.muted(slot)),
            failures: 0,
            refusals: 0,
            why: None,
            ailing_since: None,
            wanted: false,
        };
        let mut state = State {
            settings,
            epoch,
            ceiling: Epoch(saved.ceiling),
            active,
            held: live.is_some_and(RoleWord::held),
            paused: saved.paused,
            places: [place(Slot::Zero), place(Slot::One)],
            preparation: None,
            handover: None,
            word: live.unwrap_or_default(),
            active_since: now,
            health: Health::default(),
            told_protected: false,
            ask_again_at: 0,
            cut_off: false,
        };
        let mut actions = Vec::new();
        if let Some(word) = live {
            // If the latch has tripped, the other one speaks in this epoch until the first look follows it.
            if voice::active(word, found.tripped.0) == word.active() {
                // A handover that was under way when the last controller ended: take it back, roles unchanged.
                if word.handover() {
                    state.epoch = state.epoch.next();
                }
                // The last controller may have ended between a change of role and telling of it.
                if word.held() {
                    actions.push(Action::Tell { counts_resets: word.handover() });
                }
            }
            state.record(
                &mut actions,
                RecordKind::Adopted,
                Some(active),
                format!("the controller started and took over what was running: slot {active} serves"),
            );
        }
        let word = state.role_word(now);
        let word = live
            .filter(|live| state.may_stay_protected(*live, found.tripped))
            .map_or(word, |live| word.with_protect(live.protect()).with_gate(live.gate() && settings.gate));
        state.settle_as(word, now, &mut actions);
        actions.push(Action::AskRunning);
        (state, actions)
    }

    /// Whether the standby that an adopted word speaks of may still be in service: nobody has been looked at yet. What
    /// begins while the word says that there is none is unprotected until it ends.
    fn may_stay_protected(&self, live: RoleWord, tripped: Epoch) -> bool {
        let stays = live.held() && live.mirror() && self.settings.mirror && !live.handover();
        stays && voice::active(live, tripped.0) == live.active()
    }

    /// What must survive as it is now.
    pub(super) fn saved(&self) -> Saved {
        Saved {
            ceiling: self.ceiling.0,
            active: self.active as u8,
            paused: self.paused,
            generations: [self.places[0].highest, self.places[1].highest],
        }
    }
}
