use serde::Serialize;
use serde_json::json;

use super::*;
use crate::strict::{self, Cx, Parsed, Path, Strict, Value};
use crate::{JobId, Limits, Problem, RawJson, Timestamp};

const ID: &str = "019aae51-4f2b-7c3d-8e4f-0123456789ab";

fn parse<T: Strict>(body: &serde_json::Value) -> Result<Parsed<T>, Problem> {
    strict::parse(body.to_string().as_bytes(), &Limits::default())
}

fn ok<T: Strict>(body: serde_json::Value) -> T {
    parse(&body).unwrap_or_else(|problem| panic!("{body}: {:?}", problem.errors)).value
}

#[track_caller]
fn wrong<T: Strict + std::fmt::Debug>(body: serde_json::Value, pointers: &[&str]) {
    let problem = parse::<T>(&body).expect_err(&body.to_string());
    let mut found: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    let mut pointers = pointers.to_vec();
    found.sort_unstable();
    pointers.sort_unstable();
    assert_eq!(found, pointers, "{body}");
}

/// What a client writes, the server reads.
#[track_caller]
fn comes_back<T: Serialize + Strict + PartialEq + std::fmt::Debug>(request: &T) {
    let body = serde_json::to_vec(request).unwrap();
    match strict::parse::<T>(&body, &Limits::default()) {
        Ok(parsed) => assert_eq!(&parsed.value, request),
        Err(problem) => panic!("{}: {:?}", String::from_utf8_lossy(&body), problem.errors),
    }
}

fn id() -> JobId {
    ID.parse().unwrap()
}

fn full_job() -> NewJob {
    NewJob {
        id: Some(id()),
        priority: Some(0),
        run_at: Some(Timestamp(1_800_000_000_123)),
        max_attempts: Some(3),
        max_crashes: Some(2),
        backoff: Some(Backoff { base_ms: 5, factor: 1.5, max_ms: 10, jitter: Jitter::Equal }),
        timeout_ms: Some(1),
        expires_in_ms: Some(9),
        unique: Some(Unique { key: "k".into(), for_ms: Some(7) }),
        concurrency_key: Some("c".into()),
        fairness_key: Some("f".into()),
        after: vec![AfterRef::Job(id())],
        after_failure: Some(AfterFailure::Run),
        tags: vec!["a".into(), "b".into()],
        meta: Some(RawJson::parse(r#"{"x": 1.0}"#).unwrap()),
        retain_ms: Some(0),
        ..NewJob::new("mail", RawJson::parse(r#"{"to": 1.10}"#).unwrap())
    }
}

#[test]
fn requests_come_back() {
    comes_back(&NewJob::new("k", RawJson::NULL));
    comes_back(&full_job());
    comes_back(&BulkEnqueue {
        jobs: vec![full_job(), NewJob { after: vec![AfterRef::Local(0)], ..full_job() }],
    });
    comes_back(&Claim::from_queue("q"));
    comes_back(&Claim {
        queues: vec!["a".into(), "b".into()],
        max: 1000,
        lease_ms: 1000,
        wait_ms: 60_000,
        worker: Some("w".into()),
    });
    comes_back(&Extend {
        lease: "l".into(),
        extend_ms: 86_400_000,
        progress: Some(RawJson::parse("0.5").unwrap()),
    });
    comes_back(&Complete { lease: "l".into(), result: None });
    for retry in [Retry::Auto, Retry::Never, Retry::After(0)] {
        comes_back(&Fail { lease: "l".into(), error: JobFailure::message("m"), retry });
    }
    comes_back(&Release { lease: "l".into(), delay_ms: 5 });
    for delay_ms in [0, 5] {
        comes_back(&ReleaseDeliveries { leases: vec!["l".into()], delay_ms });
    }
    let error = JobFailure { kind: Some("T".into()), message: String::new(), backtrace: Some("b".into()) };
    let items = [
        SettleOutcome::Complete { result: Some(RawJson::parse("[1.0]").unwrap()) },
        SettleOutcome::Fail { error: error.clone(), retry: Retry::After(1) },
        SettleOutcome::Release { delay_ms: 0 },
        SettleOutcome::Cancel { error: None },
        SettleOutcome::Extend { extend_ms: 30_000, progress: None },
    ]
    .map(|outcome| SettleItem { id: id(), lease: "l".into(), outcome });
    comes_back(&Settle { items: items.into(), claim: Some(Claim::from_queue("q")) });
    comes_back(&QueueConfig::default());
    comes_back(&QueueConfig {
        max_depth: Some(1),
        max_age_ms: Some(60_000),
        overflow: Some(Overflow::DropOldest),
        concurrency: Some(1),
        key_concurrency: Some(2),
        rate: Some(Rate { per_ms: 1000, count: 5 }),
        fairness: Some(Fairness { by: FairnessBy::FairnessKey, weights: [("a".to_owned(), 2.5)].into() }),
        ageing_ms: Some(60_000),
        max_crashes: Some(9),
        retention: Some(Retention { completed_ms: Some(0), completed_count: Some(20_000), dead_ms: Some(1) }),
    });
    comes_back(&Acquire::by("me"));
    let shared = Acquire { mode: Some(AcquireMode::Shared), wait_ms: 60_000, ..Acquire::by("o") };
    comes_back(&shared);
    comes_back(&Acquire { delay_ms: 60_000, ..Acquire::by("o") });
    comes_back(&Acquire { permits: Some(3), ttl_ms: 86_400_000, ..Acquire::by("o") });
    comes_back(&Renew { lease: "l".into(), ttl_ms: Some(1_000) });
    let leases = vec![RenewItem { name: "n".into(), lease: "l".into(), ttl_ms: None }];
    comes_back(&RenewMany { leases });
    comes_back(&ReleaseLock { lease: "l".into() });
    comes_back(&CheckLock { token: (1 << 53) - 1 });
    comes_back(&DeadSelect::default());
    comes_back(&DeadSelect { ids: Some(vec![id()]), limit: Some(1), dry_run: true, ..DeadSelect::default() });
    comes_back(&Commit {
        require: vec![
            Require::Lock { lock: "l".into(), token: 1 },
            Require::Job { job: id(), lease: "x".into() },
        ],
        ops: vec![
            CommitOp::Enqueue { queue: "q".into(), job: Box::new(full_job()) },
            CommitOp::Publish { topic: "a.b".into(), event: RawJson::EMPTY_OBJECT },
            CommitOp::Complete { id: id(), lease: "l".into(), result: None },
            CommitOp::Fail { id: id(), lease: "l".into(), error, retry: Retry::Never },
            CommitOp::Release { id: id(), lease: "l".into(), delay_ms: 1 },
            CommitOp::Ack { group: "g".into(), lease: "l".into() },
            CommitOp::ReleaseLock { name: "n".into(), lease: "l".into() },
        ],
    });
    comes_back(&NewToken {
        name: "t".into(),
        scopes: vec!["jobs:work=mail.".parse().unwrap(), "admin".parse().unwrap()],
    });
    comes_back(&LogLevel { level: "debug".into() });
}

#[test]
fn every_wrong_field_of_a_job_is_named() {
    wrong::<NewJob>(json!({}), &["/kind"]);
    wrong::<NewJob>(
        json!({
            "kind": "", "id": "00000000-0000-0000-0000-000000000000", "priority": 10, "run_at": "2026-11-22T10:00:00",
            "max_attempts": 0, "max_crashes": "3", "backoff": {"base_ms": -1, "factor": 0.5, "max_ms": null, "jitter": "some", "x": 1},
            "timeout_ms": 0, "expires_at": 5, "unique": {"for_ms": 0}, "concurrency_key": "", "fairness_key": 1, "after": ["#x", 1, "#-1"],
            "after_failure": "stop", "tags": ["", "a"], "meta": [], "retain_ms": 1e300, "proirity": 1
        }),
        &[
            "/kind",
            "/id",
            "/priority",
            "/run_at",
            "/max_attempts",
            "/max_crashes",
            "/backoff/base_ms",
            "/backoff/factor",
            "/backoff/jitter",
            "/backoff/x",
            "/timeout_ms",
            "/expires_at",
            "/unique/key",
            "/unique/for_ms",
            "/concurrency_key",
            "/fairness_key",
            "/after/0",
            "/after/1",
            "/after/2",
            "/after_failure",
            "/tags/0",
            "/meta",
            "/retain_ms",
            "/proirity",
        ],
    );
}

#[test]
fn one_thing_said_in_two_ways_names_both() {
    wrong::<NewJob>(
        json!({"kind": "k", "run_at": "2026-11-22T10:00:00Z", "delay_ms": 0}),
        &["/run_at", "/delay_ms"],
    );
    wrong::<NewJob>(
        json!({"kind": "k", "expires_at": "2026-11-22T10:00:00Z", "expires_in_ms": 1}),
        &["/expires_at", "/expires_in_ms"],
    );
    wrong::<DeadSelect>(json!({"ids": [], "kind": "k"}), &["/ids", "/kind"]);
    assert_eq!(ok::<NewJob>(json!({"kind": "k", "run_at": null, "delay_ms": 0})).delay_ms, Some(0));
}

#[test]
fn sizes_have_bounds() {
    let text = |length: usize| "x".repeat(length);
    let job = |name: &str, value: serde_json::Value| json!({"kind": "k", name: value});
    ok::<NewJob>(job("payload", json!(text((1 << 20) - 2))));
    ok::<NewJob>(job("tags", json!(vec![text(64); 16])));
    ok::<NewJob>(job("kind", json!(text(256))));
    for (name, value) in [
        ("payload", json!(text((1 << 20) - 1))),
        ("meta", json!({"m": text(4096)})),
        ("tags", json!(vec!["a"; 17])),
        ("kind", json!(text(257))),
    ] {
        let pointer = format!("/{name}");
        wrong::<NewJob>(job(name, value), &[&pointer]);
    }
    wrong::<NewJob>(job("tags", json!([text(65)])), &["/tags/0"]);
    // Size alone is 413, a wrong field 422.
    let large = json!({"kind": "k", "payload": text(1 << 20)});
    assert_eq!(parse::<NewJob>(&large).unwrap_err().status, 413);
    wrong::<Fail>(
        json!({"lease": "l", "error": {"message": "m", "backtrace": text(16_385)}}),
        &["/error/backtrace"],
    );
    wrong::<BulkEnqueue>(json!({"jobs": []}), &["/jobs"]);
    wrong::<BulkEnqueue>(json!({"jobs": vec![json!({"kind": "k"}); 10_001]}), &["/jobs"]);
    assert_eq!(ok::<BulkEnqueue>(json!({"jobs": vec![json!({"kind": "k"}); 10_000]})).jobs.len(), 10_000);
    wrong::<Settle>(json!({"items": vec![0; 1_001]}), &["/items"]);
    wrong::<Commit>(json!({"ops": vec![0; 1_001]}), &["/ops"]);
}

#[test]
fn a_claim_has_defaults_and_bounds() {
    assert_eq!(ok::<Claim>(json!({"queues": ["q"]})), Claim::from_queue("q"));
    wrong::<Claim>(json!({}), &["/queues"]);
    wrong::<Claim>(json!({"queues": []}), &["/queues"]);
    wrong::<Claim>(
        json!({"queues": ["ok", "no way"], "max": 1001, "lease_ms": 999, "wait_ms": 60_001, "worker": "", "wait": 1}),
        &["/queues/1", "/max", "/lease_ms", "/wait_ms", "/worker", "/wait"],
    );
    wrong::<Claim>(
        json!({"queues": "q", "max": 0, "lease_ms": 86_400_001}),
        &["/queues", "/max", "/lease_ms"],
    );
}

#[test]
fn a_settle_item_has_the_fields_of_its_outcome() {
    let item = |more: serde_json::Value| {
        let mut item = json!({"id": ID, "lease": "l"});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"items": [item]})
    };
    wrong::<Settle>(item(json!({})), &["/items/0/outcome"]);
    wrong::<Settle>(item(json!({"outcome": "done", "x": 1})), &["/items/0/outcome", "/items/0/x"]);
    wrong::<Settle>(item(json!({"outcome": "complete", "delay_ms": 1})), &["/items/0/delay_ms"]);
    wrong::<Settle>(item(json!({"outcome": "fail"})), &["/items/0/error"]);
    wrong::<Settle>(item(json!({"outcome": "extend", "extend_ms": 5})), &["/items/0/extend_ms"]);
    wrong::<Settle>(
        json!({"items": [{"outcome": "release"}, 5]}),
        &["/items/0/id", "/items/0/lease", "/items/1"],
    );
    wrong::<Settle>(json!({}), &["/items"]);
    ok::<Settle>(json!({"items": []}));
}

#[test]
fn retry_is_a_word_or_a_delay() {
    for retry in [json!("later"), json!(5), json!({}), json!({"delay_ms": -1})] {
        let problem =
            parse::<Fail>(&json!({"lease": "l", "error": {"message": "m"}, "retry": retry})).unwrap_err();
        assert!(problem.errors[0].pointer.starts_with("/retry"));
    }
}

#[test]
fn a_commit_points_at_the_op_that_is_wrong() {
    wrong::<Commit>(json!({}), &["/ops"]);
    wrong::<Commit>(
        json!({
            "require": [{}, {"lock": "l", "job": ID}, {"lock": "l", "token": -1}],
            "ops": [
                {}, 1, {"op": "burn"}, {"op": "enqueue", "kind": "k", "queue": "q", "x": 1}, {"op": "complete"},
                {"op": "publish", "topic": "a..b", "event": 1},
            ]
        }),
        &[
            "/require/0",
            "/require/1",
            "/require/2/token",
            "/ops/0/op",
            "/ops/1",
            "/ops/2/op",
            "/ops/3/x",
            "/ops/4/id",
            "/ops/4/lease",
            "/ops/5/topic",
            "/ops/5/event",
        ],
    );
}

#[test]
fn a_local_reference_names_an_earlier_enqueue() {
    wrong::<BulkEnqueue>(
        json!({"jobs": [{"kind": "a", "after": ["#0"]}, {"kind": "b", "after": ["#0", "#2"]}, {"kind": "c"}]}),
        &["/jobs/0/after/0", "/jobs/1/after/1"],
    );
    wrong::<Commit>(
        json!({"ops": [{"op": "complete", "id": ID, "lease": "l"}, {"op": "enqueue", "queue": "q", "kind": "k", "after": ["#0"]}]}),
        &["/ops/1/after/0"],
    );
}

#[test]
fn what_a_store_may_lack_is_reported_apart() {
    /// Asks for what not every store has.
    #[derive(Clone)]
    struct Wish;
    impl Strict for Wish {
        fn read(cx: &mut Cx<'_>, at: &Path<'_>, _: Value<'_>) -> Option<Self> {
            cx.needs(&at.key("wish"), "magic");
            Some(Wish)
        }
    }
    let parsed = parse::<Wish>(&json!({})).unwrap();
    let asked: Vec<_> = parsed.unsupported.iter().map(|one| (one.pointer.as_str(), one.feature)).collect();
    assert_eq!(asked, [("/wish", "magic")]);
    let problem = parsed.clone().supported_by(|feature| feature != "magic").err().unwrap();
    assert_eq!((problem.status, problem.errors.len()), (501, 1));
    assert!(parsed.supported_by(|_| true).is_ok());
}

#[test]
fn queue_configuration_is_checked() {
    wrong::<QueueConfig>(
        json!({
            "max_depth": 0, "overflow": "drop", "concurrency": 0, "key_concurrency": 0, "rate": {"per_ms": 0}, "max_crashes": 0,
            "fairness": {"by": "tags", "weights": {"a": 0, "b": "x", "": 1}}, "ageing_ms": 0, "retention": {"dead_ms": -1, "dead_count": 1}
        }),
        &[
            "/max_depth",
            "/overflow",
            "/concurrency",
            "/key_concurrency",
            "/rate/per_ms",
            "/rate/count",
            "/max_crashes",
            "/fairness/by",
            "/fairness/weights/a",
            "/fairness/weights/b",
            "/fairness/weights/",
            "/ageing_ms",
            "/retention/dead_ms",
            "/retention/dead_count",
        ],
    );
}

#[test]
fn a_grant_is_a_scope_and_perhaps_a_prefix() {
    let grant: Grant = "jobs:work=mail".parse().unwrap();
    assert!(grant.allows(Scope::JobsWork, "mail.eu") && !grant.allows(Scope::JobsWork, "print"));
    assert!(!grant.allows(Scope::JobsProduce, "mail.eu"));
    assert!("admin".parse::<Grant>().unwrap().allows(Scope::LocksUse, "any"));
    for text in ["", "jobs", "jobs:work=a b", "=x", "JOBS:WORK"] {
        assert!(text.parse::<Grant>().is_err(), "{text}");
    }
}

#[test]
fn answers_come_back_and_keep_bodies_to_the_byte() {
    let text = format!(
        r#"{{"jobs":[{{"id":"{ID}","queue":"q","kind":"k","payload":{{"n": 1.10}},"priority":5,"attempt":1,"max_attempts":20,"crashes":0,"created_at":"2026-11-22T10:00:00.000Z","meta":{{}},"tags":[],"lease":"x","token":7,"expires_at":"2026-11-22T10:00:30.000Z"}}]}}"#
    );
    let claimed: Claimed = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&claimed).unwrap(), text);

    let results = format!(
        r#"{{"results":[{{"id":"{ID}","state":"completed"}},{{"id":"{ID}","error":{{"code":"lease-lost","detail":"d"}}}}],"jobs":[]}}"#
    );
    let settled: Settled = serde_json::from_str(&results).unwrap();
    assert_eq!(serde_json::to_string(&settled).unwrap(), results);

    let committed = format!(
        r#"{{"results":[{{"id":"{ID}","queue":"q","kind":"k","state":"available","priority":5,"run_at":"2026-11-22T10:00:00.000Z","created_at":"2026-11-22T10:00:00.000Z","deduplicated":false}},{{"state":"dead"}}]}}"#
    );
    let answer: Committed = serde_json::from_str(&committed).unwrap();
    assert!(matches!(answer.results[..], [CommitResult::Enqueued(_), CommitResult::State(_)]));
    assert_eq!(serde_json::to_string(&answer).unwrap(), committed);
}

#[cfg(feature = "openapi")]
#[test]
fn schemas_name_the_fields_as_the_wire_does() {
    use utoipa::PartialSchema;
    let schema = serde_json::to_value(NewJob::schema()).unwrap();
    assert_eq!(schema["required"], json!(["kind"]));
    assert!(schema["properties"]["expires_in_ms"].is_object());
    let claim = serde_json::to_value(Claim::schema()).unwrap();
    assert_eq!(claim["required"], json!(["queues"]));
    let problem = serde_json::to_value(Problem::schema()).unwrap();
    assert!(problem["properties"]["type"].is_object());
}
