use super::*;
use crate::strict::parse;
use crate::{Limits, Problem};

fn structured(text: &str) -> Result<CloudEvent, Problem> {
    parse::<CloudEvent>(text.as_bytes(), &Limits::default()).map(|parsed| parsed.value)
}

fn binary(headers: &[(&str, &str)], body: &'static [u8]) -> Result<CloudEvent, Problem> {
    let attributes = headers.iter().filter(|(name, _)| name.starts_with("ce-"));
    let read = Headers {
        content_type: headers.iter().find(|(name, _)| *name == "content-type").map(|(_, v)| v.as_bytes()),
        attributes: attributes.map(|(name, value)| (*name, value.as_bytes())).collect(),
    };
    CloudEvent::from_binary(&read, Bytes::from_static(body), &Limits::default())
}

fn pointers(problem: &Problem) -> Vec<&str> {
    let mut all: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    all.sort_unstable();
    all
}

#[test]
fn everything_is_optional_in_structured_mode_and_what_is_there_is_kept() {
    assert_eq!(structured("{}").unwrap(), CloudEvent::default());
    let event = structured(
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"T","time":"2026-01-02T03:04:05+01:00",
            "partitionkey":"k","n":5,"flag":true,"word":"x","subject":null,"data":{"a" : [1.10]}}"#,
    )
    .unwrap();
    assert_eq!(
        (event.id.as_deref(), event.partition_key.as_deref(), event.subject),
        (Some("1"), Some("k"), None)
    );
    assert_eq!(event.time.as_deref(), Some("2026-01-02T03:04:05+01:00"));
    let extensions: Vec<_> = event.extensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(extensions, ["n=5", "flag=true", r#"word="x""#]);
    assert_eq!(event.data, EventData::Json(RawJson::parse(r#"{"a" : [1.10]}"#).unwrap()), "to the byte");
    assert_eq!(structured(r#"{"data":null}"#).unwrap().data, EventData::None);
    assert_eq!(
        structured(r#"{"data_base64":"AAH/"}"#).unwrap().data,
        EventData::Binary(Bytes::from_static(&[0, 1, 255]))
    );
}

#[test]
fn every_mistake_is_named_in_structured_mode() {
    let problem = structured(
        r#"{"specversion":"0.3","id":"","source":5,"time":"yesterday","subject":"a\u0001","Bad":1,"list":[1],
            "half":0.5,"data_base64":"!"}"#,
    )
    .unwrap_err();
    let named =
        ["/Bad", "/data_base64", "/half", "/id", "/list", "/source", "/specversion", "/subject", "/time"];
    assert_eq!(pointers(&problem), named, "{problem:?}");
    assert_eq!(structured("[]").unwrap_err().status, 422);
    assert_eq!(structured("{").unwrap_err().status, 400);
    let twice = structured(r#"{"data":1,"data_base64":"AAH/"}"#).unwrap_err();
    assert_eq!(pointers(&twice), ["/data_base64"]);
}

#[test]
fn a_batch_names_the_event_that_is_wrong() {
    let batch = |text: &str| parse::<CloudEventBatch>(text.as_bytes(), &Limits::default());
    assert_eq!(batch(r#"[{"id":"1"},{}]"#).unwrap().value.events.len(), 2);
    assert_eq!(pointers(&batch(r#"[{},{"id":5},{"source":""}]"#).unwrap_err()), ["/1/id", "/2/source"]);
    assert_eq!(batch("[]").unwrap_err().status, 422);
    assert_eq!(batch("{}").unwrap_err().status, 422);
}

#[test]
fn headers_are_percent_decoded_in_binary_mode() {
    let event = binary(
        &[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "a%20b"),
            ("ce-subject", "s%C3%BC"),
            ("ce-own", "5"),
        ],
        br#"{"x":1}"#,
    )
    .unwrap();
    assert_eq!((event.id.as_deref(), event.subject.as_deref()), (Some("a b"), Some("sü")));
    assert_eq!(event.extensions, [("own".to_owned(), RawJson::parse(r#""5""#).unwrap())]);
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
}

#[test]
fn the_body_is_what_its_content_type_says() {
    let data = |kind: &'static str, body| {
        binary(&[("content-type", kind)], body).map(|event| event.data).map_err(|problem| problem.code)
    };
    let json =
        |text: &str| Ok(EventData::Json(RawJson::from_trusted(Bytes::copy_from_slice(text.as_bytes()))));
    assert_eq!(data("application/json", b" [1] "), json(" [1] "));
    assert_eq!(data("application/vnd.x+json; charset=utf-8", b"1"), json("1"));
    assert_eq!(data("application/json", b"{"), Err(crate::Code::MalformedBody));
    assert_eq!(data("text/plain", "hé\"".as_bytes()), json(r#""hé\"""#));
    assert_eq!(
        data("text/plain; charset=latin1", b"h\xe9"),
        Ok(EventData::Binary(Bytes::from_static(b"h\xe9")))
    );
    assert_eq!(data("application/octet-stream", b"\0"), Ok(EventData::Binary(Bytes::from_static(b"\0"))));
    assert_eq!(data("application/json", b""), Ok(EventData::None));
    let undeclared = binary(&[], b"{}").unwrap();
    assert_eq!((undeclared.content_type, undeclared.data), (None, EventData::Json(RawJson::EMPTY_OBJECT)));
}

#[test]
fn every_wrong_header_is_named() {
    let wrong = [
        ("ce-id", ""),
        ("ce-time", "now"),
        ("ce-specversion", "2"),
        ("ce-datacontenttype", "x"),
        ("ce-a-b", "1"),
        ("ce-subject", "%ff"),
        ("ce-source", "/a"),
        ("ce-source", "/b"),
    ];
    let problem = binary(&wrong, b"{}").unwrap_err();
    let named = [
        "/ce-a-b",
        "/ce-datacontenttype",
        "/ce-id",
        "/ce-source",
        "/ce-specversion",
        "/ce-subject",
        "/ce-time",
    ];
    assert_eq!(pointers(&problem), named);
    assert!(problem.errors.iter().all(|error| error.place == Some(crate::Place::Header)));
}
