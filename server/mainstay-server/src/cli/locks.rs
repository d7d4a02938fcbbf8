//! `mainstay locks`.

use clap::{Args, Subcommand};
use mainstay_api::query::{LocksQuery, PageQuery};
use mainstay_api::types::LockView;

use super::jobs::{PageArgs, more};
use super::table::{Table, facts};
use super::words::{brief, clean, count, now, when};
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Locks {
    /// List the locks that are held
    List(List),
    /// Show who holds a lock and who waits for it
    Show {
        /// The lock
        lock: String,
    },
    /// Take a lock away from all who hold it; the next one gets it
    Break {
        /// The lock
        lock: String,
        /// Why, for the audit trail
        #[arg(long)]
        reason: Option<String>,
        /// Yes, really
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Which locks.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only names that begin with this
    #[arg(long)]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Locks {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        match self {
            Locks::List(List { prefix, page }) => {
                let page: PageQuery = page.query();
                let page = api.locks(&LocksQuery { prefix, page }).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() && page.next_cursor.is_none() {
                    session::note("no locks are held");
                    return Ok(());
                }
                session.answer(&page, || table(&page.items).render())?;
                more(&page, session);
                Ok(())
            }
            Locks::Show { lock } => {
                let view = api.lock(&lock).await.map_err(failed)?;
                session.answer(&view, || shown(&view))
            }
            Locks::Break { lock, reason, .. } => {
                api.break_lock(&lock, reason.as_deref()).await.map_err(failed)?;
                let done = serde_json::json!({ "name": lock, "broken": true });
                session.answer(&done, || format!("{lock} is taken away"))
            }
        }
    }
}

fn table(locks: &[LockView]) -> Table {
    let mut table = Table::new(&["LOCK", "MODE", "HELD BY", "#TOKEN", "ENDS", "#WAITING"]);
    for lock in locks {
        let (by, token, ends) = match lock.holders.as_slice() {
            [] => ("(delayed)".to_owned(), String::new(), String::new()),
            [first, others @ ..] => {
                let more = if others.is_empty() { String::new() } else { format!(" +{}", others.len()) };
                let by = format!("{}{more}", brief(&first.owner, 40));
                (by, first.token.to_string(), when(first.expires_at, now()))
            }
        };
        let mode = lock.mode.as_str().to_owned();
        table.row([lock.name.clone(), mode, by, token, ends, lock.waiters.len().to_string()]);
    }
    table
}

fn shown(lock: &LockView) -> String {
    let permits = lock.permits.map(|permits| count(u64::from(permits), "permit")).unwrap_or_default();
    let mut text = facts(&[
        ("lock", lock.name.clone()),
        ("mode", lock.mode.as_str().to_owned()),
        ("size", permits),
        ("waiting", lock.waiters.len().to_string()),
    ]);
    let mut table = Table::new(&["", "OWNER", "#TOKEN", "ENDS"]);
    for holder in &lock.holders {
        let cells = [holder.owner.clone(), holder.token.to_string(), when(holder.expires_at, now())];
        table.row(std::iter::once("holds".to_owned()).chain(cells));
    }
    for waiter in &lock.waiters {
        table.row([format!("waits {}", waiter.position), clean(&waiter.owner)]);
    }
    text.push('\n');
    text + &table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_a_row_and_a_page() {
        let lock: LockView = serde_json::from_str(
            r#"{"name":"report","mode":"shared","holders":[{"owner":"a","token":7,"expires_at":"1970-01-01T00:00:00Z"},
            {"owner":"b","token":8,"expires_at":"1970-01-01T00:00:00Z"}],"waiters":[{"owner":"c","position":1}]}"#,
        )
        .unwrap();
        let text = table(std::slice::from_ref(&lock)).render();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!((&row[..5], row[row.len() - 1]), (&["report", "shared", "a", "+1", "7"][..], "1"));
        let text = shown(&lock);
        assert!(text.contains("holds    b") && text.contains("waits 1  c"), "{text}");
    }
}
