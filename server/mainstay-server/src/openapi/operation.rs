//! What the document says of one operation.

use mainstay_api::Code;
use mainstay_api::types::Scope;
use serde_json::{Value, json};

use super::schemas::Make;

/// One method on one path.
pub(super) struct Operation {
    pub method: &'static str,
    /// As the router has it.
    pub path: &'static str,
    pub id: &'static str,
    pub summary: &'static str,
    pub detail: &'static str,
    /// What a caller needs once tokens exist; empty for nothing at all.
    pub scopes: Vec<Scope>,
    pub query: Vec<Param>,
    pub headers: Vec<Param>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
    /// The codes of its own, beside those every operation has.
    pub codes: Vec<Code>,
    /// Whether it honours `Idempotency-Key`.
    pub keyed: bool,
}

/// A parameter of the query, or a header.
pub(super) struct Param {
    pub name: &'static str,
    pub detail: &'static str,
    pub schema: Value,
}

/// What is sent.
pub(super) struct Body {
    pub schema: Option<Make>,
    /// What a line is, where lines are taken too.
    pub line: Option<Make>,
    /// Other content types that are taken.
    pub others: Vec<(&'static str, Make)>,
    pub required: bool,
}

/// What comes back when all is well.
pub(super) struct Answer {
    pub status: u16,
    pub detail: &'static str,
    pub content: Option<Content>,
}

/// The body of an answer.
pub(super) enum Content {
    Json(Make),
    Other(&'static str, Value),
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            detail: "",
            scopes: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            codes: Vec::new(),
            keyed: false,
        }
    }

    pub fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    /// A POST: takes a body, if only an empty one.
    pub fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let body = Some(Body { schema: None, line: None, others: vec![], required: false });
        Self { body, ..Self::new("post", path, id, summary) }
    }

    pub fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("put", path, id, summary)
    }

    pub fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("delete", path, id, summary)
    }

    pub fn detail(self, detail: &'static str) -> Self {
        Self { detail, ..self }
    }

    pub fn needs(mut self, scope: Scope) -> Self {
        self.scopes.push(scope);
        self
    }

    pub fn keyed(self) -> Self {
        Self { keyed: true, ..self }
    }

    pub fn query(mut self, name: &'static str, schema: Value, detail: &'static str) -> Self {
        self.query.push(Param { name, detail, schema });
        self
    }

    pub fn header(mut self, name: &'static str, detail: &'static str) -> Self {
        self.headers.push(Param { name, detail, schema: json!({ "type": "string" }) });
        self
    }

    /// The body may also come so.
    pub fn or_as(mut self, content_type: &'static str, schema: Make) -> Self {
        if let Some(body) = &mut self.body {
            body.others.push((content_type, schema));
        }
        self
    }

    /// The parameters of every list.
    pub fn paged(self) -> Self {
        self.query(
            "limit",
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 50 }),
            "How many items at most.",
        )
        .query("cursor", json!({ "type": "string" }), "The `next_cursor` of the page before.")
    }

    pub fn body(self, schema: Make) -> Self {
        Self { body: Some(Body { schema: Some(schema), line: None, others: vec![], required: true }), ..self }
    }

    /// A body of which every field may be left out.
    pub fn optional_body(self, schema: Make) -> Self {
        Self {
            body: Some(Body { schema: Some(schema), line: None, others: vec![], required: false }),
            ..self
        }
    }

    /// A body that may also come as lines.
    pub fn body_or_lines(self, schema: Make, line: Make) -> Self {
        Self {
            body: Some(Body { schema: Some(schema), line: Some(line), others: vec![], required: true }),
            ..self
        }
    }

    pub fn answer(self, status: u16, detail: &'static str, schema: Make) -> Self {
        self.any_answer(status, detail, Some(Content::Json(schema)))
    }

    pub fn empty_answer(self, status: u16, detail: &'static str) -> Self {
        self.any_answer(status, detail, None)
    }

    pub fn other_answer(
        self,
        status: u16,
        detail: &'static str,
        content_type: &'static str,
        schema: Value,
    ) -> Self {
        self.any_answer(status, detail, Some(Content::Other(content_type, schema)))
    }

    fn any_answer(mut self, status: u16, detail: &'static str, content: Option<Content>) -> Self {
        self.answers.push(Answer { status, detail, content });
        self
    }

    pub fn codes(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Every code it can answer.
    pub fn all_codes(&self) -> Vec<Code> {
        use Code::*;
        if self.scopes.is_empty() {
            // A probe: refused to pages of elsewhere alone.
            return [&self.codes[..], &[Forbidden]].concat();
        }
        let mut all = vec![Unauthenticated, Forbidden, ValidationFailed, RateLimited, Internal];
        all.extend([Overloaded, StorageUnavailable, DeadlineExceeded]);
        if self.body.is_some() {
            all.extend([MalformedBody, UnsupportedMediaType, PayloadTooLarge]);
        }
        if self.keyed {
            all.push(IdempotencyMismatch);
        }
        all.extend(&self.codes);
        all
    }
}
