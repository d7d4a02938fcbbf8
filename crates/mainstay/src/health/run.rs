//! Running checks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use super::state::State;
use super::{Check, CheckOptions, Health};
use crate::tasks::{TaskSet, panic_message};
use crate::time::human;
use crate::{Error, Result};

impl Health {
    /// Adds a check and spawns its loop: on `main`, or on `control` if the check may run there.
    ///
    /// # Errors
    /// Options that cannot be meant; a name that is taken.
    pub(crate) fn check(
        &self,
        name: String,
        options: CheckOptions,
        check: impl Check,
        main: &TaskSet,
        control: &TaskSet,
    ) -> Result<()> {
        if let Some(mistake) = options.mistake() {
            return Err(Error::config(format!("check `{name}`: {mistake}")));
        }
        let limit = options.limit;
        {
            let mut checks = self.checks();
            if checks.contains_key(&name) {
                return Err(Error::config(format!("there are two checks of the name `{name}`")));
            }
            checks.insert(name.clone(), State::new(options));
        }
        let tasks = if check.beside_the_runtime() { control } else { main };
        let looking = self.clone().look_for_ever(name.clone(), limit, Arc::new(check));
        tasks.spawn(format!("check {name}"), looking);
        Ok(())
    }

    async fn look_for_ever(self, name: String, limit: Duration, check: Arc<dyn Check>) {
        loop {
            let began = Instant::now();
            // A check may panic before its first await: the call itself is inside.
            let look = AssertUnwindSafe(async { check.look().await }).catch_unwind();
            let error = match timeout(limit, look).await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(error))) => Some(error.chain()),
                Ok(Err(panic)) => Some(format!("panicked: {}", panic_message(&*panic))),
                Err(_) => Some(format!("no answer within {}", human(limit))),
            };
            let next = self.record(&name, began.elapsed(), error);
            sleep(next).await;
        }
    }

    /// Takes a result in; answers the time until the next look.
    fn record(&self, name: &str, took: Duration, error: Option<String>) -> Duration {
        if error.is_some() {
            metrics::counter!("mainstay.health.check.failures", "check" => name.to_owned()).increment(1);
        }
        metrics::histogram!("mainstay.health.check.duration", "check" => name.to_owned())
            .record(took.as_secs_f64());
        let (news, next) = {
            let mut checks = self.checks();
            let Some(state) = checks.get_mut(name) else { return took };
            state.record(self.now(), took, error);
            (state.news(self.now()), state.interval())
        };
        say(name, news);
        next
    }
}

/// One line for each change.
pub(super) fn say(check: &str, news: Option<Result<(), String>>) {
    match news {
        Some(Ok(())) => tracing::info!(check, "up again"),
        Some(Err(error)) => tracing::warn!(check, error, "down"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::Weight;
    use super::*;
    use crate::shutdown::{Phase, Shutdown};
    use crate::{millis, secs};

    fn checked(shutdown: &Shutdown, options: impl Into<CheckOptions>, check: impl Check) -> Health {
        let health = Health::new(shutdown.clone());
        let tasks = TaskSet::current().unwrap();
        health.check("db".into(), options.into(), check, &tasks, &tasks).unwrap();
        health
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_check_is_cut_and_checked_less_often_while_down() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let health = checked(&Shutdown::new(), Weight::Critical, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<std::io::Result<()>>()
        });
        sleep(secs(60)).await;
        // Down from the first result: 0, 31 s, then 62 s.
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        let report = &health.report()["db"];
        assert_eq!(report.status, "down");
        assert!(report.error.as_deref().unwrap().contains("no answer"), "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_do_not_wait_for_each_other() {
        let shutdown = Shutdown::new();
        let health = checked(&shutdown, Weight::Critical, std::future::pending::<std::io::Result<()>>);
        let tasks = TaskSet::current().unwrap();
        for n in 0..20 {
            let pending = std::future::pending::<std::io::Result<()>>;
            health.check(format!("hangs {n}"), Weight::Degraded.into(), pending, &tasks, &tasks).unwrap();
        }
        health
            .check("well".into(), Weight::Critical.into(), || async { Ok::<_, Error>(()) }, &tasks, &tasks)
            .unwrap();
        sleep(millis(1001)).await;
        let report = health.report();
        assert_eq!(report["well"].status, "up");
        assert_eq!(report.values().filter(|check| check.error.is_some()).count(), 21, "all in one second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_has_failed_and_is_asked_again() {
        for early in [true, false] {
            let calls = Arc::new(AtomicU32::new(0));
            let counted = calls.clone();
            let health = checked(&Shutdown::new(), CheckOptions::critical().successes(1), move || {
                let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
                assert!(!(first && early), "no luck");
                async move {
                    assert!(!first, "no luck");
                    Ok::<_, Error>(())
                }
            });
            sleep(millis(1)).await;
            let error = health.report()["db"].error.clone().unwrap();
            assert!(error.contains("panicked: no luck"), "{error}");
            sleep(secs(31)).await;
            assert_eq!(health.report()["db"].status, "up", "early: {early}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_critical_check_makes_the_service_unready() {
        for (weight, ready) in [(Weight::Degraded, true), (Weight::Critical, false)] {
            let shutdown = Shutdown::new();
            let health = checked(&shutdown, weight, || async { Err::<(), _>("refused") });
            assert!(health.ready().is_err());
            shutdown.advance(Phase::Running);
            sleep(millis(10)).await;
            assert_eq!(health.ready().is_ok(), ready);
        }
    }

    #[tokio::test]
    async fn options_that_cannot_be_meant_and_names_that_are_taken_are_refused() {
        let tasks = TaskSet::current().unwrap();
        let health = Health::new(Shutdown::new());
        let fine = || async { Ok::<_, Error>(()) };
        for (options, word) in [
            (CheckOptions::critical().every(Duration::ZERO), "`every`"),
            (CheckOptions::critical().within(Duration::ZERO), "`within`"),
            (CheckOptions::critical().failures(0), "`failures`"),
            (CheckOptions::critical().successes(0), "`successes`"),
        ] {
            let error = health.check("db".into(), options, fine, &tasks, &tasks).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        health.check("db".into(), CheckOptions::critical(), fine, &tasks, &tasks).unwrap();
        assert!(health.check("db".into(), CheckOptions::critical(), fine, &tasks, &tasks).is_err());
    }
}
