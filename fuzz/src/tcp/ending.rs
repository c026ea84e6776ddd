//! The end of a story: no more is lost, and nobody may hang.

use hotpair_abi::tcp::connection::{CLOSED, HELD, RST_SEEN};
use hotpair_abi::tcp::verdict::Verdict;

use super::endpoint::{Endpoint, State};
use super::story::{MS, Story, Way};

impl Story {
    /// No more is lost, everybody's timers run: the client gets all that the server has for it, or is told that it
    /// cannot.
    pub(super) fn ends(&mut self) {
        if self.promises.wild() || self.client.state == State::Closed {
            return;
        }
        // Not less than a unit of anybody's window, or it would never open: the client is told a member's in the other one's
        // units, rounded down.
        let shifts =
            [&self.client, &self.members[0], &self.members[1]].map(|end| end.habits.shift.unwrap_or(0));
        let enough = if self.besides.large { 60_000 } else { 1_000 };
        let least = 4 << shifts.into_iter().max().unwrap_or(0);
        for endpoint in self.members.iter_mut().chain([&mut self.client]) {
            endpoint.habits.room = endpoint.habits.room.max(enough).max(least);
        }
        // A handover ends, and the queue has room again.
        self.plane.full = false;
        if self.scene.handover != 0 {
            self.change(self.active ^ 1);
        }
        // Whoever was not there at a takeover comes back, and says what there is to say.
        self.nudge();
        let mut quiet = 0;
        let mut last = [0; 6];
        for _ in 0..2_000 {
            for _ in 0..4 {
                self.flow();
                self.look();
            }
            let [zero, one] = &self.members;
            let progress = [self.client.rcv, self.client.una, zero.rcv, zero.nxt, one.rcv, one.nxt];
            quiet = if progress == last { quiet + 1 } else { 0 };
            last = progress;
            if self.is_over() {
                return;
            }
            if quiet == 64 {
                assert!(self.is_unheard(), "it hangs: {}", self.describe());
                return;
            }
            self.everybody_acts(quiet > 0);
        }
        panic!("it does not end: {}", self.describe());
    }

    fn everybody_acts(&mut self, timers: bool) {
        let now = self.now_ms();
        let due = self.client.due;
        let mut sent = false;
        while let Some(frame) = self.client.send(u32::MAX, now) {
            sent = true;
            self.enqueue(Way::OfClient, Some(frame));
        }
        let frame = if due && !sent { self.client.acknowledge(now) } else { None };
        self.enqueue(Way::OfClient, frame);
        for slot in 0..2 {
            if !self.there[slot] {
                continue;
            }
            self.serve(slot);
            let (due, mut sent) = (self.members[slot].due, false);
            while let Some(frame) = self.members[slot].send(u32::MAX, now) {
                sent = true;
                self.enqueue(Way::OfMember(slot), Some(frame));
            }
            let frame = if due && !sent { self.members[slot].acknowledge(now) } else { None };
            self.enqueue(Way::OfMember(slot), frame);
        }
        if timers {
            self.pass(250 * MS);
            let now = self.now_ms();
            if !self.client.is_done() || self.client.state == State::SynSent {
                let frame = self.client.again(now);
                self.enqueue(Way::OfClient, frame);
            }
            for slot in 0..2 {
                let waits = !self.members[slot].is_done() || self.members[slot].state == State::SynReceived;
                if self.there[slot] && waits {
                    let frame = self.members[slot].again(now);
                    self.enqueue(Way::OfMember(slot), frame);
                }
            }
        }
    }

    /// The client has everything, and the server has everything of it; or it knows that there is no more.
    fn is_over(&self) -> bool {
        let server = &self.members[self.scene.speaker as usize];
        // A reset is said once. If it is lost, or not believed because more was on its way to the client, and the client has
        // nothing to ask, it waits: as in any TCP. What the other member says nobody hears.
        let gone = matches!(server.state, State::Closed | State::Reset);
        let lost =
            self.plane.row.verdict == Verdict::Lost as u32 && gone && self.client.una == self.client.nxt;
        self.client.state == State::Reset
            || lost
            || self.client.is_done() && server.is_done() && server.state == State::Open
            || self.plane.row.flags & CLOSED != 0
    }

    /// The primary's process was killed, which a kernel says once, and that is held back. The client has nothing to ask, and the
    /// standby nothing to say: it hears of it at the failover (`docs/tcp.md`).
    fn is_unheard(&self) -> bool {
        let speaker = self.scene.speaker;
        let held = self.plane.row.half(speaker).flags & (HELD | RST_SEEN) == HELD | RST_SEEN;
        held && self.members[speaker as usize].state == State::Reset && self.client.una == self.client.nxt
    }

    /// The member in whose numbers the client lives.
    pub(super) fn base(&self) -> &Endpoint {
        &self.members[self.plane.row.base as usize & 1]
    }

    /// The shift of the client's windows.
    pub(super) fn client_shift(&self) -> u32 {
        self.plane.row.client.wscale
    }

    pub(super) fn describe(&self) -> String {
        let verdict = Verdict::from_u32(self.plane.row.verdict);
        format!(
            "{verdict:?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
            self.plane.row, self.scene, self.client, self.members
        )
    }
}
