//! Administration, on the admin listener.

use mainstay_api::Code;
use mainstay_api::types::{AuditRecord, Draining, LogLevel, NewToken, Scope, TokenCreated, TokenView};
use serde_json::{Value, json};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{Schemas, one, page};

pub(super) fn group() -> Group {
    Group {
        name: "Administration",
        detail: "On the admin listener.",
        on_admin: true,
        operations: server().into_iter().chain(tokens()).collect(),
    }
}

fn server() -> Vec<Operation> {
    vec![
        Operation::get("/metrics", "getMetrics", "Metrics").needs(Scope::Read).other_answer(
            200,
            "All metrics, as Prometheus reads them.",
            "text/plain",
            json!({ "type": "string" }),
        ),
        Operation::post("/admin/drain", "drain", "Stop the server gracefully")
            .detail("As SIGTERM does.")
            .needs(Scope::Admin)
            .answer(202, "It is shutting down.", one::<Draining>),
        Operation::get("/admin/log-level", "getLogLevel", "The log level").needs(Scope::Admin).answer(
            200,
            "The level now.",
            one::<LogLevel>,
        ),
        Operation::put("/admin/log-level", "setLogLevel", "Change the log level")
            .detail("Until the server stops.")
            .needs(Scope::Admin)
            .body(one::<LogLevel>)
            .answer(200, "The level now.", one::<LogLevel>),
        Operation::get("/admin/config", "getConfig", "The effective configuration")
            .needs(Scope::Admin)
            .answer(200, "Every value with its source; secrets are redacted.", config),
        Operation::post("/admin/backup", "backUp", "Copy the store")
            .detail("A consistent copy of the embedded store, which opens as a store of its own.")
            .needs(Scope::Admin)
            .other_answer(
                200,
                "The copy.",
                "application/vnd.sqlite3",
                json!({ "type": "string", "format": "binary" }),
            )
            .codes(&[Code::NotSupported]),
        Operation::get("/admin/audit", "listAudit", "What was done by whom")
            .needs(Scope::Admin)
            .paged()
            .answer(200, "The audit trail.", page::<AuditRecord>),
    ]
}

fn tokens() -> Vec<Operation> {
    vec![
        Operation::get("/admin/tokens", "listTokens", "List access tokens")
            .needs(Scope::Admin)
            .paged()
            .answer(200, "Names and scopes; never the tokens.", page::<TokenView>),
        Operation::post("/admin/tokens", "createToken", "Make an access token")
            .detail(
                "The only answer that shows it; sent again under its `Idempotency-Key`, it is shown again (it is kept so \
                 that only the key shows it: use one that nobody guesses). From the first one on every request needs a \
                 token.",
            )
            .needs(Scope::Admin)
            .keyed()
            .body(one::<NewToken>)
            .answer(201, "The token.", one::<TokenCreated>)
            .codes(&[Code::StateConflict]),
        Operation::delete("/admin/tokens/{name}", "revokeToken", "Revoke an access token")
            .needs(Scope::Admin)
            .empty_answer(204, "It is not known any more.")
            .codes(&[Code::NotFound, Code::StateConflict]),
    ]
}

fn config(_: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "description": "Every key with its value.",
        "additionalProperties": {
            "type": "object",
            "required": ["value", "source"],
            "properties": {
                "value": { "description": "The value; secrets are redacted." },
                "source": { "type": "string", "description": "Where it comes from: `default`, or a file, variable or flag by name." }
            }
        }
    })
}
