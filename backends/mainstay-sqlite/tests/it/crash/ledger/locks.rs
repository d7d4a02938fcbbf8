//! Locks that nobody else touches, as their only caller knows them. Time moves in one step for all that can run out: a
//! short lock, a grant that nobody collected and a place in a line are gone after it, a long lock is not.

use std::collections::BTreeMap;

use mainstay_core::{
    LeaseId, Token,
    lock::{Acquire, LockHolder, LockOp, LockRecord, LockReply, Ticket},
    name::Name,
};

/// What may live through the step is longer than this, in milliseconds.
const STEP_MS: u64 = 60_000;

#[derive(Clone, Debug, Default)]
pub(in crate::crash) struct Locks {
    pub(in crate::crash) lines: BTreeMap<Name, Line>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::crash) struct Line {
    pub(in crate::crash) holders: Vec<Holder>,
    pub(in crate::crash) waiters: Vec<Waiter>,
    /// A lease that is over.
    pub(in crate::crash) ended: Option<LeaseId>,
}

#[derive(Clone, Debug)]
pub(in crate::crash) struct Holder {
    pub(in crate::crash) ask: Acquire,
    /// `None`: nobody was told.
    pub(in crate::crash) lease: Option<LeaseId>,
    collected: bool,
}

#[derive(Clone, Debug)]
pub(in crate::crash) struct Waiter {
    pub(in crate::crash) ask: Acquire,
    present: bool,
}

impl Locks {
    /// `op` happened. Answers the token that it handed out, if that is known, and whether no other may be as high.
    pub(super) fn change(&mut self, op: &LockOp, reply: Option<&LockReply>) -> Option<(Token, bool)> {
        let line = self.lines.entry(op.name().clone()).or_default();
        match op {
            LockOp::Acquire(ask) => return line.ask(ask, reply),
            LockOp::Renew { lease, .. } => {
                let holder = line.holders.iter_mut().find(|holder| holder.lease == Some(*lease));
                holder.expect("callers renew what they hold").collected = true;
            }
            LockOp::Release { lease, .. } => line.end(|holder| holder.lease == Some(*lease)),
            LockOp::Break { .. } => line.end(|_| true),
            LockOp::Withdraw { ticket, .. } => {
                line.waiters.retain(|waiter| waiter.ask.ticket != Some(*ticket));
                line.end(|holder| holder.ask.ticket == Some(*ticket));
            }
        }
        line.hand_on(None);
        None
    }

    /// The step of time.
    pub(super) fn lose(&mut self) {
        for line in self.lines.values_mut() {
            line.waiters.clear();
            line.end(|holder| !holder.collected || holder.ask.ttl_ms <= STEP_MS);
        }
    }

    /// The store was closed and opened: nobody is there, and what was handed over counts as collected.
    pub(super) fn reopened(&mut self) {
        for line in self.lines.values_mut() {
            line.waiters.iter_mut().for_each(|waiter| waiter.present = false);
            line.holders.iter_mut().for_each(|holder| holder.collected = true);
        }
    }

    /// A grant that is held for sure.
    pub(in crate::crash) fn held(&self) -> Option<(&Name, LeaseId)> {
        self.lines.iter().find_map(|(name, line)| {
            line.holders.iter().find_map(|holder| holder.lease).map(|lease| (name, lease))
        })
    }

    pub(super) fn fits(&self, shown: &BTreeMap<Name, LockRecord>) -> Result<(), String> {
        let is_held = |name: &Name| self.lines.get(name).is_some_and(|line| !line.holders.is_empty());
        if let Some(name) = shown.keys().find(|name| !is_held(name)) {
            return Err(format!("lock {name} is held, but nobody holds it: {:?}", shown[name]));
        }
        for (name, line) in self.lines.iter().filter(|(name, _)| is_held(name)) {
            let Some(record) = shown.get(name) else { return Err(format!("lock {name} is lost: {line:?}")) };
            let same = |(holder, shown): (&Holder, &LockHolder)| {
                holder.ask.owner == shown.owner
                    && holder.ask.mode == record.mode
                    && holder.lease.is_none_or(|lease| lease.token == shown.token)
            };
            let holders = line.holders.len() == record.holders.len()
                && line.holders.iter().zip(&record.holders).all(same);
            let owners = line.waiters.iter().map(|waiter| &waiter.ask.owner);
            if !holders || !owners.eq(record.waiters.iter().map(|waiter| &waiter.owner)) {
                return Err(format!("lock {name} shows {record:?}, not {line:?}"));
            }
        }
        Ok(())
    }
}

impl Line {
    fn ask(&mut self, ask: &Acquire, reply: Option<&LockReply>) -> Option<(Token, bool)> {
        let had = self.holder(ask.ticket).is_some();
        if !had {
            match self.waiters.iter().position(|waiter| waiter.ask.ticket == ask.ticket) {
                Some(at) => {
                    self.waiters[at].present = true;
                    self.hand_on(ask.ticket);
                }
                None if self.admits(ask) && !self.waiters.iter().any(|waiter| waiter.present) => {
                    self.holders.push(Holder { ask: ask.clone(), lease: None, collected: true });
                }
                None => self.waiters.push(Waiter { ask: ask.clone(), present: true }),
            }
        }
        let place = self.waiters.iter().position(|waiter| waiter.ask.ticket == ask.ticket);
        let holder = self.holder(ask.ticket);
        match (reply, holder) {
            (None, holder) => holder.map(|holder| holder.collected = true).and(None),
            (Some(LockReply::Granted(grant)), Some(holder)) => {
                assert!(holder.lease.is_none_or(|lease| lease == grant.lease), "{holder:?} got {grant:?}");
                (holder.lease, holder.collected) = (Some(grant.lease), true);
                Some((grant.token(), !had))
            }
            (Some(LockReply::Waiting(waiting)), None) => {
                assert_eq!(waiting.position, place.map(|place| place as u64 + 1), "the place in the line");
                None
            }
            (Some(other), _) => panic!("whose turn it was: {self:?}, {ask:?} was answered with {other:?}"),
        }
    }

    fn holder(&mut self, ticket: Option<Ticket>) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.ask.ticket == ticket)
    }

    fn admits(&self, ask: &Acquire) -> bool {
        self.holders.first().is_none_or(|first| ask.mode.fits(first.ask.mode, self.holders.len()))
    }

    /// These grants are over.
    fn end(&mut self, which: impl Fn(&Holder) -> bool) {
        let over =
            self.holders.iter().filter(|holder| which(holder)).filter_map(|holder| holder.lease).last();
        self.ended = over.or(self.ended);
        self.holders.retain(|holder| !which(holder));
    }

    /// To the first who is there, and so on; `asking` is there to collect it.
    fn hand_on(&mut self, asking: Option<Ticket>) {
        while let Some(at) = self.waiters.iter().position(|waiter| waiter.present)
            && self.admits(&self.waiters[at].ask)
        {
            let Waiter { ask, .. } = self.waiters.remove(at);
            let collected = asking.is_some() && ask.ticket == asking;
            self.holders.push(Holder { ask, lease: None, collected });
        }
    }
}
