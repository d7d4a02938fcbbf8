//! Sequences on which the judge of events was wrong once.

use super::{
    events::{Do, Reference, Start, Step, play},
    play::Outcomes,
};
use crate::{clock::ManualClock, harness::run_with, world::World};

fn played(steps: &[Step]) -> Outcomes {
    let mut outcome = Ok(());
    let store = Reference(ManualClock::new());
    run_with(store, async |world: &mut World| outcome = play(world, steps).await);
    outcome
}

fn put(start: Start) -> Do {
    Do::PutGroup { group: 0, filter: 1, start, max_deliver: 3, max_in_flight: 10 }
}

fn publish(topic: usize) -> Do {
    Do::Publish { topic, key: None, id: None, size: 0 }
}

#[test]
fn what_the_commit_of_a_new_group_takes_away_behind_it_counts_as_skipped() {
    for start in [Start::Ago(0), Start::Latest, Start::Earliest] {
        let made = vec![put(start), publish(0), Do::DeleteTopic { topic: 0 }];
        assert_eq!(played(&[Step::Submit(made.clone())]), Ok(()));
        // The same of one that counted before, and is a new one now.
        let before = vec![put(Start::Latest), publish(0), publish(0), Do::DeleteTopic { topic: 0 }];
        let anew = vec![Do::DeleteGroup { group: 0 }, put(start), publish(0), Do::DeleteTopic { topic: 0 }];
        let steps = [before, made, anew].map(Step::Submit);
        assert_eq!(played(&steps), Ok(()));
    }
}
