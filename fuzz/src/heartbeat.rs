//! Heartbeats, as the host and as the other guest reads them.

use bytes::BytesMut;
use hotpair_abi::event::Kind;
use hotpair_abi::heartbeat::{Heartbeat, LEN, Malformed};
use hotpair_abi::maps::Member;
use hotpair_abi::voice;
use hotpair_guest::peer::Peer;
use hotpair_guest::wire::Wire;
use tokio_util::codec::Decoder;

/// Datagrams, one after the other: a byte says how long each is.
pub fn heartbeat(bytes: &[u8]) {
    let (mut wire, mut peer, mut row) = (Wire::default(), Peer::default(), Member::default());
    let (mut rest, mut now) = (bytes, 0u64);
    while let Some((&length, more)) = rest.split_first() {
        let (datagram, more) = more.split_at(usize::from(length).min(more.len()));
        rest = more;
        now += u64::from(length);
        let mut buffer = BytesMut::from(datagram);
        let frames: Vec<_> =
            std::iter::from_fn(|| wire.decode_eof(&mut buffer).expect("no I/O")).take(3).collect();
        let [read] = frames[..] else { panic!("{} frames of one datagram", frames.len()) };
        let Ok(whole) = <[u8; LEN]>::try_from(datagram) else {
            assert_eq!(read, Err(Malformed::Length));
            continue;
        };
        assert_eq!(read, Heartbeat::parse(&whole), "both sides read alike");
        let _ = Kind::from_u32(u32::from(length));
        let Ok(beat) = read else { continue };
        assert_eq!(beat.to_bytes(), whole);
        let _ = peer.hear(beat, now);
        let status = peer.status(now.wrapping_mul(u64::from(beat.interval_us)));
        assert!(status.received >= status.lost.min(1) && status.boot_id.is_some());
        if voice::is_news(&row, &beat).is_ok() {
            if row.boot_id != beat.boot_id {
                row.boot_id_before = row.boot_id;
            }
            (row.boot_id, row.sequence) = (beat.boot_id, beat.sequence);
            row.beats += 1;
            assert!(voice::is_news(&row, &beat).is_err(), "twice is no news");
        }
        let _ = hotpair::pair::Signs::from(&row);
    }
}
