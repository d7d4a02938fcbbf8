//! Waiting until looking again may be worth it.

use std::time::Duration;

use mainstay_api::{
    Code,
    client::HttpClient,
    types::{WaitFor, WaitLock, WaitLog},
};
use mainstay_core::{Error, event::EventInterest, lock::LockInterest, name::Name, store::Interest};

use super::{BLIND_WAIT, LONGEST_WAIT, convert, events, fault, locks, tickets::Tickets};
use crate::job::ms;

/// Whether something has happened. All but tickets are one call of their own; a ticket waits by its acquire.
pub(super) async fn wait(
    client: &HttpClient,
    tickets: &Tickets,
    on: &[Interest],
    at_most: Duration,
) -> Result<bool, Error> {
    let at_most = at_most.min(LONGEST_WAIT);
    let (wanted, mut waiting_for) = wanted(on, at_most);
    match waiting_for.pop() {
        None => looked(client, &wanted, at_most).await,
        // Whoever waits for a lock waits for one, and for nothing else; should it be more, they are looked at again soon.
        Some((name, scope)) if waiting_for.is_empty() && on.len() == 1 => {
            locks::wait(client, tickets, &name, scope, at_most).await
        }
        Some((name, scope)) => {
            let at_most = at_most.min(BLIND_WAIT);
            tokio::select! {
                woken = locks::wait(client, tickets, &name, scope, at_most) => woken,
                () = tokio::time::sleep(at_most) => Ok(false),
            }
        }
    }
}

fn wanted(on: &[Interest], at_most: Duration) -> (WaitFor, Vec<(Name, [u8; 16])>) {
    let mut wanted = WaitFor { wait_ms: ms(at_most), ..WaitFor::default() };
    let mut tickets = Vec::new();
    for interest in on {
        match interest {
            Interest::Queue(queue) => wanted.queues.push(queue.to_string()),
            Interest::Finished(id) => wanted.finished.push(convert::wire_id(*id)),
            Interest::CancelRequested(id) => wanted.cancel_requested.push(convert::wire_id(*id)),
            Interest::Event(EventInterest::Group(group)) => wanted.groups.push(group.to_string()),
            Interest::Event(EventInterest::Log { filters, from }) => {
                wanted.logs.push(WaitLog { topics: events::texts(filters), from: *from });
            }
            Interest::Lock(LockInterest::Changed { name, seen }) => {
                wanted.locks.push(WaitLock { name: name.to_string(), seen: seen.map(|token| token.0) });
            }
            Interest::Lock(LockInterest::Granted { name, scope }) => tickets.push((name.clone(), *scope)),
            Interest::Schedules => wanted.schedules = true,
        }
    }
    (wanted, tickets)
}

async fn looked(client: &HttpClient, wanted: &WaitFor, at_most: Duration) -> Result<bool, Error> {
    let began = tokio::time::Instant::now();
    match client.wait(wanted).await {
        Ok(waited) if waited.woken => Ok(true),
        // One that drains waits for nothing; who came back at once would only come again.
        Ok(_) => {
            tokio::time::sleep(at_most.saturating_sub(began.elapsed()).min(BLIND_WAIT)).await;
            Ok(false)
        }
        // Of a version that does not have it, or not all of it: looking again is what a wait is for.
        Err(error) if matches!(error.code(), Some(Code::NotFound | Code::ValidationFailed)) => {
            tokio::time::sleep(at_most.min(BLIND_WAIT)).await;
            Ok(false)
        }
        Err(error) => Err(fault::trouble(&error)),
    }
}
