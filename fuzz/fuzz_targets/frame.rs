//! libFuzzer's way into `hotpair_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::frame(bytes));
