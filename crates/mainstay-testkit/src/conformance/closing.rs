//! A closed store says so.

use std::time::Duration;

use mainstay_core::{
    Error, ErrorKind,
    error::Applied,
    op::Op,
    store::{Batch, Budget, Interest, Key, Page, Query},
};
use tokio::task::JoinSet;

use crate::world::{World, name};

pub(super) async fn a_closed_store_answers_closed(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let late = Batch::one(w.ops([Op::Enqueue(Box::new(w.job("q")))]));
    w.close().await;
    let store = w.store();
    let page = Page { limit: 1, cursor: None };
    let interest = [Interest::Queue(name("q"))];
    let errors: Vec<(&str, Option<Error>)> = vec![
        ("submit", store.submit(late).await.err()),
        ("get", store.get(&Key::Job(id)).await.err()),
        ("list", store.list(&Query::Queues, &page).await.err()),
        ("wait", store.wait(&interest, Duration::from_secs(1)).await.err()),
        ("maintain", store.maintain(Budget::default()).await.err()),
        ("now", store.now().await.err()),
        ("ping", store.ping().await.err()),
    ];
    for (call, error) in errors {
        let error = error.unwrap_or_else(|| panic!("{call} of a closed store succeeded"));
        assert_eq!((error.kind(), error.applied()), (ErrorKind::Closed, Applied::No), "{call}");
    }
}

pub(super) async fn closing_ends_every_wait(w: &mut World) {
    let mut waiters = JoinSet::new();
    for _ in 0..3 {
        let store = w.store().clone();
        waiters.spawn(async move {
            let interest = [Interest::Queue(name("q"))];
            store.wait(&interest, Duration::from_secs(1_000_000)).await.map(|_| ())
        });
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    w.close().await;
    while let Some(ended) = waiters.join_next().await {
        let error = ended.expect("a wait does not panic").expect_err("the store is closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}
