//! The schemas an operation names, and all that those name.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;

/// Makes a reference to a schema, and sees that it is there.
pub(super) type Make = fn(&mut Schemas) -> Value;

/// The components of the document.
#[derive(Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

/// One of these.
pub(super) fn one<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.add(&T::name(), written(&T::schema()));
    let mut named = Vec::new();
    T::schemas(&mut named);
    for (name, schema) in named {
        schemas.add(&name, written(&schema));
    }
    reference(&T::name())
}

/// One of these or one of those.
pub(super) fn either<T: ToSchema, U: ToSchema>(schemas: &mut Schemas) -> Value {
    json!({ "anyOf": [one::<T>(schemas), one::<U>(schemas)] })
}

/// A page of a list of these.
pub(super) fn page<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let item = one::<T>(schemas);
    let name = format!("{}Page", T::name());
    let page = json!({
        "type": "object",
        "description": "One page of a list. It may be short or empty and still have a cursor.",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": { "type": "array", "items": item, "description": "What is on it." },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "Where the next one begins; `null` when this is the last."
            }
        }
    });
    schemas.add(&name, page);
    reference(&name)
}

impl Schemas {
    /// Sees that a schema is there.
    pub(super) fn add(&mut self, name: &str, schema: Value) {
        self.0.entry(name.to_owned()).or_insert(schema);
    }

    pub fn into_json(self) -> Value {
        self.0.into_iter().collect()
    }
}

/// A reference to a schema that is there.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn written(schema: &impl serde::Serialize) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}
