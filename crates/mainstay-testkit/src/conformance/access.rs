//! Access tokens and the audit trail.

use mainstay_core::{
    access::{AccessToken, AuditRecord, Scope},
    op::{Op, Reason, Reply},
    store::{Key, Query, Record},
};

use crate::world::{World, name};

fn token(w: &World, text: &str) -> AccessToken {
    let scopes = ["jobs:work=mail", "read"].map(|scope| Scope::parse(scope).expect("a scope"));
    AccessToken { name: name(text), hash: [7; 32], scopes: scopes.into(), created_at: w.now() }
}

async fn get(w: &World, text: &str) -> Option<Record> {
    w.store().get(&Key::AccessToken(name(text))).await.expect("get")
}

pub(super) async fn access_tokens_are_kept_and_listed_by_name(w: &mut World) {
    let (b, a, c) = (token(w, "b"), token(w, "a"), token(w, "c"));
    for token in [&b, &a, &c] {
        assert_eq!(w.op(Op::PutAccessToken(token.clone())).await, Reply::Done);
    }
    assert_eq!(get(w, "b").await, Some(Record::AccessToken(b.clone())));
    assert_eq!(get(w, "z").await, None);
    let expected = [a, b, c].map(Record::AccessToken);
    assert_eq!(w.list_by(&Query::AccessTokens, 2).await, expected);
}

pub(super) async fn the_name_of_an_access_token_is_taken_once(w: &mut World) {
    let first = token(w, "a");
    w.op(Op::PutAccessToken(first.clone())).await;
    let second = AccessToken { hash: [8; 32], ..first.clone() };
    assert!(matches!(w.refused(Op::PutAccessToken(second)).await, Reason::StateConflict(_)));
    assert_eq!(get(w, "a").await, Some(Record::AccessToken(first)));
}

pub(super) async fn a_revoked_access_token_is_gone(w: &mut World) {
    w.op(Op::PutAccessToken(token(w, "a"))).await;
    let revoke = Op::RevokeAccessToken { name: name("a") };
    assert_eq!(w.op(revoke.clone()).await, Reply::Done);
    assert_eq!(get(w, "a").await, None);
    assert_eq!(w.list_by(&Query::AccessTokens, 10).await, []);
    assert!(matches!(w.refused(revoke).await, Reason::NotFound(_)));
    w.op(Op::PutAccessToken(token(w, "a"))).await;
}

pub(super) async fn the_audit_trail_is_read_newest_first(w: &mut World) {
    let mut expected = vec![];
    for n in 0..5 {
        w.advance(n);
        let record = AuditRecord {
            at: w.now(),
            actor: "anonymous".into(),
            action: "queue.purge".into(),
            subject: format!("q{n}"),
            detail: "é\n".into(),
        };
        assert_eq!(w.op(Op::Audit(record.clone())).await, Reply::Done);
        expected.insert(0, Record::Audit(record));
    }
    assert_eq!(w.list_by(&Query::Audit, 2).await, expected);
}

pub(super) async fn an_audit_line_stands_or_falls_with_its_commit(w: &mut World) {
    let record = AuditRecord {
        at: w.now(),
        actor: "me".into(),
        action: "job.delete".into(),
        subject: "1".into(),
        detail: String::new(),
    };
    let commit = w.ops([Op::Audit(record), Op::Delete { id: w.id("q") }]);
    w.commit(commit).await.expect_err("there is no such job");
    assert_eq!(w.list_by(&Query::Audit, 10).await, []);
}
