//! Rows of `calls` and `replies`: how they are written, and how others hear of them.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tokio_postgres::types::Type;

use crate::{
    fault::Trouble,
    link::{Link, Target},
    step::Param,
};

/// How many bytes go into one row, but for the last call of it.
const ROW_BYTES: usize = 4 << 20;
/// How soon to look for rows nobody told of: with notifications, without while something is under way, and without.
pub(super) const LOOK: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(3), Duration::from_millis(30)];

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::error!(%error, "a call or an answer of another process makes no sense"))
        .ok()
}

/// The first of these as a row, as many as fit, and at least one; and how many.
pub(super) fn pack<T: Serialize>(what: impl Iterator<Item = T>) -> (Vec<u8>, usize) {
    let (mut row, mut many) = (b"[".to_vec(), 0);
    for one in what {
        let text = serde_json::to_vec(&one).expect("calls have a JSON form");
        if many > 0 {
            if row.len() + text.len() > ROW_BYTES {
                break;
            }
            row.push(b',');
        }
        row.extend_from_slice(&text);
        many += 1;
    }
    row.push(b']');
    (row, many)
}

/// Writes a row.
pub(super) async fn put(link: &Link, table: &str, caller: &str, row: Vec<u8>) -> Result<(), Trouble> {
    let sql = format!("insert into {{s}}.{table} (caller, body) values ($1, $2)");
    let params = vec![Param::new(caller.to_owned(), Type::TEXT), Param::bytes(row)];
    link.query(&sql, params).await.map(drop)
}

/// Tells of it afterwards: never in one transaction, for commits with a notification wait for each other. If it cannot be
/// told, whoever is to hear of it looks by itself.
pub(super) async fn tell(link: &Link, table: &str) -> Result<(), Trouble> {
    let channel = Param::new(link.channel(table), Type::TEXT);
    match link.query("select pg_notify($1, '')", vec![channel]).await {
        Err(trouble @ Trouble::Lost(_)) => Err(trouble),
        Err(trouble) => {
            tracing::debug!(error = %trouble.error(), "a word of new rows could not be sent");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// A session that hears of new rows.
pub(super) struct Ears {
    target: Arc<Target>,
    told: Arc<Notify>,
    table: &'static str,
    link: Option<Link>,
}

impl Ears {
    pub(super) fn new(target: Arc<Target>, told: Arc<Notify>, table: &'static str) -> Ears {
        Ears { target, told, table, link: None }
    }

    /// Listens, if it may and does not yet.
    pub(super) async fn listen(&mut self) -> Result<(), Trouble> {
        if !self.target.options.listen || self.link.as_ref().is_some_and(|link| !link.is_closed()) {
            return Ok(());
        }
        let link = Link::open(&self.target, Some(self.told.clone())).await?;
        link.run(&format!("listen \"{}\"", link.channel(self.table))).await?;
        self.link = Some(link);
        Ok(())
    }

    pub(super) fn patience(&self, busy: bool) -> Duration {
        match &self.link {
            Some(_) => LOOK[0],
            None if busy => LOOK[1],
            None => LOOK[2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_as_many_as_fit_and_at_least_one() {
        let large = "x".repeat(ROW_BYTES);
        let all = [&*large, "a", "b"];
        let (row, many) = pack(all.iter());
        assert_eq!((parse::<Vec<String>>(&row).unwrap(), many), (vec![large.clone()], 1));
        let (row, many) = pack(all[1..].iter());
        assert_eq!((parse::<Vec<String>>(&row).unwrap(), many), (vec!["a".to_owned(), "b".to_owned()], 2));
    }
}
