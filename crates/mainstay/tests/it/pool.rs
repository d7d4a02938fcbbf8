//! Worker pools, on virtual time but where a thread is held.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::time::Duration;

use mainstay::pool::{PoolContext, PoolError, PoolJob, Work, WorkerPool};
use mainstay::queue::{Overflow, Refused};
use mainstay::scale::{Reason, Rules};
use mainstay::{Context, JobError, Policy, millis, secs};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// What a job of these tests does.
#[derive(Clone, Debug, PartialEq)]
enum Do {
    Give(u32),
    Take(Duration),
    Fail,
    Panic,
    Hang,
    Never,
    Snooze,
    Cancel,
}

async fn handle(job: Do, cx: PoolContext) -> Result<u32, JobError> {
    match job {
        Do::Give(value) => Ok(value),
        Do::Take(time) => {
            sleep(time).await;
            Ok(cx.id() as u32)
        }
        Do::Fail => Err(JobError::permanent("no such file")),
        Do::Panic => panic!("boom"),
        Do::Hang => std::future::pending().await,
        Do::Never => {
            cx.cancelled().await;
            Err(JobError::retry("told to stop"))
        }
        Do::Snooze => Err(JobError::snooze(secs(60))),
        Do::Cancel => Err(JobError::cancel()),
    }
}

fn pool(workers: usize) -> mainstay::pool::PoolBuilder<Do, u32> {
    WorkerPool::build("test", handle).workers(workers)
}

#[tokio::test(start_paused = true)]
async fn every_way_a_job_can_end_is_told_and_what_went_wrong_is_a_dead_letter() {
    let pool = pool(2).time_limit(secs(5)).open().unwrap();
    let rows = [
        (Do::Give(7), Ok(7), false),
        (Do::Fail, Err(PoolError::Failed("no such file".into())), true),
        (Do::Panic, Err(PoolError::Panicked("boom".into())), true),
        (Do::Hang, Err(PoolError::TimedOut(secs(5))), true),
        (Do::Cancel, Err(PoolError::Cancelled), false),
    ];
    for (job, ended, dead) in rows {
        assert_eq!(pool.submit(job.clone()).await.unwrap().await, ended, "{job:?}");
        let letters = pool.take_dead();
        assert_eq!(letters.iter().map(|letter| &letter.job).eq([&job]), dead, "{job:?}: {letters:?}");
        assert!(letters.iter().all(|letter| Err(letter.error.clone()) == ended && !letter.stuck));
    }
    let report = pool.drain().await;
    assert_eq!((report.done, report.failed, report.is_complete()), (0, 0, true), "all was over before");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_job_and_not_its_worker() {
    let pool = pool(1).open().unwrap();
    let bad = pool.submit(Do::Panic).await.unwrap();
    let good = pool.submit(Do::Give(1)).await.unwrap();
    assert_eq!(bad.await, Err(PoolError::Panicked("boom".into())));
    assert_eq!(good.await, Ok(1));
    assert_eq!(pool.status().workers, 1);
}

#[tokio::test(start_paused = true)]
async fn urgent_jobs_go_first_and_equals_keep_their_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = order.clone();
    let pool = WorkerPool::build("order", move |name: &'static str, _cx| {
        seen.lock().unwrap().push(name);
        std::future::ready(Ok::<_, JobError>(()))
    });
    let pool = pool.open().unwrap();
    // Nothing runs before the first await: all wait side by side.
    for (name, priority) in [("a", 5), ("b", 5), ("last", 9), ("first", 0)] {
        drop(pool.job(name).priority(priority).try_submit().unwrap());
    }
    pool.idle().await;
    assert_eq!(*order.lock().unwrap(), ["first", "a", "b", "last"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_can_be_submitted_again_with_its_limit() {
    let broken = Arc::new(AtomicUsize::new(1));
    let count = broken.clone();
    let pool = WorkerPool::build("again", move |job: u32, _cx| {
        let broken = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if broken { Err(JobError::retry("disk full")) } else { Ok(job) } }
    });
    let pool = pool.dead_letters(2).open().unwrap();
    let job = pool.job(7).time_limit(secs(3)).submit().await.unwrap();
    let id = job.id();
    assert_eq!(job.await, Err(PoolError::Failed("disk full".into())));
    let again = pool.resubmit(id).await.expect("it is there").unwrap();
    assert_eq!(again.await, Ok(7));
    assert!(pool.dead().is_empty() && pool.resubmit(id).await.is_none());

    broken.store(5, Ordering::SeqCst);
    for job in 0..5 {
        drop(pool.submit(job).await.unwrap());
    }
    pool.idle().await;
    assert_eq!(
        pool.dead().iter().map(|letter| letter.job).collect::<Vec<_>>(),
        [3, 4],
        "the newest are kept"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_waits_refuses_or_drops_as_it_was_told() {
    for (overflow, kept) in
        [(Overflow::Reject, 1), (Overflow::DropNewest, 1), (Overflow::DropOldest, 2), (Overflow::Wait, 1)]
    {
        let pool = pool(1).queue(1).overflow(overflow).open().unwrap();
        let running = pool.submit(Do::Take(secs(1))).await.unwrap();
        tokio::task::yield_now().await;
        let first = pool.submit(Do::Give(1)).await.unwrap();
        let second = timeout(millis(10), pool.submit(Do::Give(2))).await;
        match overflow {
            Overflow::Reject => {
                let refused = second.unwrap().unwrap_err();
                assert_eq!((refused.reason(), refused.into_item()), (Refused::Full, Do::Give(2)));
                assert_eq!(first.await, Ok(1));
            }
            Overflow::DropNewest => {
                assert_eq!(second.unwrap().unwrap().await, Err(PoolError::Evicted));
                assert_eq!(first.await, Ok(1));
            }
            Overflow::DropOldest => {
                assert_eq!(first.await, Err(PoolError::Evicted));
                assert_eq!(second.unwrap().unwrap().await, Ok(kept));
            }
            _ => {
                second.expect_err("it waits");
                assert_eq!(first.await, Ok(1));
            }
        }
        running.await.unwrap();
        timeout(secs(1), pool.idle()).await.expect("nothing is counted that is not there");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_ends_at_once_if_it_waits_and_is_cut_if_it_ignores_it() {
    let pool = pool(1).grace(secs(2)).open().unwrap();
    let polite = pool.submit(Do::Never).await.unwrap();
    let deaf = pool.submit(Do::Hang).await.unwrap();
    let waiting = pool.submit(Do::Give(1)).await.unwrap();
    tokio::task::yield_now().await;
    waiting.cancel();
    assert_eq!(waiting.await, Err(PoolError::Cancelled));
    let began = Instant::now();
    polite.cancel();
    assert_eq!(polite.await, Err(PoolError::Cancelled), "what it says after it was told does not matter");
    assert_eq!(began.elapsed(), Duration::ZERO);
    tokio::task::yield_now().await;
    deaf.cancel();
    assert_eq!(deaf.await, Err(PoolError::Cancelled));
    assert_eq!(began.elapsed(), secs(2), "cut after its grace");
    pool.idle().await;
    assert!(pool.dead().is_empty(), "somebody wanted it so");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_caller_has_given_up_is_not_begun() {
    let pool = pool(1).open().unwrap();
    let slow = pool.submit(Do::Take(secs(10))).await.unwrap();
    let soon = Context::current().with_time_limit(secs(1));
    let late = soon.scope(pool.submit(Do::Give(1))).await.unwrap();
    let patient = pool.submit(Do::Give(2)).await.unwrap();
    assert_eq!(late.await, Err(PoolError::Expired));
    assert_eq!((slow.await, patient.await), (Ok(1), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_put_off_frees_its_worker_and_comes_back() {
    let pool = pool(1).queue(2).open().unwrap();
    let began = Instant::now();
    let off = pool.submit(Do::Snooze).await.unwrap();
    assert_eq!(pool.submit(Do::Give(1)).await.unwrap().await, Ok(1));
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for it");
    assert_eq!((pool.status().put_off, pool.status().busy), (1, 0));
    timeout(secs(59), pool.idle()).await.expect_err("it is still to come");
    off.cancel();
    assert_eq!(off.await, Err(PoolError::Cancelled), "it waits, so it ends at once");
    assert_eq!(pool.status().put_off, 0, "and its place is given up");
    timeout(Duration::from_millis(1), pool.idle()).await.expect("nobody waits for its time");
}

#[tokio::test(start_paused = true)]
async fn under_a_policy_a_job_is_retried_and_only_its_last_failure_counts() {
    let policy = Policy { idempotent: true, ..Policy::default() };
    let target = mainstay::policy::Target::new("disk", policy).unwrap();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = attempts.clone();
    let pool = WorkerPool::build("retries", move |good_at: u32, cx: PoolContext| {
        seen.lock().unwrap().push(cx.attempt());
        async move { if cx.attempt() == good_at { Ok(()) } else { Err(JobError::retry("not yet")) } }
    });
    let pool = pool.policy(target).open().unwrap();
    assert_eq!(pool.submit(3).await.unwrap().await, Ok(()));
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
    assert_eq!(pool.submit(9).await.unwrap().await, Err(PoolError::Failed("not yet".into())));
    assert_eq!(pool.dead().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn workers_come_with_the_backlog_and_go_when_they_have_been_idle() {
    let rules = Rules { idle: secs(10), ..Rules::between(1..=4) };
    let pool = WorkerPool::build("elastic", handle).rules(rules).open().unwrap();
    assert_eq!(pool.status().workers, 1);
    for _ in 0..40 {
        drop(pool.submit(Do::Take(millis(500))).await.unwrap());
    }
    sleep(secs(1)).await;
    let status = pool.status();
    assert_eq!((status.workers, status.reason), (4, Reason::Ceiling), "{status:?}");
    pool.idle().await;
    sleep(secs(5)).await;
    assert_eq!(pool.status().workers, 4, "not yet");
    sleep(secs(60)).await;
    let status = pool.status();
    assert_eq!(status.workers, 1, "{status:?}");
    assert_eq!(pool.submit(Do::Give(1)).await.unwrap().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_everything_and_takes_nothing_more() {
    let pool = pool(3).open().unwrap();
    let jobs: Vec<_> = (0..10).map(|_| pool.try_submit(Do::Take(secs(1))).unwrap()).collect();
    let began = Instant::now();
    let (report, refused) = tokio::join!(pool.drain(), async {
        tokio::task::yield_now().await;
        pool.submit(Do::Give(1)).await.map(drop).unwrap_err().reason()
    });
    assert_eq!(refused, Refused::Closed);
    assert_eq!((report.done, report.is_complete(), began.elapsed()), (10, true, secs(4)), "{report}");
    assert!(jobs.iter().all(|job| job.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn stopping_hands_back_what_was_not_begun_and_names_who_overstayed() {
    let pool = pool(1).grace(secs(2)).open().unwrap();
    let hanging = pool.submit(Do::Hang).await.unwrap();
    tokio::task::yield_now().await;
    let waiting = pool.submit(Do::Give(1)).await.unwrap();
    let urgent = pool.job(Do::Give(2)).priority(1).submit().await.unwrap();
    let began = Instant::now();
    let report = pool.stop(secs(5)).await;
    assert_eq!(report.left, [Do::Give(2), Do::Give(1)], "in the order of their turns");
    assert_eq!(report.overstayed.len(), 1);
    assert_eq!((report.overstayed[0].what.as_str(), report.overstayed[0].age), ("job 1", secs(5)));
    assert!(report.stuck.is_empty() && !report.is_complete(), "{report}");
    assert_eq!(began.elapsed(), secs(7));
    assert_eq!(hanging.await, Err(PoolError::Cancelled));
    for job in [waiting, urgent] {
        assert_eq!(job.await, Err(PoolError::Stopped));
    }
    assert!(report.to_string().contains("job 1 (5.0 s, pool test"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_nobody_holds_still_does_what_was_submitted() {
    let done = Arc::new(Semaphore::new(0));
    let count = done.clone();
    let pool = WorkerPool::build("dropped", move |_: u32, _cx| {
        let count = count.clone();
        async move {
            sleep(secs(1)).await;
            count.add_permits(1);
            Ok::<_, JobError>(())
        }
    });
    let pool = pool.open().unwrap();
    for job in 0..3 {
        drop(pool.submit(job).await.unwrap());
    }
    drop(pool);
    timeout(secs(10), done.acquire_many(3)).await.expect("all three").unwrap().forget();
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_is_given_up_leaves_nothing_behind() {
    let pool = pool(1).queue(1).open().unwrap();
    let gate = pool.submit(Do::Take(secs(5))).await.unwrap();
    tokio::task::yield_now().await;
    drop(pool.submit(Do::Give(1)).await.unwrap());
    timeout(secs(1), pool.submit(Do::Give(2))).await.expect_err("it waits for room");
    gate.await.unwrap();
    timeout(secs(1), pool.idle()).await.expect("only two were ever in it");
    let report = pool.drain().await;
    assert!(report.is_complete());
}

#[tokio::test(start_paused = true)]
async fn unlike_jobs_bring_their_own_code() {
    let pool = Work::<String>::pool("chores").workers(2).open().unwrap();
    let flaky = Arc::new(AtomicUsize::new(0));
    let tries = flaky.clone();
    let work = Work::new(move |cx| {
        let tries = tries.clone();
        async move {
            match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Err(JobError::retry("once")),
                _ => Ok(cx.pool().to_owned()),
            }
        }
    });
    let first = pool.submit(work).await.unwrap();
    let id = first.id();
    assert!(first.await.is_err());
    assert_eq!(pool.resubmit(id).await.unwrap().unwrap().await, Ok("chores".to_owned()));
}

/// Lets the one job of these tests go on whose thread it holds.
type Let = std::sync::mpsc::SyncSender<()>;

/// A pool whose job `true` holds its thread until it may go on.
fn blocking(workers: usize, grace: Duration) -> (WorkerPool<bool>, Let) {
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(8);
    let held = Arc::new(Mutex::new(held));
    let pool = WorkerPool::build("blocking", move |blocks: bool, _cx| {
        let held = held.clone();
        async move {
            if blocks {
                let _ = held.lock().unwrap().recv_timeout(secs(20));
            }
            Ok::<_, JobError>(())
        }
    });
    (pool.workers(workers).time_limit(millis(20)).grace(grace).open().unwrap(), let_go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_job_that_holds_its_thread_loses_its_slot_and_not_the_pool() {
    let (pool, let_go) = blocking(1, millis(20));
    let stuck = pool.submit(true).await.unwrap();
    let next = pool.submit(false).await.unwrap();
    assert_eq!(stuck.await, Err(PoolError::TimedOut(millis(20))), "its caller learns it while it blocks");
    assert_eq!(next.await, Ok(()), "another worker took its place");
    let status = pool.status();
    assert_eq!((status.workers, status.lost), (1, 1), "{status:?}");
    assert!(pool.dead()[0].stuck);
    let_go.send(()).unwrap();
    assert!(pool.drain().await.is_complete());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_slots_are_replaced_only_so_often() {
    let (pool, let_go) = blocking(1, millis(10));
    // The first loses the only slot, the second its replacement; a third would be one too many.
    let (one, two) = (pool.submit(true).await.unwrap(), pool.submit(true).await.unwrap());
    for job in [one, two] {
        assert_eq!(job.await, Err(PoolError::TimedOut(millis(20))));
    }
    let third = pool.submit(false).await.unwrap();
    assert_eq!(pool.status().workers, 0);
    // One thread is free again, and with it a worker.
    let_go.send(()).unwrap();
    assert_eq!(third.await, Ok(()));
    let_go.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn stopping_names_what_holds_its_thread() {
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(held));
    let begun = Arc::new(Semaphore::new(0));
    let begins = begun.clone();
    let pool = WorkerPool::build("stuck", move |_: (), _cx| {
        let (held, begins) = (held.clone(), begins.clone());
        async move {
            begins.add_permits(1);
            let _ = held.lock().unwrap().recv_timeout(secs(20));
            Ok::<_, JobError>(())
        }
    });
    let pool = pool.grace(millis(20)).open().unwrap();
    let job = pool.submit(()).await.unwrap();
    begun.acquire().await.unwrap().forget();
    let report = pool.stop(millis(1)).await;
    assert_eq!((report.overstayed.len(), report.left.len()), (1, 0), "{report}");
    assert_eq!(job.await, Err(PoolError::Cancelled));
    let_go.send(()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_beyond_the_bound_is_handed_back_by_a_stop() {
    let pool = pool(2).queue(1).open().unwrap();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(pool.submit(Do::Snooze).await.unwrap());
        sleep(secs(1)).await;
    }
    assert_eq!((pool.status().put_off, pool.status().busy), (3, 0));
    let report = pool.stop(Duration::ZERO).await;
    assert_eq!(report.left, [Do::Snooze, Do::Snooze, Do::Snooze], "{report}");
    for job in jobs {
        assert_eq!(timeout(secs(1), job).await.expect("nobody waits for ever"), Err(PoolError::Stopped));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_with_a_job_takes_others_once_that_is_cancelled() {
    let pool = pool(1).queue(1).open().unwrap();
    drop(pool.submit(Do::Snooze).await.unwrap());
    sleep(secs(1)).await;
    let beyond = pool.submit(Do::Snooze).await.unwrap();
    sleep(secs(1)).await;
    let next = pool.submit(Do::Give(1)).await.unwrap();
    sleep(secs(1)).await;
    assert!(!next.is_finished());
    beyond.cancel();
    assert_eq!(timeout(secs(1), next).await.expect("its turn comes"), Ok(1));
    assert_eq!(beyond.await, Err(PoolError::Cancelled));
    assert_eq!(pool.status().put_off, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_copy_panics_ends_and_its_worker_goes_on() {
    struct Fragile(bool);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!self.0, "torn");
            Fragile(self.0)
        }
    }
    let pool =
        WorkerPool::build("fragile", |_: Fragile, _cx| async { Ok::<_, JobError>(()) }).open().unwrap();
    let torn = pool.submit(Fragile(true)).await.unwrap();
    let ended = timeout(secs(5), torn).await.expect("it ends");
    assert_eq!(ended, Err(PoolError::Panicked("torn".into())));
    assert_eq!(pool.submit(Fragile(false)).await.unwrap().await, Ok(()));
    let report = timeout(secs(5), pool.drain()).await.expect("nothing is pending");
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_put_off_while_the_pool_stops_is_handed_back() {
    /// Woken in the middle of the stop: lets the job that runs be put off, and holds the stop up until it was.
    struct Midway {
        go: Arc<Semaphore>,
        pool: WorkerPool<bool>,
        runs: PoolJob<()>,
    }
    impl Wake for Midway {
        fn wake(self: Arc<Self>) {
            self.go.add_permits(1);
            for _ in 0..5_000 {
                if self.runs.is_finished() || self.pool.status().put_off > 0 {
                    return;
                }
                std::thread::sleep(millis(1));
            }
        }
    }
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (begins, goes) = (begun.clone(), go.clone());
    let pool = WorkerPool::build("stop", move |_: bool, _cx| {
        let (begins, goes) = (begins.clone(), goes.clone());
        async move {
            begins.add_permits(1);
            goes.acquire().await.unwrap().forget();
            Err::<(), _>(JobError::snooze(secs(3_600)))
        }
    });
    let pool = pool.open().unwrap();
    let runs = pool.submit(true).await.unwrap();
    begun.acquire().await.unwrap().forget();
    let mut waits = pool.submit(false).await.unwrap();
    let midway = Arc::new(Midway { go, pool: pool.clone(), runs });
    let waker = midway.clone().into();
    assert!(Pin::new(&mut waits).poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    let mut report = pool.stop(Duration::ZERO).await;
    report.left.sort();
    assert_eq!(report.left, [false, true], "{report}");
    assert!(midway.runs.is_finished());
}

mod in_a_service {
    use super::*;
    use mainstay::config::Loader;
    use mainstay::{App, Boot, Ended, Result};

    async fn run(
        boot: impl AsyncFnOnce(&mut Boot<()>) -> Result<()>,
        until: impl Future<Output = ()>,
    ) -> Ended {
        let loader = Loader::new("test")
            .variables::<String, String>([])
            .flag("admin_listen", "off", "test")
            .flag("lame_duck_ms", 0, "test")
            .flag("grace_ms", 10_000, "test");
        App::new("test").config(loader).run_until(boot, until).await
    }

    #[tokio::test(start_paused = true)]
    async fn everything_in_the_pool_is_done_in_the_drain_also_what_comes_late() {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let ended = run(
            async |b| {
                let pool = b.worker_pool(WorkerPool::build("mail", move |_: u32, _cx| {
                    let count = count.clone();
                    async move {
                        sleep(secs(1)).await;
                        count.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, JobError>(())
                    }
                }))?;
                let (late, tasks, shutdown) = (pool.clone(), b.tasks(), b.shutdown());
                drop(pool.submit(1).await.map_err(mainstay::Error::from_any)?);
                tasks.spawn("a request that ends in the drain", async move {
                    shutdown.draining().await;
                    sleep(secs(2)).await;
                    drop(late.submit(2).await.expect("the drain is not the end of the pool"));
                });
                Ok(())
            },
            std::future::ready(()),
        )
        .await;
        assert_eq!((ended.exit_code(), done.load(Ordering::SeqCst)), (0, 2), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_drain_is_over_no_job_begins() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let begins = begun.clone();
        let ended = run(
            async |b| {
                let pool = b.worker_pool(WorkerPool::build("mail", move |job: u32, cx: PoolContext| {
                    begins.lock().unwrap().push(job);
                    async move {
                        cx.cancelled().await;
                        Ok::<_, JobError>(())
                    }
                }))?;
                for job in 0..3 {
                    drop(pool.submit(job).await.map_err(mainstay::Error::from_any)?);
                }
                Ok(())
            },
            std::future::ready(()),
        )
        .await;
        assert_eq!(*begun.lock().unwrap(), [0], "{ended:?}");
        assert!(ended.cut.iter().any(|cut| cut.what == "2 jobs that wait"), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_overstays_the_drain_is_told_cut_and_named() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let ended = run(
            async |b| {
                let pool = b.worker_pool(WorkerPool::build("mail", move |_: u32, cx: PoolContext| {
                    let count = count.clone();
                    async move {
                        cx.cancelled().await;
                        count.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<Result<(), JobError>>().await
                    }
                }))?;
                for job in 0..2 {
                    drop(pool.submit(job).await.map_err(mainstay::Error::from_any)?);
                }
                Ok(())
            },
            std::future::ready(()),
        )
        .await;
        let cut: Vec<_> = ended.cut.iter().map(|cut| cut.what.as_str()).collect();
        assert_eq!((ended.exit_code(), told.load(Ordering::SeqCst)), (1, 1), "{ended:?}");
        assert_eq!(cut, ["job 1", "1 jobs that wait"], "{ended:?}");
    }
}
