//! Dead letters: `GET /v1/queues/{queue}/dead`, `POST …/dead/requeue`, `POST …/dead/delete`.

use std::collections::VecDeque;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::id::JobId;
use mainstay::core::job::JobState;
use mainstay::core::name::QueueName;
use mainstay::core::op::{Commit, Op, Reply};
use mainstay::core::store::{DeadFilter, Page, Record};
use mainstay_api::Problem;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{DeadChanged, DeadSelect};

use super::call::{Answer, Call};
use super::error::Shape;
use super::jobs::read;
use super::key::Keyed;
use super::{audit, convert, error, json};

/// How many jobs one commit changes.
const CHUNK: usize = 1_000;

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    let query = input.query(PageQuery::parse);
    let ((queue, query), _) = input.finish(queue.zip(query))?;
    call.caller.must(ScopeKind::Read, queue.as_str())?;
    let filter = DeadFilter { queue, kind: None, error_type: None };
    let slice =
        call.api.store.dead(filter, read::page(&query)).await.map_err(|error| error::store(&error))?;
    let page = read::views(&call, slice, |view, job| view.error = convert::last_error(job)).await?;
    json(StatusCode::OK, &page)
}

pub(crate) async fn requeue(call: Call) -> Answer {
    change(call, "dead.requeue", |queue, ids| Op::RequeueDead { queue, ids }).await
}

pub(crate) async fn delete(call: Call) -> Answer {
    change(call, "dead.delete", |queue, ids| Op::DeleteDead { queue, ids }).await
}

/// Changes the dead letters that fit, in chunks, so that other callers are served in between.
async fn change(call: Call, action: &str, op: fn(QueueName, Vec<JobId>) -> Op) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    input.keyed();
    let select = input.body::<DeadSelect>()?;
    let ((queue, select), keyed) = input.finish(queue.zip(select))?;
    call.caller.must(ScopeKind::Admin, queue.as_str())?;
    let mut found = Found::new(queue, &select);
    let mut total = DeadChanged { matched: 0, changed: 0 };
    if select.dry_run {
        while found.fill(&call).await? {
            total.matched += found.waiting.drain(..).len() as u64;
        }
        return json(StatusCode::OK, &total);
    }
    let limit = select.limit.unwrap_or(u64::MAX);
    for chunk in 0.. {
        found.fill(&call).await?;
        if found.waiting.is_empty() && keyed.is_none() && chunk > 0 {
            break;
        }
        let commit = found.commit(&call, action, op, limit.saturating_sub(total.matched), keyed, chunk);
        let count = commit.ops.len();
        if count == 0 && keyed.is_none() {
            break;
        }
        let committed = call.commit(commit, Shape::Single).await?;
        // One from before has changed what it changed: what was found now is for the next.
        if !committed.repeated {
            found.waiting.clear();
        }
        let changed = committed.replies.iter().filter_map(|reply| match reply {
            Reply::Count(count) => Some(*count),
            _ => None,
        });
        let changed: Vec<u64> = changed.collect();
        total.matched += changed.len() as u64;
        total.changed += changed.iter().sum::<u64>();
        if changed.len() < CHUNK {
            break;
        }
    }
    json(StatusCode::OK, &total)
}

/// The dead letters that fit, a chunk at a time.
struct Found {
    queue: QueueName,
    named: Option<VecDeque<JobId>>,
    filter: DeadFilter,
    /// Where the list goes on; `None` at its end.
    page: Option<Page>,
    waiting: Vec<JobId>,
}

impl Found {
    fn new(queue: QueueName, select: &DeadSelect) -> Found {
        let named = select.ids.as_ref().map(|ids| {
            let mut ids: Vec<_> = ids.iter().filter_map(|id| convert::job_id(*id)).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.into()
        });
        let filter = DeadFilter {
            queue: queue.clone(),
            kind: select.kind.clone(),
            error_type: select.error_type.clone(),
        };
        Found {
            queue,
            named,
            filter,
            page: Some(Page { limit: CHUNK as u32, cursor: None }),
            waiting: Vec::new(),
        }
    }

    /// Looks for more until a chunk is full; false when there was nothing more at all.
    async fn fill(&mut self, call: &Call) -> Result<bool, Problem> {
        while self.waiting.len() < CHUNK {
            if let Some(named) = &mut self.named {
                let Some(id) = named.pop_front() else { break };
                let job = call.api.store.job(id).await.map_err(|error| error::store(&error))?;
                if job.is_some_and(|job| job.queue == self.queue && job.state == JobState::Dead) {
                    self.waiting.push(id);
                }
                continue;
            }
            let Some(page) = self.page.take() else { break };
            let wanted = (CHUNK - self.waiting.len()) as u32;
            let page = Page { limit: wanted, ..page };
            let slice = call.api.store.dead(self.filter.clone(), page).await;
            let slice = slice.map_err(|error| error::store(&error))?;
            self.waiting.extend(slice.items.iter().filter_map(|record| match record {
                Record::Job(job) => Some(job.id),
                _ => None,
            }));
            self.page = slice.next.map(|next| Page { limit: wanted, cursor: Some(next) });
        }
        Ok(!self.waiting.is_empty())
    }

    /// An op for each that was found, so that the replies kept under a key say all that the answer says. Those beyond
    /// the limit are counted and left alone.
    fn commit(
        &self,
        call: &Call,
        action: &str,
        op: fn(QueueName, Vec<JobId>) -> Op,
        limit: u64,
        keyed: Option<Keyed>,
        chunk: usize,
    ) -> Commit {
        let mut ops = Vec::with_capacity(self.waiting.len() + 1);
        for (index, id) in self.waiting.iter().enumerate() {
            let ids = if (index as u64) < limit { vec![*id] } else { Vec::new() };
            ops.push(op(self.queue.clone(), ids));
        }
        if chunk == 0 && !ops.is_empty() {
            ops.push(audit(call, action, self.queue.as_str()));
        }
        let key = keyed.map(|keyed| keyed.part("chunk", chunk));
        Commit { key, ops, entropy: call.api.store.entropy(), ..Commit::default() }
    }
}
