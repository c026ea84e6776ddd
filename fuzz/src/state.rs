//! What is read back: the state file's entries, and the rows of pinned maps.

use std::time::Duration;

use hotpair::api::types::Record;
use hotpair::pair::{Event, Found, Saved, Settings, Signs, State, step};
use hotpair_abi::{Epoch, RoleWord, Slot, heartbeat};

/// Eight bytes of a role word, then a pair's entry as JSON.
pub fn state(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Record>(bytes);
    let Some((word, json)) = bytes.split_first_chunk() else { return };
    let word = RoleWord(u64::from_le_bytes(*word));
    let saved = serde_json::from_slice::<Saved>(json).ok();
    let settings = Settings {
        timeout: Duration::from_millis(20),
        start: Duration::from_secs(60),
        handover: Duration::from_millis(20),
        auto_replace: true,
        mirror: true,
        gate: true,
    };
    for word in [Some(word), None] {
        let now = 1_000_000_000;
        let (mut state, _) =
            State::begin(settings, &Found { saved: saved.clone(), word, tripped: Epoch(1) }, now);
        for round in 1..4 {
            let now = now + round * 50_000_000;
            let signs =
                Signs { last: now, streak_since: 1, state: Some(heartbeat::State::Serving), boot_id: round };
            let looked = Event::Observed { signs: [signs, Signs::default()], tripped: Epoch(round) };
            for event in
                [Event::Reachable, Event::Running { list: vec![(Slot::Zero, round)], asked_at: now }, looked]
            {
                state = step(state, event, now).0;
                assert!(state.next_look(now) >= now);
            }
        }
    }
}
