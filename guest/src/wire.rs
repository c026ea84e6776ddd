//! Heartbeats as frames of a UDP socket.
//!
//! A datagram that is not a heartbeat is an item like any other, so that the stream goes on and the receiver can count
//! it; only the socket's own errors end up as errors.

use bytes::{BufMut, BytesMut};
use hotpair_abi::heartbeat::{Heartbeat, LEN, Malformed};
use tokio_util::codec::{Decoder, Encoder};

/// Encodes and decodes heartbeats, one a datagram.
#[derive(Debug, Default)]
pub struct Wire {
    /// `UdpFramed` asks once more after each frame whether the datagram holds another; this tells that question from an
    /// empty datagram.
    asked_again: bool,
}

impl Encoder<Heartbeat> for Wire {
    type Error = std::io::Error;

    fn encode(&mut self, beat: Heartbeat, out: &mut BytesMut) -> Result<(), Self::Error> {
        out.reserve(LEN);
        out.put_slice(&beat.to_bytes());
        Ok(())
    }
}

impl Decoder for Wire {
    type Item = Result<Heartbeat, Malformed>;
    type Error = std::io::Error;

    fn decode(&mut self, datagram: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        if datagram.is_empty() && std::mem::take(&mut self.asked_again) {
            return Ok(None);
        }
        self.asked_again = true;
        let beat = match <&[u8; LEN]>::try_from(&datagram[..]) {
            Ok(bytes) => Heartbeat::parse(bytes),
            Err(_) => Err(Malformed::Length),
        };
        datagram.clear();
        Ok(Some(beat))
    }

    fn decode_eof(&mut self, datagram: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        self.decode(datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_abi::heartbeat::State;
    use proptest::prelude::*;

    fn beat(sequence: u64) -> Heartbeat {
        Heartbeat {
            state: State::Serving,
            boot_id: 7,
            sequence,
            sent_ns: 9,
            requests: 11,
            in_flight: 13,
            interval_us: 2_000,
        }
    }

    /// What `UdpFramed` does with each datagram.
    fn all_frames(wire: &mut Wire, datagram: &[u8]) -> Vec<Result<Heartbeat, Malformed>> {
        let mut buffer = BytesMut::from(datagram);
        std::iter::from_fn(|| wire.decode_eof(&mut buffer).expect("no I/O in here")).take(10).collect()
    }

    #[test]
    fn each_datagram_is_one_frame_whatever_it_holds() {
        let mut wire = Wire::default();
        let mut out = BytesMut::new();
        wire.encode(beat(1), &mut out).expect("encoding cannot fail");
        assert_eq!(out.len(), LEN);
        assert_eq!(all_frames(&mut wire, &out), [Ok(beat(1))]);
        assert_eq!(all_frames(&mut wire, b""), [Err(Malformed::Length)]);
        assert_eq!(all_frames(&mut wire, &[0; LEN]), [Err(Malformed::Magic)]);
        assert_eq!(all_frames(&mut wire, &[out.as_ref(), b"x"].concat()), [Err(Malformed::Length)]);
        assert_eq!(all_frames(&mut wire, &out[..LEN - 1]), [Err(Malformed::Length)]);
        assert_eq!(all_frames(&mut wire, &out), [Ok(beat(1))], "after all that it still reads");
    }

    proptest! {
        #[test]
        fn any_datagram_gives_exactly_one_frame(datagrams: Vec<Vec<u8>>) {
            let mut wire = Wire::default();
            for datagram in datagrams {
                prop_assert_eq!(all_frames(&mut wire, &datagram).len(), 1);
            }
        }
    }
}
