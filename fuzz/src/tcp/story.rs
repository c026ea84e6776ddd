//! A story: who does what when, as the bytes say it; and at its end, nobody may hang.

use hotpair_abi::tcp::connection::{Connection, QUEUED, Scene};
use hotpair_abi::tcp::stream::{ANEW, DIFFER};

use super::endpoint::{Endpoint, Habits, State};
use super::frame::{Frame, Layout};
use super::input::Input;
use super::plane::{Beat, Came, Plane};
use super::promises::Promises;

pub(super) const MS: u64 = 1_000_000;

/// The largest payload on the wire, and of a guest's segment that the network card cuts.
const MSS: u32 = 1_400;
const LARGE: u32 = 60_000;

/// Where segments wait: three ways to the data plane, three from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    OfClient,
    OfMember(usize),
    ToClient,
    ToMember(usize),
}

const WAYS: [Way; 6] =
    [Way::OfClient, Way::OfMember(0), Way::OfMember(1), Way::ToClient, Way::ToMember(0), Way::ToMember(1)];

/// What a story has besides, by bits of its first byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Besides {
    /// What the members send is compared.
    pub(super) compare: bool,
    /// The first answer is heard.
    pub(super) first: bool,
    /// The driver keeps no metadata.
    pub(super) unplanned: bool,
    /// Switchovers drain, and the configuration changes.
    pub(super) drains: bool,
    /// Much is sent, in segments that the network card cuts.
    pub(super) large: bool,
    /// One member's server answers otherwise, from somewhere on.
    pub(super) differs: bool,
}

impl Besides {
    pub(super) fn of(bits: u8) -> Besides {
        let has = |bit: u8| bits >> bit & 1 != 0;
        Besides {
            compare: has(2),
            first: has(3),
            unplanned: has(4),
            drains: has(5),
            large: has(6),
            differs: has(7),
        }
    }
}

pub(super) struct Story {
    pub(super) plane: Plane,
    pub(super) scene: Scene,
    /// Whom the controller has made the primary: in a handover, the one that is left.
    pub(super) active: u32,
    pub(super) besides: Besides,
    pub(super) client: Endpoint,
    pub(super) members: [Endpoint; 2],
    /// Whether there is a member in this slot.
    pub(super) there: [bool; 2],
    pub(super) habits: [Habits; 2],
    /// What the servers do: the first bytes of themselves, so many for each byte received, and when they close.
    greeting: u32,
    answers: u32,
    closes_at: u32,
    /// From where on the second one's bytes are others, counted from its SYN.
    pub(super) differs_at: u32,
    pub(super) waiting: [Vec<Frame>; 6],
    pub(super) promises: Promises,
}

/// Tells one.
pub(super) fn tell(input: &mut Input<'_>, wild: bool, besides: Besides) {
    let mut story = Story::begin(input, wild, besides);
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        story.happens(input);
        story.look();
    }
    story.ends();
}

fn habits(input: &mut Input<'_>, most: u32) -> Habits {
    let bits = input.byte();
    let layout = [Layout::Aligned, Layout::Aligned, Layout::Dense, Layout::Odd][usize::from(bits >> 2 & 3)];
    Habits {
        stamps: bits & 1 == 0,
        sack: bits & 2 == 0,
        shift: (bits & 16 == 0).then(|| u32::from(input.byte() % 15)),
        layout,
        room: [65_535, 3_000, 1_000_000, 20_000][usize::from(bits >> 5 & 3)],
        most,
        isn: input.word(),
        clock: input.word(),
    }
}

impl Story {
    fn begin(input: &mut Input<'_>, wild: bool, besides: Besides) -> Story {
        let most = if besides.large { LARGE } else { MSS };
        let [client, zero, one] = [habits(input, MSS), habits(input, most), habits(input, most)];
        // Members are clones of one image: what they agree to is the same, but for what is meant to differ.
        let alike = input.below(8) != 0;
        let one = if alike {
            Habits { stamps: zero.stamps, shift: zero.shift, sack: zero.sack, ..one }
        } else {
            one
        };
        let scene = Scene {
            protect: 1,
            gate: u32::from(input.below(8) != 0),
            compare: besides.compare.into(),
            first: besides.first.into(),
            now_ns: 1_000_000 * MS,
            lag_limit_ns: 10 * MS,
            close_limit_ns: 5_000 * MS,
            ..Scene::default()
        };
        let much = if besides.large { 200 } else { 1 };
        let story = Story {
            plane: Plane::new(!besides.unplanned),
            scene,
            active: 0,
            besides,
            client: Endpoint::new(client),
            members: [Endpoint::new(zero), Endpoint::new(one)],
            there: [true; 2],
            habits: [zero, one],
            greeting: u32::from(input.byte() & 3) * 500 * much,
            answers: u32::from(input.byte() % 3),
            closes_at: u32::from(input.byte()) * 100,
            differs_at: u32::MAX,
            waiting: Default::default(),
            promises: Promises::new(wild, &besides),
        };
        if !besides.differs {
            return story;
        }
        let differs_at = [1, 1, 2, 9, 200, 1_400, 5_000, 70_000][input.below(8)];
        Story { differs_at, ..story }
    }

    pub(super) fn differs(&self) -> bool {
        self.differs_at != u32::MAX
    }

    /// A byte of a member's stream, by its place.
    fn byte(slot: usize, differs_at: u32, at: u32) -> u8 {
        let byte = (at.wrapping_mul(0x9e37_79b1) >> 24) as u8;
        if slot == 1 && at >= differs_at { !byte } else { byte }
    }

    pub(super) fn now_ms(&self) -> u32 {
        (self.scene.now_ns / MS) as u32
    }

    pub(super) fn enqueue(&mut self, way: Way, frame: Option<Frame>) {
        if let Way::OfMember(slot) | Way::ToMember(slot) = way
            && !self.there[slot]
        {
            return;
        }
        let place = WAYS.iter().position(|w| *w == way).expect("a way");
        // A queue that is full loses what comes.
        if self.waiting[place].len() < 64 {
            self.waiting[place].extend(frame);
        }
    }

    /// The application of a server: deterministic, the same on each member.
    pub(super) fn serve(&mut self, slot: usize) {
        let member = &mut self.members[slot];
        if member.state != State::Open {
            return;
        }
        let received = member.rcv.saturating_sub(1 + u32::from(member.has_end()));
        member.written = 1 + self.greeting + received * self.answers;
        member.closing = member.has_end() || (self.closes_at > 0 && received >= self.closes_at);
        if self.closes_at > 0 && received >= self.closes_at {
            member.written = 1 + self.greeting + self.closes_at * self.answers;
        }
    }

    /// A segment goes where it is headed.
    fn carry(&mut self, way: Way, frame: &Frame) {
        let now = self.now_ms();
        match way {
            Way::OfClient => {
                let copies = self.plane.client_says(&self.scene, frame);
                for (slot, copy) in copies.into_iter().enumerate() {
                    if let Some(copy) = copy.filter(|_| self.there[slot]) {
                        self.hand(slot, copy.frame, &copy.scene);
                    }
                }
            }
            Way::OfMember(slot) => {
                if !self.there[slot] {
                    return;
                }
                let before = self.plane.row;
                let frame = Frame { sender: Some(slot), ..frame.clone() };
                let byte = |at| Self::byte(slot, self.differs_at, at);
                let Came { client, told, scene, compared } =
                    self.plane.member_says(&self.scene, slot as u32, &frame, byte);
                match compared {
                    DIFFER => self.promises.found_to_differ(self),
                    ANEW => self.promises.compares_not_all(),
                    _ => {}
                }
                if let Some(frame) = client {
                    self.heard(&before, frame, &scene);
                }
                if let Some((slot, frame)) = told {
                    self.hand(slot as usize & 1, frame, &scene);
                }
            }
            Way::ToClient => {
                let had = self.client.has();
                let said = self.client.receive(frame, now);
                if frame.payload > 0 && self.client.has() > had {
                    self.promises.gets(frame.sender);
                }
                self.enqueue(Way::OfClient, said);
            }
            Way::ToMember(slot) => {
                if self.there[slot] {
                    let said = self.members[slot].receive(frame, now);
                    self.serve(slot);
                    self.enqueue(Way::OfMember(slot), said);
                }
            }
        }
    }

    /// The client is sent something.
    fn heard(&mut self, before: &Connection, frame: Frame, scene: &Scene) {
        let mut promises = self.promises.clone();
        promises.hears(self, before, &frame, scene);
        self.promises = promises;
        self.enqueue(Way::ToClient, Some(frame));
    }

    pub(super) fn hand(&mut self, slot: usize, frame: Frame, scene: &Scene) {
        let promises = self.promises.clone();
        promises.handed(self, slot, &frame, scene);
        self.enqueue(Way::ToMember(slot), Some(frame));
    }

    /// Time passes, and with it heartbeats: who waits for a late standby is looked at again.
    pub(super) fn pass(&mut self, ns: u64) {
        self.scene.now_ns += ns;
        let (before, scene) = (self.plane.row, self.scene);
        match self.plane.beat(&scene) {
            Beat::Nothing => {}
            Beat::Client(frame) => self.heard(&before, frame, &scene),
            Beat::Speaker(frame) => {
                let speaker = scene.speaker as usize;
                if self.there[speaker] {
                    self.hand(speaker, frame, &scene);
                }
            }
        }
    }

    fn happens(&mut self, input: &mut Input<'_>) {
        let now = self.now_ms();
        let what = input.byte();
        let slot = usize::from(what >> 7);
        match what & 31 {
            0 | 1 => {
                self.client.written += if self.client.closing { 0 } else { u32::from(input.byte()) * 16 };
                let frame = self.client.connect(now).or_else(|| self.client.send(2000, now));
                self.enqueue(Way::OfClient, frame);
            }
            2 => {
                let frame = self.client.send(u32::from(input.byte()) + 1, now);
                self.enqueue(Way::OfClient, frame);
            }
            3 => {
                let frame = self.client.again(now);
                self.enqueue(Way::OfClient, frame);
            }
            4 => {
                let frame = self.client.acknowledge(now);
                self.enqueue(Way::OfClient, frame);
            }
            5 => self.client.closing = self.client.state == State::Open,
            6..=8 => {
                let unit = if self.besides.large { 256 } else { 8 };
                let frame = self.members[slot].send(u32::from(input.byte()) * unit + 1, now);
                self.enqueue(Way::OfMember(slot), frame);
            }
            9 => {
                let frame = self.members[slot].again(now);
                self.enqueue(Way::OfMember(slot), frame);
            }
            10 | 11 => {
                let frame = self.members[slot].acknowledge(now);
                self.enqueue(Way::OfMember(slot), frame);
            }
            12..=17 => self.travel(input),
            18..=22 => self.flow(),
            23 => self.pass(u64::from(input.byte()) * MS),
            24 => self.pass(6_000 * MS),
            25 => self.turn(slot, input),
            26 => {
                self.scene.protect = u32::from(input.yes() && self.there == [true; 2]);
                self.scene.gate &= self.scene.protect;
                if self.scene.protect == 0 {
                    // Nor is there anybody to be compared with.
                    self.promises.compares_not_all();
                }
            }
            27 => self.nudge(),
            28 => {
                self.promises.somebody_resets();
                let frame = self.members[slot].abort(now);
                self.enqueue(Way::OfMember(slot), frame);
            }
            29 => {
                let rooms = [0, 1_000, 65_535, 500_000];
                let room = rooms[input.below(4)];
                match input.below(3) {
                    2 => self.client.habits.room = room,
                    slot => self.members[slot].habits.room = room,
                }
            }
            30 if self.besides.drains => self.drain(input),
            31 if self.besides.large && !self.promises.wild() => self.downloads(input),
            _ if self.promises.wild() => self.wild(slot, input),
            _ => {}
        }
    }

    /// One of those that wait: on its way, lost, doubled, or late.
    fn travel(&mut self, input: &mut Input<'_>) {
        let bits = usize::from(input.byte());
        let place = bits % WAYS.len();
        if self.waiting[place].is_empty() {
            return;
        }
        let which = (bits >> 6) % self.waiting[place].len();
        let frame = self.waiting[place].remove(which);
        match bits >> 3 & 3 {
            0 => {}
            1 => {
                self.carry(WAYS[place], &frame);
                self.carry(WAYS[place], &frame);
            }
            _ => self.carry(WAYS[place], &frame),
        }
    }

    /// All that wait, in order.
    pub(super) fn flow(&mut self) {
        for way in WAYS {
            self.flow_on(way);
        }
    }

    /// All that wait on one way.
    pub(super) fn flow_on(&mut self, way: Way) {
        let place = WAYS.iter().position(|w| *w == way).expect("a way");
        for frame in std::mem::take(&mut self.waiting[place]) {
            self.carry(way, &frame);
        }
    }

    pub(super) fn look(&self) {
        let entries = usize::from(self.plane.row.has(QUEUED));
        assert_eq!(self.plane.late.len(), entries, "what stands in the queue stands there once");
        if !self.promises.wild() {
            self.promises.looked_at(self);
        }
    }
}
