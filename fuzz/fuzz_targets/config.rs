//! libFuzzer's way into `hotpair_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::config(bytes));
