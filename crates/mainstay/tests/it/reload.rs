//! SIGHUP: what can change does, and the rest is said.

use mainstay::config::Loader;
use mainstay::{App, Boot, Error, ErrorKind, Reload, Secret};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

use crate::harness::get;
use crate::process::Service;

#[tokio::test]
async fn a_hangup_reloads_the_file_applies_what_can_change_and_names_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.toml");
    std::fs::write(&file, "greeting = \"hello\"\nlog_level = \"warn\"\n").unwrap();
    let mut service = Service::spawn(&[("SERVICE_CONFIG", file.to_str().unwrap())]);
    let (api, _) = service.up().await;
    assert_eq!(get(api, "/greeting").await.body, "hello");

    std::fs::write(&file, "greeting = \"good evening\"\nlog_level = \"info\"\nmax_connections = 5\n")
        .unwrap();
    service.signal(Signal::HUP);
    service.logs("configuration reloaded").await;
    assert!(
        service.logged.contains(r#"applied="greeting log_level" needs_restart=max_connections"#),
        "{}",
        service.logged
    );
    assert_eq!(get(api, "/greeting").await.body, "good evening");
    service.logs("INFO request").await; // such lines are wanted now

    std::fs::write(&file, "greeting = 7\nmax_conections = 5\n").unwrap();
    service.signal(Signal::HUP);
    service.logs("cannot reload the configuration, nothing changed").await;
    assert!(
        service.logged.contains("greeting") && service.logged.contains("max_conections"),
        "{}",
        service.logged
    );
    assert_eq!(get(api, "/greeting").await.body, "good evening");

    // As at the start again: nothing is left that needs a restart.
    std::fs::write(&file, "greeting = \"good evening\"\nlog_level = \"info\"\n").unwrap();
    service.signal(Signal::HUP);
    service.logs("INFO configuration reloaded").await;
    service.signal(Signal::INT);
    assert_eq!(service.exit().await.code, Some(0));
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Config {
    password: Secret<String>,
    rate: u32,
    size: u32,
}

#[tokio::test(start_paused = true)]
async fn hooks_get_the_new_configuration_and_one_that_fails_or_hangs_applies_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.toml");
    std::fs::write(&file, "admin_listen = \"off\"\npassword = \"old\"\n").unwrap();
    let loader = Loader::<Config>::new("test").variables::<String, String>([]).file(&file);
    let app = App::new("test").config(loader);
    let (shutdown, seen) = (app.shutdown(), Arc::new(Mutex::new(Vec::new())));
    let (noted, reload) = (seen.clone(), Arc::new(Mutex::new(None::<Reload>)));
    let keep = reload.clone();
    let boot = async |b: &mut Boot<Config>| {
        let noted = noted.clone();
        b.on_reload("rate", move |config| {
            noted.lock().unwrap().push((config.rate, config.password.reveal().clone()));
            std::future::ready(())
        })
        .applies(["rate"]);
        b.on_reload("size", |_| async { Err("no room") }).applies(["size"]);
        b.on_reload("slow", |_| std::future::pending::<()>()).applies(["password"]);
        let reload = b.reload();
        let early = reload.now().await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Interrupted, "boot has just read it");
        *keep.lock().unwrap() = Some(reload);
        Ok::<_, Error>(())
    };
    let using = async {
        shutdown.reached(mainstay::shutdown::Phase::Running).await;
        let reload = reload.lock().unwrap().take().unwrap();
        std::fs::write(&file, "admin_listen = \"off\"\npassword = \"new\"\nrate = 5\nsize = 9\n").unwrap();
        let report = reload.now().await.unwrap();
        assert_eq!(report.applied, ["rate"]);
        assert_eq!(report.needs_restart, ["password", "size"], "a secret that changed counts, too");
        let failed: Vec<_> = report.failed.iter().map(|(hook, why)| format!("{hook}: {why}")).collect();
        assert_eq!(failed, ["size: no room", "slow: it did not end within 10.0 s"]);
        let again = reload.now().await.unwrap();
        assert_eq!((again.applied.len(), again.needs_restart), (0, report.needs_restart));
        reload
    };
    let (ended, reload) = tokio::join!(app.run_until(boot, std::future::pending()), async {
        let reload = using.await;
        shutdown.begin();
        reload
    });
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert_eq!(*seen.lock().unwrap(), [(5, "new".to_owned()), (5, "new".to_owned())]);
    assert_eq!(reload.now().await.unwrap_err().kind(), ErrorKind::Interrupted);
}
