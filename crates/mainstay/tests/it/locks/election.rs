//! One leader at a time.

use mainstay::{Client, lock::Leader, secs, testing::block_on_virtual};
use tokio::time::sleep;

fn name(leader: Option<Leader>) -> Option<String> {
    leader.map(|leader| leader.candidate)
}

#[test]
fn candidates_lead_in_turn_and_observers_see_it() {
    block_on_virtual(async {
        let store = Client::memory();
        let election = |candidate: &str| store.election("e").unwrap().candidate(candidate).ttl(secs(10));
        let mut observer = election("nobody").observe();
        assert_eq!(name(observer.changed().await.unwrap()), None, "the first answer is how it is");

        let one = election("one").campaign().await.unwrap();
        assert_eq!(name(observer.changed().await.unwrap()).as_deref(), Some("one"));
        let (two, three) = (election("two"), election("three"));
        let stand = async |election: &mainstay::lock::Election, order: u64| {
            sleep(secs(order)).await;
            let leadership = election.campaign().await.unwrap();
            sleep(secs(100)).await;
            assert!(leadership.is_held());
            let token = leadership.token();
            leadership.resign().await.unwrap();
            token
        };
        let resign = async {
            sleep(secs(50)).await;
            let token = one.token();
            one.resign().await.unwrap();
            token
        };
        let watch = async {
            let mut seen = Vec::new();
            while let Some(leader) = observer.changed().await.unwrap() {
                seen.push(leader);
            }
            seen
        };
        let (first, second, third, seen) = tokio::join!(resign, stand(&two, 1), stand(&three, 2), watch);
        assert!(first < second && second < third);
        let seen: Vec<_> = seen.into_iter().map(|leader| (leader.candidate, leader.token)).collect();
        assert_eq!(seen, [("two".to_owned(), second), ("three".to_owned(), third)]);
        assert_eq!(election("x").leader().await.unwrap(), None);
    });
}

#[test]
fn a_dead_leader_is_followed_after_its_ttl() {
    block_on_virtual(async {
        let store = Client::memory();
        let election = store.election("e").unwrap().ttl(secs(10));
        // One that is gone without a word: nobody renews what it had.
        let lock = store.lock("e").unwrap().owner("dead").ttl(secs(10)).without_renewal();
        let dead = lock.acquire().await.unwrap();
        let began = tokio::time::Instant::now();
        let next = election.candidate("next").campaign().await.unwrap();
        assert_eq!(began.elapsed(), secs(10));
        assert!(next.token() > dead.token());
    });
}
