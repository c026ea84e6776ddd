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
        let active = self.active as usize;
        match input.below(4) {
            // The primary dies, and the standby is there.
            0 | 1 if self.there == [true; 2] => {
                self.dies(active);
                self.change(self.active ^ 1);
                match input.below(4) {
                    1 => self.nudge(),
                    3 => self.nudge_without_controller(),
                    _ => {}
                }
            }
            // Switched in good order.
            2 if self.there == [true; 2] => {
                self.change(self.active ^ 1);
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
            _ if self.there[active ^ 1] && slot == 1 => {
                self.dies(active ^ 1);
                self.change(self.active);
            }
            _ => {}
        }
    }

    /// Nothing that was on its way to it or from it arrives.
    fn dies(&mut self, slot: usize) {
        self.there[slot] = false;
        self.waiting[1 + slot].clear();
        self.waiting[4 + slot].clear();
        (self.scene.protect, self.scene.gate) = (0, 0);
    }

    /// The controller says who is active. A handover ends with that, whatever came of it.
    pub(super) fn change(&mut self, active: u32) {
        self.scene.handover = 0;
        if active != self.scene.speaker || active != self.plane.row.speaker {
            let slot = active as usize;
            let goes_on = self.plane.row.survives(active, &self.scene) && self.there[slot];
            self.promises.turned(goes_on);
        }
        (self.active, self.scene.speaker) = (active, active);
    }

    /// A planned change, step by step, and what else the controller decides.
    pub(super) fn drain(&mut self, input: &mut Input<'_>) {
        let may_begin = self.scene.handover == 0 && self.there == [true; 2];
        match input.below(8) {
            // It begins, with or without having waited until nobody is behind.
            0 if may_begin => self.scene.handover = self.scene.protect,
            1 if may_begin && !self.plane.row.is_behind(&self.scene) => {
                self.scene.handover = self.scene.protect;
            }
            // The conversation goes over.
            2 | 3 if self.scene.handover != 0 => {
                self.scene.speaker = self.active ^ 1;
                self.promises.goes_over();
            }
            // It ends.
            4 if self.scene.handover != 0 => {
                self.change(self.active ^ 1);
                self.nudge();
            }
            // Nobody has ended it in time, or a controller takes it back.
            5 if self.scene.handover != 0 => self.change(self.active),
            6 => self.plane.full ^= true,
            // Configured otherwise.
            7 => match input.below(4) {
                0 => {
                    self.scene.first ^= 1;
                    self.promises.hears_both();
                }
                1 => {
                    self.scene.compare ^= 1;
                    self.promises.compares_not_all();
                }
                _ => self.scene.lag_limit_ns = MS * u64::from(input.byte()),
            },
            _ => {}
        }
    }

    /// The client gets much, and the standby does not come to say anything.
    pub(super) fn downloads(&mut self, input: &mut Input<'_>) {
        let speaker = self.scene.speaker as usize;
        for _ in 0..=input.below(16) {
            let now = self.now_ms();
            self.serve(speaker);
            while let Some(frame) = self.members[speaker].send(u32::MAX, now) {
                self.enqueue(Way::OfMember(speaker), Some(frame));
            }
            for way in [Way::OfMember(speaker), Way::ToClient] {
                self.flow_on(way);
            }
            let said = self.client.acknowledge(now);
            self.enqueue(Way::OfClient, said);
            for way in [Way::OfClient, Way::ToMember(speaker)] {
                self.flow_on(way);
            }
        }
    }

    /// What the controller says at a takeover.
    pub(super) fn nudge(&mut self) {
        if let Some(nudge) = self.plane.row.nudge(&self.scene) {
            self.say(&nudge);
        }
    }

    /// What the data plane says when the kernel's latch has tripped; the same.
    fn nudge_without_controller(&mut self) {
        let controllers = self.plane.row.nudge(&self.scene);
        let mut nudge = Nudge::default();
        let says = self.plane.row.turn_and_nudge(&self.scene, &mut nudge);
        assert_eq!(says.then_some(nudge), controllers);
        if says {
            self.say(&nudge);
        }
    }

    fn say(&mut self, nudge: &Nudge) {
        let (speaker, scene) = (self.scene.speaker as usize, self.scene);
        if nudge.member.any() {
            self.hand(speaker, plane::made(&nudge.member, 0), &scene);
        }
        if nudge.old_byte.any() {
            let mut old = plane::made(&nudge.old_byte, 1);
            old.truth = nudge.old_byte.seq.wrapping_sub(self.client.habits.isn);
            self.hand(speaker, old, &scene);
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
        let seq = near(input, self.plane.row.client.nxt);
        let says = Says {
            seq,
            ack: near(input, self.plane.row.half[slot].nxt),
            flags: u32::from(input.byte()),
            window: input.word() & 0xffff,
            stamps: input.yes().then(|| [near(input, self.plane.row.out.stamp), input.word()]),
            sacks: if input.yes() { vec![[seq, input.word()], [input.word(), seq]] } else { Vec::new() },
            ..Says::default()
        };
        let payload = u32::from(input.byte()) * 8;
        let frame = Frame::new(&says, Layout::Aligned, payload, 0);
        let way = if input.yes() { Way::OfClient } else { Way::OfMember(slot) };
        // The endpoints would not understand: only the data plane hears it.
        match way {
            Way::OfClient => {
                let _ = self.plane.client_says(&self.scene, &frame);
            }
            _ => {
                let _ = self.plane.member_says(&self.scene, slot as u32, &frame, |at| at as u8);
            }
        }
        self.nudge_quietly();
    }

    fn nudge_quietly(&self) {
        if let Some(nudge) = self.plane.row.nudge(&self.scene) {
            for (pure, payload) in [(&nudge.member, 0), (&nudge.old_byte, 1), (&nudge.client, 0)] {
                let _ = plane::made(pure, payload);
            }
        }
    }
}
