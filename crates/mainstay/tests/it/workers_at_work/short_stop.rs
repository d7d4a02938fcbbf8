//! Workers that have next to no time to stop.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jobs_that_were_cut_go_back_although_another_holds_its_thread() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(Some(held)));
    let holds = move |job: Note, cx: JobContext<Seen>| {
        let held = held.clone();
        async move {
            let holds = job.0 == "holds";
            cx.began.send(job.0).await?;
            if holds && let Some(held) = held.lock().unwrap().take() {
                let _ = held.recv();
            }
            std::future::pending::<Result<(), JobError>>().await
        }
    };
    let store = Client::memory();
    add(&store, "holds").await;
    let cut = add(&store, "waits").await;
    // Less than what those are given that hold their threads.
    let settings = [("drain_ms", 20), ("cancel_ms", 20), ("stop_ms", 190)];
    let workers = |seen| Workers::new("notes", seen).on(holds).concurrency(2);
    let ended = with_workers(store.clone(), &settings, workers, async |_, begins, _| {
        begins.recv().await.unwrap();
        begins.recv().await.unwrap();
    })
    .await;
    let job = job(&store, cut).await;
    assert_eq!((job.state, job.attempt, job.crashes), (JobState::Available, 0, 0), "{ended:?}");
    drop(release);
}
