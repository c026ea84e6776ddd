//! libFuzzer's way into `hotpair_fuzz::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::api(bytes));
