use proptest::prelude::*;

use super::*;
use crate::RawJson;

/// Free-form JSON, and one known field.
#[derive(Debug, PartialEq)]
struct Loose {
    data: Option<RawJson>,
    n: Option<u64>,
}

impl Strict for Loose {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["data", "n"])?;
        Some(Self { data: f.raw(cx, at, "data", usize::MAX), n: f.optional(cx, at, "n", int(0..=u64::MAX)) })
    }
}

fn read(body: impl AsRef<[u8]>) -> Result<Loose, Problem> {
    parse(body.as_ref(), &Limits::default()).map(|parsed| parsed.value)
}

fn pointers(problem: &Problem) -> Vec<&str> {
    problem.errors.iter().map(|error| error.pointer.as_str()).collect()
}

#[test]
fn what_is_not_json_is_malformed() {
    let rows: &[&[u8]] = &[
        b"{",
        b"}",
        b"{]",
        b"[}",
        b"{\"n\":1}x",
        b"{\"n\":1} {}",
        b"{\"n\":1,}",
        b"{,}",
        b"{\"n\" 1}",
        b"{\"n\":}",
        b"{n:1}",
        b"{'n':1}",
        b"{\"data\":[1,]}",
        b"{\"data\":[,1]}",
        b"{\"data\":[1 2]}",
        b"nul",
        b"nulll",
        b"True",
        b"NaN",
        b"{\"n\":NaN}",
        b"{\"n\":Infinity}",
        b"{\"n\":-Infinity}",
        b"{\"n\":01}",
        b"{\"n\":+1}",
        b"{\"n\":1.}",
        b"{\"n\":.5}",
        b"{\"n\":1e}",
        b"{\"n\":1e+}",
        b"{\"n\":-}",
        b"{\"n\":0x1}",
        b"{\"data\":\"",
        b"{\"data\":\"\\",
        b"{\"data\":\"\\x\"}",
        b"{\"data\":\"\\u12\"}",
        b"{\"data\":\"\\u12g4\"}",
        b"{\"data\":\"\\ud800\\u12\"}",
        b"{\"data\":\"a\nb\"}",
        b"{\"data\":\"\0\"}",
        b"\xef\xbb\xbf{}",
        b"{\"data\":\"\xff\"}",
        b"{\"data\":\"\xed\xa0\x80\"}",
        b"{\"data\":\"\xc0\x80\"}",
        b"\xfe\xff\0{\0}",
        b"{} // no",
        b"/**/{}",
        b"{\"n\":1 /**/}",
        b"\x0b{}",
        b"\xc2\xa0{}",
        b"{\"n\":1}\0",
        b"{\"n\":--1}",
        b"{\"n\":1-}",
    ];
    for row in rows {
        let problem = read(row).expect_err(&String::from_utf8_lossy(row));
        assert_eq!(
            (problem.status, problem.code),
            (400, Code::MalformedBody),
            "{}",
            String::from_utf8_lossy(row)
        );
    }
}

#[test]
fn json_that_cannot_be_exchanged_safely_is_refused_at_its_pointer() {
    for (body, pointer) in [
        (r#"{"n":1,"n":1}"#, "/n"),
        (r#"{"n":1,"\u006e":2}"#, "/n"),
        (r#"{"\u006e":1,"n":2}"#, "/n"),
        (r#"{"data":{"a":[0,{"b":1,"b":2}]}}"#, "/data/a/1/b"),
        (r#"{"data":{"a/b~":[{"":1,"":2}]}}"#, "/data/a~1b~0/0/"),
        (r#"{"data":1e999}"#, "/data"),
        (r#"{"data":[-1e309]}"#, "/data/0"),
        (r#"{"data":{"x":1.8e308}}"#, "/data/x"),
        (r#"{"data":"\ud800"}"#, "/data"),
        (r#"{"data":["\udc00"]}"#, "/data/0"),
        (r#"{"data":["\ud800\ud800\udc00"]}"#, "/data/0"),
        (r#"{"data":["\ud800x"]}"#, "/data/0"),
        (r#"{"data":{"\ud800":1}}"#, "/data"),
        (r#"{"n":1e999}"#, "/n"),
    ] {
        let problem = read(body).expect_err(body);
        assert_eq!((problem.status, pointers(&problem)), (422, vec![pointer]), "{body}");
    }
    let huge = format!(r#"{{"data":{}}}"#, "9".repeat(400));
    assert_eq!(pointers(&read(huge).unwrap_err()), ["/data"]);
}

#[test]
fn duplicates_are_found_among_many_keys() {
    let mut members: Vec<String> = (0..1_000).map(|n| format!(r#""k{n}":{n}"#)).collect();
    let object = |members: &[String]| format!(r#"{{"data":{{{}}}}}"#, members.join(","));
    assert!(read(object(&members)).is_ok());
    members.push(r#""k7":0"#.to_owned());
    members.push(r#""\u006b999":0"#.to_owned());
    assert_eq!(pointers(&read(object(&members)).unwrap_err()), ["/data/k7", "/data/k999"]);
}

#[test]
fn values_come_back_to_the_byte() {
    for data in [
        "18446744073709551615",
        "-9223372036854775808",
        "1.10",
        "-0",
        "-0.0e-0",
        "1e308",
        "5e-324",
        "1e-999",
        r#""\ud83d\ude00\u0000\/""#,
        r#"{"b" :1, "a": [ ] }"#,
        "[[],{}]",
        "null",
        r#""é😀""#,
    ] {
        let body = format!("\t\r\n {{ \"data\" : {data} }} \n");
        assert_eq!(read(&body).unwrap().data.unwrap().to_string(), data);
    }
}

#[test]
fn nesting_has_a_bound_wherever_it_is() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    // The body itself is the first level.
    assert!(read(format!(r#"{{"data":{}}}"#, nested("[", "]", MAX_DEPTH - 1))).is_ok());
    for depth in [MAX_DEPTH, MAX_DEPTH + 1, 1_000_000] {
        for name in ["data", "n", "unknown"] {
            let body = format!(r#"{{"{name}":{}}}"#, nested("[", "]", depth));
            let problem = read(body).unwrap_err();
            let deep = problem.errors.iter().filter(|error| error.detail.contains("nested deeper")).count();
            assert_eq!((problem.status, deep), (422, 1), "{name} {depth}");
        }
        let objects = format!(r#"{{"data":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(read(objects).unwrap_err().status, 422);
    }
    assert_eq!(read("[".repeat(1_000_000)).unwrap_err().status, 400);
    assert_eq!(read(r#"{"a":"#.repeat(1_000_000)).unwrap_err().status, 400);
    assert_eq!(read(format!("{}{}", "[".repeat(200), "}".repeat(200))).unwrap_err().status, 400);
    let mixed = format!(r#"{{"data":{}[1,2]{}}}"#, r#"[{"a":0,"b":"#.repeat(100), "},3]".repeat(100));
    assert_eq!(read(mixed).unwrap_err().status, 422);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problem = read(r#"{"n":-1,"x":1,"data":{"d":1,"d":1},"y":[[["\ud800"]]]}"#).unwrap_err();
    assert_eq!(pointers(&problem), ["/data/d", "/y/0/0/0", "/x", "/y", "/n"]);
}

#[test]
fn the_nearest_field_is_named() {
    let problem = read(r#"{"dta":1}"#).unwrap_err();
    assert_eq!(problem.errors[0].detail, "unknown field: did you mean data?");
    let problem = read(r#"{"zebra":1}"#).unwrap_err();
    assert_eq!(problem.errors[0].detail, "unknown field: known are data, n");
}

#[test]
fn an_empty_body_is_an_empty_object() {
    for body in ["", " \r\n\t", "{}", " { } "] {
        assert_eq!(read(body).unwrap(), Loose { data: None, n: None });
    }
    for body in ["null", "[]", "0", "\"\""] {
        assert_eq!(pointers(&read(body).unwrap_err()), [""], "{body}");
    }
}

#[test]
fn whole_numbers_are_exact() {
    for (text, number) in [("18446744073709551615", u64::MAX), ("0", 0), ("-0", 0), ("5.0", 5), ("5e2", 500)]
    {
        assert_eq!(read(format!(r#"{{"n":{text}}}"#)).unwrap().n, Some(number), "{text}");
    }
    for text in ["18446744073709551616", "-1", "0.5", "1e19", "\"1\"", "true", "[1]"] {
        assert_eq!(pointers(&read(format!(r#"{{"n":{text}}}"#)).unwrap_err()), ["/n"], "{text}");
    }
}

#[test]
fn a_hostile_body_does_not_make_a_larger_answer() {
    let members: Vec<String> = (0..100_000).map(|n| format!(r#""u{n}":0"#)).collect();
    let problem = read(format!("{{{}}}", members.join(","))).unwrap_err();
    assert!(problem.errors.len() <= MAX_ERRORS);
    let listed = problem.errors.len();
    assert_eq!(problem.detail, format!("more than {listed} fields are wrong; the first {listed} are listed"));
    assert_eq!(problem.unlisted, 100_000 - listed);
    let long = "k".repeat(1 << 20);
    let body: Vec<String> = (0..8).map(|n| format!(r#""{n}{long}":0"#)).collect();
    assert!(read(format!("{{{}}}", body.join(","))).unwrap_err().errors.len() <= 2);
}

#[test]
fn lines_are_read_like_an_array() {
    let limits = Limits::default();
    let lines = |body: &str| {
        parse_lines::<Loose>(body.as_bytes(), "jobs", 3, &limits).map(|parsed| parsed.value.len())
    };
    assert_eq!(lines("{\"n\":1}\n\r\n{\"n\":2}\r\n"), Ok(2));
    assert_eq!(pointers(&lines("{\"n\":1}\n{\"n\":-2}\n{\"m\":1}").unwrap_err()), ["/jobs/1/n", "/jobs/2/m"]);
    let problem = lines("{\"n\":1}\n{\"n\":").unwrap_err();
    assert_eq!((problem.status, pointers(&problem)), (400, vec!["/jobs/1"]));
    assert_eq!(pointers(&lines("").unwrap_err()), ["/jobs"]);
    assert_eq!(pointers(&lines("{}\n{}\n{}\n{}").unwrap_err()), ["/jobs"]);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Quarters, because the other reader rounds long fractions differently.
        any::<i32>().prop_map(|number| (f64::from(number) / 4.0).into()),
        "\\PC{0,8}|[\\x00-\\x1f\"\\\\]{0,4}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Rebuilds a document from what the reader sees in it.
fn rebuild(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        Kind::Object => {
            value.members().unwrap().map(|(key, value)| (key.into_owned(), rebuild(value))).collect()
        }
        Kind::Array => value.elements().unwrap().map(rebuild).collect(),
        Kind::String => value.as_str().unwrap().into(),
        Kind::Bool => value.as_bool().unwrap().into(),
        Kind::Null => serde_json::Value::Null,
        Kind::Number => serde_json::from_str(value.text()).unwrap(),
    }
}

proptest! {
    #[test]
    fn documents_are_seen_as_they_are(json in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
        let limits = Limits::default();
        let mut cx = Cx::new(&limits);
        let value = scan::document(&mut cx, &Path::Root, &text).unwrap();
        prop_assert!(cx.is_clean());
        prop_assert_eq!(rebuild(value), json);
    }

    #[test]
    fn syntax_is_judged_as_by_another_reader(text in "[\\[\\]{},:\"a0-9\\.eE+\\- \\\\nulltrue]{0,24}") {
        let limits = Limits::default();
        let mut cx = Cx::new(&limits);
        let ours = scan::document(&mut cx, &Path::Root, &text).is_ok();
        // The other reader looks at syntax alone when it skips, and has an opinion on surrogates only when it reads.
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn no_bytes_panic(body: Vec<u8>) {
        let _ = read(body);
    }

    #[test]
    fn pointers_lead_back(keys in prop::collection::vec("[a~/01é]{0,4}", 1..5)) {
        let mut json = serde_json::json!(1);
        for key in keys.iter().rev() {
            json = serde_json::json!({ key: json });
        }
        let pointer = keys.iter().fold(String::new(), |mut pointer, key| { push_token(&mut pointer, key); pointer });
        prop_assert_eq!(json.pointer(&pointer), Some(&serde_json::json!(1)));
    }
}
