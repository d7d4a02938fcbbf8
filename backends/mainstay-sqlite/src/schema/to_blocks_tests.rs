//! A file of the format before blocks.

use mainstay_core::{TopicName, event::EventData};
use rusqlite::params;

use super::*;
use crate::{
    connection,
    row::{LOGGED, logged},
    schema::{STEPS, VERSION, migrate},
};

const BEFORE: usize = 8;
const EVENTS: u64 = 9_000;
const TOPICS: u64 = 3;

fn event_of(seq: u64) -> Event {
    let topic = TopicName::new("t").unwrap();
    let mut event = Event::new(&format!("id {seq}"), &topic, "{\"n\":1}");
    match seq % 3 {
        0 => event.data = EventData::None,
        1 => event.data = EventData::Binary(vec![seq as u8; 300].into()),
        _ => event.extensions = vec![("ext".into(), "\"1\"".into())],
    }
    event
}

/// As the build before wrote it.
fn old(conn: &Connection) {
    for (step, to) in STEPS[..BEFORE].iter().zip(1..) {
        step.take(conn, Path::new("a test"), to).unwrap();
    }
    for id in 0..TOPICS {
        conn.execute("INSERT INTO topic VALUES (?1, 't' || ?1, 0, 0, '{}')", [id as i64]).unwrap();
    }
    let sql = "INSERT INTO event (seq, topic, size, ord, total, at, key, id, source, type, extensions, data) \
               VALUES (?1, ?2, 10, ?3, ?4, ?5, ?6, ?7, '/mainstay', 't', ?8, ?9)";
    let mut insert = conn.prepare(sql).unwrap();
    conn.execute_batch("BEGIN").unwrap();
    for seq in 1..=EVENTS {
        let (topic, ord) = (seq % TOPICS, seq / TOPICS + 1);
        let extensions = (seq % 3 == 2).then_some("[[\"ext\",\"1\"]]");
        let row =
            (seq as i64, topic as i64, ord as i64, 10 * ord as i64, seq as i64, -1, format!("id {seq}"));
        let row = params![row.0, row.1, row.2, row.3, row.4, row.5, row.6, extensions, rusqlite::types::Null];
        insert.execute(row).unwrap();
        match event_of(seq).data {
            EventData::None => 0,
            EventData::Json(text) => conn
                .execute("UPDATE event SET data = ?2 WHERE seq = ?1", params![seq as i64, &*text])
                .unwrap(),
            EventData::Binary(bytes) => conn
                .execute("UPDATE event SET data = ?2 WHERE seq = ?1", params![seq as i64, &*bytes])
                .unwrap(),
        };
        if seq % 4 == 0 {
            let row = params![seq as i64, topic as i64, seq as i64, [seq as u8; 16]];
            conn.execute("INSERT INTO event_dedup VALUES (?1, ?2, ?3, ?4)", row).unwrap();
        }
    }
    conn.execute_batch("COMMIT").unwrap();
}

#[test]
fn a_store_with_rows_of_single_events_has_them_in_blocks_when_it_is_opened() {
    let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
    old(&conn);
    let pages = |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap();
    let before = pages("PRAGMA page_count");
    migrate(&conn, path).unwrap();
    assert_eq!(pages("PRAGMA user_version"), i64::from(VERSION));
    connection::check(&conn, path).unwrap();
    let blocks = pages("SELECT count(*) FROM event_block");
    assert!(blocks < EVENTS as i64 / 100, "{blocks} blocks");
    let grown = pages("PRAGMA page_count") - before;
    assert!(grown < before / 2, "{grown} pages more than {before}");
    let mut find = conn.prepare(LOGGED).unwrap();
    for seq in (1..=EVENTS).step_by(7) {
        let topic = TopicName::new(&format!("t{}", seq % TOPICS)).unwrap();
        let block = logged(&mut find, path, &topic, seq).unwrap().unwrap().unwrap();
        let at = block.find(seq).unwrap();
        let (meta, ord) = (block.metas[at], seq / TOPICS + 1);
        assert_eq!((meta.ord, meta.total, meta.at.0, meta.key), (ord, 10 * ord, seq as i64, u64::MAX));
        assert_eq!(*block.event(at, None).unwrap(), event_of(seq));
    }
    let mut ids = conn.prepare("SELECT first, ids FROM event_ids ORDER BY first").unwrap();
    let ids =
        ids.query_map([], |row| Ok(Cells { path, table: "event_ids", row }.known_ids().unwrap())).unwrap();
    let ids: Vec<_> = ids.flat_map(Result::unwrap).collect();
    assert!(ids.iter().map(|known| known.0).eq((1..=EVENTS).filter(|seq| seq % 4 == 0)));
    assert!(ids.iter().all(|(seq, topic, at, key)| {
        (u64::from(topic.0), at.0, key.0) == (seq % TOPICS, *seq as i64, [*seq as u8; 16])
    }));
}
