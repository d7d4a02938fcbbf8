//! Cron expressions: expression, time zone, and from when on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::{parts, texts};

fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    let zone = parts.get(1).map_or("UTC", |zone| zone);
    let at = parts.get(2).and_then(|at| at.parse().ok()).unwrap_or(0);
    texts::a_cron_expression_is_refused_by_name_or_comes(&parts[0], zone, at);
});
