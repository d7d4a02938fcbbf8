use std::future::{pending, poll_fn};
use std::task::Poll;

use proptest::prelude::*;
use tokio::runtime::Handle;

use super::*;
use crate::{TaskSet, secs};

fn named(id: &str) -> Context {
    Context::default().with_request_id(RequestId::parse(id).unwrap())
}

fn id() -> String {
    Context::current().request_id().map(ToString::to_string).unwrap_or_default()
}

fn fields(context: &Context) -> String {
    let mut all = String::new();
    context.each_field(&mut |name, value| all.push_str(&format!("{name}={value:?} ")));
    all
}

#[test]
fn what_was_current_before_is_so_again() {
    assert!(Context::current().is_empty());
    let outer = named("outer").enter();
    let panicked = std::panic::catch_unwind(|| {
        let _inner = named("inner").enter();
        assert_eq!(id(), "inner");
        panic!("on the way");
    });
    assert!(panicked.is_err());
    assert_eq!(id(), "outer");
    drop(outer);
    assert!(Context::current().is_empty());
}

#[tokio::test]
async fn a_scope_is_entered_for_each_poll_and_for_the_drop() {
    struct SaysAtDrop(std::sync::mpsc::SyncSender<String>);
    impl Drop for SaysAtDrop {
        fn drop(&mut self) {
            self.0.send(id()).unwrap();
        }
    }
    let (said, heard) = std::sync::mpsc::sync_channel(1);
    let mut scope = Box::pin(named("scope").scope(async move {
        let _held = SaysAtDrop(said);
        tokio::task::yield_now().await;
        assert_eq!(id(), "scope");
        pending::<()>().await;
    }));
    for _ in 0..2 {
        poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_ready())).await;
        assert_eq!(id(), "", "not between its polls");
    }
    drop(scope);
    assert_eq!(heard.recv().unwrap(), "scope");
    assert_eq!(id(), "");

    // What a future holds that has come to its end goes with that, in its context too.
    let (said, heard) = std::sync::mpsc::sync_channel(1);
    let held = SaysAtDrop(said);
    let mut scope = Box::pin(named("scope").scope(poll_fn(move |_| {
        let _ = &held;
        Poll::Ready(())
    })));
    scope.as_mut().await;
    assert_eq!(heard.try_recv().as_deref(), Ok("scope"));
    assert_eq!(id(), "");
}

#[tokio::test]
async fn two_pieces_of_work_on_one_thread_never_mix() {
    let work = async |name: &str| {
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert_eq!(id(), name);
        }
    };
    let (a, b) = (named("a"), named("b"));
    tokio::join!(a.scope(work("a")), b.scope(work("b")));
}

#[tokio::test]
async fn spawned_tasks_inherit_and_see_late_fields() {
    let tasks = TaskSet::on(Handle::current());
    let context = named("req-1");
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let child = {
        let _in = context.enter();
        tasks.spawn("child", async move {
            gone.await.unwrap();
            Context::current().set("by_child", true);
            (id(), fields(&Context::current()))
        })
    };
    context.set("user", 7);
    go.send(()).unwrap();
    assert_eq!(child.await.unwrap(), ("req-1".into(), "user=Signed(7) by_child=Bool(true) ".into()));
    assert_eq!(fields(&context), "user=Signed(7) by_child=Bool(true) ");
    let outside = tasks.spawn("outside", async { id() });
    assert_eq!(outside.await.unwrap(), "");
}

#[test]
fn a_derived_context_keeps_its_fields_to_itself() {
    let origin = named("x");
    let derived = origin.clone().with_attempt(2).with_field("own", 1);
    origin.set("late", 2);
    assert_eq!(fields(&derived), "late=Signed(2) own=Signed(1) ");
    assert_eq!(fields(&origin), "late=Signed(2) ");
    assert_eq!((origin.attempt(), derived.attempt()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn deadlines_come_nearer_and_detached_work_has_its_own() {
    let context = Context::new().with_time_limit(secs(5)).with_attempt(3);
    assert_eq!(context.clone().with_time_limit(secs(60)).remaining(), Some(secs(5)));
    assert_eq!(context.clone().with_time_limit(secs(1)).remaining(), Some(secs(1)));
    let detached = context.clone().detach(secs(60));
    assert_eq!(detached.remaining(), Some(secs(60)));
    assert_eq!((detached.attempt(), detached.request_id()), (1, context.request_id()));
    tokio::time::advance(secs(6)).await;
    assert_eq!(context.remaining(), Some(secs(0)));
}

#[test]
fn fields_are_bounded_and_cannot_forge() {
    let context = named("x");
    for n in 0..200 {
        context.set(format!("n{n}"), n);
    }
    assert_eq!(fields(&context).split(' ').count() - 1, 64);
    let context = named("x");
    context.set("a=1 b\n", "ä".repeat(1000));
    let text = fields(&context);
    assert!(text.starts_with("a_1_b_=") && text.len() < 1100, "{text}");
}

#[test]
fn sane_request_ids_are_kept() {
    assert_eq!(RequestId::parse("abc-1.2:3").unwrap().as_str(), "abc-1.2:3");
    assert_eq!(RequestId::parse(&"x".repeat(128)).unwrap().as_str().len(), 128);
    for bad in ["", "a b", "a\"b", "ä", "a\n", &"x".repeat(129)] {
        assert!(RequestId::parse(bad).is_none(), "{bad}");
    }
    let made = RequestId::new();
    assert!(made.as_str().len() == 32 && made != RequestId::new());
    assert_eq!(RequestId::parse(made.as_str()), Some(made));
}

/// The cases of the W3C's own validation suite, as far as they are about one header.
#[test]
fn a_traceparent_that_breaks_the_rules_is_refused() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Trace::continuing(good).unwrap();
    assert_eq!(trace.trace_id, 0x0af7651916cd43dd8448eb211c80319c);
    assert_eq!(trace.parent_id, Some(0xb7ad6b7169203331));
    assert!(trace.is_sampled() && trace.span_id != 0xb7ad6b7169203331);
    for later in ["cc-{}-01", "cc-{}-01-what-the-future-holds", "01-{}-01-"] {
        assert!(Trace::parse(&later.replace("{}", &good[3..52])).is_some(), "{later}");
    }
    for bad in [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(Trace::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_trace_state_that_breaks_the_rules_is_refused() {
    let long_key = format!("{}=1", "a".repeat(256));
    for (given, kept) in [
        ("foo=1,bar=2", "foo=1,bar=2"),
        (" foo=1 ,\t,bar=2,", "foo=1,bar=2"),
        ("0t@v=x y", "0t@v=x y"),
        ("a-_*/9=!~", "a-_*/9=!~"),
        (&long_key, &long_key),
    ] {
        assert_eq!(TraceState::parse(given).unwrap().as_str(), Some(kept), "{given}");
    }
    assert_eq!(TraceState::parse(" , ").unwrap().as_str(), None);
    let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let too_long = format!("{}=1", "a".repeat(257));
    for bad in [
        "foo",
        "foo=",
        "=1",
        "Foo=1",
        "9a=1",
        "a@=1",
        "@b=1",
        "a@9=1",
        "foo=1,foo=2",
        "a=b=c",
        "a=ü",
        "a b=1",
    ]
    .into_iter()
    .chain([&*many, &*too_long])
    {
        assert_eq!(TraceState::parse(bad), None, "{bad}");
    }
    let large = format!("a={},b=123456,c={}", "x".repeat(250), "y".repeat(250));
    assert_eq!(TraceState::parse(&large).unwrap().as_str().unwrap().len(), 252 + 1 + 8);
    let small = (0..30).map(|n| format!("k{n:02}={}", "x".repeat(20))).collect::<Vec<_>>().join(",");
    let kept = TraceState::parse(&small).unwrap().as_str().unwrap().to_owned();
    assert!(kept.len() <= 512 && small.starts_with(&kept), "{kept}");
}

#[test]
fn baggage_that_breaks_the_rules_is_refused() {
    let baggage = Baggage::parse("userId=Am%C3%A9lie , isProduction = false;ttl=5;x,b=%zz%").unwrap();
    assert_eq!(baggage.get("userId"), Some("Amélie"));
    assert_eq!(baggage.get("isProduction"), Some("false"));
    assert_eq!(baggage.get("b"), Some("%zz%"));
    assert_eq!(baggage.to_string(), "userId=Am%C3%A9lie,isProduction=false;ttl=5;x,b=%25zz%25");
    assert_eq!(Baggage::parse("a=1,a=2").unwrap().to_string(), "a=2");
    assert_eq!(Baggage::parse("a=%ff").unwrap().get("a"), Some("\u{fffd}"));
    assert!(Baggage::parse("").unwrap().is_empty());
    for bad in ["a", "a=b c", "a=\"b\"", "=1", "a b=1", "a=1;", "a=1;b=\"", "ä=1", "a=ä", "a=1,b", "a=\\"] {
        assert_eq!(Baggage::parse(bad), None, "{bad}");
    }
    let many = (0..100).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(Baggage::parse(&many).unwrap().len(), 64);
    let full = Baggage::parse(&many).unwrap();
    assert_eq!(full.with("more", "1"), Err(BaggageError::Full));
    assert_eq!(full.without("k0").with("more", "1").unwrap().len(), 64);
    assert_eq!(full.with("a b", "1"), Err(BaggageError::Name));
    assert_eq!(Baggage::default().with("a", &"x".repeat(8192)), Err(BaggageError::Full));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,80}") {
        let _ = (Trace::parse(&text), TraceState::parse(&text), Baggage::parse(&text), RequestId::parse(&text));
    }

    #[test]
    fn a_trace_reads_back_as_written(trace_id in 1u128.., span_id in 1u64.., flags in 0u8..4) {
        let trace = Trace { trace_id, span_id, parent_id: None, flags };
        prop_assert_eq!(Trace::parse(&trace.to_string()), Some(trace));
    }

    #[test]
    fn one_changed_byte_never_reads_as_the_same_trace(at in 0usize..55, with in "[ -~]") {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut text = good.to_owned();
        text.replace_range(at..=at, &with);
        // The version and the upper flags carry nothing that is kept.
        if text != good && (2..53).contains(&at) {
            prop_assert_ne!(Trace::parse(&text), Trace::parse(good));
        }
    }

    #[test]
    fn baggage_reads_back_as_written(members in prop::collection::vec(("[a-z!#$%&'*+.^_`|~-]{1,8}", "\\PC{0,12}"), 0..20)) {
        let mut baggage = Baggage::default();
        for (name, value) in &members {
            baggage = baggage.with(name, value).unwrap();
        }
        prop_assert_eq!(Baggage::parse(&baggage.to_string()), Some(baggage.clone()));
        for (name, _) in &members {
            let last = members.iter().rev().find(|(known, _)| known == name);
            prop_assert_eq!(baggage.get(name), last.map(|(_, value)| &**value));
        }
    }

    #[test]
    fn request_ids_read_back_as_written(text in "[A-Za-z0-9._:@/+=-]{1,128}") {
        let id = RequestId::parse(&text).unwrap();
        prop_assert_eq!(id.as_str(), text);
    }

    #[test]
    fn a_job_carries_it_all(
        id in "[a-z0-9]{1,128}", value in "\\PC{0,40}", number in any::<i64>(), float in -1e9..1e9f64, flag in any::<bool>(),
    ) {
        let context = named(&id)
            .with_trace(Trace::root())
            .with_trace_state(TraceState::parse("v=1").unwrap())
            .with_baggage(Baggage::default().with("k", &value).unwrap())
            .with_criticality(Criticality::Sheddable)
            .with_time_limit(secs(5))
            .with_field("text", value.clone())
            .with_field("number", number)
            .with_field("float", float)
            .with_field("flag", flag);
        let mut body = mainstay_core::job::JobBody::new("k", "{}");
        body.meta = Some(r#"{"author":1}"#.into());
        context.put_into(&mut body);
        prop_assert!(body.meta.as_deref().unwrap().contains("\"author\":1"));
        let attempt = Context::of_job(&body);
        prop_assert_eq!(attempt.request_id(), context.request_id());
        let (ours, theirs) = (attempt.trace().unwrap(), context.trace().unwrap());
        prop_assert_eq!((ours.trace_id, ours.parent_id), (theirs.trace_id, Some(theirs.span_id)));
        prop_assert_eq!(attempt.trace_state(), context.trace_state());
        prop_assert_eq!(attempt.baggage(), context.baggage());
        prop_assert_eq!(attempt.criticality(), Criticality::Sheddable);
        prop_assert_eq!(attempt.deadline(), None);
        let text = fields(&attempt);
        prop_assert!(text.contains(&format!("text={:?}", FieldValue::from(value))), "{text}");
        prop_assert!(text.contains(&format!("flag=Bool({flag})")), "{text}");
    }
}

#[test]
fn a_job_with_a_full_meta_loses_the_least_first() {
    let context = named("req").with_baggage(Baggage::default().with("k", &"x".repeat(2000)).unwrap());
    let context = context
        .with_field("a", "y".repeat(1000))
        .with_field("b", "y".repeat(1000))
        .with_field("c", "y".repeat(1000));
    let carried = |meta: &str| {
        let mut body = mainstay_core::job::JobBody::new("k", "{}");
        body.meta = Some(meta.into());
        context.put_into(&mut body);
        let attempt = Context::of_job(&body);
        let same_id = attempt.request_id() == context.request_id();
        (same_id, attempt.baggage().len(), fields(&attempt).is_empty(), body.meta.unwrap().len() <= 4096)
    };
    assert_eq!(carried("{}"), (true, 1, true, true));
    assert_eq!(carried(&format!(r#"{{"mine":"{}"}}"#, "z".repeat(3000))), (true, 0, true, true));
    assert_eq!(carried(&format!(r#"{{"mine":"{}"}}"#, "z".repeat(4080))), (false, 0, true, true));
    let mut theirs = mainstay_core::job::JobBody::new("k", "{}");
    theirs.meta = Some(r#"{"context":"mine"}"#.into());
    context.put_into(&mut theirs);
    assert_eq!(theirs.meta.as_deref(), Some(r#"{"context":"mine"}"#));
    assert!(Context::of_job(&theirs).request_id().is_some());
}

#[test]
fn secrets_stay_secret_as_fields() {
    let context = named("x").with_field("key", crate::Secret::new("hunter2".to_owned()));
    assert_eq!(fields(&context), "key=Text(\"[redacted]\") ");
}

#[cfg(feature = "http")]
mod http_headers {
    use ::http::{HeaderMap, HeaderName, HeaderValue};
    use tower::{Layer, Service};

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in all {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test(start_paused = true)]
    async fn a_request_brings_its_context() {
        let context = Context::from_headers(&headers(&[
            ("x-request-id", "req-1"),
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "k=1"),
            ("baggage", "l=2"),
            ("x-request-timeout-ms", "1500"),
            ("x-criticality", "sheddable-plus"),
        ]));
        assert_eq!(context.request_id().unwrap().as_str(), "req-1");
        assert_eq!(context.trace().unwrap().parent_id, Some(0xb7ad6b7169203331));
        assert_eq!(context.trace_state().as_str(), Some("a=1,b=2"));
        assert_eq!(context.baggage().to_string(), "k=1,l=2");
        assert_eq!(context.remaining(), Some(crate::millis(1500)));
        assert_eq!(context.criticality(), Criticality::SheddablePlus);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_timeout_is_a_deadline_in_any_of_its_units() {
        let remaining = |all: &[(&'static str, &str)]| Context::from_headers(&headers(all)).remaining();
        for (sent, limit) in [
            ("2H", Some(secs(7_200))),
            ("3M", Some(secs(180))),
            ("4S", Some(secs(4))),
            ("5m", Some(crate::millis(5))),
            ("6000u", Some(crate::millis(6))),
            ("7999999n", Some(crate::millis(7))),
            ("999u", Some(secs(0))),
            ("0S", Some(secs(0))),
            // Eight digits at most, and nobody waits for longer than a day.
            ("00000009S", Some(secs(9))),
            ("99999999n", Some(crate::millis(99))),
            ("99999999m", Some(secs(86_400))),
            ("99999999H", Some(secs(86_400))),
            ("000000009S", None),
            ("100000000m", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("5h", None),
            ("5 S", None),
            ("+5S", None),
            ("-5S", None),
            ("5.5S", None),
            ("5SS", None),
            ("5\u{b5}", None),
        ] {
            assert_eq!(remaining(&[("grpc-timeout", sent)]), limit, "`{sent}`");
        }
        let both = |grpc, ms| remaining(&[("grpc-timeout", grpc), ("x-request-timeout-ms", ms)]);
        assert_eq!(both("2S", "3000"), Some(secs(2)), "the earlier of both");
        assert_eq!(both("2S", "1000"), Some(secs(1)), "the earlier of both");
        assert_eq!(both("2s", "3000"), Some(secs(3)), "one that is wrong is none");
        assert_eq!(
            remaining(&[("grpc-timeout", "1S"), ("grpc-timeout", "2S")]),
            None,
            "two answers are none"
        );
    }

    #[test]
    fn what_is_wrong_is_as_if_it_had_not_been_sent() {
        let context = Context::from_headers(&headers(&[
            ("x-request-id", "a b"),
            ("traceparent", GOOD),
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("baggage", "k=1,\u{e4}"),
            ("x-request-timeout-ms", "-1"),
            ("x-criticality", "Grave"),
        ]));
        assert_eq!(context.request_id().unwrap().as_str().len(), 32);
        assert_eq!(context.trace().unwrap().parent_id, None, "two parents are none");
        assert_eq!(context.trace_state().as_str(), None, "no state without its parent");
        assert!(context.baggage().is_empty());
        assert_eq!((context.deadline(), context.criticality()), (None, Criticality::Critical));
        let far = Context::from_headers(&headers(&[("x-request-timeout-ms", "18446744073709551615")]));
        assert!(far.remaining().unwrap() <= secs(86_400));
    }

    #[tokio::test(start_paused = true)]
    async fn outgoing_calls_carry_it_on() {
        let echo = tower::service_fn(|request: ::http::Request<()>| async move {
            Ok::<_, std::convert::Infallible>(request.headers().clone())
        });
        let mut client = Propagate.layer(echo);
        let context = Context::from_headers(&headers(&[
            ("x-request-id", "req-1"),
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("baggage", "k=1"),
            ("x-request-timeout-ms", "1500"),
            ("x-criticality", "sheddable"),
            ("x-retry-attempt", "2"),
        ]));
        let mut call = async |request: ::http::Request<()>| {
            let sent = client.call(request);
            context.scope(sent).await.unwrap()
        };
        // Written when the call is made, not when its future is polled.
        let outside = call(::http::Request::new(())).await;
        assert!(outside.is_empty(), "{outside:?}");

        tokio::time::advance(crate::millis(500)).await;
        let request = ::http::Request::builder().header("x-request-id", "mine").body(()).unwrap();
        let sent = {
            let _in = context.enter();
            client.call(request)
        };
        let sent = sent.await.unwrap();
        let theirs = Context::from_headers(&sent);
        assert_eq!(sent["x-request-id"], "mine", "what the caller has set stays");
        assert_eq!(sent["x-request-timeout-ms"], "1000");
        assert_eq!(theirs.trace().unwrap().parent_id, context.trace().map(|trace| trace.span_id));
        assert_eq!(theirs.trace_state(), context.trace_state());
        assert_eq!(theirs.baggage(), context.baggage());
        assert_eq!(theirs.criticality(), Criticality::Sheddable);
        assert_eq!(sent["x-retry-attempt"], "2", "so that nobody below retries a retry");
        assert!(!sent.contains_key("grpc-timeout"), "it is no call of gRPC");

        let _in = context.enter();
        let grpc = ::http::Request::builder().header("content-type", "application/grpc+proto");
        let sent = client.call(grpc.body(()).unwrap()).await.unwrap();
        assert_eq!(sent["grpc-timeout"], "1000m");
    }
}

#[test]
fn an_event_carries_the_context_of_its_publisher_in_extension_attributes() {
    use mainstay_core::{TopicName, event::Event};
    let context = Context::new()
        .with_request_id(RequestId::parse("req-7").unwrap())
        .with_trace_state(TraceState::parse("vendor=1").unwrap())
        .with_criticality(Criticality::Sheddable)
        .with_time_limit(crate::secs(1))
        .with_field("tenant", "acme")
        .with_field("cents", 5);
    let mut event = Event::new("1", &TopicName::new("orders").unwrap(), "{}");
    event.extensions = context.extensions();
    assert_eq!(event.problems(), []);
    assert_eq!(&**event.extension("requestid").unwrap(), "\"req-7\"");
    let delivery = Context::of_event(&event);
    assert_eq!(delivery.request_id(), context.request_id());
    let (trace, theirs) = (delivery.trace().unwrap(), context.trace().unwrap());
    assert_eq!((trace.trace_id, trace.parent_id), (theirs.trace_id, Some(theirs.span_id)));
    assert_eq!(delivery.trace_state().as_str(), Some("vendor=1"));
    assert_eq!(delivery.criticality(), Criticality::Sheddable);
    assert_eq!(delivery.deadline(), None);
    let mut fields = Vec::new();
    delivery.each_field(&mut |name, value| fields.push((name.to_owned(), value.clone())));
    assert_eq!(fields, [("cents".to_owned(), 5_u64.into()), ("tenant".to_owned(), "acme".into())]);
}

#[test]
fn an_event_without_a_context_or_with_a_forged_one_still_has_one() {
    use mainstay_core::{TopicName, event::Event};
    let mut event = Event::new("1", &TopicName::new("orders").unwrap(), "{}");
    assert!(Context::of_event(&event).request_id().is_some());
    let forged =
        [("traceparent", "\"nonsense\""), ("requestid", "\"a\\nb\""), ("mainstaycontext", "\"[1]\"")];
    event.extensions = forged.map(|(name, value)| (name.into(), value.into())).into();
    let context = Context::of_event(&event);
    assert!(context.trace().is_some());
    assert_ne!(context.request_id().unwrap().as_str(), "a\nb");
}

#[test]
fn what_is_carried_on_holds_on_to_nothing_and_knows_everything_but_the_deadline() {
    let origin = Context::new().with_field("tenant", "acme");
    let request = origin.clone().with_time_limit(crate::secs(1)).with_attempt(3);
    let on = request.carried_on();
    assert!(on.0.as_ref().is_some_and(|inner| inner.origin.is_empty()));
    assert_eq!((on.request_id(), on.trace()), (request.request_id(), request.trace()));
    assert_eq!((on.deadline(), on.attempt()), (None, 1));
    on.set("card", "visa");
    let mut fields = Vec::new();
    on.each_field(&mut |name, _| fields.push(name.to_owned()));
    assert_eq!(fields, ["tenant", "card"]);
    origin.each_field(&mut |name, _| assert_eq!(name, "tenant"));
}
