#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plumbline_fuzz::sealed_secrets::key(data));
