//! Requests made out of the OpenAPI document, to a server that remembers: the input says what is chosen.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::http::{
    judge::{ask, on_a_server, unknown_fields_are_refused},
    make::Maker,
    world::Chance,
};

/// What follows on more is as likely found from fewer.
const REQUESTS: usize = 12;

static DOCUMENT: LazyLock<serde_json::Value> = LazyLock::new(|| mainstay_server::openapi::document(None));

fuzz_target!(|input: &[u8]| {
    on_a_server(async |app| {
        let mut maker = Maker::new(&DOCUMENT, Chance::given(input.to_vec(), 1));
        for _ in 0..REQUESTS {
            if maker.is_used_up() {
                break;
            }
            let asked = maker.next();
            if std::env::var_os("SHOW").is_some() {
                eprintln!("{asked}\n");
            }
            let (status, body) = ask(app, &asked).await;
            if status < 300 {
                maker.learn(&body);
                unknown_fields_are_refused(app, &asked).await;
            }
        }
    });
});
