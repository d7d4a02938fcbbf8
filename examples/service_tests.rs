//! Tests of a user service over a mocked database: a user is found, and one is not.

use mainstay::testing::{Script, block_on_virtual};

#[derive(Clone, Debug, PartialEq)]
struct User {
    id: u64,
    name: String,
}

/// What the service depends on.
trait Database {
    fn fetch_user(&self, id: u64) -> impl Future<Output = Option<User>> + Send;
}

#[derive(Debug, PartialEq)]
struct NotFound(u64);

struct UserService<D> {
    db: D,
}

impl<D: Database> UserService<D> {
    async fn get(&self, id: u64) -> Result<User, NotFound> {
        self.db.fetch_user(id).await.ok_or(NotFound(id))
    }
}

/// A script for each method: what it answers, and what it was asked.
#[derive(Clone)]
struct MockDatabase {
    fetch_user: Script<u64, Option<User>>,
}

impl Database for MockDatabase {
    async fn fetch_user(&self, id: u64) -> Option<User> {
        self.fetch_user.call(id).await
    }
}

fn found() {
    block_on_virtual(async {
        let alice = User { id: 1, name: "Alice".into() };
        let db = MockDatabase { fetch_user: Script::named("fetch_user").returns(Some(alice.clone())) };
        let service = UserService { db: db.clone() };
        assert_eq!(service.get(1).await, Ok(alice));
        db.fetch_user.assert_awaited_once_with(1);
    });
}

fn not_found() {
    block_on_virtual(async {
        let db = MockDatabase { fetch_user: Script::named("fetch_user").returns(None) };
        let service = UserService { db: db.clone() };
        assert_eq!(service.get(99).await, Err(NotFound(99)));
        db.fetch_user.assert_awaited_once_with(99);
    });
}

fn main() {
    // In a project these two are `#[test]`s, as in docs/testing.md. A failing one panics, and nothing is printed.
    for test in [found, not_found] {
        test();
    }
    println!("All tests pass");
}
