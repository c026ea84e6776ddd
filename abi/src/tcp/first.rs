//! The first answer wins (`answer = "first"`, for services whose answers are equal): whichever member produces a byte first
//! is heard with it, and the other one's copy is not. A primary that dies then costs an asking client nothing: the standby
//! has asked nobody before it answers.
//!
//! The standby is not held by its window then. Everything else stays: the gate, the comparison (which ends this for a
//! connection at the first difference), and who acknowledges.

use crate::count::Counter;
use crate::tcp::connection::{Connection, FIN_SEEN, Scene};
use crate::tcp::edit::SACK_DROP;
use crate::tcp::from_member::{EDIT, NOTHING, Outcome};
use crate::tcp::segment::{FIN, Segment};
use crate::tcp::seq::after;

impl Connection {
    /// Whether both members are heard.
    #[inline(always)]
    #[must_use]
    pub const fn both_answer(&self, scene: &Scene) -> bool {
        scene.first != 0 && self.is_gated(scene)
    }

    /// Whether this segment of the standby is an answer that the client shall have: it is the first to say so, or says it again
    /// because the client may not have got it.
    #[inline(always)]
    #[must_use]
    pub const fn is_answer(&self, slot: u32, segment: &Segment, fresh: u32, scene: &Scene) -> bool {
        if segment.payload == 0 || !self.both_answer(scene) {
            return false;
        }
        let end = segment.seq.wrapping_add(segment.payload).wrapping_sub(self.offset(slot));
        after(end, self.out.nxt) || (fresh == 0 && after(end, self.client.ack))
    }

    /// A segment of the standby that is heard.
    #[inline(always)]
    pub fn answer(&mut self, slot: u32, segment: &Segment, scene: &Scene, out: &mut Outcome) {
        if !self.is_answer(slot, segment, out.fresh, scene) {
            // Not any more: since it was decided, the speaker has been found to answer otherwise, or has said this itself.
            out.next = NOTHING;
            return;
        }
        let speaker = slot ^ 1;
        let ack = self.joint_ack(true, scene);
        let right = self.joint_right(true, scene);
        let edit = &mut out.edit;
        edit.seq = segment.seq.wrapping_sub(self.offset(slot));
        edit.stamps = self.stamps(slot, segment);
        edit.ack = ack;
        edit.window = self.window(ack, right);
        edit.sack = SACK_DROP;
        // The end of it both have to say.
        if self.half(speaker).flags & FIN_SEEN == 0 || self.fin(speaker) != self.fin(slot) {
            edit.flags &= !FIN;
        }
        out.how = EDIT;
        out.why = Counter::TcpAnsweredFirst as u32;
        let edit = out.edit;
        let end = edit.seq.wrapping_add(segment.payload).wrapping_add(edit.flags & FIN);
        self.said(&edit, end);
    }
}
