//! Every target on its corpus, whole, and on mutations of it: without sanitizers, with any stable compiler, for 15 seconds
//! each and as many at once as there are processors; with `--soak` for two minutes each.
//!
//! The mutations are the same at every run; `HOTPAIR_SEED=N` gives others, `HOTPAIR_SECONDS=N` has each target mutated for so
//! long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hotpair_fuzz::{TARGETS, Target};

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("readable")).collect()
}

fn mutate(random: &mut Random, all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = all[random.below(all.len())].clone();
    for _ in 0..=random.below(4) {
        let (at, length) = (random.below(bytes.len() + 1), bytes.len());
        match random.below(6) {
            0 if at < length => bytes[at] ^= 1 << random.below(8),
            1 if at < length => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.below(256) as u8),
            4 if at < length => {
                bytes.remove(at);
            }
            _ => {
                let other = &all[random.below(all.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Runs a target; a panic names the bytes.
fn run(name: &str, target: Target, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let file = std::env::temp_dir().join(format!("hotpair-fuzz-{name}-{}", std::process::id()));
        std::fs::write(&file, bytes).expect("writable");
        panic!("{name} does not take {:?}; they are in {}", String::from_utf8_lossy(bytes), file.display());
    }
}

/// Replays a corpus, then mutates it for as long.
fn replay(name: &str, target: Target, seed: u64, time: Duration) {
    let all = corpus(name);
    assert!(!all.is_empty(), "{name} has no corpus");
    for bytes in &all {
        run(name, target, bytes);
    }
    let (mut random, begun, mut times) = (Random(seed), Instant::now(), 0);
    while begun.elapsed() < time {
        run(name, target, &mutate(&mut random, &all));
        times += 1;
    }
    println!("{name}: {} of the corpus, {times} mutations (HOTPAIR_SEED={seed})", all.len());
}

#[test]
fn every_target_takes_its_corpus_and_what_is_made_of_it() {
    let soaking = std::env::var_os("HOTPAIR_SOAK").is_some();
    let time = Duration::from_secs(number("HOTPAIR_SECONDS").unwrap_or(if soaking { 120 } else { 15 }));
    let seed = number("HOTPAIR_SEED").unwrap_or(1);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, target)) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
            replay(name, *target, seed, time);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // A worker that panics makes the scope panic when the others are done.
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
}
