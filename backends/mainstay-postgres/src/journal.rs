//! The journal: a row a group, by which it is durable. It stands in one of two tables; one is written, the other is emptied
//! as a whole when the tables have followed all of it, so that nothing of it is left for a vacuum, whoever holds a snapshot.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mainstay_core::{
    Error, ErrorKind, StoreTime,
    engine::change::{Change, Counters},
};
use mainstay_writer::{
    batch::Handed,
    codec::{decode, encode},
};

use crate::{
    fault::{Trouble, damaged},
    link::Link,
    rows::Cells,
    step::{Param, Step},
};

/// A row is no larger than half of what PostgreSQL takes in one message, so that the tables can follow it in one as well.
const MOST: usize = 1 << 29;
/// So much of the journal is read at once.
const PIECE: u64 = 16 << 20;

/// Where a group's row is: the table, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lsn: u64,
    pub(crate) table: usize,
}

/// Which table is written, and how much is in it: known to the writer and to whoever empties the other one.
pub(crate) struct Turns {
    written: AtomicUsize,
    bytes: AtomicU64,
    /// The other's turn comes after so much.
    limit: u64,
}

impl Turns {
    pub(crate) fn new(table: usize, limit: u64) -> Turns {
        Turns { written: AtomicUsize::new(table), bytes: AtomicU64::new(0), limit: limit.max(1) }
    }

    /// The table that is written.
    pub(crate) fn table(&self) -> usize {
        self.written.load(Ordering::Acquire)
    }

    /// So much has been written into a table. One whose turn was over meanwhile does not count: the other is emptied only
    /// when something stands in this one, by which the next group says what was before it.
    pub(crate) fn wrote(&self, table: usize, bytes: usize) {
        if table == self.table() {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// How many times the limit is in it.
    pub(crate) fn times(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) / self.limit
    }

    /// From the next group on, the other is written.
    pub(crate) fn turn(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.written.store(1 - self.table(), Ordering::Release);
    }
}

/// What a group did, as bytes.
///
/// # Errors
/// `Invalid`: it has what PostgreSQL cannot keep in the tables. Once it is in the journal, it would be in the way of
/// everything behind it.
pub(crate) fn record(changes: &[Change]) -> Result<Vec<u8>, Error> {
    let mut data = Vec::with_capacity(changes.len() * 128);
    for change in changes {
        is_storable(change)?;
        encode::change(&mut data, change);
    }
    if data.len() > MOST {
        let message = format!(
            "{} bytes are more than PostgreSQL takes at once ({MOST}): put large values elsewhere and store where",
            data.len()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(data)
}

/// An entry of an index has no more bytes than about this.
const MOST_OF_A_KEY: usize = 2_000;

/// Columns of text take everything but NUL; most keys have bounds of their own.
fn is_storable(change: &Change) -> Result<(), Error> {
    if let Change::Unique { key, .. } = change
        && key.len() > MOST_OF_A_KEY
    {
        let message = format!("a unique key of {} bytes is longer than PostgreSQL can keep", key.len());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let fits = match change {
        Change::JobPut { body: Some(body), .. } => !body.kind.contains('\0') && !body.payload.contains('\0'),
        Change::Result { result: text, .. } | Change::Progress { progress: text, .. } => !text.contains('\0'),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "PostgreSQL keeps no NUL characters in text: leave them out"))
}

/// Writes a group's row.
pub(crate) fn append(place: Place, epoch: u64, counters: &Counters, last_seq: u64, data: Vec<u8>) -> Step {
    let Counters { token, n, f, k, audit, clock } = *counters;
    let numbers = [place.lsn, epoch, token, n, f, k, audit, clock.0, last_seq];
    let mut params: Vec<_> = numbers.into_iter().map(Param::i64).collect();
    params.push(Param::bytes(data));
    let sql = format!(
        "insert into {{s}}.journal_{} (lsn, epoch, token, n, f, k, audit, clock, last_seq, data) \
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 where {{p}}",
        place.table
    );
    Step { sql, params, rows: Some(1) }
}

/// Where a group's row is, if it is there.
pub(crate) async fn find(link: &Link, lsn: u64) -> Result<Option<Place>, Error> {
    let sql =
        "select 0 from {s}.journal_0 where lsn = $1 union all select 1 from {s}.journal_1 where lsn = $1";
    let rows = link.query(sql, vec![Param::i64(lsn)]).await.map_err(Trouble::error)?;
    Ok(rows.first().map(|row| Place { lsn, table: row.get::<_, i32>(0) as usize }))
}

/// Some groups behind one, in order; none: there are no others.
///
/// # Errors
/// `Untrusted`: one is missing, or makes no sense.
pub(crate) async fn behind(link: &Link, lsn: u64) -> Result<Vec<Handed>, Error> {
    let sql = "select lsn, token, n, f, k, audit, clock, data from ( \
                 select *, sum(length(data)) over (order by lsn) - length(data) as before from {s}.journal where lsn > $1 \
               ) groups where before < $2 order by lsn limit 1000";
    let rows = link.query(sql, vec![Param::i64(lsn), Param::i64(PIECE)]).await.map_err(Trouble::error)?;
    let (mut groups, mut last) = (Vec::with_capacity(rows.len()), lsn);
    for row in &rows {
        let cells = Cells { table: "journal", row };
        let lsn = cells.u64(0)?;
        if lsn != last + 1 {
            return Err(damaged("table journal", &format!("group {} is missing", last + 1)));
        }
        last = lsn;
        let counters = counters(cells, 1)?;
        let data: &[u8] = cells.get(7)?;
        let changes = decode::changes(data).map_err(|what| cells.bad(7, what))?;
        let bytes = data.len() + changes.len() * size_of::<Change>();
        groups.push(Handed { lsn, counters, changes, bytes, growth: 0 });
    }
    Ok(groups)
}

/// The counters in the columns from `i` on.
pub(crate) fn counters(cells: Cells<'_>, i: usize) -> Result<Counters, Error> {
    Ok(Counters {
        token: cells.u64(i)?,
        n: cells.u64(i + 1)?,
        f: cells.u64(i + 2)?,
        k: cells.u64(i + 3)?,
        audit: cells.u64(i + 4)?,
        clock: StoreTime(cells.u64(i + 5)?),
    })
}

/// Empties a table of the journal, if that can be done at once and the tables have all of it. The row of this step counts:
/// without, they have not.
pub(crate) fn clear(table: usize) -> Step {
    let sql = "select 1 where case when {p} then {s}.clear_journal($1) else false end".to_owned();
    Step { sql, params: vec![Param::i32(table as u32)], rows: Some(1) }
}

/// Deletes what the tables have, row by row: while somebody has a lock on the table that keeps it from being emptied.
pub(crate) fn delete(table: usize) -> Step {
    let sql = format!(
        "delete from {{s}}.journal_{table} where lsn <= (select lsn from {{s}}.reached) and {{p}} \
         and not exists (select 1 from {{s}}.journal_{table} where lsn > (select lsn from {{s}}.reached))"
    );
    Step { sql, params: vec![], rows: None }
}
