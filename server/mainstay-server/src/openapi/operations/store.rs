//! What this server can.

use mainstay_api::types::{Scope, StoreInfo};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::one;

pub(super) fn group() -> Group {
    let info = Operation::get("/v1/store", "getStore", "What the store promises").needs(Scope::Read).answer(
        200,
        "What it can, and whether it is durable.",
        one::<StoreInfo>,
    );
    Group { name: "Store", detail: "What this server's store can.", on_admin: false, operations: vec![info] }
}
