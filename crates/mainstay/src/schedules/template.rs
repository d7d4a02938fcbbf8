//! The job of a schedule: what it may say, and what becomes of it at a tick.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    job::{JobBody, NewJob, When},
    name::Name,
    time::Timestamp,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{client::Client, time::rfc3339};

/// `meta` may be this long on every store.
const META_BYTES: usize = 4096;

/// What a job says that makes no sense for one that is enqueued again and again: the field, and why.
pub fn check(job: &NewJob) -> Vec<(&'static str, &'static str)> {
    let mut wrong = vec![];
    if job.caller_id {
        wrong.push(("id", "is made anew at every tick"));
    }
    if matches!(job.run_at, Some(When::At(_))) {
        wrong.push(("run_at", "is the tick; say delay_ms for some time after it"));
    }
    if matches!(job.expires, Some(When::At(_))) {
        wrong.push(("expires_at", "would be the same for every tick; say expires_in_ms"));
    }
    if !job.after.is_empty() {
        wrong.push(("after", "would be the same jobs for every tick"));
    }
    wrong
}

/// The job of a tick: the template with an id of its own, and with `{"schedule":{"name":…,"tick":…}}` in its `meta`
/// (unless the author has put something of that name there, or there is no room).
pub fn of_tick(client: &Client, name: &Name, template: &NewJob, tick: Option<Timestamp>) -> NewJob {
    let mut job = template.clone();
    job.id = client.new_id(&job.queue);
    if let Some(meta) = with_tick(job.body.meta.as_deref(), name, tick) {
        job.body = Arc::new(JobBody { meta: Some(meta.into()), ..(*job.body).clone() });
    }
    job
}

fn with_tick(meta: Option<&str>, name: &Name, tick: Option<Timestamp>) -> Option<String> {
    #[derive(Serialize)]
    struct Of<'n> {
        name: &'n str,
        tick: Option<String>,
    }
    let tick = tick.map(|tick| rfc3339(Duration::from_millis(tick.0.max(0).unsigned_abs())));
    let of = serde_json::to_string(&Of { name: name.as_str(), tick }).ok()?;
    let meta = meta.unwrap_or("{}").trim();
    let known: Map<String, Value> = serde_json::from_str(meta).ok()?;
    if known.contains_key("schedule") {
        return None;
    }
    // As text, so that what the author wrote stays as it is.
    let rest = meta.strip_suffix('}')?;
    let comma = if known.is_empty() { "" } else { "," };
    Some(format!("{rest}{comma}\"schedule\":{of}}}")).filter(|meta| meta.len() <= META_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_stands_beside_what_the_author_wrote() {
        let name = Name::new("nightly").unwrap();
        let tick = Some(Timestamp(1_800_000_000_000));
        let own = r#""schedule":{"name":"nightly","tick":"2027-01-15T08:00:00.000Z"}"#;
        assert_eq!(with_tick(None, &name, tick), Some(format!("{{{own}}}")));
        assert_eq!(with_tick(Some(" { } "), &name, tick), Some(format!("{{ {own}}}")));
        let numbers = r#"{"n":18446744073709551615,"f":1.0"#;
        assert_eq!(with_tick(Some(&format!("{numbers}}}")), &name, tick), Some(format!("{numbers},{own}}}")));
        assert_eq!(with_tick(Some(r#"{"schedule":1}"#), &name, tick), None, "it is the author's");
        let full = format!("{{\"x\":\"{}\"}}", "x".repeat(4_080));
        assert_eq!(with_tick(Some(&full), &name, tick), None, "there is no room");
        let by_hand = with_tick(None, &name, None).unwrap();
        assert_eq!(by_hand, r#"{"schedule":{"name":"nightly","tick":null}}"#);
    }
}
