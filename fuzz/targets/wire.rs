//! Bodies of requests, by the strict reader alone: all types, faster than through a server. Nothing panics, a mistake has
//! its place, and an event comes back as it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mainstay_api::{
    Limits,
    query::Query,
    strict::{Strict, parse},
    types::{
        Acquire, BulkEnqueue, CheckLock, Claim, CloudEvent, CloudEventBatch, Commit, Complete,
        DeadEventSelect, DeadSelect, Extend, Fail, Fetch, GroupConfig, Headers, LogLevel, NewJob, NewToken,
        PutSchedule, QueueConfig, Release, ReleaseLock, Renew, RenewMany, Seek, Settle, SettleDeliveries,
        TopicConfig, WaitFor,
    },
};

fn read<T: Strict>(body: &[u8]) -> Option<T> {
    match parse::<T>(body, &Limits::default()) {
        Ok(parsed) => Some(parsed.value),
        Err(problem) => {
            assert!(!problem.detail.is_empty());
            assert!(problem.errors.iter().all(|error| !error.detail.is_empty()));
            None
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    match kind % 32 {
        0 => drop(read::<NewJob>(body)),
        1 => drop(read::<BulkEnqueue>(body)),
        2 => drop(read::<Claim>(body)),
        3 => drop(read::<Complete>(body)),
        4 => drop(read::<Fail>(body)),
        5 => drop(read::<Extend>(body)),
        6 => drop(read::<Release>(body)),
        7 => drop(read::<Settle>(body)),
        8 => drop(read::<Commit>(body)),
        9 => drop(read::<Acquire>(body)),
        10 => drop(read::<Renew>(body)),
        11 => drop(read::<RenewMany>(body)),
        12 => drop(read::<ReleaseLock>(body)),
        13 => drop(read::<CheckLock>(body)),
        14 => drop(read::<GroupConfig>(body)),
        15 => drop(read::<Seek>(body)),
        16 => drop(read::<Fetch>(body)),
        17 => drop(read::<SettleDeliveries>(body)),
        18 => drop(read::<DeadEventSelect>(body)),
        19 => drop(read::<DeadSelect>(body)),
        20 => drop(read::<QueueConfig>(body)),
        21 => drop(read::<TopicConfig>(body)),
        22 => drop(read::<PutSchedule>(body)),
        23 => drop(read::<NewToken>(body)),
        24 => drop(read::<LogLevel>(body)),
        25 => drop(read::<WaitFor>(body)),
        26 => drop(read::<CloudEventBatch>(body)),
        27 => binary(body),
        28 => query(body),
        _ => {
            let Some(event) = read::<CloudEvent>(body) else { return };
            let told = event.to_json();
            let again = CloudEvent::from_json(&told).expect("what was written is read");
            assert_eq!(again, event, "{told:?}");
        }
    }
});

/// Lines of headers, an empty line, the data.
fn binary(input: &[u8]) {
    let at = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let mut headers = Headers::default();
    for line in input[..at].split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        match std::str::from_utf8(name) {
            Ok("content-type") => headers.content_type = Some(value),
            Ok(name) if name.starts_with("ce-") => headers.attributes.push((name, value)),
            _ => {}
        }
    }
    let data = Bytes::copy_from_slice(input.get(at + 2..).unwrap_or_default());
    match CloudEvent::from_binary(&headers, data, &Limits::default()) {
        Ok(event) => drop(event.to_json()),
        Err(problem) => assert!(!problem.detail.is_empty()),
    }
}

fn query(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut query = Query::new(text, &["limit", "cursor", "topics"]);
    let limit =
        query.optional("limit", |text| text.parse::<u64>().map_err(|_| "must be a number".to_owned()));
    if let Err(problem) = query.finish(limit) {
        assert!(!problem.detail.is_empty());
    }
}
