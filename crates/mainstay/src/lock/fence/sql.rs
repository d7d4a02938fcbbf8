//! Fencing in the user's own database.
//!
//! Either a column beside the data, checked and raised by the statement that writes:
//!
//! ```
//! use mainstay::lock::fence::sql::{FenceColumn, Placeholders};
//!
//! let fence = FenceColumn::new("fence", Placeholders::Dollar)?;
//! let update = format!("update report set body = $1, {} where id = $2 and {}", fence.set(3), fence.condition(3));
//! assert_eq!(update, "update report set body = $1, fence = $3 where id = $2 and (fence is null or fence <= $3)");
//! // db.execute(&update, &[&body, &id, &guard.fence()?.value()]); no row: somebody else has the lock
//! # Ok::<_, mainstay::lock::fence::sql::InvalidColumn>(())
//! ```
//!
//! Or one [`TABLE`] for everything a lock protects, with a row a lock: [`advance`] is the first statement of the
//! transaction, and when it changes no row, the transaction is rolled back. The row stays locked until the end, so a later
//! holder waits for this transaction or makes it fail, whatever else it writes.

use std::fmt;

/// How a database writes the places of a statement's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placeholders {
    /// `$3`: PostgreSQL. (SQLite takes it for a name and counts places by their first appearance.)
    Dollar,
    /// `?3`: SQLite.
    Numbered,
    /// `?`: MySQL, SQLite. Values are given in the order of the places: the token once for each of
    /// [`FenceColumn::set`] and [`FenceColumn::condition`].
    Question,
    /// `@p3`: SQL Server.
    At,
}

impl Placeholders {
    fn at(self, place: u16) -> String {
        match self {
            Placeholders::Dollar => format!("${place}"),
            Placeholders::Numbered => format!("?{place}"),
            Placeholders::Question => "?".to_owned(),
            Placeholders::At => format!("@p{place}"),
        }
    }
}

/// A column (64-bit integer, null where nothing was written under a lock yet) that keeps the highest token a row was
/// written under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceColumn {
    name: String,
    placeholders: Placeholders,
}

impl FenceColumn {
    /// The column of this name, with or without its table's: `fence`, `report.fence`.
    ///
    /// # Errors
    /// A name that would have to be quoted: it becomes part of a statement.
    pub fn new(name: &str, placeholders: Placeholders) -> Result<FenceColumn, InvalidColumn> {
        let plain = |part: &str| {
            let mut letters = part.chars();
            letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
                && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if name.len() <= 128 && name.split('.').all(plain) {
            Ok(FenceColumn { name: name.to_owned(), placeholders })
        } else {
            Err(InvalidColumn(name.to_owned()))
        }
    }

    /// For the `set` of an `update`: the value at `place` (from 1) is the token. With the table's name taken off, which
    /// databases do not want there.
    pub fn set(&self, place: u16) -> String {
        let column = self.name.rsplit('.').next().unwrap_or(&self.name);
        format!("{column} = {}", self.placeholders.at(place))
    }

    /// For the `where` of an `update` or `delete`: true unless the row was written under a later grant. The value at
    /// `place` (from 1) is the token.
    pub fn condition(&self, place: u16) -> String {
        let column = &self.name;
        format!("({column} is null or {column} <= {})", self.placeholders.at(place))
    }
}

/// Makes the table for [`advance`], if it is not there.
pub const TABLE: &str = "create table if not exists mainstay_fences (\
    lock_name varchar(128) primary key, token bigint not null)";

/// The statement that lets a holder into a transaction: values are the lock's name and the token, and one row is
/// changed, or none if the token is stale. For PostgreSQL and SQLite.
pub fn advance(placeholders: Placeholders) -> String {
    let (name, token) = (placeholders.at(1), placeholders.at(2));
    format!(
        "insert into mainstay_fences (lock_name, token) values ({name}, {token}) on conflict (lock_name) do update set \
         token = excluded.token where mainstay_fences.token <= excluded.token"
    )
}

/// A column's name that cannot be part of a statement as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidColumn(String);

impl fmt::Display for InvalidColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no plain column name: letters, digits and _, perhaps after a table's and a dot",
            self.0
        )
    }
}

impl std::error::Error for InvalidColumn {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_gets_its_own_places() {
        for (placeholders, set, condition) in [
            (Placeholders::Dollar, "fence = $3", "(t.fence is null or t.fence <= $3)"),
            (Placeholders::Numbered, "fence = ?3", "(t.fence is null or t.fence <= ?3)"),
            (Placeholders::Question, "fence = ?", "(t.fence is null or t.fence <= ?)"),
            (Placeholders::At, "fence = @p3", "(t.fence is null or t.fence <= @p3)"),
        ] {
            let column = FenceColumn::new("t.fence", placeholders).unwrap();
            assert_eq!((column.set(3).as_str(), column.condition(3).as_str()), (set, condition));
        }
    }

    #[test]
    fn nothing_but_a_plain_name_becomes_part_of_a_statement() {
        for bad in ["", ".", "a.", "1a", "a b", "a;drop table x", "a\"b", "ä", &"a".repeat(129)] {
            let error = FenceColumn::new(bad, Placeholders::Question).unwrap_err();
            assert!(error.to_string().contains("column name"), "{bad}");
        }
    }
}
