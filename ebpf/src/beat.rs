//! Signs of life: what a heartbeat writes into its member's row, and the latch that it may trip.

use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::heartbeat::{Heartbeat, LEN, Malformed, PORT, State};
use hotpair_abi::maps;
use hotpair_abi::packet::{Bytes, Ip, protocol};
use hotpair_abi::voice;

use crate::count::{count, row};
use crate::from_guest::Member;
use crate::packet::TcFrame;
use crate::{maps as map, role};

/// Not a heartbeat. Any other answer is a counter's number: `Heartbeat` for a valid one, whose row is written, else the
/// reason why it must not be handed on.
pub const NONE: u32 = u32::MAX;

const UDP_LEN: usize = 8;

/// Looks whether a packet to the peer is a heartbeat, and if so, stamps it. A number, as the kernel's BTF knows no
/// `Option<Counter>`.
#[inline(never)]
pub fn heartbeat(frame: TcFrame, ip: &Ip, member: &Member) -> u32 {
    if ip.protocol != protocol::UDP || !ip.whole {
        return NONE;
    }
    let Some(udp) = frame.get_far::<UDP_LEN>(ip.l4) else {
        return NONE;
    };
    if u16::from_be_bytes([udp[2], udp[3]]) != PORT {
        return NONE;
    }
    if u16::from_be_bytes([udp[4], udp[5]]) as usize != UDP_LEN + LEN {
        return Counter::HeartbeatMalformed as u32;
    }
    let Some(words) = frame.words::<{ LEN / 8 }>(ip.l4 + UDP_LEN) else {
        return Counter::HeartbeatMalformed as u32;
    };
    let verdict = match Heartbeat::parse_words(&words) {
        Ok(beat) => stamp(&beat, member),
        Err(Malformed::Version) => Counter::HeartbeatVersion,
        Err(Malformed::Check) => Counter::HeartbeatDamaged,
        Err(_) => Counter::HeartbeatMalformed,
    };
    verdict as u32
}

#[inline(always)]
fn stamp(beat: &Heartbeat, member: &Member) -> Counter {
    let Some(row) = map::member(member.port.pair, member.port.slot & 1) else {
        return Counter::HeartbeatStale;
    };
    let now = role::now_ns();
    // SAFETY: `row` points into the array map. A member's heartbeats come through one queue of one tap, so there is one
    // writer; the controller reads each field on its own.
    unsafe {
        (*row).last_frame_ns = now;
        if let Err(why) = voice::is_news(&*row, beat) {
            return why;
        }
        if (*row).boot_id != beat.boot_id {
            if (*row).beats != 0 {
                let began = voice::rebooted((*row).last_beat_ns, beat.sent_ns, now);
                // The controller writes it for the start of another member; an aligned word.
                let slot = (member.port.slot & 1) as usize;
                (&raw mut (*member.pair).since_ns[slot]).write_volatile(began);
            }
            (*row).boot_id_before = (*row).boot_id;
        }
        (*row).boot_id = beat.boot_id;
        (*row).sequence = beat.sequence;
        (*row).sent_ns = beat.sent_ns;
        (*row).requests = beat.requests;
        (*row).in_flight = beat.in_flight;
        (*row).interval_us = beat.interval_us;
    }
    alive(row, now, beat.state as u32, member);
    Counter::Heartbeat
}

/// Any frame of a member whose signs of life are its frames.
#[inline(never)]
pub fn any_frame(member: &Member) {
    let Some(row) = map::member(member.port.pair, member.port.slot & 1) else {
        return;
    };
    let now = role::now_ns();
    // SAFETY: as in `stamp`; with several queues two CPUs may write the same word, either of whose values is right.
    unsafe { (*row).last_frame_ns = now };
    alive(row, now, State::Serving as u32, member);
}

#[inline(always)]
fn alive(row: *mut maps::Member, now: u64, state: u32, member: &Member) {
    // SAFETY: `pair` points into the array map.
    let timeout = unsafe { (&raw const (*member.pair).timeout_ns).read_volatile() };
    // SAFETY: as in `stamp`. The time is written last, so that who sees it sees what it stands for.
    let (tell, streak) = unsafe {
        let streak = voice::streak((*row).last_beat_ns, (*row).streak_since_ns, now, timeout);
        let tell = voice::is_to_be_told((*row).told_state, (*row).told_ns, state, now);
        if tell {
            (*row).told_state = state;
            (*row).told_ns = now;
        }
        (*row).beats += 1;
        (*row).state = state;
        (&raw mut (*row).streak_since_ns).write_volatile(streak);
        (&raw mut (*row).last_beat_ns).write_volatile(now);
        (tell, streak)
    };
    if tell {
        let mut data = [0; 24];
        data[0] = state as u8;
        role::report(
            now,
            Kind::StateChanged,
            member.port.pair,
            member.port.slot,
            member.ifindex,
            member.word,
            data,
        );
    }
    latch(now, state, timeout, streak, member);
}

#[inline(always)]
fn latch(now: u64, state: u32, timeout: u64, streak: u64, member: &Member) {
    let active = member.word.active();
    let slot = member.slot();
    if slot as u8 == active as u8 {
        return;
    }
    let Some(other) = map::member(member.port.pair, active as u32) else {
        return;
    };
    // SAFETY: points into the array map.
    let last = unsafe { (&raw const (*other).last_beat_ns).read_volatile() };
    if voice::trips(member.word, role::tripped(member.pair), slot, state, now, timeout, last, streak) {
        let epoch = member.word.epoch().0;
        // Who finds connections untold must find the latch tripped: so that comes first.
        // SAFETY: points into the array map; the programs are these fields' only writers, and within an epoch they only
        // ever write this one value into the first.
        unsafe {
            (&raw mut (*member.pair).tripped_epoch).write_volatile(epoch);
            (&raw mut (*member.pair).untold_epoch).write_volatile(epoch);
        }
        count(row(member.port.pair), Counter::LatchTripped);
        role::report(
            now,
            Kind::LatchTripped,
            member.port.pair,
            member.port.slot,
            member.ifindex,
            member.word,
            [0; 24],
        );
    }
}
