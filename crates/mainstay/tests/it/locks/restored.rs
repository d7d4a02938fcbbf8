//! A store that comes back from a backup.

use mainstay::{
    Client,
    core::lease::Token,
    secs, store,
    testing::{block_on_virtual, real},
};
use tokio::time::sleep;

/// The token of a grant that is given back at once.
async fn token(client: &Client) -> Token {
    let guard = real(client.lock("l").unwrap().acquire()).await.unwrap();
    let token = guard.token();
    real(guard.release()).await.unwrap();
    token
}

#[test]
fn a_restored_copy_grants_higher_tokens_than_the_store_that_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let open = |name: &str| store::open(&format!("sqlite:{}", file(name).display())).unwrap();
    block_on_virtual(async {
        let lost = open("m.db");
        let before = token(&lost).await;
        real(lost.store().backup(&file("copy.db"))).await.unwrap();
        let mut last = before;
        for _ in 0..100 {
            last = token(&lost).await;
        }
        assert!(last > before);
        real(lost.store().close(secs(5))).await.unwrap();

        // Nobody restores a backup within the second.
        sleep(secs(2)).await;
        let restored = open("copy.db");
        let next = token(&restored).await;
        assert!(next > last, "{next:?} after {last:?}: whoever remembers the highest would refuse everybody");
        real(restored.store().close(secs(5))).await.unwrap();
    });
}
