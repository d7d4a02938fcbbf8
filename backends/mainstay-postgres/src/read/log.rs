//! The log from the tables, for readers that are behind the tail.

use std::{collections::HashMap, sync::Arc};

use mainstay_core::{
    Error, TopicFilter,
    engine::change::TopicId,
    event::{LogBudget, LogSlice, LoggedEvent},
};
use mainstay_writer::{
    codec::parts,
    tail::{Judged, Matching, Tail},
};
use tokio_postgres::types::Type;

use super::query;
use crate::{fill::event, link::Link, rows::Cells, step::Param};

/// A piece of the log looks at no more rows than this.
const SCAN_LIMIT: usize = 10_000;
/// So many topics are read by their index; of more, all events are looked at.
const FEW_TOPICS: usize = 16;
/// Rows that are fetched at once.
const PIECE: usize = 500;

/// What is asked, and what the tail has said to it.
pub(crate) struct LogQuery<'q> {
    pub(crate) filters: &'q [TopicFilter],
    pub(crate) from: u64,
    pub(crate) budget: LogBudget,
    /// The tables have everything before this number.
    pub(crate) until: u64,
    pub(crate) head: u64,
}

/// Reads rows before `until`. Retention may overtake this: what it has removed by the end is left out, and told.
pub(crate) async fn read_log(link: &Link, tail: &Tail, asked: &LogQuery<'_>) -> Result<LogSlice, Error> {
    let topics = match tail.matching(asked.filters, FEW_TOPICS) {
        Matching::These(topics) => Some(topics.iter().map(|topic| topic.0 as i32).collect::<Vec<_>>()),
        Matching::Filtered => None,
    };
    let mut found: Vec<(TopicId, Arc<LoggedEvent>)> = Vec::new();
    let mut judged: HashMap<TopicId, Option<Judged>> = HashMap::new();
    let (mut next, mut bytes, mut looked) = (asked.from, 0, 0);
    'pieces: loop {
        let (sql, mut params) = match &topics {
            Some(topics) => {
                let sql = "select meta, body from {s}.event where topic = any($4) and seq >= $1 and seq < $2 \
                           order by seq limit $3";
                (sql, vec![Param::new(topics.clone(), Type::INT4_ARRAY)])
            }
            None => {
                let sql =
                    "select meta, body from {s}.event where seq >= $1 and seq < $2 order by seq limit $3";
                (sql, vec![])
            }
        };
        // One more than can be taken shows that there is another.
        let limit = PIECE.min(asked.budget.events.max(1) as usize + 1);
        let mut all = vec![Param::i64(next), Param::i64(asked.until), Param::i64(limit as u64)];
        all.append(&mut params);
        let rows = query(link, sql, all).await?;
        for row in &rows {
            let cells = Cells { table: "event", row };
            let meta = parts::meta_of(cells.get(0)?).map_err(|what| cells.bad(0, what))?;
            next = meta.seq;
            if looked == SCAN_LIMIT {
                break 'pieces;
            }
            looked += 1;
            let judged = judged.entry(meta.topic).or_insert_with(|| tail.judge(asked.filters, meta.topic));
            let Some(judged) = judged.as_ref().filter(|judged| meta.seq > judged.removed_up_to) else {
                continue;
            };
            let more = bytes + u64::from(meta.size);
            let full = found.len() as u64 >= u64::from(asked.budget.events) || more > asked.budget.bytes;
            if full && !found.is_empty() {
                break 'pieces;
            }
            bytes = more;
            let (topic, event) = (judged.name.clone(), Arc::new(event(cells, 1)?));
            let logged = LoggedEvent { topic, seq: meta.seq, published_at: meta.at, event };
            found.push((meta.topic, Arc::new(logged)));
        }
        if rows.len() < limit {
            next = asked.until;
            break;
        }
        // Everything up to the last one was looked at.
        next += 1;
    }
    let slice = LogSlice {
        from: asked.from,
        events: vec![],
        next: next.min(asked.until),
        head: asked.head,
        removed_up_to: 0,
        removed: vec![],
    };
    Ok(tail.add_living(asked.filters, found, slice))
}
