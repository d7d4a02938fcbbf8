//! Workers that have next to no time to stop, in virtual time.

use mainstay::tasks::TaskSet;
use mainstay::testing::block_on_virtual;
use tokio::time::advance;

use super::*;

#[test]
fn jobs_that_were_cut_go_back_although_another_holds_its_thread() {
    block_on_virtual(async {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let held = Arc::new(Mutex::new(Some(held)));
        let (begun, mut thread) = mpsc::channel(1);
        let holds = move |job: Note, cx: JobContext<Seen>| {
            let (held, begun) = (held.clone(), begun.clone());
            async move {
                let held = if job.0 == "holds" { held.lock().unwrap().take() } else { None };
                if let Some(held) = held {
                    let tasks = TaskSet::current().expect("an attempt is in a set");
                    begun.send(tasks.spawn_blocking("holds its thread", move || held.recv())).await?;
                }
                cx.began.send(job.0).await?;
                std::future::pending::<Result<(), JobError>>().await
            }
        };
        let store = Client::memory();
        let ids = [add(&store, "holds").await, add(&store, "waits").await];
        // Less than what those are given that hold their threads.
        let settings = [("drain_ms", 20), ("cancel_ms", 20), ("stop_ms", 100)];
        let workers = |seen| Workers::new("notes", seen).on(holds).concurrency(2);
        let work = with_workers(store.clone(), &settings, workers, async |_, begins, _| {
            begins.recv().await.unwrap();
            begins.recv().await.unwrap();
        });
        // While a thread is held, time goes on only by hand.
        let time = async {
            loop {
                advance(millis(1)).await;
            }
        };
        let ended = tokio::select! { ended = work => ended, () = time => unreachable!() };
        for id in ids {
            let job = job(&store, id).await;
            assert_eq!((job.state, job.attempt, job.crashes), (JobState::Available, 0, 0), "{ended:?}");
        }
        drop(release);
        assert!(thread.recv().await.expect("it began").await.expect("it ends").is_err());
    });
}
