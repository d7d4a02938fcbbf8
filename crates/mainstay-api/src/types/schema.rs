//! Schemas of the types that are written by hand.

use utoipa::openapi::schema::{AnyOfBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{
    AfterRef, CommitResult, Enqueued, Grant, JobFailure, Published, Released, Retry, Scope, Start,
    StateAnswer,
};
use crate::limits::{MAX_SAFE_INTEGER, MAX_SPAN_MS};
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
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::Integer))
                    .minimum(Some(0))
                    .maximum(Some(MAX_SPAN_MS)),
            )
            .required("delay_ms");
        OneOfBuilder::new().item(string().enum_values(Some(["auto", "never"]))).item(delay).into()
    }
}
impl ToSchema for Retry {}

/// What went wrong: its text alone, or as a job's failure; or nothing.
pub(super) fn text_or_failure() -> RefOr<Schema> {
    OneOfBuilder::new()
        .description(Some("What went wrong: a text, or as a job's failure."))
        .item(string())
        .item(Ref::from_schema_name(JobFailure::name()))
        .item(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)))
        .into()
}

impl PartialSchema for Start {
    fn schema() -> RefOr<Schema> {
        let seq = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .description(Some("This number, inclusive; the first is 1."))
            .minimum(Some(1))
            .maximum(Some(MAX_SAFE_INTEGER));
        let seq = ObjectBuilder::new().property("seq", seq).required("seq");
        let time = ObjectBuilder::new()
            .property("time", Ref::from_schema_name(Timestamp::name()))
            .required("time")
            .description(Some("The first event that was published then or later."));
        OneOfBuilder::new()
            .description(Some("A place in the log."))
            .item(string().enum_values(Some(["latest", "earliest"])))
            .item(seq)
            .item(time)
            .into()
    }
}
impl ToSchema for Start {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        with::<Timestamp>(schemas);
    }
}

/// Any of them, not one: what an enqueue answers has all that a state has.
impl PartialSchema for CommitResult {
    fn schema() -> RefOr<Schema> {
        let acked = ObjectBuilder::new()
            .property(
                "ok",
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::Boolean))
                    .description(Some("Always `true`.")),
            )
            .required("ok");
        AnyOfBuilder::new()
            .description(Some("What one op of a commit did."))
            .item(Ref::from_schema_name(Enqueued::name()))
            .item(Ref::from_schema_name(StateAnswer::name()))
            .item(Ref::from_schema_name(Released::name()))
            .item(Ref::from_schema_name(Published::name()))
            .item(acked)
            .into()
    }
}
impl ToSchema for CommitResult {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        with::<Enqueued>(schemas);
        with::<StateAnswer>(schemas);
        with::<Released>(schemas);
        with::<Published>(schemas);
    }
}

fn with<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}

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
