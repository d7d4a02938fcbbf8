//! A whole service in a test.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{failure, says};
use crate::{
    Boot, Error, Job, JobContext, JobError, Weight, Workers, millis, secs,
    testing::{Gate, Script, TestApp, block_on_virtual},
};

/// A service of one route.
fn serving(script: &Script<(), String>) -> impl AsyncFnOnce(&mut Boot<()>) -> crate::Result<()> + 'static {
    let script = script.clone();
    async move |b: &mut Boot<()>| {
        let router = Router::new().route("/", get(move || async move { script.call(()).await }));
        b.http("127.0.0.1:0", router);
        Ok(())
    }
}

#[test]
fn a_request_goes_through_the_whole_pipeline_and_no_socket() {
    block_on_virtual(
        TestApp::new(async |b: &mut Boot<()>| {
            let echo = post(async |Json(body): Json<Value>| Json(json!({ "got": body })));
            b.http("256.256.256.256:1", Router::new().route("/echo", echo)); // never bound
            Ok(())
        })
        .run(async |app| {
            let answer = app.post("/echo", &json!({ "n": 1 })).await;
            assert_eq!(answer.assert_status(200).json::<Value>(), json!({ "got": { "n": 1 } }));
            assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
            app.get("/nowhere").await.assert_status(404);
        }),
    );
}

#[test]
fn who_waits_for_the_listener_is_told_where_it_would_be() {
    block_on_virtual(
        TestApp::new(async |b: &mut Boot<()>| {
            let http = b.http("0.0.0.0:6246", Router::new());
            b.on_ready(async move {
                assert_eq!(http.bound().await.to_string(), "127.0.0.1:80");
                Ok::<_, Error>(())
            });
            Ok(())
        })
        .run(async |app| {
            app.get("/").await.assert_status(404);
        }),
    );
}

#[test]
fn readiness_goes_before_the_listener_and_requests_in_flight_are_answered() {
    let gate = Gate::new();
    let slow =
        Script::named("slow").returns("early".to_owned()).pending_until(&gate).returns("late".to_owned());
    block_on_virtual(TestApp::new(serving(&slow)).run(async |app| {
        let hung = app.get("/");
        let ((), answer) = tokio::join!(
            async {
                gate.until_arrived(1).await;
                app.assert_unready_before_closing().await;
                gate.open();
                app.assert_drained().await;
            },
            async {
                assert_eq!(app.get("/").await.text(), "early");
                hung.await
            }
        );
        assert_eq!(answer.text(), "late", "it was in flight when the listener closed");
    }));
}

#[test]
fn what_never_ends_is_cut_and_named() {
    let hang = Script::named("hang").hang();
    let told = failure(|| {
        block_on_virtual(TestApp::new(serving(&hang)).run(async |app| {
            let never = tokio::time::timeout(secs(3_600), app.try_request(http::Request::new("".into())));
            let (answer, ()) = tokio::join!(never, async {
                hang.until_called(1).await;
                app.stop().await;
            });
            assert!(answer.expect("cut before").is_none());
        }));
    });
    says(&told, &["was cut", "GET /"]);
}

#[test]
fn a_client_that_leaves_takes_its_handler_along() {
    let hang = Script::named("hang").hang();
    block_on_virtual(TestApp::new(serving(&hang)).run(async |app| {
        let gone = tokio::time::timeout(secs(1), app.get("/")).await;
        assert!(gone.is_err());
        hang.until_cancelled(1).await;
    }));
}

#[test]
fn a_service_that_does_not_start_fails_the_test_with_the_reason() {
    let told = failure(|| {
        let boot = async |_: &mut Boot<()>| Err(Error::config("no database"));
        block_on_virtual(TestApp::new(boot).run(async |_| ()));
    });
    says(&told, &["did not start", "no database"]);
}

#[test]
fn a_test_that_panics_has_its_service_stopped_in_order() {
    let stopped = Arc::new(Mutex::new(false));
    let there = stopped.clone();
    let told = failure(|| {
        let boot = async move |b: &mut Boot<()>| {
            b.on_stop("db", secs(1), move || async move {
                *there.lock().unwrap() = true;
                Ok::<_, Error>(())
            });
            Ok(())
        };
        block_on_virtual(TestApp::new(boot).run(async |_| panic!("as tests do")));
    });
    says(&told, &["as tests do"]);
    assert!(*stopped.lock().unwrap());
}

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Bill(u32);

impl Job for Bill {
    const KIND: &'static str = "bill";
    const QUEUE: &'static str = "money";
}

#[test]
fn jobs_run_to_their_ends_and_can_be_looked_at() {
    let charge =
        Script::<u32, Result<(), JobError>>::named("charge").err(JobError::retry("busy")).ok(()).ok(());
    let calls = charge.clone();
    block_on_virtual(
        TestApp::new(async move |b: &mut Boot<()>| {
            let store = b.store("sqlite:/nowhere/at/all.db").await?;
            b.check("store again", Weight::Degraded, move || {
                let store = store.store().clone();
                async move { store.ping().await }
            });
            let bill =
                async |bill: Bill, cx: JobContext<Script<u32, Result<(), JobError>>>| cx.call(bill.0).await;
            b.workers(Workers::new("money", charge).on(bill));
            Ok(())
        })
        .run(async |app| {
            app.store().enqueue(Bill(1)).await.unwrap();
            app.store().enqueue(Bill(2).with().delay(secs(3_600))).await.unwrap();
            assert_eq!(app.enqueued::<Bill>().await, [Bill(1), Bill(2)]);
            assert_eq!(app.assert_enqueued(|bill: &Bill| bill.0 == 2).await, Bill(2));
            app.run_jobs().await;
        }),
    );
    calls.assert_calls([1, 1, 2]);
}

#[test]
fn a_job_that_nobody_works_on_is_told() {
    let told = failure(|| {
        let boot = async |b: &mut Boot<()>| b.store("memory:").await.map(drop);
        block_on_virtual(TestApp::new(boot).run(async |app| {
            app.store().enqueue(Bill(1)).await.unwrap();
            app.run_jobs().await;
        }));
    });
    says(&told, &["1 in `money`"]);
}

#[test]
fn a_callers_grpc_timeout_holds_within_the_services_own() {
    let boot = async |b: &mut Boot<()>| {
        let left = get(async || {
            crate::Context::current().remaining().map_or_else(String::new, |left| format!("{left:?}"))
        });
        b.http("127.0.0.1:0", Router::new().route("/", left))
            .pipeline(|pipeline| pipeline.time_limit(secs(2)));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).run(async |app| {
        for (sent, left) in
            [("1S", "1s"), ("1500m", "1.5s"), ("1M", "2s"), ("99999999H", "2s"), ("9S9", "2s")]
        {
            let request = http::Request::get("/").header("grpc-timeout", sent).body("".into()).unwrap();
            assert_eq!(app.request(request).await.text(), left, "{sent}");
        }
        assert_eq!(app.get("/").await.text(), "2s");
    }));
}

#[test]
fn checks_are_run_beside_the_test_unless_it_does_without() {
    let calls = |without: bool| {
        let ping = Script::<(), Result<(), Error>>::named("ping").otherwise(|()| Ok(()));
        let pinged = ping.clone();
        let boot = async move |b: &mut Boot<()>| {
            b.check("db", Weight::Critical, move || pinged.call(()));
            Ok(())
        };
        let boot = TestApp::new(boot);
        let boot = if without { boot.without_checks() } else { boot };
        block_on_virtual(boot.run(async |app| {
            tokio::time::sleep(secs(60)).await;
            assert!(app.is_ready());
        }));
        ping.called()
    };
    assert!(calls(false) > 10);
    assert_eq!(calls(true), 0);
}

#[test]
fn requests_of_every_kind_have_a_short_form() {
    block_on_virtual(
        TestApp::new(async |b: &mut Boot<()>| {
            let echo = async |method: http::Method, body: String| format!("{method} {body}");
            b.http("127.0.0.1:1", Router::new().route("/", axum::routing::any(echo)));
            Ok(())
        })
        .run(async |app| {
            assert_eq!(app.get("/").await.text(), "GET ");
            assert_eq!(app.delete("/").await.text(), "DELETE ");
            assert_eq!(app.post("/", &json!([1])).await.text(), "POST [1]");
            assert_eq!(app.put("/", &"text").await.text(), "PUT text");
            assert_eq!(app.patch("/", &json!({})).await.text(), "PATCH {}");
        }),
    );
}

#[tokio::test]
async fn with_sockets_real_clients_reach_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let hello = Script::<(), String>::named("hello").returns("hello".to_owned());
    TestApp::new(serving(&hello))
        .with_sockets()
        .run(async |app| {
            let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            says(&answer, &["200 OK", "hello"]);
        })
        .await;
    hello.assert_called_times(1);
}

#[test]
fn with_sockets_on_virtual_time_an_hour_takes_none_and_no_limit_fires_while_bytes_are_on_their_way() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let hello = Script::<(), String>::named("hello")
        .returns("at once".to_owned())
        .delay(secs(25))
        .returns("later".to_owned())
        .repeat_last();
    block_on_virtual(TestApp::new(serving(&hello)).with_sockets().run(async |app| {
        let ask = async |limit| {
            let answer = async {
                let mut stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            };
            tokio::time::timeout(limit, answer).await.ok()
        };
        // A limit that would be over at once on a clock that jumps whenever there is nothing to do.
        says(&ask(millis(1)).await.expect("in time"), &["200 OK", "at once"]);
        let began = tokio::time::Instant::now();
        says(&ask(secs(60)).await.expect("in time"), &["200 OK", "later"]);
        assert!(began.elapsed() >= secs(25));
        assert_eq!(ask(secs(10)).await, None, "a limit that is over is over");
        app.assert_unready_before_closing().await;
        app.assert_drained().await;
        assert!(tokio::net::TcpStream::connect(app.address()).await.is_err(), "its socket is closed");
    }));
    assert_eq!((hello.called(), hello.cancelled()), (3, 1));
}

#[test]
fn what_the_admin_listener_would_answer_can_be_asked() {
    block_on_virtual(
        TestApp::new(async |b: &mut Boot<()>| {
            let own = Router::new().route("/admin/own", axum::routing::get(async || "mine"));
            b.admin(move |chassis| chassis.merge(own));
            Ok(())
        })
        .run(async |app| {
            let ask = async |path: &str| {
                let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
                app.ask_admin(request).await.expect("it is there")
            };
            assert_eq!(ask("/admin/own").await.text(), "mine");
            ask("/admin/config").await.assert_status(200);
            ask("/readyz").await.assert_status(200);
            ask("/nowhere").await.assert_status(404);
        }),
    );
}
