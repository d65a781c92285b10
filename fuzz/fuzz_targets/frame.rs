#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| portguard_fuzz::frame(frame));
