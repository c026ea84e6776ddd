//! Bad segments of good connections: every flag, option, number and length, cut and bent, in both directions.
//!
//! What exactly must come of each, the pure functions' own tests and fuzzer say. Here: whatever it is, it is steered as if
//! it were any packet, each program counts it once, nobody hears a byte of the standby's, and what leaves is either what
//! came, or a segment whose checksum is as right as it was.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hotpair::dataplane::PairSetup;
use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, MARK, Slot};

use super::mutate::{self, Random};
use super::oracle::{Expect, OK, REDIRECT, SHOT, World, XDP_REDIRECT};
use super::segment::{carried, cut_down, same_but_for_its_numbers};
use crate::bench::{Bench, DB, WEB, alone, pair_mac, setup};
use crate::frames::{service, vlan};
use crate::ports::Port as _;
use crate::tcp::conversation::{self, C, Conversation, M, arrive, carry};
use crate::tcp::wire::{self, ACK, SYN, Segment};

/// Segments of a round.
const ROUND: usize = 300;
/// What `from_uplink` writes over the destination's MAC for `to_guest`.
const KNOWN: [u8; 6] = *b"\x06hpTCP";

/// Counted besides the verdict, and how often at most for one frame.
const BESIDES: &[Counter] = &[
    Counter::TcpMalformed,
    Counter::TcpTableFull,
    Counter::TcpTold,
    Counter::TcpGateOpened,
    Counter::TcpGateClosed,
    Counter::TcpDiverged,
    Counter::TcpCompareSkipped,
    Counter::TcpRewriteFailed,
    Counter::TcpQuoteTranslated,
    Counter::GuestMuted,
];

/// Counted for each copy that a member gets, or does not.
const COPIES: &[Counter] = &[Counter::TcpTranslated, Counter::TcpNotForStandby];

struct Stand {
    bench: Bench,
    conversations: Vec<Conversation>,
    valid: Vec<Vec<u8>>,
}

impl Stand {
    fn new() -> Stand {
        let bench = Bench::new();
        let plain = |port| Conversation::new(port);
        let conversations = vec![
            plain(4000),
            Conversation { v6: true, ..plain(4001) },
            Conversation { tags: vec![vlan(5)], ..plain(4002) },
            Conversation { v6: true, tags: vec![service(7), vlan(5)], ..plain(4003) },
        ];
        Stand { bench, conversations, valid: mutate::valid() }
    }

    /// Fresh connections, and then a role word of any sort.
    fn begin(&self, random: &mut Random) -> World {
        carry(&self.bench);
        let also = PairSetup { tcp: true, ..setup(DB, "db") };
        self.bench.plane.put_pair(DB, &also).expect("a pair");
        for conversation in &self.conversations {
            conversation.open(&self.bench);
        }
        let mut word = conversation::word()
            .with_epoch(Epoch(6))
            .with_active(*random.pick(&Slot::BOTH))
            .with_protect(!random.one_in(4))
            .with_gate(!random.one_in(4))
            .with_mirror(!random.one_in(8))
            .with_held(!random.one_in(8));
        if random.one_in(8) {
            word = word.with_muted(*random.pick(&Slot::BOTH), true);
        }
        self.bench.plane.set_role(WEB, word);
        World::new([word, Bench::word(), Bench::word().with_held(false)])
    }

    /// A segment of a conversation: near what is known of it, or anything.
    fn segment(random: &mut Random, isn: u32, peer: u32) -> Segment {
        let near = |random: &mut Random, of: u32| match random.below(4) {
            0 => random.next() as u32,
            1 => of.wrapping_add(random.below(3) as u32),
            _ => of.wrapping_add(random.below(4000) as u32).wrapping_sub(500),
        };
        let flags = match random.below(4) {
            0 => random.next() as u8,
            1 => ACK | 1 << random.below(8),
            _ => ACK,
        };
        let (seq, ack) = (near(random, isn.wrapping_add(1)), near(random, peer.wrapping_add(1)));
        let options = match random.below(6) {
            0 => Vec::new(),
            1 => wire::sacks(&[[ack, near(random, ack)], [near(random, ack), near(random, ack)]]),
            2 => [wire::stamps(random.next() as u32, 9), wire::sacks(&[[ack, near(random, ack)]])].concat(),
            3 => wire::syn_options(7, random.next() as u32, 9),
            4 => {
                (0..4 * random.below(11)).map(|_| *random.pick(&[0, 1, 2, 3, 4, 5, 8, 10, 30, 34])).collect()
            }
            _ => wire::stamps(random.next() as u32, 9),
        };
        let most = if random.one_in(8) { 1400 } else { 40 };
        let payload = (0..random.below(most)).map(|_| random.next() as u8).collect();
        Segment { seq, ack, flags, window: random.next() as u16, options, payload }
    }

    fn books(&self) -> Vec<Vec<(Counter, u64)>> {
        self.bench.counters()
    }

    /// What rose, by row.
    fn rose(&self, before: &[Vec<(Counter, u64)>]) -> Vec<(usize, Counter, u64)> {
        let after = self.books();
        let rows = before.iter().zip(&after).enumerate();
        rows.flat_map(|(row, (before, after))| {
            before.iter().zip(after).map(move |(before, after)| (row, before.0, after.1 - before.1))
        })
        .filter(|(.., by)| *by > 0)
        .collect()
    }

    /// From the wire. With `alive` on into the taps.
    fn of_client(&self, world: &World, frame: &[u8], alive: bool) -> Result<(), String> {
        let expect = world.at_uplink(frame);
        let before = self.books();
        if alive {
            // Of what a member said to its own pair.
            conversation::drain(&self.bench);
            let copies = arrive(&self.bench, frame);
            self.copies(world, frame, &expect, &copies, &before)?;
        } else {
            let ran = self.bench.run_from_uplink(frame);
            if ran.verdict as i32 != expect.verdict {
                return Err(format!("the verdict is {}, not {}", ran.verdict as i32, expect.verdict));
            }
            if let Some(wanted) = &expect.frame {
                let known = ran.frame.get(..6) == Some(&KNOWN[..]) && carried(world, frame);
                let from = if known { 6 } else { 0 };
                if ran.frame.get(from..) != wanted.get(from..) {
                    return Err(format!("the frame is {:02x?}", ran.frame));
                }
            }
            let looked_into = expect.pair == Some(WEB) && expect.counter == Counter::UplinkMirrored;
            if looked_into && carried(world, frame) {
                let malformed = self.rose(&before).iter().any(|rose| rose.1 == Counter::TcpMalformed);
                if malformed == wire::is_readable(frame) {
                    return Err(format!("malformed: {malformed}"));
                }
            }
        }
        // What becomes of the copies is decided before they are made.
        self.balanced(&before, Some(&expect), 2)
    }

    /// What both members get of a live frame.
    fn copies(
        &self,
        world: &World,
        frame: &[u8],
        expect: &Expect,
        copies: &[Option<Vec<u8>>; 2],
        before: &[Vec<(Counter, u64)>],
    ) -> Result<(), String> {
        let word = world.word(WEB);
        let goes_on = expect.verdict == XDP_REDIRECT && expect.pair == Some(WEB);
        let refused: u64 = self
            .rose(before)
            .iter()
            .filter(|(_, counter, _)| {
                matches!(counter, Counter::TcpNotForStandby | Counter::TcpRewriteFailed)
            })
            .map(|(.., by)| by)
            .sum();
        let mut missing = 0;
        for slot in Slot::BOTH {
            let heard = goes_on && !word.muted(slot) && (word.mirror() || slot == word.active());
            match &copies[slot.index()] {
                Some(copy) if !heard => return Err(format!("{slot} heard {copy:02x?}")),
                None if heard && wire::is_tcp(frame) => missing += 1,
                Some(copy) => {
                    let wanted = expect.frame.as_ref().expect("it goes on");
                    if copy != wanted {
                        same_but_for_its_numbers(wanted, copy)?;
                    }
                }
                None => {}
            }
        }
        if missing != refused {
            return Err(format!("{missing} copies are missing, {refused} were refused"));
        }
        Ok(())
    }

    /// From a member.
    fn of_member(&self, world: &mut World, slot: Slot, frame: &[u8]) -> Result<(), String> {
        let expect = world.at_tap(frame, WEB, slot);
        let before = self.books();
        let ran = conversation::run(&self.bench, slot.index(), frame);
        let cloned = conversation::next_segment(&self.bench.client);
        let verdict = ran.verdict as i32;
        if !carried(world, frame)
            || !matches!(expect.counter, Counter::ActiveSent | Counter::StandbySuppressed)
        {
            if expect.counter == Counter::PeerSent {
                // A heartbeat may have been copied to the peer, and have become an acknowledgement that waited, or several.
                self.bench.client.drain();
                return Ok(());
            }
            let learnt = expect.or_dropped.is_some();
            if verdict != expect.verdict && !(learnt && verdict == SHOT) {
                return Err(format!(
                    "the verdict is {verdict}, not {} ({:?})",
                    expect.verdict, expect.counter
                ));
            }
            return cloned.map_or(Ok(()), |cloned| Err(format!("the client heard {cloned:02x?}")));
        }
        let told = verdict == REDIRECT && ran.mark == MARK;
        let heard = match cloned {
            Some(cloned) if verdict == REDIRECT && !told => {
                return Err(format!("the client heard it twice: {cloned:02x?}"));
            }
            None if verdict == REDIRECT && !told => Some(ran.frame.clone()),
            cloned => cloned,
        };
        if let Some(heard) = &heard {
            if same_but_for_its_numbers(frame, heard).is_err() {
                cut_down(frame, heard)?;
            }
            // A SYN-ACK may be either's; one that is shorter than it says is the receiver's business.
            let greets =
                wire::header_in(heard).is_some_and(|at| heard[at.start + 13] & (SYN | ACK) == SYN | ACK);
            let says_bytes = !greets && wire::read(heard).is_none_or(|read| !read.payload.is_empty());
            if slot != world.word(WEB).active() && says_bytes {
                return Err(format!("bytes of the standby: {heard:02x?}"));
            }
        }
        if told {
            if ran.frame[..6] != pair_mac(WEB) {
                return Err(format!("told somebody else: {:02x?}", ran.frame));
            }
            let read = wire::read(&ran.frame).ok_or("told nonsense")?;
            if (read.wrong_by, read.header_wrong_by, read.payload.len()) != (0, 0, 0) {
                return Err(format!("told wrongly: {:02x?}", ran.frame));
            }
        } else if verdict == OK {
            return Err("handed to the host".into());
        }
        self.balanced(&before, None, 0)
    }

    /// One verdict, for this pair, and nothing that no TCP segment can bring about.
    fn balanced(
        &self,
        before: &[Vec<(Counter, u64)>],
        expect: Option<&Expect>,
        copies: u64,
    ) -> Result<(), String> {
        let rose = self.rose(before);
        // Of a pair that is not mirrored, that its active member is muted is the verdict, else it is beside one.
        let is_expected = |counter| expect.is_some_and(|expect| expect.counter == counter);
        let verdicts: Vec<_> = rose
            .iter()
            .filter(|(_, counter, _)| {
                is_expected(*counter) || !BESIDES.contains(counter) && !COPIES.contains(counter)
            })
            .collect();
        let fits = match (&verdicts[..], expect) {
            ([(row, counter, 1)], Some(expect)) => {
                *row == expect.pair.map_or(0, |id| id.0 as usize + 1) && *counter == expect.counter
            }
            ([(row, _, 1)], None) => *row == WEB.0 as usize + 1,
            _ => false,
        };
        let too_many = rose.iter().any(|(_, counter, by)| {
            COPIES.contains(counter) && *by > copies || BESIDES.contains(counter) && *by > 2
        });
        if fits && !too_many { Ok(()) } else { Err(format!("the counters that rose are {rose:?}")) }
    }

    fn round(&self, seed: u64, number: u64) -> Result<(), String> {
        let mut random = Random::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut world = self.begin(&mut random);
        for step in 0..ROUND {
            let conversation = random.pick(&self.conversations).clone();
            let slot = *random.pick(&Slot::BOTH);
            let of_client = random.one_in(2);
            let (way, segment) = if of_client {
                (conversation.to_entry(), Self::segment(&mut random, C, M[conversation.base]))
            } else {
                (conversation.to_client(), Self::segment(&mut random, M[slot.index()], C))
            };
            let mut frame = wire::frame(&way, &segment);
            if random.one_in(2) {
                mutate::happens(&mut random, &mut frame, &self.valid);
                if random.one_in(2) {
                    wire::mend(&mut frame);
                }
            }
            // Nothing but what a test run takes, and a tap.
            if frame.len() < 60 || frame.len() > 1500 {
                continue;
            }
            let wrong = if of_client {
                let alive = random.one_in(4);
                self.of_client(&world, &frame, alive)
            } else {
                self.of_member(&mut world, slot, &frame)
            };
            wrong.map_err(|why| {
                let whose = if of_client { "the client".to_owned() } else { format!("slot {slot}") };
                format!(
                    "round {number}, step {step}, of {whose}, {:?}:\n{frame:02x?}\n{why}",
                    world.word(WEB)
                )
            })?;
        }
        Ok(())
    }
}

#[test]
fn bad_segments_of_good_connections_are_steered_and_counted_and_leave_with_right_checksums() {
    let soaking = std::env::var_os("HOTPAIR_SOAK").is_some();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (seed, rounds) = if soaking { (clock, 6_000) } else { (1, 100) };
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("HOTPAIR_SEED").unwrap_or(seed);
    let only = number("HOTPAIR_ROUND");
    alone(|| {
        let (stand, begun) = (Stand::new(), Instant::now());
        for round in only.map_or(0..rounds, |only| only..only + 1) {
            if let Err(why) = stand.round(seed, round) {
                panic!("HOTPAIR_SEED={seed} HOTPAIR_ROUND={round}: {why}");
            }
        }
        println!("{rounds} rounds in {:.1} s, HOTPAIR_SEED={seed}", begun.elapsed().as_secs_f64());
    });
}
