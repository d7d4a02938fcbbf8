//! Workers that do not reach their store for longer than a lease, in virtual time.

use mainstay::core::lease::LeaseId;
use mainstay::testing::block_on_virtual;
use tokio::time::{Instant, sleep, timeout};

use super::*;

/// Which lease a handler had that was cut, and when.
type Cuts = mpsc::Sender<(LeaseId, Instant)>;

struct Cut(LeaseId, Cuts);
impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.1.try_send((self.0, Instant::now()));
    }
}

/// Workers whose handlers never end.
fn endless(cuts: Cuts, leases: mpsc::Sender<LeaseId>) -> impl FnOnce(Seen) -> Workers<Seen> {
    let handle = move |job: Note, cx: JobContext<Seen>| {
        let (cuts, leases) = (cuts.clone(), leases.clone());
        async move {
            let _cut = Cut(cx.lease(), cuts);
            leases.send(cx.lease()).await?;
            cx.began.send(job.0).await?;
            std::future::pending::<Result<(), JobError>>().await
        }
    };
    |seen| Workers::new("notes", seen).on(handle).concurrency(2).lease(secs(30))
}

#[test]
fn an_attempt_is_cut_before_another_can_begin_elsewhere_when_its_store_is_out_of_reach() {
    block_on_virtual(async {
        let (watched, store) = Watched::new(0, None);
        let ((cuts, mut cut), (leases, mut lease)) = (mpsc::channel(8), mpsc::channel(8));
        let id = add(&store, "1").await;
        // What others see of the store.
        let near = Client::new(watched.inner.clone());
        with_workers(store, &[], endless(cuts, leases), async |_, begins, _| {
            begins.recv().await.unwrap();
            let first = lease.recv().await.unwrap();
            // Renewed at 10 s, 20 s and so on.
            let began = Instant::now();
            sleep(secs(45)).await;
            let before = job(&near, id).await;
            assert_eq!(before.crashes, 0, "it was renewed");
            watched.cut_off.store(true, Ordering::SeqCst);
            let (whose, at) = timeout(secs(60), cut.recv()).await.expect("it is cut").unwrap();
            assert_eq!((whose, (at - began).as_secs()), (first, 70), "30 s after the renewal at 40 s");
            let theirs = before.lease_expires_at.expect("it runs");
            assert!(near.now().wall <= theirs, "nobody else can have had it");
            watched.cut_off.store(false, Ordering::SeqCst);
        })
        .await;
    });
}

#[test]
fn a_job_cut_for_an_unreachable_store_goes_back_unspent_if_its_lease_lived_on() {
    // As that of a server does, whose clock stands still while it is down.
    block_on_virtual(async {
        let (watched, store) = Watched::new(0, None);
        let ((cuts, mut cut), (leases, mut lease)) = (mpsc::channel(8), mpsc::channel(8));
        let id = add(&store, "1").await;
        let near = Client::new(watched.inner.clone());
        with_workers(store, &[], endless(cuts, leases), async |_, begins, _| {
            begins.recv().await.unwrap();
            watched.cut_off.store(true, Ordering::SeqCst);
            sleep(secs(25)).await;
            let lease = lease.recv().await.unwrap();
            let extend = Op::Extend { id, lease, extend_ms: 3_600_000, progress: None };
            near.apply(extend).await.unwrap();
            cut.recv().await.expect("it is cut");
            watched.cut_off.store(false, Ordering::SeqCst);
            begins.recv().await.expect("it begins again");
            let job = job(&near, id).await;
            assert_eq!((job.attempt, job.crashes), (1, 0), "{job:?}");
        })
        .await;
    });
}

#[test]
fn an_attempt_that_tells_of_its_progress_is_not_cut_while_that_is_answered() {
    block_on_virtual(async {
        let (watched, store) = Watched::new(0, None);
        let id = add(&store, "1").await;
        let tells = async |job: Note, cx: JobContext<Seen>| -> Result<(), JobError> {
            cx.began.send(job.0).await?;
            for n in 0..10 {
                sleep(secs(20)).await;
                cx.progress(&n).await?;
            }
            Ok(())
        };
        watched.no_renewals.store(true, Ordering::SeqCst);
        with_workers(
            store,
            &[],
            |seen| Workers::new("notes", seen).on(tells).lease(secs(30)),
            async |store, _, _| {
                let job = store.finished(id, secs(600), std::future::pending()).await.unwrap().unwrap();
                assert_eq!((job.state, job.attempt, job.crashes), (JobState::Completed, 1, 0));
            },
        )
        .await;
    });
}
