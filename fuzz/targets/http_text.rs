//! Requests as text, byte for byte, in the form of the server's kept ones; those are the first seeds.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mainstay_fuzz::http::{
    judge::{ask, on_a_server},
    make::Asked,
};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(asked) = Asked::read(input).filter(Asked::is_a_request) else { return Corpus::Reject };
    // The one after which nothing is answered any more.
    if asked.path.starts_with("/admin/drain") {
        return Corpus::Reject;
    }
    on_a_server(async |app| drop(ask(app, &asked).await));
    Corpus::Keep
});
