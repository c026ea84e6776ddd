//! At a tap's way out: what of a member's segments leaves, translated; what the client is told by a segment of the
//! standby; and what a member is told in the client's name.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_tail,
};
use hotpair_abi::checksum::fold64;
use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::maps::Pair;
use hotpair_abi::packet::{Bytes, Ip, Link};
use hotpair_abi::tcp::connection::Connection;
use hotpair_abi::tcp::from_member::{
    ANSWER, CLOSED_AGAIN, CUT, EDIT, LATE, LISTEN, NOBODY, OPENED, PASS, SHAKE, SPEAK,
};
use hotpair_abi::tcp::segment::USUAL;
use hotpair_abi::tcp::stream::{ANEW, DIFFER};
use hotpair_abi::{GATEWAY_MAC, Mac, Slot, voice};

use crate::count::{Exit, count, row};
use crate::from_guest::Member;
use crate::packet::TcFrame;
use crate::tcp::pure::{Ends, full_checksum, is_partial};
use crate::tcp::{From, Scratch, key, late, locked, lookup, news, pure, read, scene, sum, turns_back};
use crate::{maps, out, role};

/// The frame belongs to no known connection, or nothing may be decided about it now.
pub const UNKNOWN: u32 = 0;
/// What becomes of it stands in the scratch.
pub const DECIDED: u32 = 1;

/// [`act`]: the frame, ready for the client, is to be sent by the usual way out. Smaller than the word of any exit of a
/// pair.
pub const SEND: u64 = 1;

/// Decides about a member's segment, of whichever member: the standby's may tell the client something, too. Nothing is
/// decided about a connection while the pair's voice may not be heard at all.
#[inline(never)]
pub fn decide(frame: TcFrame, link: &Link, ip: &Ip, member: &Member) -> u32 {
    let word = member.word;
    let tripped = role::tripped(member.pair);
    // Looked up once: it may go over in this very moment, and then two answers would not fit together.
    let taken = word.handover() && out::taken(frame, ip, word);
    let speaker = voice::active(word, tripped) as u32 ^ taken as u32;
    let slot = Slot::from_bit(speaker as u64);
    let lease = role::lease(member.pair);
    if voice::may_speak(word, tripped, slot, lease, role::now_ns, || taken).is_err() {
        return UNKNOWN;
    }
    let Some(scratch) = maps::scratch() else {
        return UNKNOWN;
    };
    if read(&frame, ip, scratch).is_none() {
        count(row(member.port.pair), Counter::TcpMalformed);
        return UNKNOWN;
    }
    key(scratch, ip, &link.tags, From::Member);
    let Some(connection) = lookup(scratch) else {
        return UNKNOWN;
    };
    scene(scratch, member.pair, word, speaker, role::now_ns());
    let slot = member.port.slot & 1;
    let payload = ip.l4 as u32 + scratch.segment.header;
    sum::compare(frame, payload, connection, slot, scratch);
    hear(connection, slot, scratch, member.pair);
    match scratch.outcome.next {
        SPEAK => speak(connection, slot, scratch),
        LISTEN => listen(connection, slot, scratch),
        ANSWER => answer(connection, slot, scratch),
        SHAKE => shake(connection, slot, scratch),
        _ => {}
    }
    if scratch.outcome.tell_slot != NOBODY {
        tells(connection, scratch);
    }
    DECIDED
}

// The steps of `Connection::from_member`, each a function of its own under a lock of its own: see there.

#[inline(never)]
fn hear(connection: *mut Connection, slot: u32, scratch: &mut Scratch, pair: *mut Pair) {
    scratch.mac = locked(connection, |connection| {
        connection.settle(&mut scratch.scene);
        if turns_back(connection, &scratch.scene, pair) {
            // Of the speaker that was. What it says is said again, by the one that is.
            scratch.outcome.nothing();
            return connection.mac;
        }
        connection.hear(slot, &scratch.segment, &scratch.scene, &mut scratch.outcome);
        connection.mac
    });
}

#[inline(never)]
fn shake(connection: *mut Connection, slot: u32, scratch: &mut Scratch) {
    locked(connection, |connection| {
        connection.syn_ack(slot, &scratch.segment, &scratch.scene, &mut scratch.outcome);
    });
}

#[inline(never)]
fn speak(connection: *mut Connection, slot: u32, scratch: &mut Scratch) {
    locked(connection, |connection| {
        connection.speak(slot, &scratch.segment, &scratch.scene, &mut scratch.outcome);
    });
}

#[inline(never)]
fn listen(connection: *mut Connection, slot: u32, scratch: &mut Scratch) {
    locked(connection, |connection| {
        connection.listen(slot, &scratch.segment, &scratch.scene, &mut scratch.outcome);
    });
}

#[inline(never)]
fn answer(connection: *mut Connection, slot: u32, scratch: &mut Scratch) {
    locked(connection, |connection| {
        connection.answer(slot, &scratch.segment, &scratch.scene, &mut scratch.outcome);
    });
}

#[inline(never)]
fn tells(connection: *mut Connection, scratch: &mut Scratch) {
    locked(connection, |connection| {
        if connection.is_only_begun() {
            // By the client, meanwhile: there is nothing to say yet.
            scratch.outcome.tell_slot = NOBODY;
            return;
        }
        connection.tell(scratch.outcome.tell_slot, &scratch.scene, &mut scratch.outcome.tell);
    });
}

/// Carries out what was decided: [`SEND`], or how the program ends (an [`Exit`]'s word).
#[inline(never)]
pub fn act(frame: TcFrame, ip: &Ip, member: &Member) -> u64 {
    carry_out(frame, ip, member).into_word()
}

#[inline(always)]
fn carry_out(frame: TcFrame, ip: &Ip, member: &Member) -> Exit {
    let row = row(member.port.pair);
    let Some(scratch) = maps::scratch() else {
        return member.drop(Counter::TcpRewriteFailed);
    };
    match scratch.compared {
        DIFFER => {
            count(row, Counter::TcpDiverged);
            news::tell(Kind::Diverged, member.port.pair, member.word, scratch);
        }
        ANEW => count(row, Counter::TcpCompareSkipped),
        _ => {}
    }
    if scratch.outcome.news & LATE != 0 {
        late::push(scratch);
    }
    if scratch.outcome.next == ANSWER {
        count(row, Counter::TcpAnsweredFirst);
    }
    if scratch.outcome.news & OPENED != 0 {
        count(row, Counter::TcpGateOpened);
        news::tell(Kind::GateOpened, member.port.pair, member.word, scratch);
    }
    if scratch.outcome.news & CLOSED_AGAIN != 0 {
        count(row, Counter::TcpGateClosed);
        news::tell(Kind::GateClosed, member.port.pair, member.word, scratch);
    }
    let how = scratch.outcome.how;
    let tells = scratch.outcome.tell_slot != NOBODY;
    let done = match how {
        EDIT => edit(frame, ip, scratch),
        CUT => cut(frame, ip, scratch),
        _ => Some(()),
    };
    if done.is_none() {
        return member.drop(Counter::TcpRewriteFailed);
    }
    // Behind tags, the way back is known by the connection itself, too, and nobody else's frames can make that be forgotten.
    if matches!(how, PASS | EDIT) && !tells && scratch.tuple.outer == 0 {
        return Exit::from_word(SEND);
    }
    if matches!(how, PASS | EDIT | CUT) {
        let Some(host) = maps::host() else {
            return member.drop(Counter::TcpRewriteFailed);
        };
        if frame.address(Mac::new(scratch.mac), Mac::new(host.uplink_mac)).is_none() {
            return member.drop(Counter::TcpRewriteFailed);
        }
        if !tells {
            // SAFETY: takes an interface index; the kernel drops the frame if there is no such interface.
            let action = unsafe { bpf_redirect(host.uplink_ifindex, 0) } as i32;
            if how != CUT {
                return Exit::new(row, Counter::ActiveSent, action);
            }
            return exit(row, scratch, action);
        }
        // SAFETY: clones the frame; nothing read from it before is used afterwards.
        if unsafe { bpf_clone_redirect(frame.0, host.uplink_ifindex, 0) } != 0 {
            count(row, Counter::TcpRewriteFailed);
        }
    }
    if !tells {
        return exit(row, scratch, TC_ACT_SHOT);
    }
    // What became of the segment itself; that somebody is told something is counted as well.
    exit(row, scratch, TC_ACT_SHOT).take();
    let tap = role::tap(member.pair, scratch.outcome.tell_slot);
    if tap == 0 || tell(frame, ip, member, scratch).is_none() {
        return member.drop(Counter::TcpRewriteFailed);
    }
    frame.set_mark();
    // SAFETY: takes an interface index; the kernel drops the frame if there is no such interface.
    let action = unsafe { bpf_redirect(tap, 0) } as i32;
    Exit::new(row, Counter::TcpTold, action)
}

/// Ends for the reason that the decision names.
#[inline(always)]
fn exit(row: u32, scratch: &Scratch, action: i32) -> Exit {
    Exit::numbered(row, scratch.outcome.why, action)
}

/// Writes the `N` bytes of the header that begin at `at` to their place in the frame.
#[inline(always)]
fn copy<const N: usize>(frame: TcFrame, ip: &Ip, scratch: &Scratch, at: u32) -> Option<()> {
    // SAFETY: 64 bytes lie behind the pointer.
    frame.put(ip.l4 + at as usize, unsafe { &*scratch.header.from(at).cast::<[u8; N]>() })
}

/// Writes the header's fields, all but the checksum.
#[inline(always)]
fn store(frame: TcFrame, ip: &Ip, scratch: &Scratch) -> Option<()> {
    let segment = &scratch.segment;
    if segment.stamps_at == USUAL {
        // At once, the checksum as it was.
        copy::<32>(frame, ip, scratch, 0)?;
    } else {
        copy::<16>(frame, ip, scratch, 0)?;
        if segment.stamps_at != 0 {
            copy::<8>(frame, ip, scratch, segment.stamps_at)?;
        }
    }
    if scratch.outcome.edit.sack != 0 && segment.sacks != 0 {
        let at = segment.sack_at;
        copy::<2>(frame, ip, scratch, at - 2)?;
        let mut block = 0;
        while block < 4 {
            if block < segment.sacks {
                copy::<8>(frame, ip, scratch, at + 8 * block)?;
            }
            block += 1;
        }
    }
    Some(())
}

/// Makes the segment say what it shall, payload and all.
#[inline(never)]
fn edit(frame: TcFrame, ip: &Ip, scratch: &mut Scratch) -> Option<()> {
    if !scratch.outcome.edit.changes(&scratch.segment) {
        return Some(());
    }
    let diff = scratch.outcome.edit.apply(&mut scratch.header, &scratch.segment);
    store(frame, ip, scratch)?;
    // SAFETY: the helper checks the offset. A sum that the guest has left to its NIC covers the pseudo header only, and
    // is left alone.
    let result = unsafe { bpf_l4_csum_replace(frame.0, (ip.l4 + 16) as u32, 0, fold64(diff) as u64, 0) };
    (result == 0).then_some(())
}

/// Cuts the segment to its header, and makes that say what it shall.
#[inline(never)]
fn cut(frame: TcFrame, ip: &Ip, scratch: &mut Scratch) -> Option<()> {
    let len = scratch.segment.header as usize;
    let partial = is_partial(frame, ip.l4)?;
    // SAFETY: the helper checks the length; nothing read from the frame before is used afterwards.
    if unsafe { bpf_skb_change_tail(frame.0, (ip.l4 + len) as u32, 0) } != 0 {
        return None;
    }
    let total = (ip.l4 - ip.l3 + len) as u16;
    if ip.v4 {
        let before = frame.get_far::<2>(ip.l3 + 2)?;
        // SAFETY: the helper checks the offset.
        let result = unsafe {
            bpf_l3_csum_replace(
                frame.0,
                (ip.l3 + 10) as u32,
                u16::from_ne_bytes(before) as u64,
                total.to_be() as u64,
                2,
            )
        };
        if result != 0 {
            return None;
        }
        frame.put(ip.l3 + 2, &total.to_be())?;
    } else {
        frame.put(ip.l3 + 4, &(len as u16).to_be())?;
    }
    scratch.outcome.edit.apply(&mut scratch.header, &scratch.segment);
    store(frame, ip, scratch)?;
    scratch.header.put_half(16, 0);
    let field = full_checksum(partial, ip.v4, ip.src, ip.dst, len, scratch.header.sum());
    frame.put(ip.l4 + 16, &field)
}

/// Turns the frame into a segment of the client for a member.
#[inline(never)]
fn tell(frame: TcFrame, ip: &Ip, member: &Member, scratch: &mut Scratch) -> Option<()> {
    // A header of our own takes the place of the old one: that must have the plain length.
    if ip.v4 && ip.l4 - ip.l3 != 20 {
        return None;
    }
    let partial = is_partial(frame, ip.l4)?;
    let ports = scratch.tuple.ports;
    let ends = Ends { from: ip.dst, to: ip.src, ports, v4: ip.v4, partial, payload: 0 };
    pure::write(frame, ip.l3, &ends, &scratch.outcome.tell)?;
    frame.address(role::mac(member.pair), Mac::new(GATEWAY_MAC))
}
