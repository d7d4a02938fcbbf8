//! Probes, on both listeners.

use mainstay_api::types::Probe;
use serde_json::json;

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::one;

pub(super) fn group() -> Group {
    let probe = |path, id, summary, well, badly| {
        Operation::get(path, id, summary)
            .query("verbose", json!({ "type": "boolean" }), "Every check by name.")
            .answer(200, well, one::<Probe>)
            .answer(503, badly, one::<Probe>)
    };
    Group {
        name: "Probes",
        detail: "For platforms and balancers. On the API listener while it is open, and on the admin listener to the \
                 very end. They need no token.",
        on_admin: false,
        operations: vec![
            probe("/livez", "live", "Does it make progress?", "It does.", "It does not: restart it."),
            probe("/readyz", "ready", "Shall it get work?", "Send work.", "Send none: `reason` says why."),
            probe("/startupz", "started", "Has it started?", "It has.", "Not yet."),
        ],
    }
}
