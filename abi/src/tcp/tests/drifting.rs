//! Hours of a conversation whose members' clocks run apart: what its timestamps come to, there and back again.

use super::*;
use crate::tcp::segment::PSH;
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::{Verdict, Why};

/// An hour, in the milliseconds that Linux's timestamps count.
const HOUR: u64 = 3_600_000;
/// Bytes of a request and of an answer; the latter a multiple of the client's window unit, so that none of it is held back.
const REQUEST: u32 = 10;
const ANSWER: u32 = 10 << SHIFT;

/// A kernel's end of the connection, as far as timestamps matter to it. Numbers relative to the first ones.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Its clock at the handshake, and by how much that is fast, millionths.
    zero: u32,
    ppm: i64,
    /// The latest TSval that it has sent.
    newest: u32,
    /// TS.Recent (RFC 7323 section 4.3): the latest that it has heard.
    recent: u32,
    /// The latest TSecr that it has heard.
    echo: u32,
    nxt: u32,
    una: u32,
    got: u32,
}

impl End {
    fn new(zero: u32, ppm: i64) -> End {
        End { zero, ppm, newest: zero, recent: 0, echo: zero, nxt: 1, una: 1, got: 1 }
    }

    /// Stamps a segment.
    fn stamp(&mut self, now: u64) -> [u32; 2] {
        self.newest = self.clock(now);
        [self.newest, self.recent]
    }

    fn clock(&self, now: u64) -> u32 {
        self.zero.wrapping_add((now as i64 * (1_000_000 + self.ppm) / 1_000_000) as u32)
    }

    /// Takes a segment as Linux does (`tcp_paws_check`, `tcp_ack`), or says why it does not.
    fn take(&mut self, seq: u32, ack: u32, payload: u32, stamps: [u32; 2]) {
        assert!(!after(self.recent, stamps[0]), "TSval goes back: {stamps:?} {self:?}");
        assert!(!after(stamps[1], self.newest), "an echo of what was never sent: {stamps:?} {self:?}");
        assert!(!after(ack, self.nxt), "an acknowledgement of what was never sent: {ack} {self:?}");
        (self.recent, self.echo) = (stamps[0], stamps[1]);
        self.una = later(self.una, ack);
        if seq == self.got {
            self.got += payload;
        }
    }
}

/// A client and two members, and what is between them.
struct World {
    connection: Connection,
    scene: Scene,
    client: End,
    members: [End; 2],
    base: usize,
    /// Milliseconds since the handshake.
    now: u64,
}

impl World {
    /// After the handshake. The client learns the numbers of `base`.
    fn new(base: usize, ppm: [i64; 2]) -> World {
        let scene = Wire::new().scene;
        // Every clock wraps within the hours.
        let zeros = [u32::MAX - 2 * HOUR as u32, u32::MAX - 7 * HOUR as u32];
        let mut world = World {
            connection: Connection::default(),
            scene,
            client: End::new(u32::MAX - 4 * HOUR as u32, 0),
            members: [End::new(zeros[0], ppm[0]), End::new(zeros[1], ppm[1])],
            base,
            now: 0,
        };
        let syn = header(C, 0, &Say { flags: SYN, ..say(0, 0) }, [world.client.zero, 0]);
        world.connection.begin(&Wire::read(&syn, 0), 3, world.scene.now_ns);
        for slot in [base ^ 1, base] {
            let syn_ack = Say { flags: SYN | ACK, ..say(0, 0) };
            let stamps = [zeros[slot], world.client.zero];
            let segment = Wire::read(&header(M[slot], C.wrapping_add(1), &syn_ack, stamps), 0);
            world.connection.from_member(slot as u32, &segment, &world.scene, &mut Outcome::default());
            world.members[slot].recent = world.client.zero;
        }
        world.client.recent = zeros[base];
        world.client_sends(0);
        world
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.scene.now_ns += ms * 1_000_000;
    }

    fn client_sends(&mut self, payload: u32) {
        let stamps = self.client.stamp(self.now);
        let flags = if payload > 0 { ACK | PSH } else { ACK };
        let (seq, ack) = (C.wrapping_add(self.client.nxt), M[self.base].wrapping_add(self.client.got));
        let segment = Wire::read(&header(seq, ack, &Say { flags, ..say(0, 0) }, stamps), payload);
        self.client.nxt += payload;
        self.connection.from_client(&segment, self.scene.now_ns);
        for slot in [0, 1] {
            let mut edit = Edit::default();
            let how = self.connection.to_member(slot as u32, &segment, &self.scene, &mut edit);
            assert!(how != NOT_FOR_IT, "slot {slot} is left out");
            self.member_takes(slot, edit.seq, edit.ack, payload, edit.stamps);
        }
    }

    fn member_takes(&mut self, slot: usize, seq: u32, ack: u32, payload: u32, stamps: [u32; 2]) {
        self.members[slot].take(seq.wrapping_sub(C), ack.wrapping_sub(M[slot]), payload, stamps);
    }

    /// A member acknowledges what it has, with or without payload.
    fn member_sends(&mut self, slot: usize, payload: u32) {
        let member = &mut self.members[slot];
        let stamps = member.stamp(self.now);
        let (seq, ack) = (M[slot].wrapping_add(member.nxt), C.wrapping_add(member.got));
        let segment = Wire::read(&header(seq, ack, &say(0, 0), stamps), payload);
        member.nxt += payload;
        let mut out = Outcome::default();
        self.connection.from_member(slot as u32, &segment, &self.scene, &mut out);
        if matches!(out.how, EDIT | CUT) {
            let payload = if out.how == CUT { 0 } else { payload };
            let edit = out.edit;
            let seq = edit.seq.wrapping_sub(M[self.base]);
            self.client.take(seq, edit.ack.wrapping_sub(C), payload, edit.stamps);
        }
        if out.tell_slot != NOBODY {
            let told = out.tell;
            self.member_takes(out.tell_slot as usize, told.seq, told.ack, 0, told.stamps);
        }
    }

    /// A request and its answer, by both members, with which nobody has anything left to say.
    fn exchange(&mut self, standby_first: bool) {
        let speaker = self.scene.speaker as usize;
        let standby = speaker ^ 1;
        self.client_sends(REQUEST);
        let order = if standby_first { [standby, speaker] } else { [speaker, standby] };
        self.pass(1);
        for slot in order {
            self.member_sends(slot, 0);
        }
        assert_eq!(self.client.una, self.client.nxt, "the request is acknowledged");
        self.pass(2);
        self.member_sends(speaker, ANSWER);
        assert_eq!(self.client.got, self.members[speaker].nxt, "the answer is there");
        self.client_sends(0);
        let told = self.members[speaker];
        assert_eq!(told.una, told.nxt, "and is known to be");
        assert_eq!(told.echo, told.newest, "how long it took is not mistaken");
        // The clock that the client learned first, or the one of the two that is ahead.
        let ahead = self.client.recent.wrapping_sub(self.members[self.base].clock(self.now)) as i32;
        assert!(ahead.abs() < 37_000, "{ahead} ms");
        self.pass(1);
        self.member_sends(standby, ANSWER);
        assert_eq!(self.members[standby].una, self.members[standby].nxt);
    }

    /// The other one speaks from now on, and is told so.
    fn turn(&mut self) {
        self.scene.speaker ^= 1;
        let slot = self.scene.speaker as usize;
        let nudge = self.connection.nudge(&self.scene).expect("it goes on");
        assert!(!nudge.client.any());
        for pure in [nudge.member, nudge.old_byte] {
            self.member_takes(slot, pure.seq, pure.ack, 0, pure.stamps);
        }
        self.member_sends(slot, 0);
    }
}

#[test]
fn hours_of_clocks_that_run_apart_are_nobodys_trouble_there_and_back() {
    for (base, ppm) in
        [(0, [500, -500]), (1, [500, -500]), (0, [-500, 500]), (1, [-500, 500]), (1, [500, 500])]
    {
        let mut world = World::new(base, ppm);
        let mut turns = 0;
        while world.now < 10 * HOUR {
            world.exchange(world.now.is_multiple_of(3));
            // Ten minutes in which nobody says anything, now and then; a busy second otherwise.
            let pause = match turns % 7 {
                3 => HOUR / 6,
                _ => 1_000 + world.now % 7_000,
            };
            world.pass(pause);
            // There and back, at once or after most of an hour.
            if world.now / (HOUR / 3) > turns {
                turns = world.now / (HOUR / 3);
                world.turn();
                if turns.is_multiple_of(4) {
                    world.exchange(false);
                    world.turn();
                }
            }
        }
        assert!(turns >= 29, "{turns}");
        // They are 36 seconds apart by now, or 18 from the client.
        let apart = world.members.map(|member| member.clock(world.now).wrapping_sub(member.zero));
        let apart = apart[0].abs_diff(apart[1]);
        assert!(ppm[0] == ppm[1] || (36_000..36_100).contains(&apart), "{apart} ms");
        let verdict = (world.connection.verdict, world.connection.why);
        assert_eq!(verdict, (Verdict::InSync as u32, Why::Well as u32), "base {base}, {ppm:?}");
    }
}

#[test]
fn a_clients_clock_may_go_half_way_round_while_it_says_nothing() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).at(1_000));
    // Keepalives, one byte behind: each says how late it is.
    for _ in 0..3 {
        wire.pass(600_000_000_000);
        let later = wire.connection.client.stamp.wrapping_sub(7).wrapping_add(1 << 30);
        wire.client(say(0, 1).at(later));
        assert_eq!(wire.connection.client.stamp.wrapping_sub(7), later);
    }
    // Nothing, for longer than half a round.
    wire.pass(2_200_000_000_000);
    let stamp = wire.connection.client.stamp.wrapping_sub(7).wrapping_add(0x8000_0001);
    wire.client(say(1, 1).at(stamp));
    assert_eq!(wire.connection.client.stamp.wrapping_sub(7), stamp);
    // But an old segment that was overtaken does not turn it back.
    wire.client(say(1, 1).at(stamp.wrapping_sub(10)));
    assert_eq!(wire.connection.client.stamp.wrapping_sub(7), stamp);
}
