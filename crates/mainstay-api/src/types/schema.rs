//! Schemas of the types that are written by hand.

use utoipa::openapi::schema::{Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{AfterRef, Grant, Retry, Scope};
use crate::problem::ProblemBody;
use crate::{Code, JobId, Problem, RawJson, Timestamp};

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

impl PartialSchema for RawJson {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("any JSON value")).into()
    }
}
impl ToSchema for RawJson {}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        string()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-11-22T10:00:00.000Z"])
            .into()
    }
}
impl ToSchema for Timestamp {}

impl PartialSchema for JobId {
    fn schema() -> RefOr<Schema> {
        string().format(Some(SchemaFormat::Custom("uuid".into()))).into()
    }
}
impl ToSchema for JobId {}

impl PartialSchema for AfterRef {
    fn schema() -> RefOr<Schema> {
        string().description(Some("a job's id, or #N: the N-th of the same request, from 0")).into()
    }
}
impl ToSchema for AfterRef {}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        string().enum_values(Some(Code::ALL.iter().map(|code| code.as_str()))).into()
    }
}
impl ToSchema for Code {}

impl PartialSchema for Grant {
    fn schema() -> RefOr<Schema> {
        let words: Vec<_> = Scope::ALL.into_iter().map(Scope::as_str).collect();
        string().pattern(Some(format!("^({})(=.*)?$", words.join("|")))).into()
    }
}
impl ToSchema for Grant {}

impl PartialSchema for Retry {
    fn schema() -> RefOr<Schema> {
        let delay = ObjectBuilder::new()
            .property(
                "delay_ms",
                ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0)),
            )
            .required("delay_ms");
        OneOfBuilder::new().item(string().enum_values(Some(["auto", "never"]))).item(delay).into()
    }
}
impl ToSchema for Retry {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemBody::schema()
    }
}
impl ToSchema for Problem {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ProblemBody::schemas(schemas);
    }
}
