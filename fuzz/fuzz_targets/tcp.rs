//! libFuzzer's way into `hotpair_fuzz::tcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::tcp(bytes));
