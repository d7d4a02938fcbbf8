//! Configuration files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::texts;

fuzz_target!(|input: &[u8]| texts::a_file_is_read_or_every_mistake_is_told(input));
