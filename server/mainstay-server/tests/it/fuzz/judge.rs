//! A server without sockets, and what holds of each of its answers. The coverage-guided targets (`fuzz/`) use it too.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use mainstay::testing::{TestApp, block_on_virtual};
use mainstay::{Boot, secs};
use mainstay_server::serve::{self, Config};
use serde_json::Value;

use super::make::{Asked, UNKNOWN};
use super::world::everything;

/// No request of the contract takes longer.
const STUCK_AFTER: Duration = secs(400);
/// What has no end is left after this long.
const STREAMED_FOR: Duration = secs(1);

/// Runs `test` beside a server that is its own.
pub fn on_a_server(test: impl AsyncFnOnce(&TestApp)) {
    let boot = async |b: &mut Boot<Config>| serve::boot(b).await;
    let run = TestApp::new(boot).set("log_level", "off").may_be_cut().run(test);
    block_on_virtual(run);
}

/// Asks, and judges the answer. Answers its status and body.
pub async fn ask(app: &TestApp, asked: &Asked) -> (u16, Value) {
    let (store, now) = (app.store(), tokio::time::Instant::now);
    let (before, began) = (everything(&store).await, now());
    let answer = async {
        match asked.is_for_admins() {
            true => app.ask_admin(asked.request()).await,
            false => app.try_request(asked.request()).await,
        }
    };
    let limit = if asked.may_stream() { STREAMED_FOR } else { STUCK_AFTER };
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.expect("it was answered"),
        Err(_) if asked.may_stream() => return (200, Value::Null),
        Err(_) => panic!("it was not answered"),
    };
    let (status, text) = (answer.status(), String::from_utf8_lossy(answer.bytes()).into_owned());
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    // Whoever gives no time gets none.
    let late = status == 504 && body["code"] == "deadline-exceeded";
    // A store in memory has no file to copy.
    let missing = status == 501 && body["code"] == "not-supported";
    assert!(status < 500 || late || missing, "{status} {text}");
    if status >= 400 && !(late && body["outcome"] == "unknown") {
        assert_eq!(body["status"], status, "a problem says its status: {text}");
        assert_eq!(body["outcome"], "not-applied", "{text}");
        assert!(body["code"].is_string() && body["detail"].is_string(), "{text}");
        // Where time has passed, leases may have run out. Who asks for a lock under a key keeps a place in its line.
        let may_differ = now() > began || body["code"] == "lock-held";
        let after = everything(&store).await;
        assert!(may_differ || before == after, "{status} {text}\nbefore: {before}\nafter: {after}");
    }
    (status, body)
}

/// What was taken is taken no more with a field that nobody knows.
pub async fn unknown_fields_are_refused(app: &TestApp, asked: &Asked) {
    let Some(asked) = asked.with_a_field_more() else { return };
    let (status, body) = ask(app, &asked).await;
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let named = errors.iter().any(|error| error["pointer"] == format!("/{}", UNKNOWN));
    assert!(status == 422 && named, "the unknown field was taken: {status} {body}");
}

/// Fails with the request that was under way.
pub async fn told(asked: &Asked, seed: u64, judged: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(judged).catch_unwind().await {
        eprintln!("after this request (of seed {seed}; keep it in tests/corpus):\n{asked}\n");
        std::panic::resume_unwind(panic);
    }
}
