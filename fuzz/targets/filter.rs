//! Topic filters, and topics that they may match.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::{parts, texts};

fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    // Each is tried as both: what is a topic is a filter, too.
    texts::filters_are_refused_or_match_by_the_rule(&parts, &parts);
});
