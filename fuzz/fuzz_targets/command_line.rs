//! libFuzzer's way into `hotpair_fuzz::command_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::command_line(bytes));
