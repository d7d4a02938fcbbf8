//! What this process has asked locks for: a ticket is only a key, but the wire wants the whole request again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mainstay_api::types as wire;
use mainstay_core::{lease::LeaseId, name::Name, time::StoreTime};

/// Whoever waits says so again well before that; what is withdrawn later is left to its TTL.
const KEPT_MS: u64 = 120_000;
/// So many are kept before the first look for those that are too old.
const FEW: usize = 64;

/// An acquire that was sent.
#[derive(Clone)]
pub(super) struct Asked {
    pub name: Name,
    pub acquire: wire::Acquire,
    /// What it was granted.
    pub lease: Option<LeaseId>,
    /// It was granted to a wait, and whoever asked has not been told.
    pub untold: bool,
    at: StoreTime,
}

/// By the scope of the ticket.
#[derive(Default)]
pub(super) struct Tickets(Mutex<State>);

#[derive(Default)]
struct State {
    asked: HashMap<[u8; 16], Asked>,
    /// Looked through when there are so many.
    look_at: usize,
}

impl Tickets {
    pub fn ask(&self, scope: [u8; 16], name: &Name, acquire: &wire::Acquire, now: StoreTime) {
        let mut state = self.lock();
        if state.asked.len() >= state.look_at.max(FEW) {
            state.asked.retain(|_, asked| now.0.saturating_sub(asked.at.0) < KEPT_MS);
            state.look_at = state.asked.len() * 2;
        }
        state.asked.insert(
            scope,
            Asked { name: name.clone(), acquire: acquire.clone(), lease: None, untold: false, at: now },
        );
    }

    pub fn granted(&self, scope: [u8; 16], lease: LeaseId, untold: bool) {
        if let Some(asked) = self.lock().asked.get_mut(&scope) {
            (asked.lease, asked.untold) = (Some(lease), untold);
        }
    }

    pub fn get(&self, scope: [u8; 16]) -> Option<Asked> {
        self.lock().asked.get(&scope).cloned()
    }

    pub fn forget(&self, scope: [u8; 16]) {
        self.lock().asked.remove(&scope);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
