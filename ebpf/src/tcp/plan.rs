//! A client's segment, planned where it arrives (`hotpair_abi::tcp::plan`) and written where its copies leave.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use hotpair_abi::count::Counter;
use hotpair_abi::maps::Pair;
use hotpair_abi::tcp::connection::{Connection, Scene};
use hotpair_abi::tcp::plan::{ECHO, MAGIC, Plan, UNPLANNED, fate};
use hotpair_abi::tcp::segment::Segment;
use hotpair_abi::tcp::to_member::EDITED_LATE;
use hotpair_abi::{RoleWord, Slot};

use crate::count::{NO_PAIR, count, row};
use crate::packet::XdpFrame;
use crate::tcp::{Scratch, late, locked, turns_back};
use crate::{maps, role};

/// Notes the segment in the scratch, which begins at `l4`, and plans both of its copies. `None`: neither was done, or `to_guest`
/// is to look at each copy itself; noting it again does no harm.
#[inline(never)]
pub fn plan(frame: XdpFrame, l4: u32, pair: *mut Pair, connection: *mut Connection) -> Option<()> {
    let scratch = maps::scratch()?;
    if !scratch.segment.is_plain() || maps::host()?.keeps_metadata == 0 {
        return None;
    }
    plan_plain(scratch, frame, l4, pair, connection, |connection, segment, mac, scene| {
        connection.from_client_at(segment, mac, scene.now_ns);
        true
    })
}

/// As [`plan`], for a segment that is plain, where metadata is kept. `note` says whether what it has noted will do.
#[inline(always)]
pub fn plan_plain(
    scratch: &mut Scratch,
    frame: XdpFrame,
    l4: u32,
    pair: *mut Pair,
    connection: *mut Connection,
    note: impl FnOnce(&mut Connection, &Segment, [u8; 6], &Scene) -> bool,
) -> Option<()> {
    // First: what the driver cannot do is not planned twice.
    frame.make_metadata::<Plan>()?;
    scratch.plan.begin([role::tap(pair, 0), role::tap(pair, 1)], l4 as u8, &scratch.segment);
    let [zero, one] = &mut scratch.edits;
    let hows = locked(connection, |connection| {
        if turns_back(connection, &scratch.scene, pair)
            || !note(connection, &scratch.segment, scratch.mac, &scratch.scene)
        {
            return [UNPLANNED; 2];
        }
        connection.settle(&mut scratch.scene);
        [
            connection.to_copy(0, &scratch.segment, &scratch.scene, zero),
            connection.to_copy(1, &scratch.segment, &scratch.scene, one),
        ]
    });
    scratch.hows = hows;
    enter(0, scratch);
    enter(1, scratch);
    let to = frame.metadata::<Plan>()?;
    // SAFETY: `metadata` has checked that it lies in front of the frame.
    unsafe { to.write(scratch.plan) };
    (scratch.plan.magic == MAGIC).then_some(())
}

/// Enters one copy into the plan.
#[inline(always)]
fn enter(slot: u32, scratch: &mut Scratch) {
    let how = scratch.hows[slot as usize];
    if how == UNPLANNED {
        scratch.plan.magic = 0;
        return;
    }
    if how == EDITED_LATE {
        late::push(scratch);
    }
    scratch.plan.enter(slot, how, &scratch.edits[slot as usize], &scratch.segment);
}

/// Counts what becomes of both copies. Who is muted gets none.
#[inline(always)]
pub fn tell(id: u32, word: RoleWord, scratch: &Scratch) {
    if !word.muted(Slot::Zero) {
        tell_one(id, 0, scratch);
    }
    if !word.muted(Slot::One) {
        tell_one(id, 1, scratch);
    }
}

#[inline(always)]
fn tell_one(id: u32, slot: u32, scratch: &Scratch) {
    match scratch.plan.fate(slot) {
        fate::EDITED => count(row(id), Counter::TcpTranslated),
        fate::REFUSED => count(row(id), Counter::TcpNotForStandby),
        _ => {}
    }
}

/// Writes a copy by the plan that travels with it. `None`: there is none.
#[inline(always)]
pub fn write(ctx: *mut xdp_md) -> Option<u32> {
    let frame = XdpFrame(ctx);
    let plan = frame.metadata::<Plan>()?;
    // SAFETY: `metadata` has checked that it lies in front of the frame; only programs write there.
    let plan = unsafe { &*plan };
    if plan.magic != MAGIC {
        return None;
    }
    // SAFETY: the context outlives the program; devmap programs may read the egress interface.
    let tap = unsafe { (*ctx).egress_ifindex };
    let slot = (tap == plan.taps[1]) as u32;
    if slot == 0 && tap != plan.taps[0] {
        // A tap that took another's place in this very moment.
        return Some(failed(tap));
    }
    match plan.fate(slot) {
        fate::AS_IS => Some(XDP_PASS),
        fate::REFUSED => Some(XDP_DROP),
        _ => edit(frame, plan, slot).or_else(|| Some(failed(tap))),
    }
}

/// Drops a copy that could not be written. The plan has no room to say whose it is; the tap does.
#[inline(never)]
fn failed(tap: u32) -> u32 {
    count(maps::port(tap).map_or(NO_PAIR, |port| row(port.pair)), Counter::TcpRewriteFailed);
    XDP_DROP
}

#[inline(always)]
fn edit(frame: XdpFrame, plan: &Plan, slot: u32) -> Option<u32> {
    let l4 = plan.l4 as usize;
    // SAFETY: `halves` has checked that both lie within the frame, and they do not overlap.
    unsafe {
        let echo = if plan.is_stamped() { Some(&mut *frame.halves::<2>(l4 + ECHO)?) } else { None };
        plan.write(slot, &mut *frame.halves::<10>(l4)?, echo);
    }
    Some(XDP_PASS)
}
