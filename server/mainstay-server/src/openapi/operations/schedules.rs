//! Schedules, and who works.

use mainstay_api::Code;
use mainstay_api::types::{Enqueued, PutSchedule, ScheduleAnswer, ScheduleView, Scope, WorkerView};
use serde_json::{Value, json};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{Schemas, one, page};

pub(super) fn group() -> Group {
    Group {
        name: "Schedules",
        detail: "Jobs that are made again and again: one for each tick, whatever the number of servers.",
        on_admin: false,
        operations: schedules(),
    }
}

fn schedules() -> Vec<Operation> {
    vec![
        Operation::get("/v1/schedules", "listSchedules", "List schedules").needs(Scope::Read).paged().answer(
            200,
            "Every schedule the caller may see, by name.",
            page::<ScheduleView>,
        ),
        Operation::get("/v1/schedules/{schedule}", "getSchedule", "Look at a schedule")
            .needs(Scope::Read)
            .answer(200, "The schedule.", one::<ScheduleView>)
            .codes(&[Code::NotFound]),
        Operation::put("/v1/schedules/{schedule}", "putSchedule", "Make or replace a schedule")
            .detail(
                "Replaces all of it. One whose `cron` and `timezone` stay as they are keeps its next tick; a paused one \
                 stays paused. Whoever puts it also needs `jobs:produce` for its queue.",
            )
            .needs(Scope::Admin)
            .body(one::<PutSchedule>)
            .answer(200, "When it fires next.", one::<ScheduleAnswer>)
            .codes(&[Code::StateConflict]),
        Operation::delete("/v1/schedules/{schedule}", "deleteSchedule", "Delete a schedule")
            .detail("Jobs it has made stay.")
            .needs(Scope::Admin)
            .empty_answer(204, "It is gone.")
            .codes(&[Code::NotFound]),
        Operation::post("/v1/schedules/{schedule}/trigger", "triggerSchedule", "Make a schedule's job now")
            .detail("Beside its ticks, also while it is paused.")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "The job.", one::<Enqueued>)
            .codes(&[Code::NotFound, Code::QueueFull]),
        Operation::post("/v1/schedules/{schedule}/pause", "pauseSchedule", "Pause a schedule")
            .detail("Its ticks until it is resumed never happen, whatever `catch_up` says.")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "It is paused.", paused)
            .codes(&[Code::NotFound]),
        Operation::post("/v1/schedules/{schedule}/resume", "resumeSchedule", "Resume a schedule")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "It is not paused any more.", paused)
            .codes(&[Code::NotFound, Code::StateConflict]),
        Operation::get("/v1/workers", "listWorkers", "List workers")
            .detail("By what they claim under their name. One without jobs is forgotten 5 minutes after its last call.")
            .needs(Scope::Read)
            .paged()
            .answer(200, "Every worker the caller may see, by name.", page::<WorkerView>),
    ]
}

fn paused(_: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "required": ["name", "paused"],
        "properties": {
            "name": { "type": "string", "description": "The schedule." },
            "paused": { "type": "boolean", "description": "Whether it does not fire." }
        }
    })
}
