//! libFuzzer's way into `hotpair_fuzz::domain_xml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotpair_fuzz::domain_xml(bytes));
