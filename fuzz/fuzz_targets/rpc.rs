#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portguard_fuzz::rpc(bytes));
