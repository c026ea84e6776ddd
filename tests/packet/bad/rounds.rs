//! Rounds of frames, and the books that must balance after each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hotpair::dataplane::PairSetup;
use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, MARK, PairId, RoleWord, Slot};

use super::mutate::{self, Random};
use super::oracle::{self, Expect, World};
use crate::bench::{AWAY, Bench, DB, WEB, alone, ifindex, setup, tap_name};
use crate::ports::Port;
use crate::test_run::{self, Ran};

const PAIRS: [PairId; 3] = [WEB, DB, AWAY];
/// Frames of a round.
const ROUND: usize = 256;
/// The longest frame that a tap takes from XDP: its MTU, the Ethernet header and a tag (`xdp_ok_fwd_dev`).
const TAP_TAKES: usize = 1518;

/// What has risen, by row (0: of no pair) and counter.
type Books = BTreeMap<(usize, Counter), u64>;

fn row(pair: Option<PairId>) -> usize {
    pair.map_or(0, |id| id.0 as usize + 1)
}

/// Where a frame is put in.
#[derive(Clone, Copy, Debug)]
enum Door {
    Uplink,
    Guest(PairId, Slot),
    Host(PairId, Slot, bool),
}

struct Stand {
    bench: Bench,
    valid: Vec<Vec<u8>>,
    taps: [[u32; 2]; 3],
}

impl Stand {
    fn new() -> Stand {
        let taps = PAIRS.map(|id| Slot::BOTH.map(|slot| (id, slot)));
        let bench = Bench::new();
        Stand {
            taps: taps.map(|pair| pair.map(|(id, slot)| ifindex(&tap_name(id, slot)))),
            bench,
            valid: mutate::valid(),
        }
    }

    fn tap(&self, id: PairId, slot: Slot) -> u32 {
        self.taps[id.0 as usize][slot.index()]
    }

    /// Role words of all sorts; the latch never trips (nobody is silent for an hour).
    fn begin(&self, random: &mut Random) -> World {
        self.bench.reset();
        let words = PAIRS.map(|id| {
            let active = *random.pick(&Slot::BOTH);
            let mut word = RoleWord::new(Epoch(5 + random.below(9) as u64), active)
                .with_held(if id == AWAY { random.one_in(8) } else { !random.one_in(8) })
                .with_mirror(!random.one_in(4))
                .with_paused(random.one_in(4));
            for slot in Slot::BOTH {
                word = word.with_muted(slot, random.one_in(6));
            }
            let calm = PairSetup {
                timeout: Duration::from_secs(3600),
                ..setup(id, ["web", "db", "away"][id.0 as usize])
            };
            self.bench.plane.put_pair(id, &calm).expect("a pair");
            self.bench.plane.set_role(id, word);
            word
        });
        World::new(words)
    }

    fn door(random: &mut Random, frame: &[u8]) -> Door {
        let slot = *random.pick(&Slot::BOTH);
        // Mostly the tap of the pair whose MAC it carries, or nothing would get further than that.
        let owner = PAIRS.into_iter().find(|id| frame[6..12] == crate::bench::pair_mac(*id));
        let id = owner.filter(|_| !random.one_in(16)).unwrap_or(*random.pick(&PAIRS));
        match random.below(16) {
            // Nothing brings the host's own stack to send such a frame.
            _ if is_headless(frame) => *random.pick(&[Door::Uplink, Door::Guest(id, slot)]),
            _ if random.one_in(16) => Door::Host(id, slot, random.one_in(8)),
            _ if owner.is_some() && !random.one_in(8) => Door::Guest(id, slot),
            0..8 => Door::Uplink,
            8..12 => Door::Guest(id, slot),
            _ => Door::Host(id, slot, random.one_in(8)),
        }
    }

    fn run(&self, frame: &[u8], door: Door) -> Ran {
        let program = |name| self.bench.plane.program_fd(name).expect("the program");
        match door {
            Door::Uplink => test_run::xdp(program("from_uplink"), frame),
            Door::Guest(id, slot) => test_run::tc(program("from_guest"), frame, self.tap(id, slot), 0),
            Door::Host(id, slot, marked) => {
                let mark = if marked { MARK } else { 0 };
                test_run::tc(program("to_guest_from_host"), frame, self.tap(id, slot), mark)
            }
        }
    }

    fn books(&self) -> Books {
        let rows = self.bench.counters();
        let cells =
            rows.iter().enumerate().flat_map(|(row, cells)| cells.iter().map(move |cell| (row, cell)));
        cells.map(|(row, (counter, count))| ((row, *counter), *count)).collect()
    }

    /// One frame in at a door: what is wrong with what came of it. Enters what must be in the books, and at the taps.
    fn put(
        &self,
        world: &mut World,
        frame: &[u8],
        door: Door,
        books: &mut Books,
        out: &mut Out,
    ) -> Option<String> {
        let expect = match door {
            Door::Uplink => world.at_uplink(frame),
            Door::Guest(id, slot) => world.at_tap(frame, id, slot),
            Door::Host(id, slot, marked) => world.towards_tap(frame, id, slot, marked),
        };
        let ran = match door {
            // The kernel's test run takes no IP packet without a whole header: such a one comes through the tap itself.
            Door::Guest(id, slot) if is_headless(frame) => {
                self.bench.tap(id, slot).send(frame);
                Ran { verdict: oracle::SHOT as u32, frame: Vec::new(), mark: 0 }
            }
            _ => self.run(frame, door),
        };
        let expect = match expect.or_dropped {
            Some(counter) if ran.verdict as i32 == oracle::SHOT => {
                Expect { counter, verdict: oracle::SHOT, frame: None, ..expect }
            }
            _ => expect,
        };
        let mut enter = |pair, counter| *books.entry((row(pair), counter)).or_default() += 1;
        enter(expect.pair, expect.counter);
        for (id, counter) in &expect.also {
            enter(Some(*id), *counter);
        }
        let learnt = expect.or_dropped.is_some();
        let wrong = judge(&expect, &ran, learnt);
        for (id, slot, frame) in expect.out {
            out[id.0 as usize][slot.index()].push(frame);
        }
        wrong
    }

    /// The same frame once more, alive: through the devmap into the taps.
    fn alive(&self, world: &World, frame: &[u8], books: &mut Books, out: &mut Out) {
        let expect = world.at_uplink(frame);
        let mirrored = expect.counter == Counter::UplinkMirrored;
        if !(mirrored || expect.counter == Counter::UplinkSteered) || frame.len() > TAP_TAKES {
            return;
        }
        let id = expect.pair.expect("an entry packet is some pair's");
        self.bench.run_from_uplink_live(frame);
        let word = world.word(id);
        let mut enter = |counter| *books.entry((row(Some(id)), counter)).or_default() += 1;
        enter(expect.counter);
        for (_, counter) in &expect.also {
            enter(*counter);
        }
        let heard = |slot: &Slot| (mirrored || *slot == word.active()) && !word.muted(*slot);
        for slot in Slot::BOTH.into_iter().filter(heard) {
            let there = expect.frame.clone().expect("it goes on");
            out[id.0 as usize][slot.index()].push(there);
        }
    }

    /// What came out of the taps is what had to.
    fn came_out(&self, expected: &Out) -> Option<String> {
        for id in PAIRS {
            for slot in Slot::BOTH {
                let tap = self.bench.tap(id, slot);
                let mut expected = expected[id.0 as usize][slot.index()].iter();
                while let Some(frame) = tap.try_receive() {
                    match expected.next() {
                        Some(wanted) if *wanted == frame => {}
                        other => return Some(format!("{id:?} {slot:?} got {frame:02x?}, not {other:02x?}")),
                    }
                }
                if let Some(missing) = expected.next() {
                    return Some(format!("{id:?} {slot:?} did not get {missing:02x?}"));
                }
            }
        }
        None
    }

    /// One round: what is wrong. With `one_by_one` the books are looked at after each frame, which is slow and names it.
    fn round(&self, seed: u64, number: u64, one_by_one: bool) -> Vec<String> {
        let mut random = Random::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut world = self.begin(&mut random);
        let (mut wrong, mut due) = (Vec::new(), Books::new());
        let mut out = Out::default();
        let mut before = self.books();
        for _ in 0..ROUND {
            let frame = mutate::next(&mut random, &self.valid);
            let door = Self::door(&mut random, &frame);
            let what = |why: String| format!("round {number}: {door:?} {frame:02x?}: {why}");
            wrong.extend(self.put(&mut world, &frame, door, &mut due, &mut out).map(what));
            if matches!(door, Door::Uplink) && random.one_in(8) {
                self.alive(&world, &frame, &mut due, &mut out);
            }
            if one_by_one {
                let after = self.books();
                wrong.extend(unbalanced(&before, &after, &due).map(what));
                wrong.extend(self.came_out(&std::mem::take(&mut out)).map(what));
                (before, due) = (after, Books::new());
            }
        }
        wrong.extend(unbalanced(&before, &self.books(), &due));
        wrong.extend(self.came_out(&out));
        wrong
    }

    /// Rounds until there have been so many frames; panics with the first round in which something is wrong.
    fn rounds(&self, seed: u64, frames: usize) {
        let begun = Instant::now();
        let only = number("HOTPAIR_ROUND");
        let rounds = frames.div_ceil(ROUND) as u64;
        for round in only.map_or(0..rounds, |only| only..only + 1) {
            let wrong = self.round(seed, round, only.is_some());
            if !wrong.is_empty() {
                let again = self.round(seed, round, true);
                let named = again.into_iter().chain(wrong).take(5).collect::<Vec<_>>().join("\n");
                panic!("HOTPAIR_SEED={seed} HOTPAIR_ROUND={round}:\n{named}");
            }
        }
        println!("{frames} frames in {:.1} s, HOTPAIR_SEED={seed}", begun.elapsed().as_secs_f64());
    }
}

/// Whether it says that it is IP and has no room for the header (`bpf_prog_test_run_skb`: EINVAL).
fn is_headless(frame: &[u8]) -> bool {
    let header = match frame[12..14] {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => 0,
    };
    frame.len() < 14 + header
}

/// What must come out of each tap, in order.
type Out = [[Vec<Vec<u8>>; 2]; 3];

fn judge(expect: &Expect, ran: &Ran, learnt: bool) -> Option<String> {
    let why = format!("{:?} of {:?}", expect.counter, expect.pair);
    if ran.verdict as i32 != expect.verdict {
        return Some(format!("the verdict is {}, not {} ({why})", ran.verdict as i32, expect.verdict));
    }
    let wanted = expect.frame.as_ref()?;
    // The destination that tagged frames have taught.
    let from = if learnt { 6 } else { 0 };
    if ran.frame.get(from..) != wanted.get(from..) {
        return Some(format!("the frame is\n  {:02x?}, not\n  {wanted:02x?} ({why})", ran.frame));
    }
    (ran.mark != if expect.marked { MARK } else { 0 }).then(|| format!("the mark is {:#x} ({why})", ran.mark))
}

fn unbalanced(before: &Books, after: &Books, due: &Books) -> Option<String> {
    let wrong = after.iter().filter_map(|(cell, count)| {
        let (rose, due) = (count - before.get(cell).unwrap_or(&0), due.get(cell).copied().unwrap_or(0));
        (rose != due).then(|| format!("{cell:?} rose by {rose}, not {due}"))
    });
    let wrong: Vec<_> = wrong.collect();
    (!wrong.is_empty()).then(|| wrong.join(", "))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number")))
}

/// Always the same frames; when soaking, ten million and others every time.
#[test]
fn millions_of_mutated_frames_are_steered_right_and_each_is_counted_once() {
    let soaking = std::env::var_os("HOTPAIR_SOAK").is_some();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (seed, frames) = if soaking { (clock, 10_000_000) } else { (1, 2_000_000) };
    alone(|| Stand::new().rounds(number("HOTPAIR_SEED").unwrap_or(seed), frames));
}

/// A frame may end anywhere.
#[test]
fn each_kind_of_frame_cut_at_each_length_is_steered_right() {
    alone(|| {
        let stand = Stand::new();
        let mut random = Random::new(7);
        let mut world = stand.begin(&mut random);
        let mut wrong = Vec::new();
        for frame in &stand.valid {
            let (before, mut due) = (stand.books(), Books::new());
            let mut out = Out::default();
            for len in 14..=frame.len().min(140) {
                let cut = &frame[..len];
                for door in [
                    Door::Uplink,
                    Door::Guest(WEB, Slot::Zero),
                    Door::Guest(DB, Slot::One),
                    Door::Host(WEB, Slot::Zero, false),
                ] {
                    if is_headless(cut) && matches!(door, Door::Host(..)) {
                        continue;
                    }
                    let said = stand.put(&mut world, cut, door, &mut due, &mut out);
                    wrong.extend(said.map(|why| format!("{door:?} {cut:02x?}: {why}")));
                }
            }
            wrong.extend(
                unbalanced(&before, &stand.books(), &due).map(|why| format!("{frame:02x?}, cut: {why}")),
            );
            wrong.extend(stand.came_out(&out));
        }
        wrong.truncate(5);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
