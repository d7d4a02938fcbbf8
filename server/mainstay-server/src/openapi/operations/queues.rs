//! Queues and their dead letters.

use mainstay_api::Code;
use mainstay_api::types::{DeadChanged, DeadSelect, JobView, Purged, QueueConfig, QueueView, Scope};
use serde_json::{Value, json};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{Schemas, one, page};

pub(super) fn group() -> Group {
    Group {
        name: "Queues",
        detail: "A queue exists from its first job, its configuration or its first pause.",
        on_admin: false,
        operations: queues().into_iter().chain(dead()).collect(),
    }
}

fn queues() -> Vec<Operation> {
    vec![
        Operation::get("/v1/queues", "listQueues", "List queues").needs(Scope::Read).paged().answer(
            200,
            "Every queue the caller may see.",
            page::<QueueView>,
        ),
        Operation::get("/v1/queues/{queue}", "getQueue", "Look at a queue")
            .needs(Scope::Read)
            .answer(200, "The queue.", one::<QueueView>)
            .codes(&[Code::NotFound]),
        Operation::put("/v1/queues/{queue}", "putQueue", "Configure a queue")
            .detail("Replaces the whole configuration: what is left out has its default.")
            .needs(Scope::Admin)
            .optional_body(one::<QueueConfig>)
            .answer(200, "The queue as it is now.", one::<QueueView>)
            .codes(&[Code::NotSupported]),
        Operation::delete("/v1/queues/{queue}", "deleteQueue", "Delete an empty queue")
            .detail("Its finished jobs go with it; with anything unfinished or dead it stays.")
            .needs(Scope::Admin)
            .empty_answer(204, "It is gone.")
            .codes(&[Code::NotFound, Code::StateConflict]),
        Operation::post("/v1/queues/{queue}/pause", "pauseQueue", "Pause a queue")
            .detail("It accepts jobs and hands out none.")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "It is paused.", paused),
        Operation::post("/v1/queues/{queue}/resume", "resumeQueue", "Resume a queue")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "It is not paused any more.", paused)
            .codes(&[Code::NotFound]),
        Operation::post("/v1/queues/{queue}/purge", "purgeQueue", "Remove what waits in a queue")
            .detail("Spares running and dead jobs.")
            .needs(Scope::Admin)
            .keyed()
            .answer(200, "How many jobs were removed.", one::<Purged>)
            .codes(&[Code::NotFound]),
    ]
}

fn dead() -> Vec<Operation> {
    vec![
        Operation::get("/v1/queues/{queue}/dead", "listDead", "List dead letters")
            .needs(Scope::Read)
            .paged()
            .answer(200, "Dead jobs, each with its `reason` and its last `error`.", page::<JobView>),
        Operation::post("/v1/queues/{queue}/dead/requeue", "requeueDead", "Requeue dead letters")
            .detail("By ids, by kind or by the type of the last error; without any of them, all.")
            .needs(Scope::Admin)
            .keyed()
            .optional_body(one::<DeadSelect>)
            .answer(200, "How many fitted, and how many were changed.", one::<DeadChanged>),
        Operation::post("/v1/queues/{queue}/dead/delete", "deleteDead", "Delete dead letters")
            .detail("Selected as for a requeue.")
            .needs(Scope::Admin)
            .keyed()
            .optional_body(one::<DeadSelect>)
            .answer(200, "How many fitted, and how many were deleted.", one::<DeadChanged>),
    ]
}

fn paused(_: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "required": ["name", "paused"],
        "properties": {
            "name": { "type": "string", "description": "The queue." },
            "paused": { "type": "boolean", "description": "Whether it hands out no jobs." }
        }
    })
}
