//! Jobs: making, taking, ending, looking.

use mainstay_api::Code;
use mainstay_api::types::{
    BulkEnqueue, BulkEnqueued, CancelAnswer, Claim, Claimed, Complete, Enqueued, Extend, Extended, Fail,
    JobResult, JobState, JobView, NewJob, Release, Scope, Settle, Settled, StateAnswer, WaitFor, Waited,
};
use serde_json::json;

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{one, page};

pub(super) fn group() -> Group {
    Group {
        name: "Jobs",
        detail: "A job is made in a queue, claimed by a worker under a lease, and ended with that lease.",
        on_admin: false,
        operations: making().into_iter().chain(working()).chain(looking()).collect(),
    }
}

fn making() -> Vec<Operation> {
    vec![
        Operation::post("/v1/queues/{queue}/jobs", "enqueueJob", "Enqueue a job")
            .detail(
                "The queue comes into being with its first job. The answer means that the job is durable.",
            )
            .needs(Scope::JobsProduce)
            .keyed()
            .body(one::<NewJob>)
            .answer(201, "The job was made.", one::<Enqueued>)
            .answer(200, "It was there already: by `Idempotency-Key`, `id` or `unique.key`.", one::<Enqueued>)
            .codes(&[Code::QueueFull, Code::StateConflict, Code::NotSupported]),
        Operation::post("/v1/queues/{queue}/jobs/bulk", "enqueueJobs", "Enqueue many jobs at once")
            .detail("All or nothing. As JSON, or one job a line.")
            .needs(Scope::JobsProduce)
            .keyed()
            .body_or_lines(one::<BulkEnqueue>, one::<NewJob>)
            .answer(200, "All were made, or were there already.", one::<BulkEnqueued>)
            .codes(&[Code::QueueFull, Code::StateConflict, Code::NotSupported]),
    ]
}

fn working() -> Vec<Operation> {
    let on_lease = |operation: Operation| {
        operation.needs(Scope::JobsWork).keyed().codes(&[Code::NotFound, Code::LeaseLost])
    };
    vec![
        Operation::post("/v1/jobs/claim", "claimJobs", "Claim jobs")
            .detail(
                "Queues in order of preference; waits up to `wait_ms` for a first job. An empty list when nothing came.",
            )
            .needs(Scope::JobsWork)
            .keyed()
            .body(one::<Claim>)
            .answer(200, "What is yours until `expires_at`.", one::<Claimed>),
        on_lease(Operation::post("/v1/jobs/{id}/extend", "extendJob", "Keep a claim alive"))
            .body(one::<Extend>)
            .answer(200, "The claim's new end, and whether somebody wants the job cancelled.", one::<Extended>),
        on_lease(Operation::post("/v1/jobs/{id}/complete", "completeJob", "Complete a job"))
            .detail("Again with the same lease: the same answer.")
            .body(one::<Complete>)
            .answer(200, "It is completed.", one::<StateAnswer>),
        on_lease(Operation::post("/v1/jobs/{id}/fail", "failJob", "Report a failed attempt"))
            .detail("The job is tried again by its back-off until its attempts are used up; then it is dead.")
            .body(one::<Fail>)
            .answer(200, "What became of the job.", one::<StateAnswer>),
        on_lease(Operation::post("/v1/jobs/{id}/release", "releaseJob", "Give a job back"))
            .detail("Without spending an attempt.")
            .body(one::<Release>)
            .answer(200, "What became of the job.", one::<StateAnswer>),
        Operation::post("/v1/jobs/settle", "settleJobs", "Settle many claims, and claim again")
            .detail(
                "Each item stands alone and has its own result. Settling and what can be claimed at once share one sync.",
            )
            .needs(Scope::JobsWork)
            .keyed()
            .body(one::<Settle>)
            .answer(200, "A result for each item, in order, and what was claimed.", one::<Settled>),
    ]
}

fn looking() -> Vec<Operation> {
    let state = json!({ "type": "string", "enum": JobState::ALL.map(JobState::as_str) });
    let on_job = |operation: Operation| {
        operation.needs(Scope::JobsProduce).codes(&[Code::NotFound, Code::StateConflict])
    };
    vec![
        Operation::post("/v1/wait", "wait", "Wait until looking again is worth it")
            .detail(
                "Takes nothing: claim, fetch, or look, after it. Each thing needs the scope of looking or taking: queues \
                 that of a claim, finished jobs and schedules `read`, groups and the log `events:subscribe`, locks \
                 `locks:use`.",
            )
            .needs(Scope::JobsWork)
            .body(one::<WaitFor>)
            .answer(200, "Something happened, or the time was up.", one::<Waited>)
            .codes(&[Code::NotFound]),
        Operation::get("/v1/jobs", "listJobs", "List jobs, newest first")
            .needs(Scope::Read)
            .query("queue", json!({ "type": "string" }), "Of this queue.")
            .query("state", state, "In this state.")
            .query("kind", json!({ "type": "string" }), "Of this kind.")
            .query("tag", json!({ "type": "string" }), "With this tag.")
            .paged()
            .answer(200, "The jobs that fit.", page::<JobView>),
        Operation::get("/v1/jobs/{id}", "getJob", "Look at a job")
            .needs(Scope::Read)
            .answer(200, "The whole job, but for its lease.", one::<JobView>)
            .codes(&[Code::NotFound]),
        Operation::get("/v1/jobs/{id}/result", "getResult", "Wait for a job's result")
            .needs(Scope::Read)
            .query(
                "wait_ms",
                json!({ "type": "integer", "minimum": 0, "maximum": 60_000, "default": 0 }),
                "How long to wait for the job's end, in milliseconds.",
            )
            .answer(200, "It has ended.", one::<JobResult>)
            .answer(202, "Not in time.", one::<JobResult>)
            .codes(&[Code::NotFound]),
        on_job(Operation::post("/v1/jobs/{id}/cancel", "cancelJob", "Cancel a job"))
            .detail("A running job's worker is told when it next extends; the job ends `cancelled` unless it completes.")
            .keyed()
            .answer(200, "It is cancelled, or its worker will be told.", one::<CancelAnswer>),
        on_job(Operation::post("/v1/jobs/{id}/retry", "retryJob", "Run a job again"))
            .detail("Available now, its attempts counted anew.")
            .keyed()
            .answer(200, "It is available.", one::<StateAnswer>),
        on_job(Operation::delete("/v1/jobs/{id}", "deleteJob", "Delete a job"))
            .detail("Not while it runs.")
            .empty_answer(204, "It is gone."),
    ]
}
