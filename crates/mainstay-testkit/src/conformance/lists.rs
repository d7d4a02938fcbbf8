//! Lists: filters, order, pages.

use std::sync::Arc;

use mainstay_core::{
    ErrorKind, JobId,
    job::{JobBody, JobState, NewJob, Retry, When},
    op::Op,
    store::{DeadFilter, JobFilter, Page, Query},
};

use crate::world::{World, fail, jobs, name};

async fn found(w: &World, filter: JobFilter) -> Vec<JobId> {
    let all = jobs(w.list_by(&Query::Jobs(filter.clone()), 1_000).await);
    let paged = jobs(w.list_by(&Query::Jobs(filter), 2).await);
    assert_eq!(paged, all, "pages add up to the whole, each job once");
    all.into_iter().map(|job| job.id).collect()
}

fn of(queue: &str) -> JobFilter {
    JobFilter { queue: Some(name(queue)), ..JobFilter::default() }
}

fn in_state(state: JobState) -> JobFilter {
    JobFilter { state: Some(state), ..JobFilter::default() }
}

/// One job in each state that lasts, in the order of their ids.
async fn one_of_each(w: &World) -> Vec<(JobState, JobId)> {
    let completed = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    let dead = w.dead("q").await;
    let retryable = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(60_000))).await.expect("fail");
    let running = w.enqueue(w.job("q")).await;
    w.claim("q").await;
    let cancelled = w.enqueue(w.job("q")).await;
    w.op(Op::Cancel { id: cancelled }).await;
    let scheduled = w.enqueue(NewJob { run_at: Some(When::In(60_000)), ..w.job("q") }).await;
    let available = w.enqueue(w.job("q")).await;
    vec![
        (JobState::Completed, completed),
        (JobState::Dead, dead),
        (JobState::Retryable, retryable),
        (JobState::Running, running),
        (JobState::Cancelled, cancelled),
        (JobState::Scheduled, scheduled),
        (JobState::Available, available),
    ]
}

pub(super) async fn jobs_of_every_state_are_listed_newest_first(w: &mut World) {
    let mut expected: Vec<_> = one_of_each(w).await.into_iter().map(|(_, id)| id).collect();
    expected.reverse();
    assert_eq!(found(w, JobFilter::default()).await, expected);
    assert_eq!(found(w, of("q")).await, expected);
    for job in w.jobs(JobFilter::default()).await {
        assert_eq!(w.get(job.id).await, job, "a list shows what a look at the job shows");
    }
}

pub(super) async fn jobs_can_be_filtered_by_state(w: &mut World) {
    for (state, id) in one_of_each(w).await {
        assert_eq!(found(w, in_state(state)).await, [id], "{state:?}");
        assert_eq!(found(w, JobFilter { state: Some(state), ..of("q") }).await, [id], "{state:?}");
        assert_eq!(found(w, JobFilter { state: Some(state), ..of("other") }).await, [], "{state:?}");
    }
    assert_eq!(found(w, in_state(JobState::Blocked)).await, []);
    w.advance(60_000);
    w.maintain().await;
    assert_eq!(found(w, in_state(JobState::Available)).await.len(), 4, "states follow the time");
    assert_eq!(found(w, in_state(JobState::Running)).await, [], "its lease ran out");
    assert_eq!(found(w, in_state(JobState::Scheduled)).await, []);
    assert_eq!(found(w, in_state(JobState::Retryable)).await, []);
}

pub(super) async fn jobs_can_be_filtered_by_queue_kind_and_tag(w: &mut World) {
    let rows = [("a", "mail", "red"), ("a", "report", "red"), ("b", "mail", "red"), ("a", "mail", "blue")];
    let mut ids = vec![];
    for (queue, kind, tag) in rows {
        let tags = vec!["all".into(), tag.into()];
        let body = Arc::new(JobBody { tags, ..JobBody::new(kind, "null") });
        ids.push(w.enqueue(NewJob { body, ..w.job(queue) }).await);
    }
    w.op(Op::Cancel { id: ids[0] }).await;
    let kind = Some("mail".to_owned());
    let tag = Some("red".to_owned());
    assert_eq!(found(w, of("a")).await, [ids[3], ids[1], ids[0]]);
    assert_eq!(
        found(w, JobFilter { kind: kind.clone(), ..Default::default() }).await,
        [ids[3], ids[2], ids[0]]
    );
    assert_eq!(
        found(w, JobFilter { tag: tag.clone(), ..Default::default() }).await,
        [ids[2], ids[1], ids[0]]
    );
    assert_eq!(found(w, JobFilter { kind: kind.clone(), tag: tag.clone(), ..of("a") }).await, [ids[0]]);
    let cancelled = JobFilter { kind, tag, state: Some(JobState::Cancelled), ..of("a") };
    assert_eq!(found(w, cancelled).await, [ids[0]]);
    assert_eq!(found(w, JobFilter { kind: Some("mai".into()), ..Default::default() }).await, []);
    assert_eq!(found(w, of("unknown")).await, [], "a list of something unknown is empty");
}

pub(super) async fn every_job_is_on_one_page_exactly(w: &mut World) {
    let mut expected = vec![];
    for n in 0..25 {
        let id = w.enqueue(w.job(if n % 3 == 0 { "a" } else { "b" })).await;
        expected.push(id);
        if n % 4 == 0 {
            w.op(Op::Cancel { id }).await;
        }
        w.advance(n % 2);
    }
    expected.reverse();
    for limit in [1, 7, 25, 26] {
        let all = jobs(w.list_by(&Query::Jobs(JobFilter::default()), limit).await);
        assert_eq!(all.iter().map(|job| job.id).collect::<Vec<_>>(), expected, "pages of {limit}");
    }
}

pub(super) async fn paging_goes_on_while_jobs_come_and_go(w: &mut World) {
    let mut ids = vec![];
    for _ in 0..6 {
        ids.push(w.enqueue(w.job("q")).await);
    }
    let query = Query::Jobs(JobFilter::default());
    let first = w.store().list(&query, &Page { limit: 2, cursor: None }).await.expect("a page");
    let cursor = first.next.expect("there is more");
    assert_eq!(jobs(first.items).iter().map(|job| job.id).collect::<Vec<_>>(), [ids[5], ids[4]]);
    w.enqueue(w.job("q")).await;
    w.op(Op::Delete { id: ids[4] }).await;
    w.op(Op::Delete { id: ids[3] }).await;
    w.op(Op::Cancel { id: ids[2] }).await;
    let mut rest = vec![];
    let mut cursor = Some(cursor);
    while cursor.is_some() {
        let slice = w.store().list(&query, &Page { limit: 2, cursor }).await.expect("a page");
        rest.extend(jobs(slice.items).iter().map(|job| job.id));
        cursor = slice.next;
    }
    assert_eq!(rest, [ids[2], ids[1], ids[0]], "none is missed, none comes twice");
}

pub(super) async fn a_cursor_belongs_to_its_query(w: &mut World) {
    for _ in 0..3 {
        w.enqueue(w.job("q")).await;
        w.dead("q").await;
    }
    let page = Page { limit: 1, cursor: None };
    let slice = w.store().list(&Query::Jobs(JobFilter::default()), &page).await.expect("a page");
    let dead = DeadFilter { queue: name("q"), kind: None, error_type: None };
    let others =
        [Query::Jobs(of("q")), Query::Jobs(in_state(JobState::Available)), Query::Dead(dead), Query::Queues];
    for cursor in [slice.next.expect("there is more"), "nonsense".into(), String::new()] {
        for query in &others {
            let page = Page { limit: 1, cursor: Some(cursor.clone()) };
            let error = w.store().list(query, &page).await.expect_err("a cursor of another query");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{query:?}: {error}");
        }
    }
}
