//! Fencing in a user's own database.

use mainstay::{
    Client,
    lock::fence::{
        Fence,
        sql::{self, FenceColumn, Placeholders},
    },
    testing::block_on_virtual,
};
use rusqlite::{Connection, params};

/// The fences of two grants of one lock, the earlier first.
fn two_grants() -> (Fence, Fence) {
    block_on_virtual(async {
        let store = Client::memory();
        let first = store.lock("report").unwrap().acquire().await.unwrap();
        let earlier = first.fence().unwrap();
        first.release().await.unwrap();
        let second = store.lock("report").unwrap().acquire().await.unwrap();
        (earlier, second.fence().unwrap())
    })
}

#[test]
fn a_row_takes_no_write_of_an_earlier_holder() {
    let (earlier, later) = two_grants();
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("create table report (id integer primary key, body text, fence bigint); insert into report (id) values (1)")
        .unwrap();
    for placeholders in [Placeholders::Numbered, Placeholders::Question] {
        db.execute("update report set body = null, fence = null", []).unwrap();
        let fence = FenceColumn::new("fence", placeholders).unwrap();
        let (set, condition) = (fence.set(3), fence.condition(3));
        let (body, id) = if placeholders == Placeholders::Numbered { ("?1", "?2") } else { ("?", "?") };
        let update = format!("update report set body = {body}, {set} where id = {id} and {condition}");
        let write = |body: &str, by: &Fence| match placeholders {
            // In the order of the places, the token twice.
            Placeholders::Question => db.execute(&update, params![body, by.value(), 1, by.value()]),
            _ => db.execute(&update, params![body, 1, by.value()]),
        };
        assert_eq!(write("first", &earlier).unwrap(), 1);
        assert_eq!(write("first again", &earlier).unwrap(), 1);
        assert_eq!(write("second", &later).unwrap(), 1);
        assert_eq!(write("too late", &earlier).unwrap(), 0);
        let body: String = db.query_row("select body from report", [], |row| row.get(0)).unwrap();
        assert_eq!(body, "second");
    }
}

#[test]
fn a_transaction_of_an_earlier_holder_is_not_let_in() {
    let (earlier, later) = two_grants();
    let mut db = Connection::open_in_memory().unwrap();
    db.execute_batch(sql::TABLE).unwrap();
    let advance = sql::advance(Placeholders::Numbered);
    let mut enter = |by: &Fence| {
        let transaction = db.transaction().unwrap();
        let entered = transaction.execute(&advance, params![by.lock().as_str(), by.value()]).unwrap();
        transaction.commit().unwrap();
        entered
    };
    assert_eq!(
        [enter(&earlier), enter(&earlier), enter(&later), enter(&earlier), enter(&later)],
        [1, 1, 1, 0, 1]
    );
}
