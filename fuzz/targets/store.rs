//! Files of a killed store with other bytes in them, also with checksums of the journal that fit: it opens and can be
//! read, or it says what is wrong. It never panics, and never hangs.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::killed::{Edit, Killed};

static KILLED: LazyLock<Killed> = LazyLock::new(Killed::new);

fuzz_target!(|input: &[u8]| {
    let Some((repair, edits)) = input.split_first() else { return };
    KILLED.open_with(&Edit::all(edits), repair & 1 == 1);
});
