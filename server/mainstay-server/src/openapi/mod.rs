//! The API as an OpenAPI document: `/openapi.json`.
//!
//! `operations` is the one table of what there is; [`document`] puts it together with the schemas of the types that
//! requests are read into and answers are written from. What answers `not-supported` whatever it is asked is not in it.

mod document;
mod operation;
mod operations;
mod schemas;

#[cfg(test)]
mod tests;

pub use document::document;
