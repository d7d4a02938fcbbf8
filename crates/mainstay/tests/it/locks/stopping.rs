//! A service that stops gives back what it holds.

use mainstay::{App, Boot, Result, config::Loader, core::store::Page, lock::Loss, secs};
use tokio::sync::oneshot;

fn app(grace_ms: u64) -> App<()> {
    let loader = Loader::new("test")
        .variables(Vec::<(String, String)>::new())
        .flag("admin_listen", "off", "test")
        .flag("lame_duck_ms", 0, "test")
        .flag("grace_ms", grace_ms, "test");
    App::new("test").config(loader)
}

/// The names of locks that a store still knows of.
async fn held(url: &str) -> Vec<String> {
    let store = mainstay::store::open(url).unwrap();
    let page = store.locks(None, Page { limit: 100, cursor: None }).await.unwrap();
    store.store().close(secs(5)).await.unwrap();
    let name = |record: &mainstay::core::store::Record| match record {
        mainstay::core::store::Record::Lock(lock) => lock.name.to_string(),
        other => panic!("{other:?}"),
    };
    page.items.iter().map(name).collect()
}

#[tokio::test]
async fn work_under_a_lock_is_told_when_its_time_is_up_and_the_lock_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("m.db").display());
    let (up, running) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let opened = url.clone();
    let boot = async move |b: &mut Boot<()>| -> Result<()> {
        let store = b.store(&opened).await?;
        b.tasks().spawn("work", async move {
            let guard = store.lock("job").unwrap().acquire().await.unwrap();
            let ignorant = store.lock("ignorant").unwrap().acquire().await.unwrap();
            up.send(()).unwrap();
            let lost = guard.run(std::future::pending::<()>()).await.unwrap_err();
            tell.send(lost.why()).unwrap();
            // This one does not listen, and is cut.
            std::future::pending::<()>().await;
            drop(ignorant);
        });
        Ok(())
    };
    let until = async { running.await.unwrap() };
    let ended = app(3_000).run_until(boot, until).await;
    assert_eq!(told.await, Ok(Loss::Stopping));
    assert!(ended.cut.iter().any(|cut| cut.what.contains("work")), "{ended:?}");
    assert_eq!(held(&url).await, Vec::<String>::new(), "the next does not wait for any TTL");
}

#[tokio::test]
async fn one_that_is_kept_to_the_end_is_given_back_before_the_store_closes() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("m.db").display());
    let (up, running) = oneshot::channel();
    let (keep, kept) = oneshot::channel();
    let opened = url.clone();
    let boot = async move |b: &mut Boot<()>| -> Result<()> {
        let store = b.store(&opened).await?;
        let guard = store.lock("leader").unwrap().acquire().await?;
        keep.send(guard).map_err(|_| "nobody keeps it")?;
        b.on_ready(async { up.send(()).map_err(|()| "nobody listens") });
        Ok(())
    };
    let ended = app(5_000).run_until(boot, async { running.await.unwrap() }).await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let guard = kept.await.unwrap();
    assert!(!guard.is_held());
    assert_eq!(held(&url).await, Vec::<String>::new());
}
