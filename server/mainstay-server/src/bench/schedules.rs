//! Many schedules: what each takes of the memory, and what a tick of all of them costs.

use std::sync::Arc;

use mainstay::{
    core::{
        job::{JobBody, NewJob},
        name::Name,
        op::{Commit, Op, Reply},
        schedule::{CatchUp, Schedule, ScheduleOp, ScheduleReply},
        store::Batch,
    },
    schedules::Scheduler,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    Error, Result,
    cell::Spec,
    machine::{cpu_seconds, memory},
    store::{close, open, queues},
};

/// So many there are.
pub(super) const SCHEDULES: u64 = 100_000;
/// Schedules of one commit.
const BATCH: u64 = 1_000;
/// Between the last one made and the tick of all.
const AHEAD_MS: u64 = 3_000;

/// What was found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Schedules {
    /// Anonymous memory a schedule, in bytes.
    pub(super) bytes_each: Option<f64>,
    /// While none is due: cores that the scheduler and the store use.
    pub(super) idle_cores: Option<f64>,
    /// All of them have one tick, the same: how long until the last one's job was durable.
    pub(super) burst_seconds: f64,
    /// Processor time a firing, in microseconds.
    pub(super) cpu_us_each: Option<f64>,
}

/// Makes `SCHEDULES` schedules with one tick that is the same for all, and lets a scheduler fire it.
pub(super) async fn schedules(spec: &Spec) -> Result<Schedules> {
    let client = open(&spec.site).await?;
    let queue = queues(1)?.remove(0);
    let before = memory(None);
    let make = |number: u64, next| {
        let name = Name::new(&format!("bench-{number}")).map_err(Error::doing("the name of a schedule"))?;
        let body = JobBody::new("bench", &format!("{{\"tenant\":{number}}}"));
        let job = NewJob::new(client.new_id(&queue), queue.clone(), body);
        // Its next tick is said beside it; those after that are years away.
        let (cron, timezone) = ("0 0 1 1 *".into(), "UTC".into());
        let schedule = Arc::new(Schedule { name, cron, timezone, catch_up: CatchUp::One, job });
        Ok::<_, Error>(Op::Schedule(ScheduleOp::Put { schedule, next }))
    };
    // All are there, and quiet, before the tick comes near.
    let far = client.now().wall.plus_ms(365 * 86_400_000);
    let put = async |next, times: &str| {
        for from in (0..SCHEDULES).step_by(BATCH as usize) {
            let mut ops =
                (from..from + BATCH).map(|number| make(number, next)).collect::<Result<Vec<_>>>()?;
            for op in &mut ops {
                if let Op::Schedule(ScheduleOp::Put { schedule, .. }) = op {
                    Arc::make_mut(schedule).cron = times.into();
                }
            }
            let commit = Commit { ops, entropy: client.entropy(), ..Commit::default() };
            let answers = client.store().submit(Batch::one(commit)).await;
            for answer in answers.map_err(Error::doing("cannot make schedules"))? {
                let done = answer.map_err(Error::doing("cannot make schedules"))?;
                let put = |reply: &Reply| matches!(reply, Reply::Schedule(ScheduleReply::Put { .. }));
                if !done.replies.iter().all(put) {
                    return Err(Error::new("a schedule was answered with something else"));
                }
            }
        }
        Ok(())
    };
    put(far, "0 0 1 1 *").await?;
    let bytes_each = before
        .zip(memory(None))
        .map(|(before, now)| now.anon.saturating_sub(before.anon) as f64 / SCHEDULES as f64);
    let scheduler = Scheduler::new(client.clone());
    let measured = async {
        let (began, cpu) = (Instant::now(), cpu_seconds(None));
        sleep(std::time::Duration::from_secs(3)).await;
        let idle_cores =
            cpu_seconds(None).zip(cpu).map(|(now, cpu)| (now - cpu) / began.elapsed().as_secs_f64());
        let at = client.now().wall.plus_ms(AHEAD_MS);
        // Other times, so that the tick they had is dropped. What was late in the making is due at once.
        put(at, "0 0 2 1 *").await?;
        let late = client.now().wall.ms_since(at);
        let left = at.ms_since(client.now().wall);
        sleep(std::time::Duration::from_millis(left)).await;
        let (began, cpu) = (Instant::now(), cpu_seconds(None));
        while client.queue(&queue).await.map_err(Error::doing("the queue"))?.map_or(0, |q| q.depth.available)
            < SCHEDULES
        {
            sleep(std::time::Duration::from_millis(5)).await;
        }
        let burst_seconds = began.elapsed().as_secs_f64() + late as f64 / 1e3;
        let cpu_us_each = cpu_seconds(None)
            .zip(cpu)
            .map(|(now, cpu)| (now - cpu) * 1e6 / SCHEDULES as f64)
            .filter(|_| late == 0);
        Ok(Schedules { bytes_each, idle_cores, burst_seconds, cpu_us_each })
    };
    let (found, ()) = {
        let (done, stop) = tokio::sync::oneshot::channel::<()>();
        let measured = async {
            let found: Result<Schedules> = measured.await;
            drop(done);
            found
        };
        tokio::join!(measured, scheduler.run_until(async { _ = stop.await }))
    };
    close(&client).await?;
    found
}
