//! Targets by name, and new rules at run time.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex};

use mainstay::policy::{BreakerRules, BreakerState, Event, Policies, Policy, Retry};

use super::{plain, transient};

fn named(name: &str, policy: Policy) -> std::collections::BTreeMap<String, Policy> {
    [(name.to_owned(), policy)].into()
}

#[tokio::test(start_paused = true)]
async fn all_who_name_a_target_share_its_state() {
    let breaker = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
    let policies = Policies::new(named("smtp", Policy { breaker, ..plain() })).unwrap();
    let _ = policies.target("smtp").run(|_| ready(Err::<(), _>(transient()))).await;
    assert_eq!(policies.clone().target("smtp").breaker(), BreakerState::Open);
    assert_eq!(policies.target("sms").breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn new_rules_keep_the_state() {
    let breaker = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
    let policies = Policies::new(named("smtp", Policy { breaker, ..plain() })).unwrap();
    let smtp = policies.target("smtp");
    let _ = smtp.run(|_| ready(Err::<(), _>(transient()))).await;
    let left = smtp.budget_left();
    policies.reload(named("smtp", Policy { total_ms: 20_000, breaker, ..plain() })).unwrap();
    assert_eq!(smtp.policy().total_ms, 20_000);
    assert_eq!(smtp.breaker(), BreakerState::Open);
    assert_eq!(smtp.budget_left(), left);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_turned_off_while_it_is_open_is_told_to_be_closed() {
    let breaker = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
    let policies = Policies::new(named("smtp", Policy { breaker, ..plain() })).unwrap();
    let (seen, registry) = (Arc::new(Mutex::new(Vec::new())), policies.clone());
    let states = seen.clone();
    policies.watch(move |name, event| {
        if let Event::Breaker { to } = event {
            // A watcher may look at the targets.
            states.lock().unwrap().push((to, registry.target(name).breaker()));
        }
    });
    let smtp = policies.target("smtp");
    let _ = smtp.run(|_| ready(Err::<(), _>(transient()))).await;
    policies.reload(named("smtp", plain())).unwrap();
    let both = |state| (state, state);
    assert_eq!(*seen.lock().unwrap(), [both(BreakerState::Open), both(BreakerState::Closed)]);
    policies.reload(named("smtp", plain())).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2, "nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn wrong_rules_change_nothing_and_are_all_named() {
    let policies = Policies::new(named("smtp", plain())).unwrap();
    let smtp = policies.target("smtp");
    let bad = Policy { retry: Retry { max_attempts: 0, ..Retry::default() }, ..plain() };
    let mut rules = named("smtp", Policy { total_ms: 20_000, ..plain() });
    rules.insert("a".into(), bad.clone());
    rules.insert("b".into(), bad);
    let told = policies.reload(rules).unwrap_err().to_string();
    assert!(told.contains("a.retry.max_attempts") && told.contains("b.retry.max_attempts"), "{told}");
    assert_eq!(smtp.policy().total_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn names_made_from_data_do_not_fill_the_memory() {
    let policies = Policies::default();
    for n in 0..5_000 {
        policies.target(&format!("user-{n}")).run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap();
    }
    assert!(policies.targets().len() <= 1_001);
}

#[tokio::test(start_paused = true)]
async fn the_policy_called_default_holds_for_targets_without_their_own() {
    let policies = Policies::new(named("default", Policy { attempt_ms: 77, ..plain() })).unwrap();
    assert_eq!(policies.target("any").policy().attempt_ms, 77);
}
