//! What must hold at every moment of a story, said by what the client and the members themselves know.

use hotpair_abi::tcp::connection::{Connection, FIN_SEEN, HAS_BASE, OUT_FIN, SCALED, STAMPS, Scene};
use hotpair_abi::tcp::segment::{ACK, FIN, RST, SYN};
use hotpair_abi::tcp::stream::NO_MILESTONE;
use hotpair_abi::tcp::verdict::{Verdict, Why};

use super::endpoint::State;
use super::frame::Frame;
use super::story::{Besides, Story};

/// What the client has been told so far.
#[derive(Clone, Debug)]
pub(super) struct Promises {
    wild: bool,
    /// Of the client's stream: acknowledged to it, and offered.
    acked: u32,
    edge: u32,
    /// The latest TSval it was sent.
    stamp: Option<u32>,
    /// Another member speaks than at first; one that could not go on has come to speak; a member is not the one that the
    /// connection began with.
    turned: bool,
    lost: bool,
    replaced: bool,
    resets: bool,
    /// Whose bytes the client has.
    got: [bool; 2],
    /// Both were heard at some time; not all that the members have sent was compared.
    first: bool,
    skipped: bool,
}

impl Promises {
    pub(super) fn new(wild: bool, besides: &Besides) -> Promises {
        Promises {
            wild,
            acked: 0,
            edge: 0,
            stamp: None,
            turned: false,
            lost: false,
            replaced: false,
            resets: false,
            got: [false; 2],
            first: besides.first,
            skipped: !besides.compare,
        }
    }

    pub(super) fn wild(&self) -> bool {
        self.wild
    }

    /// Another member speaks from now on, which could go on with the connection or not.
    pub(super) fn turned(&mut self, goes_on: bool) {
        self.turned = true;
        self.lost |= !goes_on;
    }

    /// In a handover, another member speaks as soon as it can go on. So nothing is lost by that.
    pub(super) fn goes_over(&mut self) {
        self.turned = true;
    }

    pub(super) fn replaced(&mut self) {
        self.replaced = true;
    }

    /// A server's process was killed.
    pub(super) fn somebody_resets(&mut self) {
        self.resets = true;
    }

    /// Both members are heard from now on.
    pub(super) fn hears_both(&mut self) {
        self.first = true;
    }

    /// What the members send is not compared for a while.
    pub(super) fn compares_not_all(&mut self) {
        self.skipped = true;
    }

    /// The data plane says that the members differ.
    pub(super) fn found_to_differ(&self, story: &Story) {
        assert!(self.wild || story.differs(), "the members say the same: {}", story.describe());
    }

    /// The client gets bytes of this member that it did not have.
    pub(super) fn gets(&mut self, sender: Option<usize>) {
        if let Some(slot) = sender {
            self.got[slot] = true;
        }
    }

    /// A segment is on its way to the client. `before`: the row as it was. `scene`: what it was decided by.
    pub(super) fn hears(&mut self, story: &Story, before: &Connection, frame: &Frame, scene: &Scene) {
        assert!(frame.is_right(), "a wrong checksum: {frame:02x?}");
        if self.wild {
            return;
        }
        let says = frame.says();
        let (row, client) = (&story.plane.row, &story.client);
        if says.flags & RST != 0 {
            // A new primary that does not get to where it could be compared, or ends before, is not heard.
            let unproven = self.turned && row.why == Why::Payload as u32;
            let why = self.lost
                || self.replaced
                || self.resets
                || unproven
                || story.differs()
                || row.verdict == Verdict::Diverged as u32;
            assert!(why, "reset without a reason: {}", story.describe());
            return;
        }
        if says.flags & SYN != 0 {
            self.edge = self.edge.max(1 + says.window);
        }
        if says.flags & ACK == 0 || says.flags & SYN != 0 {
            return;
        }
        let ack = says.ack.wrapping_sub(client.habits.isn);
        assert!(ack <= client.nxt, "acknowledged {ack}, sent {}: {}", client.nxt, story.describe());
        let standby = scene.speaker as usize ^ 1;
        // After two takeovers in silence the speaker may be one that knows nothing; what the standby says of both is of the one
        // before.
        let gated = scene.gate != 0
            && row.is_protected(scene)
            && row.knows(scene.speaker, scene)
            && before.verdict == Verdict::InSync as u32;
        if gated {
            let both = story.members.iter().map(|member| member.rcv).min().expect("two");
            assert!(
                ack <= self.acked.max(both),
                "acknowledged {ack}, the standby has {}: {}",
                story.members[standby].rcv,
                story.describe()
            );
        }
        self.acked = self.acked.max(ack);
        // The window: never beyond what those that count have offered.
        let shift = if row.has(SCALED) { story.base().habits.shift.unwrap_or(0) } else { 0 };
        let right = ack + (says.window << shift);
        let speaker = story.members[standby ^ 1].edge;
        let offered = if gated { speaker.min(story.members[standby].edge) } else { speaker };
        // What was said while nobody waited for the standby stays said, whether the client has heard it or not.
        let said = before.out.right.wrapping_sub(client.habits.isn);
        if !self.turned {
            assert!(right <= self.edge.max(offered).max(said), "{right} of {offered}: {}", story.describe());
        }
        self.edge = self.edge.max(right);
        if let Some([value, _]) = says.stamps.filter(|_| row.has(STAMPS)) {
            let last = self.stamp.unwrap_or(value);
            assert!(value.wrapping_sub(last) as i32 >= 0, "TSval goes back: {}", story.describe());
            self.stamp = Some(value);
        }
        if frame.payload > 0 && client.state == State::Open && row.verdict != Verdict::Lost as u32 {
            assert_eq!(
                frame.truth,
                says.seq.wrapping_sub(client.peer),
                "another place: {}",
                story.describe()
            );
        }
        let first = says.flags & FIN != 0 && !before.has(OUT_FIN);
        if first && row.verdict == Verdict::InSync as u32 && !self.turned && gated {
            let closed = story
                .members
                .iter()
                .all(|member| member.nxt == member.written + 1 || member.state == State::Reset);
            assert!(closed, "a FIN of one alone: {}", story.describe());
        }
    }

    /// A segment is on its way to the member in this slot. `scene`: what it was decided by.
    pub(super) fn handed(&self, story: &Story, slot: usize, frame: &Frame, scene: &Scene) {
        assert!(frame.is_right(), "a wrong checksum: {frame:02x?}");
        let (row, member, client) = (&story.plane.row, &story.members[slot], &story.client);
        let says = frame.says();
        let knows = row.knows(slot as u32, scene) && row.verdict != Verdict::Lost as u32;
        if self.wild || says.flags & (SYN | RST) != 0 || member.state == State::Closed || !knows {
            return;
        }
        if matches!(member.state, State::Reset) || says.flags & ACK == 0 {
            return;
        }
        if !row.has(HAS_BASE) || (client.state != State::SynSent && client.peer != row.half(row.base).isn) {
            // A SYN that came late has begun the row anew, which its connection does not outlive.
            return;
        }
        let ack = says.ack.wrapping_sub(member.habits.isn);
        assert!(ack > 0, "slot {slot} is answered in the client's name: {}", story.describe());
        assert!(
            ack <= member.nxt,
            "slot {slot} is told {ack}, has sent {}: {}",
            member.nxt,
            story.describe()
        );
        // A client that learned its numbers from the other member has what it says in its own numbers.
        if client.state == State::Open {
            assert!(
                ack <= client.rcv.max(1),
                "slot {slot} is told {ack}, the client has {}: {}",
                client.rcv,
                story.describe()
            );
        }
        if let Some([_, echo]) = says.stamps.filter(|[_, echo]| *echo != 0) {
            let now = member.habits.clock.wrapping_add((story.scene.now_ns / 1_000_000) as u32);
            assert!(now.wrapping_sub(echo) as i32 >= 0, "an echo of the future: {}", story.describe());
        }
        for [left, right] in says.sacks {
            let [left, right] = [left, right].map(|edge| edge.wrapping_sub(member.habits.isn));
            assert!(
                left <= right && right <= member.nxt,
                "a block of what was not sent: {}",
                story.describe()
            );
        }
        // Who is heard is not held, be it the standby (`answer = "first"`).
        let answers = scene.speaker == slot as u32 || row.both_answer(scene);
        if !answers && !self.turned && row.verdict == Verdict::InSync as u32 {
            let shift = story.client_shift();
            let right = ack + (says.window << shift);
            // What the client has; once the primary has closed, all of the stream.
            let primary = &story.members[slot ^ 1];
            let closed = row.half(slot as u32 ^ 1).flags & FIN_SEEN != 0;
            let most = if closed { primary.nxt + (1 << shift) } else { client.rcv };
            // Asked for the rest of a unit, when the client has all that was said.
            let rest = if row.client.ack == row.out.nxt && says.window == 1 { (1 << shift) - 1 } else { 0 };
            assert!(right <= most.max(1) + rest, "the standby may send up to {right}: {}", story.describe());
        }
    }

    /// Between two steps.
    pub(super) fn looked_at(&self, story: &Story) {
        let (row, scene) = (&story.plane.row, &story.scene);
        // In a handover, the old primary speaks until the new one can go on.
        let standby = row.speaker as usize ^ 1;
        if row.has(HAS_BASE)
            && story.there[standby]
            && (row.speaker == scene.speaker || scene.handover != 0)
            && row.survives(standby as u32, scene)
        {
            // No acknowledged byte is lost, whenever the primary dies.
            let has = story.members[standby].rcv;
            assert!(has >= self.acked, "the standby has {has}: {}", story.describe());
        }
        // Nothing is lost but by another one who speaks and cannot go on. In a handover nobody does.
        let lost = row.verdict == Verdict::Lost as u32 && row.why != Why::Payload as u32;
        assert!(!lost || self.lost, "lost without a reason: {}", story.describe());
        if self.skipped {
            return;
        }
        // What differs is found as soon as both have said it.
        let [a, b] = &row.half;
        let said =
            a.sum.pos == b.sum.pos && row.milestone_of == NO_MILESTONE && a.sum.pos >= story.differs_at;
        assert!(!said || row.verdict != Verdict::InSync as u32, "they differ: {}", story.describe());
        // Of a server that answers otherwise from its first byte on the client gets nothing beside the other one's. Where both are
        // heard it may, if what the first one has said is lost on its way.
        if story.differs_at <= 1 && !self.first {
            assert!(self.got != [true; 2], "the client has bytes of both: {}", story.describe());
        }
    }
}
