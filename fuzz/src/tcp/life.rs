//! What happens to the pair in a story, and to connections from outside: members die, come and are switched, the
//! controller nudges, and anybody says anything.

use hotpair_abi::tcp::nudge::Nudge;

use super::endpoint::Endpoint;
use super::frame::{Frame, Layout, Says};
use super::input::Input;
use super::plane;
use super::story::{MS, Story, Way};

impl Story {
    /// The pair's life.
    pub(super) fn turn(&mut self, slot: usize, input: &mut Input<'_>) {
        let speaker = self.scene.speaker as usize;
        match input.below(4) {
            // The primary dies, and the standby is there.
            0 | 1 if self.there == [true; 2] => {
                self.there[speaker] = false;
                self.waiting[1 + speaker].clear();
                self.waiting[4 + speaker].clear();
                self.scene.speaker ^= 1;
                (self.scene.protect, self.scene.gate) = (0, 0);
                self.promises.turned();
                match input.below(4) {
                    1 => self.nudge(),
                    3 => self.nudge_without_controller(),
                    _ => {}
                }
            }
            // Switched in good order.
            2 if self.there == [true; 2] => {
                self.scene.speaker ^= 1;
                self.promises.turned();
                self.nudge();
            }
            // A new member knows nobody.
            3 if !self.there[slot] => {
                self.there[slot] = true;
                self.habits[slot].isn = input.word();
                self.members[slot] = Endpoint::new(self.habits[slot]);
                self.scene.now_ns += MS;
                self.scene.since_ns[slot] = self.scene.now_ns;
                (self.scene.protect, self.scene.gate) = (1, 1);
                self.promises.replaced();
            }
            // The standby dies.
            _ if self.there[speaker ^ 1] && slot == 1 => {
                self.there[speaker ^ 1] = false;
                self.waiting[1 + (speaker ^ 1)].clear();
                self.waiting[4 + (speaker ^ 1)].clear();
                (self.scene.protect, self.scene.gate) = (0, 0);
            }
            _ => {}
        }
    }

    /// What the controller says at a takeover.
    pub(super) fn nudge(&mut self) {
        if let Some(nudge) = self.row.nudge(&self.scene) {
            self.say(&nudge);
        }
    }

    /// What the data plane says when the kernel's latch has tripped; the same.
    fn nudge_without_controller(&mut self) {
        let controllers = self.row.nudge(&self.scene);
        let mut nudge = Nudge::default();
        let says = self.row.turn_and_nudge(&self.scene, &mut nudge);
        assert_eq!(says.then_some(nudge), controllers);
        if says {
            self.say(&nudge);
        }
    }

    fn say(&mut self, nudge: &Nudge) {
        let speaker = self.scene.speaker as usize;
        if nudge.member.any() {
            self.hand(speaker, plane::made(&nudge.member, 0));
        }
        if nudge.old_byte.any() {
            let mut old = plane::made(&nudge.old_byte, 1);
            old.truth = nudge.old_byte.seq.wrapping_sub(self.client.habits.isn);
            self.hand(speaker, old);
        }
        if nudge.client.any() {
            self.enqueue(Way::ToClient, Some(plane::made(&nudge.client, 0)));
        }
    }

    /// Anybody says anything.
    pub(super) fn wild(&mut self, slot: usize, input: &mut Input<'_>) {
        let near = |input: &mut Input<'_>, of: u32| {
            if input.yes() { of.wrapping_add(input.word() >> 16).wrapping_sub(0x8000) } else { input.word() }
        };
        let seq = near(input, self.row.client.nxt);
        let says = Says {
            seq,
            ack: near(input, self.row.half[slot].nxt),
            flags: u32::from(input.byte()),
            window: input.word() & 0xffff,
            stamps: input.yes().then(|| [near(input, self.row.out.stamp), input.word()]),
            sacks: if input.yes() { vec![[seq, input.word()], [input.word(), seq]] } else { Vec::new() },
            ..Says::default()
        };
        let payload = u32::from(input.byte()) * 8;
        let frame = Frame::new(&says, Layout::Aligned, payload, 0);
        let way = if input.yes() { Way::OfClient } else { Way::OfMember(slot) };
        // The endpoints would not understand: only the data plane hears it.
        match way {
            Way::OfClient => {
                let _ = plane::from_client(&mut self.row, &self.scene, &frame);
            }
            _ => {
                let _ = plane::from_member(&mut self.row, &self.scene, slot as u32, &frame);
            }
        }
        self.nudge_quietly();
    }

    fn nudge_quietly(&self) {
        if let Some(nudge) = self.row.nudge(&self.scene) {
            for (pure, payload) in [(&nudge.member, 0), (&nudge.old_byte, 1), (&nudge.client, 0)] {
                let _ = plane::made(pure, payload);
            }
        }
    }
}
