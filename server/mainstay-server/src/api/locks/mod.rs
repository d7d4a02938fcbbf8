//! Locks: taking, keeping, giving back, looking.

pub(super) mod acquire;
pub(super) mod force;
pub(super) mod hold;
pub(super) mod read;
mod waiter;

use mainstay::core::name::Name;

use super::call::Call;
use super::input::Input;

/// The lock in the path. One that is called like the route `/v1/locks/renew` is a lock like any other.
fn named(call: &Call, input: &mut Input<'_>) -> Option<Name> {
    match call.param("name") {
        None if call.parts.uri.path() == "/v1/locks/renew" => Name::new("renew").ok(),
        _ => input.name("name"),
    }
}
