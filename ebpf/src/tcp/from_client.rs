//! On the uplink: a client's segment is noted, and the members' copies are planned, or marked for `to_guest`.

use hotpair_abi::count::Counter;
use hotpair_abi::maps::Pair;
use hotpair_abi::packet::{Bytes, Ip, Link};
use hotpair_abi::tcp::connection::{ANSWERED, Connection};
use hotpair_abi::tcp::segment::{ACK, SYN};
use hotpair_abi::{RoleWord, frame, voice};

use crate::count::{count, row};
use crate::packet::XdpFrame;
use crate::tcp::{From, Scratch, key, locked, lookup, plan, read, scene};
use crate::{maps, role};

/// Takes the place of the destination MAC, which `to_guest` then writes: says that this is a segment of a known connection
/// that has no plan, so that all other packets need not be looked into again. Locally administered and not of our own
/// prefix.
pub const KNOWN: [u16; 3] =
    [u16::from_ne_bytes([0x06, b'h']), u16::from_ne_bytes(*b"pT"), u16::from_ne_bytes(*b"CP")];

/// Notes a segment of those that come all the time, of a known connection, and plans its copies. `None`: it wants
/// [`from_client`], and nothing was done that harms when it is done again.
#[inline(never)]
pub fn at_a_glance(frame: XdpFrame, id: u32, pair: *mut Pair, word: u64) -> Option<()> {
    let scratch = maps::scratch()?;
    let l4 = frame::plain_segment(&frame, &mut scratch.tuple, &mut scratch.segment)?;
    scratch.mac = frame.get::<6>(6)?;
    let connection = lookup(scratch)?;
    let word = RoleWord(word);
    let speaker = voice::active(word, role::tripped(pair)) as u32;
    let now_ns = role::by_the_tick(&mut scratch.tick);
    scene(scratch, pair, word, speaker, now_ns);
    plan::plan_plain(scratch, frame, l4 as u32, pair, connection, Connection::from_client_by_the_tick)?;
    plan::tell(id, word, scratch);
    Some(())
}

/// Notes a segment, of the scene that is in the scratch. `None`: its pair's connections are nobody's concern, or it cannot be read; it goes on as it is.
#[inline(never)]
pub fn from_client(frame: XdpFrame, link: &Link, ip: &Ip, id: u32, pair: *mut Pair) -> Option<()> {
    let scratch = maps::scratch()?;
    if read(&frame, ip, scratch).is_none() {
        count(row(id), Counter::TcpMalformed);
        return None;
    }
    key(scratch, ip, &link.tags, From::Client);
    let begins = scratch.segment.flags & (SYN | ACK) == SYN;
    let mut connection = lookup(scratch);
    if connection.is_none() && begins {
        connection = maps::new_connection(&scratch.tuple);
        if connection.is_none() {
            count(row(id), Counter::TcpTableFull);
        }
    }
    let connection = connection?;
    scratch.mac = link.src.bytes();
    if plan::plan(frame, ip.l4 as u32, pair, connection).is_some() {
        plan::tell(id, RoleWord(scratch.word), scratch);
        return Some(());
    }
    note(scratch, connection, id, begins);
    if begins && lookup(scratch).is_none() {
        // What was known of its port has just been forgotten, and with it this.
        note(scratch, maps::new_connection(&scratch.tuple)?, id, begins);
    }
    frame.address_to(KNOWN)
}

#[inline(never)]
fn note(scratch: &mut Scratch, connection: *mut Connection, id: u32, begins: bool) {
    let now = scratch.scene.now_ns;
    let mac = scratch.mac;
    let segment = &scratch.segment;
    locked(connection, |connection| {
        if begins {
            if connection.is_begun_anew_by(segment, &scratch.scene) {
                connection.begin(segment, id, now);
                connection.mac = mac;
            } else if !connection.has(ANSWERED) && segment.seq == connection.client.isn {
                // Once more, be it by another router.
                connection.mac = mac;
            }
        } else {
            connection.from_client_at(segment, mac, now);
        }
    });
}
