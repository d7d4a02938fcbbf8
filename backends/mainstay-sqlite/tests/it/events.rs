//! What the embedded store promises of events beyond what every store does.

use mainstay_core::{
    event::{Event, EventOp, Position},
    op::Op,
};
use mainstay_testkit::world::{fetch_op, fetched, name, plain_group, publish_op, topic_name};

use crate::harness::{Place, Tell, close, figure};

const EVENTS: usize = 20;

#[tokio::test]
async fn a_group_that_is_behind_does_not_make_the_tables_follow_each_fetch() {
    let place = Place::new();
    let store = place.open_store();
    let (group, config) = (name("g"), Box::new(plain_group(&["t"])));
    store.ops([Op::Event(EventOp::PutGroup { group, config, start: Position::Earliest })]).await;
    let event = |n: usize| Event::new(&n.to_string(), &topic_name("t"), "{}");
    store.ops((0..EVENTS).map(|n| publish_op("t", event(n)))).await;
    close(&store).await;
    // What was published before is in the tables alone.
    let store = place.open_store();
    let before = figure(&store, "table_batches_total");
    for _ in 0..EVENTS {
        let reply = store.ops([fetch_op("g", 1)]).await.remove(0);
        assert!(fetched(reply)[0].event.is_some());
    }
    let batches = figure(&store, "table_batches_total") - before;
    assert!(batches < EVENTS as f64, "{batches} batches: one for each fetch");
    close(&store).await;
}
