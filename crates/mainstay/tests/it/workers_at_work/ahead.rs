//! What was claimed before there was a slot for it.

use super::*;

async fn tell_and_wait(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
    let _ = cx.began.send(job.0).await;
    cx.go_on.acquire().await.unwrap().forget();
    Ok(())
}

/// And room for four ahead.
fn one_slot(seen: Seen) -> Workers<Seen> {
    Workers::new("notes", seen).on(tell_and_wait).concurrency(1).prefetch(4)
}

/// Of four jobs the first has ended, the second runs, and the others wait ahead.
async fn have_two_ahead(gate: &Semaphore, begins: &mut mpsc::Receiver<String>, seen: &Seen) {
    gate.add_permits(1);
    assert_eq!(begins.recv().await.unwrap(), "1", "nothing has ended yet, so nothing is claimed ahead");
    seen.go_on.add_permits(1);
    gate.add_permits(1);
    assert_eq!(begins.recv().await.unwrap(), "2");
}

async fn add_four(store: &Client) -> Vec<JobId> {
    let mut ids = Vec::new();
    for text in ["1", "2", "3", "4"] {
        ids.push(add(store, text).await);
    }
    ids
}

#[tokio::test]
async fn jobs_claimed_ahead_begin_while_the_store_is_busy() {
    let gate = Arc::new(Semaphore::new(0));
    let (_, store) = Watched::new(0, Some(gate.clone()));
    let ids = add_four(&store).await;
    let ended = with_workers(store.clone(), &[], one_slot, async |store, begins, seen| {
        have_two_ahead(&gate, begins, seen).await;
        for next in ["3", "4"] {
            seen.go_on.add_permits(1);
            let began = tokio::time::timeout(secs(20), begins.recv()).await;
            assert_eq!(began.expect("it began without an answer of the store").unwrap(), next);
        }
        gate.add_permits(100);
        seen.go_on.add_permits(1);
        for id in ids {
            let job = settled(store, id).await;
            assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
        }
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn what_was_claimed_ahead_goes_back_unspent_when_the_drain_begins() {
    let gate = Arc::new(Semaphore::new(0));
    let (_, store) = Watched::new(0, Some(gate.clone()));
    let ids = add_four(&store).await;
    let ended = with_workers(store.clone(), &[], one_slot, async |_, begins, seen| {
        have_two_ahead(&gate, begins, seen).await;
        let go_on = seen.go_on.clone();
        #[expect(clippy::disallowed_methods, reason = "it outlives the closure, and ends by itself")]
        tokio::task::spawn(async move {
            tokio::task::yield_now().await;
            go_on.add_permits(1);
        });
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let mut found = Vec::new();
    for id in ids {
        let job = job(&store, id).await;
        found.push((job.state, job.attempt));
    }
    let (done, back) = ((JobState::Completed, 1), (JobState::Available, 0));
    assert_eq!(found, [done, done, back, back]);
}

#[cfg(feature = "testing")]
#[test]
fn what_waits_ahead_for_a_third_of_the_lease_goes_back_and_is_not_taken_again() {
    mainstay::testing::block_on_virtual(async {
        let gate = Arc::new(Semaphore::new(0));
        let (watched, store) = Watched::new(0, Some(gate.clone()));
        let ids = add_four(&store).await;
        with_workers(
            store,
            &[],
            |seen| one_slot(seen).lease(secs(3)),
            async |store, begins, seen| {
                have_two_ahead(&gate, begins, seen).await;
                gate.add_permits(100);
                tokio::time::sleep(millis(1_500)).await;
                let claims = watched.asked.available_permits();
                tokio::time::sleep(secs(20)).await;
                for id in &ids[2..] {
                    let job = job(store, *id).await;
                    assert_eq!((job.state, job.attempt), (JobState::Available, 0));
                }
                assert_eq!(watched.asked.available_permits(), claims, "it asks for none");
                // The slot is free again.
                seen.go_on.add_permits(3);
                for id in ids {
                    assert_eq!(settled(store, id).await.state, JobState::Completed);
                }
            },
        )
        .await;
    });
}
