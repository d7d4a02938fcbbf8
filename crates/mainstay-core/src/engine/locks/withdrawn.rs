//! Tickets that were withdrawn: what still asks under one is over.
//!
//! Whoever withdraws a ticket may have requests open that wait with it (a proxy keeps one whose client has left). Such
//! a request asks again, and must not be taken for somebody who comes new: the lock would be granted to nobody. That
//! a ticket is not in the line says too little: one that was late has lost its place, and waits on at its end. So
//! withdrawals are remembered. A *new* request under the ticket is an ordinary acquire, at any time.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::LockUndo;
use crate::{
    engine::{Engine, undo::Undo},
    lock::{Acquire, MAX_WAITERS_IN_ALL, Ticket, WAIT_MS},
    name::Name,
    op::Reason,
    time::StoreTime,
};

/// How long it is remembered: whoever waits asks again within that ([`Acquire::wait_ms`]), and is woken at once.
const KNOWN_MS: u64 = WAIT_MS;
/// The most that are remembered, as many as can wait; then the earliest is forgotten.
const MAX_KNOWN: usize = MAX_WAITERS_IN_ALL;
/// The most later requests of one ticket that are told apart from those that were withdrawn.
const MAX_LATER: usize = 16;

/// Those of a store. In RAM alone: a request that waits does not outlive its server.
#[derive(Default)]
pub(super) struct Withdrawn {
    by_ticket: HashMap<(Name, Ticket), Mark>,
    /// The earliest first.
    in_order: BTreeMap<u64, (Name, Ticket)>,
    last: u64,
}

/// One withdrawal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Mark {
    number: u64,
    until: StoreTime,
    /// The requests ([`Acquire::visit`]) that have come since: they go on.
    later: Vec<u64>,
}

impl Withdrawn {
    fn swap(&mut self, name: &Name, ticket: Ticket, new: Option<Mark>) -> Option<Mark> {
        let key = (name.clone(), ticket);
        let number = new.as_ref().map(|mark| mark.number);
        let old = match new {
            Some(mark) => self.by_ticket.insert(key.clone(), mark),
            None => self.by_ticket.remove(&key),
        };
        if let Some(old) = &old {
            self.in_order.remove(&old.number);
        }
        if let Some(number) = number {
            self.in_order.insert(number, key);
        }
        old
    }
}

impl Engine {
    /// Remembers that nobody wants anything under the ticket any more.
    pub(super) fn remember_withdrawn(&mut self, name: &Name, ticket: &Ticket) {
        self.forget_withdrawn(2);
        if self.locks.withdrawn.by_ticket.len() >= MAX_KNOWN
            && let Some((_, (name, ticket))) = self.locks.withdrawn.in_order.first_key_value()
        {
            let (name, ticket) = (name.clone(), *ticket);
            self.set_withdrawn(&name, ticket, None);
        }
        self.locks.withdrawn.last += 1;
        let number = self.locks.withdrawn.last;
        let mark = Mark { number, until: self.now.store.plus_ms(KNOWN_MS), later: Vec::new() };
        self.set_withdrawn(name, *ticket, Some(mark));
    }

    /// A request that waited when its ticket was withdrawn is refused; one that comes since then is known by its visit.
    pub(super) fn still_wanted(&mut self, ask: &Acquire, ticket: &Ticket) -> Result<(), Reason> {
        if self.locks.withdrawn.by_ticket.is_empty() {
            return Ok(());
        }
        let mark = self.locks.withdrawn.by_ticket.get(&(ask.name.clone(), *ticket));
        let Some(mark) = mark.filter(|mark| mark.until > self.now.store && !mark.later.contains(&ask.visit))
        else {
            return Ok(());
        };
        if ask.again {
            return Err(Reason::StateConflict(format!(
                "the acquire of lock `{}` was withdrawn while it waited; ask anew to wait for it",
                ask.name
            )));
        }
        let mut mark = mark.clone();
        if mark.later.len() >= MAX_LATER {
            mark.later.remove(0);
        }
        mark.later.push(ask.visit);
        self.set_withdrawn(&ask.name, *ticket, Some(mark));
        Ok(())
    }

    /// Forgets up to `limit` whose time is over; answers how many.
    pub(super) fn forget_withdrawn(&mut self, limit: u32) -> u32 {
        let mut forgotten = 0;
        while forgotten < limit
            && let Some((_, key)) = self.locks.withdrawn.in_order.first_key_value()
            && self.locks.withdrawn.by_ticket.get(key).is_some_and(|mark| mark.until <= self.now.store)
        {
            let (name, ticket) = key.clone();
            self.set_withdrawn(&name, ticket, None);
            forgotten += 1;
        }
        forgotten
    }

    fn set_withdrawn(&mut self, name: &Name, ticket: Ticket, new: Option<Mark>) {
        let old = self.locks.withdrawn.swap(name, ticket, new);
        self.undo.push(Undo::Lock(LockUndo::Withdrawn(name.clone(), ticket, old)));
    }

    pub(super) fn undo_withdrawn(&mut self, name: &Name, ticket: Ticket, before: Option<Mark>) {
        drop(self.locks.withdrawn.swap(name, ticket, before));
    }
}

#[cfg(test)]
impl Withdrawn {
    pub(super) fn picture(&self) -> String {
        let marks: Vec<_> = self.in_order.values().map(|key| (key, &self.by_ticket[key])).collect();
        format!("{marks:?}")
    }

    pub(super) fn is_sound(&self) {
        assert_eq!(self.by_ticket.len(), self.in_order.len());
        for (number, key) in &self.in_order {
            assert_eq!(self.by_ticket[key].number, *number);
        }
    }
}
