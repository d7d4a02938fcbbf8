//! The memory store tidies up although nobody asks it to.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use mainstay_core::{
    JobId, QueueName, Store,
    memory::MemoryStore,
    op::Op,
    queue::{QueueConfig, Retention},
    store::Interest,
};
use mainstay_testkit::{Harness, ManualClock, World, async_trait, run_with};

struct ByItself(Arc<ManualClock>);

#[async_trait]
impl Harness for ByItself {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.0
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(self.0.clone()))
    }
}

async fn keep(w: &World, completed_count: u64) {
    let retention = Retention { completed_count, ..Retention::default() };
    w.configure("q", QueueConfig { retention, ..QueueConfig::default() }).await;
}

/// So many jobs come and are cancelled, in one commit.
async fn end(w: &World, count: usize) {
    let ops = (0..count).flat_map(|_| {
        let job = w.job("q");
        let id = job.id;
        [Op::Enqueue(Box::new(job)), Op::Cancel { id }]
    });
    w.commit(w.ops(ops)).await.expect("a commit within bounds");
}

/// The oldest and the newest job there is.
async fn ends(w: &World) -> (JobId, JobId) {
    let jobs = w.jobs(Default::default()).await;
    let ids = || jobs.iter().map(|job| job.id);
    (ids().min().expect("a job"), ids().max().expect("a job"))
}

async fn left(w: &World) -> usize {
    w.jobs(Default::default()).await.len()
}

#[test]
fn a_queue_in_memory_keeps_no_more_than_it_is_told() {
    run_with(ByItself(ManualClock::new()), async |w: &mut World| {
        keep(w, 10).await;
        // Time stands still: what is far too many goes without it.
        for _ in 0..20 {
            end(w, 500).await;
        }
        let many = left(w).await;
        assert!(many < 510 + 500, "{many}");
        w.advance(999);
        end(w, 3).await;
        assert!(left(w).await > 10);
        w.advance(1);
        assert_eq!(left(w).await, 10, "and the rest within a second");
    });
}

#[test]
fn what_is_old_in_memory_goes_a_piece_with_each_call() {
    run_with(ByItself(ManualClock::new()), async |w: &mut World| {
        end(w, 2_500).await;
        let (first, last) = ends(w).await;
        w.advance(86_400_000);
        assert!(w.try_get(first).await.is_none());
        assert!(w.try_get(last).await.is_some());
        assert!(w.try_get(last).await.is_none());
    });
}

#[test]
fn who_waits_on_a_memory_store_makes_it_go_on() {
    run_with(ByItself(ManualClock::new()), async |w: &mut World| {
        end(w, 4_500).await;
        let (_, last) = ends(w).await;
        let waiting = w.store().clone();
        let on = [Interest::Queue(QueueName::new("other").expect("a name"))];
        let mut waiting = pin!(waiting.wait(&on, Duration::from_secs(200_000)));
        let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(poll());
        w.advance(86_400_000);
        for _ in 0..4 {
            assert!(poll());
            w.advance(1);
        }
        // The last piece goes with this call itself.
        assert!(w.try_get(last).await.is_none());
    });
}
