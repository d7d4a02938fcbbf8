//! Pages of the log: `GET /v1/topics/{topic}/events` of one topic, `GET /v1/events` of many.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{LogBudget, LogSlice, Position};
use mainstay::core::topic::{TopicFilter, TopicName};
use mainstay_api::query::Query;
use mainstay_api::types::{MAX_FILTERS, Start};
use mainstay_api::{Code, FILTER_RULE, FieldError, Place, Problem, Timestamp, is_filter};

use super::{convert, write};
use crate::api::call::{Answer, Call};
use crate::api::{answer, error};

/// Bytes of a page, roughly; a page may be short.
const PAGE_BYTES: u64 = 16 << 20;

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let topic = input.topic();
    let query = input.query(|query| {
        let mut query = Query::new(query, &["from", "limit", "cursor"]);
        let from = query.optional("from", start);
        let cursor = query.optional("cursor", |text| Ok::<_, String>(text.to_owned()));
        let page = query.int("limit", 1..=1_000);
        query.finish((from, cursor, page.unwrap_or(50) as u32))
    });
    let ((topic, (from, cursor, limit)), _) = input.finish(topic.zip(query))?;
    call.caller.must(ScopeKind::Read, topic.as_str())?;
    let filters =
        [TopicFilter::new(topic.as_str()).map_err(|_| error::internal("a topic that is no filter"))?];
    let budget = LogBudget { events: limit, bytes: PAGE_BYTES };
    let slice = match cursor {
        // What retention has removed meanwhile is passed over: this list had begun before.
        Some(cursor) => read(&call, &filters, Position::Seq(open_cursor(&topic, &cursor)?), budget).await?,
        None => {
            let from = from.unwrap_or(Start::Earliest);
            let slice = read(&call, &filters, convert::position(from), budget).await?;
            is_there(from, &slice)?;
            slice
        }
    };
    let mut body = b"{\"items\":[".to_vec();
    for (index, logged) in slice.events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write::envelope(&mut body, &logged.topic, logged.seq, &logged.event);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    if slice.next > slice.head {
        body.extend_from_slice(b"null}");
    } else {
        body.extend_from_slice(format!("\"{}\"}}", seal_cursor(&topic, slice.next)).as_bytes());
    }
    Ok(answer::raw(StatusCode::OK, body))
}

/// A cursor belongs to the list of its topic.
fn seal_cursor(topic: &TopicName, next: u64) -> String {
    format!("{topic}:{next}")
}

fn open_cursor(topic: &TopicName, cursor: &str) -> Result<u64, Problem> {
    let next = cursor.strip_prefix(topic.as_str()).and_then(|next| next.strip_prefix(':')?.parse().ok());
    next.ok_or_else(|| {
        let detail = "the cursor is not one of this list: start again without a cursor";
        Problem::invalid(vec![FieldError::outside(Place::Query, "cursor", detail)])
    })
}

/// `GET /v1/events`: a piece of the log over many topics. What retention has removed is said, not an error.
pub(crate) async fn log(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(|query| {
        let mut query = Query::new(query, &["topics", "from", "limit"]);
        let topics = query.optional("topics", topics);
        let from = query.optional("from", start);
        let limit = query.int("limit", 1..=1_000);
        query.finish((topics.unwrap_or_default(), from, limit.unwrap_or(50) as u32))
    });
    let ((topics, from, limit), _) = input.finish(query)?;
    match topics.as_slice() {
        [] => call.caller.must(ScopeKind::EventsSubscribe, ">")?,
        some => some.iter().try_for_each(|filter| call.caller.must(ScopeKind::EventsSubscribe, filter))?,
    }
    let budget = LogBudget { events: limit, bytes: PAGE_BYTES };
    let from = convert::position(from.unwrap_or(Start::Earliest));
    let LogSlice { from, events, next, head, removed_up_to, removed } =
        read(&call, &convert::filters(&topics)?, from, budget).await?;
    let mut body = b"{\"items\":[".to_vec();
    for (index, logged) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write::logged(&mut body, logged);
    }
    // Names of topics need no escape.
    let removed: Vec<_> = removed.iter().map(|(topic, up_to)| format!("\"{topic}\":{up_to}")).collect();
    let end = format!(
        "],\"from\":{from},\"next\":{next},\"head\":{head},\"removed_up_to\":{removed_up_to},\"removed\":{{{}}}}}",
        removed.join(",")
    );
    body.extend_from_slice(end.as_bytes());
    Ok(answer::raw(StatusCode::OK, body))
}

/// Filters, joined by commas.
pub(super) fn topics(text: &str) -> Result<Vec<String>, String> {
    let all: Vec<_> = text.split(',').map(str::to_owned).collect();
    match all.iter().find(|filter| !is_filter(filter)) {
        Some(wrong) => Err(format!("`{wrong}` {FILTER_RULE}")),
        None if all.len() > MAX_FILTERS => Err(format!("has at most {MAX_FILTERS} filters")),
        None => Ok(all),
    }
}

pub(super) async fn read(
    call: &Call,
    filters: &[TopicFilter],
    from: Position,
    budget: LogBudget,
) -> Result<LogSlice, Problem> {
    let read = call.api.store.store().read_log(filters, from, budget).await;
    read.map_err(|error| error::failed(&error))
}

/// `latest`, `earliest`, a number, or an instant.
pub(super) fn start(text: &str) -> Result<Start, String> {
    match text {
        "latest" => return Ok(Start::Latest),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seq = text.parse().ok().filter(|seq| (1..=mainstay_api::MAX_SAFE_INTEGER).contains(seq));
        return seq
            .map(Start::Seq)
            .ok_or_else(|| "is a number that no event can have; the first is 1".to_owned());
    }
    let at: Result<Timestamp, _> = text.parse();
    at.map(Start::Time).map_err(|_| {
        let plus = if text.contains(' ') { "; in a query a + is written %2B" } else { "" };
        format!("must be latest, earliest, a number or an RFC 3339 instant{plus}")
    })
}

/// What is asked for by its number is there, or retention has removed it.
///
/// # Errors
/// `history-gone`, with the number to ask for instead.
pub(super) fn is_there(from: Start, slice: &LogSlice) -> Result<(), Problem> {
    let asked = match from {
        Start::Seq(seq) => seq,
        Start::Latest | Start::Earliest | Start::Time(_) => return Ok(()),
    };
    if slice.removed_up_to == 0 || asked > slice.removed_up_to {
        return Ok(());
    }
    let first = slice.events.first().map_or(slice.removed_up_to + 1, |event| event.seq);
    let detail =
        format!("retention has removed events at {asked} and after it; the first there is is {first}");
    let mut gone = Problem::new(Code::HistoryGone, detail);
    gone.first_seq = Some(first);
    Err(gone)
}
