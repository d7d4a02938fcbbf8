//! A batch as SQL: per table, what goes first, then what comes, in the order of the keys.

use std::sync::Arc;

use mainstay_core::{
    JobId,
    after::WaitsFor,
    engine::change::{Extras, FinishedJob, FinishedKey, LiveJob, LiveLease, SettledLease},
    job::{FAILURES_KEPT, JobBody, JobPolicy},
};
use rusqlite::{Result, params};

use super::{
    many::{self, ROWS},
    statements::Statements,
};
use crate::{
    apply::{Batch, Job, Notes, Row},
    row::{LiveRow, bits, flags, jitter_number, reason_number, state_number, tags_text, verb_number},
};

/// A row that should be there and is not.
pub(super) type Missing = Option<String>;

impl Statements<'_> {
    pub(super) fn write(&mut self, batch: &Batch) -> Result<Missing> {
        if let Some(missing) = self.jobs(batch)? {
            return Ok(Some(missing));
        }
        if let Some(missing) = self.finished(batch)? {
            return Ok(Some(missing));
        }
        if let Some(missing) = self.after(batch)? {
            return Ok(Some(missing));
        }
        self.bodies(batch)?;
        self.rest(batch)?;
        self.limits.write(batch)?;
        if let Some(missing) = self.locks.write(&batch.locks)? {
            return Ok(Some(missing));
        }
        if let Some(missing) = self.schedules.write(batch)? {
            return Ok(Some(missing));
        }
        self.events.write(&batch.events, &self.pace)
    }

    /// Who waits for whom.
    fn after(&mut self, batch: &Batch) -> Result<Missing> {
        for ((waiter, subject), Row { now, .. }) in &batch.edges {
            let key = (waiter.as_bytes(), subject.as_bytes());
            let written = match now {
                Some(failure) => self.edge.execute(params![key.0, key.1, *failure as u8])?,
                None => self.edge_closed.execute(params![key.0, key.1])?,
            };
            if written != 1 {
                return Ok(Some(format!("that job {waiter} waits for {subject}")));
            }
        }
        for ((id, how), Row { now, .. }) in &batch.ended {
            let statement = if now.is_some() { &mut self.ended } else { &mut self.told };
            if statement.execute(params![id.as_bytes(), *how as u8])? != 1 {
                return Ok(Some(format!("the end of job {id}")));
            }
        }
        Ok(None)
    }

    fn jobs(&mut self, batch: &Batch) -> Result<Missing> {
        let mut gone = batch.gone.clone();
        gone.sort_unstable();
        if let Some(missing) = self.jobs_go(&gone)? {
            return Ok(Some(missing));
        }
        let (mut rows, mut changed): (Vec<(JobId, &LiveRow)>, _) = (Vec::new(), Vec::new());
        rows.extend(batch.new.iter().map(|(_, row)| (row.job.id, row)));
        for (id, job) in &batch.jobs {
            match job {
                Job::Back(row) => rows.push((*id, &**row)),
                Job::Changed { job, lease, settled } => changed.push((*id, job, lease, settled)),
            }
        }
        // Nearly in order already, which a stable sort is quick with.
        rows.sort_by_key(|(id, _)| *id);
        let mut plain = Vec::with_capacity(ROWS);
        for (_, row) in rows {
            self.pace.row();
            if is_plain(row) {
                plain.push(&row.job);
                self.plain_jobs(&mut plain)?;
            } else {
                self.put(row)?;
            }
        }
        plain.into_iter().try_for_each(|job| self.put_plain(job).map(drop))?;
        changed.sort_unstable_by_key(|(id, ..)| *id);
        for (id, job, lease, settled) in changed {
            self.pace.row();
            if self.update(job, lease.as_ref(), settled)? != 1 {
                return Ok(Some(format!("job {id}")));
            }
        }
        Ok(None)
    }

    /// Puts them if they are enough for a statement.
    fn plain_jobs(&mut self, jobs: &mut Vec<&LiveJob>) -> Result<()> {
        if let Ok(many) = <&[_; ROWS]>::try_from(&jobs[..]) {
            self.many.put_jobs(many)?;
            jobs.clear();
        }
        Ok(())
    }

    fn put(&mut self, row: &LiveRow) -> Result<usize> {
        let LiveRow { job, extras, lease, settled } = row;
        let (l, s) = (LeaseCells::new(lease.as_ref()), SettledCells::new(settled));
        let Extras { expires_at, unique_key, keys } = extras;
        let keys = keys.as_deref();
        self.job_put.execute(params![
            job.id.as_bytes(),
            bits(job.n),
            job.queue.0,
            job.policy.0,
            job.priority,
            job.phase as u8,
            flags(job),
            job.run_at.0,
            job.created_at.0,
            job.attempt,
            job.crashes,
            job.size,
            expires_at.map(|at| at.0),
            unique_key.as_deref(),
            l.token,
            l.nonce,
            l.until,
            l.ms,
            l.claimed_at,
            l.worker,
            s.token,
            s.nonce,
            s.verb,
            s.state,
            s.run_at,
            keys.and_then(|keys| keys.concurrency.as_deref()),
            keys.and_then(|keys| keys.fairness.as_deref()),
        ])
    }

    fn put_plain(&mut self, job: &LiveJob) -> Result<usize> {
        self.job_put_plain.execute(params![
            job.id.as_bytes(),
            bits(job.n),
            job.queue.0,
            job.policy.0,
            job.priority,
            job.phase as u8,
            flags(job),
            job.run_at.0,
            job.created_at.0,
            job.attempt,
            job.crashes,
            job.size,
        ])
    }

    fn update(
        &mut self,
        job: &LiveJob,
        lease: Option<&LiveLease>,
        settled: &Option<SettledLease>,
    ) -> Result<usize> {
        let (id, l) = (job.id.as_bytes(), LeaseCells::new(lease));
        let state = (job.phase as u8, flags(job), job.run_at.0, job.attempt, job.crashes);
        if settled.is_none() {
            return self.job_updated_plain.execute(params![
                id,
                state.0,
                state.1,
                state.2,
                state.3,
                state.4,
                l.token,
                l.nonce,
                l.until,
                l.ms,
                l.claimed_at,
                l.worker,
            ]);
        }
        let s = SettledCells::new(settled);
        self.job_updated.execute(params![
            id,
            state.0,
            state.1,
            state.2,
            state.3,
            state.4,
            l.token,
            l.nonce,
            l.until,
            l.ms,
            l.claimed_at,
            l.worker,
            s.token,
            s.nonce,
            s.verb,
            s.state,
            s.run_at,
        ])
    }

    /// What goes first: a job that was finished, came back and finished again has one row.
    fn finished(&mut self, batch: &Batch) -> Result<Missing> {
        let (mut gone, mut new): (Vec<FinishedKey>, Vec<&Arc<FinishedJob>>) = (Vec::new(), Vec::new());
        for (key, Row { was, now }) in &batch.finished {
            if *was {
                gone.push(*key);
            }
            new.extend(now);
        }
        gone.sort_unstable();
        new.sort_unstable_by_key(|finished| finished.key);
        for lane in gone.chunk_by(|a, b| (a.queue, a.lane) == (b.queue, b.lane)) {
            if let Some(missing) = self.finished_go(lane)? {
                return Ok(Some(missing));
            }
        }
        for finished in new {
            self.pace.row();
            self.finish(finished)?;
        }
        Ok(None)
    }

    fn finish(&mut self, finished: &FinishedJob) -> Result<()> {
        let FinishedJob { key, job, extras, state, reason, finished_at, settled } = finished;
        let (s, keys) = (SettledCells::new(settled), extras.keys.as_deref());
        self.finished_put.execute(params![
            key.queue.0,
            key.lane as u8,
            bits(key.f),
            job.id.as_bytes(),
            bits(job.n),
            job.policy.0,
            job.priority,
            flags(job),
            job.run_at.0,
            job.created_at.0,
            job.attempt,
            job.crashes,
            job.size,
            state_number(*state),
            reason.map(reason_number),
            finished_at.0,
            extras.expires_at.map(|at| at.0),
            extras.unique_key.as_deref(),
            s.token,
            s.nonce,
            s.verb,
            s.state,
            s.run_at,
            keys.and_then(|keys| keys.concurrency.as_deref()),
            keys.and_then(|keys| keys.fairness.as_deref()),
        ])?;
        Ok(())
    }

    fn bodies(&mut self, batch: &Batch) -> Result<()> {
        self.forget(&batch.forgotten)?;
        let mut plain = Vec::with_capacity(ROWS);
        for (n, body) in batch.bodies.iter() {
            let body = &**body;
            self.pace.row();
            if !many::is_plain(body) {
                self.body(n, body)?;
                continue;
            }
            plain.push((n, body));
            if let Ok(many) = <&[_; ROWS]>::try_from(&plain[..]) {
                self.many.put_bodies(many)?;
                plain.clear();
            }
        }
        plain.into_iter().try_for_each(|(n, body)| self.body(n, body))?;
        for (n, Notes { result, progress, failures }) in &batch.notes {
            if let Some(result) = result {
                self.result.execute(params![bits(*n), &**result])?;
            }
            if let Some(progress) = progress {
                self.progress.execute(params![bits(*n), &**progress])?;
            }
            for record in failures {
                self.failure.execute(params![
                    bits(*n),
                    record.attempt % FAILURES_KEPT,
                    record.attempt,
                    record.at.0,
                    record.failure.kind.as_deref(),
                    &*record.failure.message,
                    record.failure.backtrace.as_deref(),
                ])?;
            }
        }
        Ok(())
    }

    fn body(&mut self, n: u64, body: &JobBody) -> Result<()> {
        let (tags, meta, trace) = (tags_text(&body.tags), body.meta.as_deref(), body.traceparent.as_deref());
        let (kind, payload) = (&*body.kind, &*body.payload);
        let (after, unique_for_ms) = (body.after.as_ref(), body.unique_for_ms.map(bits));
        if after.is_none() && unique_for_ms.is_none() {
            self.body_put.execute(params![bits(n), kind, payload, meta, tags, trace])?;
            return Ok(());
        }
        let ids = |after: &WaitsFor| after.jobs.iter().flat_map(JobId::as_bytes).copied().collect::<Vec<_>>();
        let (jobs, failure) = (after.map(ids), after.map(|after| after.failure as u8));
        let row = params![bits(n), kind, payload, meta, tags, trace, jobs, failure, unique_for_ms];
        self.body_put_more.execute(row)?;
        Ok(())
    }

    fn rest(&mut self, batch: &Batch) -> Result<()> {
        for (id, queue) in &batch.queues {
            match queue {
                Some(q) => self.queue.execute(params![
                    id.0,
                    q.name.as_str(),
                    q.paused,
                    q.dropped,
                    json(&q.config)
                ])?,
                None => self.queue_removed.execute([id.0])?,
            };
        }
        for (id, policy) in &batch.policies {
            let Some(policy) = policy else {
                self.policy_removed.execute([id.0])?;
                continue;
            };
            let JobPolicy { max_attempts, max_crashes, backoff, timeout_ms, retain_ms } = policy;
            self.policy.execute(params![
                id.0,
                max_attempts,
                max_crashes,
                bits(backoff.base_ms),
                bits(backoff.factor_milli),
                bits(backoff.max_ms),
                jitter_number(backoff.jitter),
                timeout_ms.map(bits),
                retain_ms.map(bits),
            ])?;
        }
        for ((queue, key), hold) in &batch.uniques {
            match hold {
                Some((id, until)) => {
                    self.unique.execute(params![queue.0, &**key, id.as_bytes(), until.map(|at| at.0)])?
                }
                None => self.unique_removed.execute(params![queue.0, &**key])?,
            };
        }
        if let Some(up_to) = batch.keyed_forgotten {
            self.keyed_forgotten.execute([bits(up_to)])?;
        }
        for (k, keyed) in &batch.keyed {
            let (key, replies) = (&keyed.key, json(&*keyed.replies));
            self.keyed.execute(params![bits(*k), key.scope, key.fingerprint, keyed.at.0, replies])?;
        }
        for (name, token) in &batch.access {
            match token {
                Some(token) => self.access_token.execute(params![
                    name.as_str(),
                    token.hash,
                    json(&token.scopes),
                    token.created_at.0
                ])?,
                None => self.access_token_removed.execute([name.as_str()])?,
            };
        }
        if let Some(up_to) = batch.audit_forgotten {
            self.audit_forgotten.execute([bits(up_to)])?;
        }
        for (number, r) in &batch.audit {
            self.audit.execute(params![bits(*number), r.at.0, r.actor, r.action, r.subject, r.detail])?;
        }
        Ok(())
    }
}

/// Whether a row that was not there before has none of the rarer columns.
fn is_plain(row: &LiveRow) -> bool {
    row.lease.is_none() && row.settled.is_none() && !row.job.has_extras
}

/// The lease columns.
#[derive(Default)]
struct LeaseCells<'l> {
    token: Option<i64>,
    nonce: Option<i64>,
    until: Option<i64>,
    ms: Option<i64>,
    claimed_at: Option<i64>,
    worker: Option<&'l str>,
}

impl LeaseCells<'_> {
    fn new(lease: Option<&LiveLease>) -> LeaseCells<'_> {
        let Some(LiveLease { id, until, ms, claimed_at, worker }) = lease else {
            return LeaseCells::default();
        };
        LeaseCells {
            token: Some(bits(id.token.0)),
            nonce: Some(bits(id.nonce)),
            until: Some(bits(until.0)),
            ms: Some(bits(*ms)),
            claimed_at: Some(bits(claimed_at.0)),
            worker: worker.as_ref().map(|worker| worker.as_str()),
        }
    }
}

/// The settled-lease columns.
#[derive(Default)]
struct SettledCells {
    token: Option<i64>,
    nonce: Option<i64>,
    verb: Option<i64>,
    state: Option<i64>,
    run_at: Option<i64>,
}

impl SettledCells {
    fn new(settled: &Option<SettledLease>) -> SettledCells {
        let Some(SettledLease { id, verb, state, run_at }) = settled else { return SettledCells::default() };
        SettledCells {
            token: Some(bits(id.token.0)),
            nonce: Some(bits(id.nonce)),
            verb: Some(verb_number(*verb)),
            state: Some(state_number(*state)),
            run_at: run_at.map(|at| at.0),
        }
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("the vocabulary has a JSON form")
}
