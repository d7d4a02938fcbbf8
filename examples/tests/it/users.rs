use mainstay::{
    secs,
    testing::{Script, block_on_virtual},
};

#[derive(Clone, Debug, PartialEq)]
struct User {
    id: u64,
    name: &'static str,
}

#[derive(Debug, PartialEq)]
enum Failed {
    Busy,
    NotFound(u64),
}

trait Database {
    fn fetch_user(&self, id: u64) -> impl Future<Output = Result<Option<User>, Failed>> + Send;
}

struct UserService<D> {
    db: D,
}

impl<D: Database> UserService<D> {
    async fn get(&self, id: u64) -> Result<User, Failed> {
        let mut user = self.db.fetch_user(id).await;
        if user == Err(Failed::Busy) {
            tokio::time::sleep(secs(1)).await;
            user = self.db.fetch_user(id).await;
        }
        user?.ok_or(Failed::NotFound(id))
    }
}

#[derive(Clone)]
struct MockDatabase {
    fetch_user: Script<u64, Result<Option<User>, Failed>>,
}

impl Database for MockDatabase {
    async fn fetch_user(&self, id: u64) -> Result<Option<User>, Failed> {
        self.fetch_user.call(id).await
    }
}

const ALICE: User = User { id: 1, name: "Alice" };

#[test]
fn a_user_is_found() {
    let db = MockDatabase { fetch_user: Script::named("fetch_user").ok(Some(ALICE)) };
    let service = UserService { db: db.clone() };
    block_on_virtual(async { assert_eq!(service.get(1).await, Ok(ALICE)) });
    db.fetch_user.assert_awaited_once_with(1);
}

#[test]
fn a_user_is_not_found() {
    let db = MockDatabase { fetch_user: Script::named("fetch_user").ok(None) };
    let service = UserService { db: db.clone() };
    block_on_virtual(async { assert_eq!(service.get(99).await, Err(Failed::NotFound(99))) });
    db.fetch_user.assert_awaited_once_with(99);
}

#[test]
fn a_busy_database_is_asked_again() {
    let db = MockDatabase { fetch_user: Script::named("fetch_user").err(Failed::Busy).ok(Some(ALICE)) };
    let service = UserService { db: db.clone() };
    block_on_virtual(async { assert_eq!(service.get(1).await, Ok(ALICE)) });
    db.fetch_user.assert_calls([1, 1]);
}
