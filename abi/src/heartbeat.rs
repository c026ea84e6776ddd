//! The heartbeat's wire format: one UDP datagram of 48 bytes from `169.254.77.1` to `169.254.77.2`, port 7077.
//!
//! Big endian throughout:
//!
//! ```text
//!  0  magic "HPHB"
//!  4  version (2)
//!  5  state (1 starting, 2 serving, 3 failing, 4 stopping)
//!  6  check: makes the ones' complement sum of all 24 words of 16 bits 0xffff (RFC 1071)
//!  8  boot id: changes with every start of the guest's kernel
//! 16  sequence: rises by one with each heartbeat of a boot
//! 24  sent: the guest's CLOCK_BOOTTIME, nanoseconds
//! 32  requests processed since boot
//! 40  requests in flight
//! 44  interval: microseconds until the next heartbeat is due
//! ```
//!
//! The check is its own, since UDP's says nothing: a guest leaves that one to a NIC which, between two taps, nobody is.
//! Without it one flipped bit in the sequence would make every later heartbeat look old, and the member dead.

use crate::checksum::{fold, sum};

/// Bytes of a heartbeat.
pub const LEN: usize = 48;
/// UDP port, both ends.
pub const PORT: u16 = 7077;
/// First four bytes.
pub const MAGIC: [u8; 4] = *b"HPHB";
/// The version this crate speaks.
pub const VERSION: u8 = 2;

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// The service is not up yet.
    Starting = 1,
    /// The service answers its local health check.
    Serving = 2,
    /// The local health check fails: treated like silence.
    Failing = 3,
    /// An orderly shutdown has begun: hand over before it ends.
    Stopping = 4,
}

impl State {
    /// The state with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<State> {
        match value {
            1 => Some(State::Starting),
            2 => Some(State::Serving),
            3 => Some(State::Failing),
            4 => Some(State::Stopping),
            _ => None,
        }
    }

    /// Lower-case name, as shown to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Serving => "serving",
            State::Failing => "failing",
            State::Stopping => "stopping",
        }
    }
}

/// One heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// What the member says of itself.
    pub state: State,
    /// Changes with every start of the guest's kernel.
    pub boot_id: u64,
    /// Rises by one with each heartbeat of a boot.
    pub sequence: u64,
    /// The guest's CLOCK_BOOTTIME when it was sent, nanoseconds.
    pub sent_ns: u64,
    /// Requests processed since boot.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Microseconds until the next one is due.
    pub interval_us: u32,
}

/// Why 48 bytes are not a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not 48 bytes.
    Length,
    /// Does not begin with "HPHB".
    Magic,
    /// Another version.
    Version,
    /// The check does not fit the rest: damaged.
    Check,
    /// A state that this version does not know.
    State,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Malformed::Length => "a heartbeat has 48 bytes",
            Malformed::Magic => "it does not begin with the heartbeat's magic bytes",
            Malformed::Version => "it is of another heartbeat version (this one speaks version 2)",
            Malformed::Check => "its check does not fit: it was damaged on its way",
            Malformed::State => "its state is unknown",
        })
    }
}

impl core::error::Error for Malformed {}

/// A heartbeat's bytes as words in memory order.
#[inline(always)]
fn words(bytes: &[u8; LEN]) -> [u64; LEN / 8] {
    let mut words = [0; LEN / 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    words
}

/// What the check makes 0xffff of.
#[inline(always)]
const fn total(words: &[u64; LEN / 8]) -> u64 {
    sum(words[0]) + sum(words[1]) + sum(words[2]) + sum(words[3]) + sum(words[4]) + sum(words[5])
}

impl Heartbeat {
    /// Reads a heartbeat.
    ///
    /// # Errors
    /// Says what is not as version 2 has it.
    #[inline(always)]
    pub fn parse(bytes: &[u8; LEN]) -> Result<Heartbeat, Malformed> {
        Heartbeat::parse_words(&words(bytes))
    }

    /// Reads a heartbeat from its bytes as words in memory order: 48 single bytes would fill the eBPF stack.
    ///
    /// # Errors
    /// Says what is not as version 2 has it.
    #[inline(always)]
    pub const fn parse_words(words: &[u64; LEN / 8]) -> Result<Heartbeat, Malformed> {
        let [m0, m1, m2, m3, version, state, _, _] = words[0].to_ne_bytes();
        if u32::from_ne_bytes([m0, m1, m2, m3]) != u32::from_ne_bytes(MAGIC) {
            return Err(Malformed::Magic);
        }
        if version != VERSION {
            return Err(Malformed::Version);
        }
        if fold(total(words)) != 0xffff {
            return Err(Malformed::Check);
        }
        let Some(state) = State::from_u8(state) else {
            return Err(Malformed::State);
        };
        let last = u64::from_be(words[5]);
        Ok(Heartbeat {
            state,
            boot_id: u64::from_be(words[1]),
            sequence: u64::from_be(words[2]),
            sent_ns: u64::from_be(words[3]),
            requests: u64::from_be(words[4]),
            in_flight: (last >> 32) as u32,
            interval_us: last as u32,
        })
    }

    /// Writes a heartbeat.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.state as u8;
        out[8..16].copy_from_slice(&self.boot_id.to_be_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        out[24..32].copy_from_slice(&self.sent_ns.to_be_bytes());
        out[32..40].copy_from_slice(&self.requests.to_be_bytes());
        out[40..44].copy_from_slice(&self.in_flight.to_be_bytes());
        out[44..48].copy_from_slice(&self.interval_us.to_be_bytes());
        let check = !fold(total(&words(&out)));
        out[6..8].copy_from_slice(&check.to_ne_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            state in 1u8..=4, boot_id: u64, sequence: u64, sent_ns: u64, requests: u64, in_flight: u32,
            interval_us: u32,
        ) {
            let state = State::from_u8(state).expect("1 to 4 are states");
            let beat = Heartbeat { state, boot_id, sequence, sent_ns, requests, in_flight, interval_us };
            prop_assert_eq!(Heartbeat::parse(&beat.to_bytes()), Ok(beat));
        }

        #[test]
        fn any_bytes_are_refused_or_read_to_the_bit(bytes: [u8; LEN], honest_header: bool) {
            let mut bytes = bytes;
            if honest_header {
                bytes[..5].copy_from_slice(b"HPHB\x02");
                bytes[6..8].copy_from_slice(&[0, 0]);
                let check = !fold(total(&words(&bytes)));
                bytes[6..8].copy_from_slice(&check.to_ne_bytes());
            }
            if let Ok(beat) = Heartbeat::parse(&bytes) {
                prop_assert_eq!(beat.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        let good = good();
        for (at, value, mended, why) in [
            (0, b'X', true, Malformed::Magic),
            (4, 1, true, Malformed::Version),
            (5, 0, true, Malformed::State),
            (5, 5, true, Malformed::State),
            (5, 3, false, Malformed::Check),
            (23, 9, false, Malformed::Check),
        ] {
            let mut bad = good;
            bad[at] = value;
            if mended {
                bad[6..8].copy_from_slice(&[0, 0]);
                let check = !fold(total(&words(&bad)));
                bad[6..8].copy_from_slice(&check.to_ne_bytes());
            }
            assert_eq!(Heartbeat::parse(&bad), Err(why), "byte {at} = {value}");
        }
    }

    fn good() -> [u8; LEN] {
        Heartbeat {
            state: State::Serving,
            boot_id: 1,
            sequence: 2,
            sent_ns: 3,
            requests: 4,
            in_flight: 5,
            interval_us: 6,
        }
        .to_bytes()
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        for bit in 0..LEN * 8 {
            let mut bad = good();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Heartbeat::parse(&bad).is_err(), "bit {bit}");
        }
    }
}
