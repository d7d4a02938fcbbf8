//! The behaviours of the contract that can be seen at the seam, a case each.
//!
//! ```text
//! // tests/it/main.rs of a store crate:
//! mainstay_testkit::conformance!(MyHarness::new());          // a store that forgets when it is closed
//! mainstay_testkit::conformance!(MyHarness::new(), durable); // one that does not: also everything about restarts
//! ```
//!
//! The line expands to one `#[test]` a case, named after the behaviour. The expression is evaluated anew for each.

use std::{future::Future, pin::Pin};

use crate::{
    harness::{Harness, run_with},
    world::World,
};

#[macro_use]
mod cases;
mod access;
mod after;
mod attempts;
mod bounds;
mod cancel;
mod claims;
mod closing;
mod commits;
mod crashes;
mod dead;
mod event_commits;
mod event_dead;
mod event_dedup;
mod event_groups;
mod event_keys;
mod event_log;
mod event_restart;
mod event_seek;
mod event_settle;
mod event_topics;
mod event_waits;
mod keys;
mod known_ids;
mod leases;
mod limits_restart;
mod lists;
mod lock_leases;
mod lock_line;
mod lock_restart;
mod lock_tickets;
mod locks;
mod order;
mod places;
mod queues;
mod rates;
mod reads;
mod restart;
mod retention;
mod retry;
mod schedules;
mod settle;
mod tokens;
mod turns;
mod unique;
mod waits;
mod workers;

type Body = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One behaviour.
pub struct Case {
    /// The behaviour, as the name of a test.
    pub name: &'static str,
    /// What it is about: `lock_line`, `event_groups`, …
    pub area: &'static str,
    body: Body,
}

/// Runs the case of this name on a fresh store. Panics if the store behaves otherwise.
pub fn run(harness: impl Harness, name: &str) {
    let case = cases().find(|case| case.name == name).expect("the macro and the list are one");
    run_with(harness, async |world: &mut World| (case.body)(world).await);
}

/// All cases, those about restarts included.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    SEAM.iter().chain(DURABLE)
}

/// Expands to one `#[test]` a behaviour: `conformance!(harness)`, or `conformance!(harness, durable)` for a store
/// that keeps what it was given.
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        $crate::__seam_cases! { [$crate::__tests] [$harness] }
    };
    ($harness:expr, durable) => {
        $crate::__seam_cases! { [$crate::__tests] [$harness] }
        $crate::__durable_cases! { [$crate::__tests] [$harness] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ([$harness:expr] $($module:ident { $($name:ident)* })*) => {
        $($(
            #[test]
            fn $name() {
                $crate::conformance::run($harness, stringify!($name));
            }
        )*)*
    };
}

macro_rules! table {
    ([$table:ident] $($module:ident { $($name:ident)* })*) => {
        const $table: &[Case] = &[$($(
            Case { name: stringify!($name), area: stringify!($module), body: |world| Box::pin($module::$name(world)) },
        )*)*];
    };
}

__seam_cases! { [table] [SEAM] }
__durable_cases! { [table] [DURABLE] }
