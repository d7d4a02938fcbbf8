//! Access tokens: `GET|POST /admin/tokens`, `DELETE /admin/tokens/{name}`.

use http::StatusCode;
use mainstay::core::access::{AccessToken, Scope, ScopeKind};
use mainstay::core::name::Name;
use mainstay::core::op::{Commit, Op, Reply};
use mainstay::core::store::{Query, Record};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{Grant, NewToken, Page, Scope as WireScope, TokenCreated, TokenView};
use mainstay_api::{Code, Problem, Timestamp};

use crate::api::error::Shape;
use crate::api::{Answer, Call, Keyed, audit, empty, error, json, page};
use crate::auth;

/// Names, scopes and ages; those of the configuration on the first page.
pub(super) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_always(ScopeKind::Admin)?;
    let slice = call.api.store.store().list(&Query::AccessTokens, &page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let configured = call.api.tokens.configured().iter().filter(|_| query.cursor.is_none());
    let configured = configured.map(|known| TokenView {
        name: known.name.to_string(),
        scopes: known.scopes.iter().map(wire_grant).collect(),
        created_at: None,
    });
    let stored = slice.items.iter().filter_map(|record| match record {
        Record::AccessToken(token) => Some(TokenView {
            name: token.name.to_string(),
            scopes: token.scopes.iter().map(wire_grant).collect(),
            created_at: Some(Timestamp(token.created_at.0)),
        }),
        _ => None,
    });
    json(StatusCode::OK, &Page { items: configured.chain(stored).collect(), next_cursor: slice.next })
}

/// The token itself is in this answer and nowhere else, but veiled by the `Idempotency-Key` that a repeat comes with.
pub(super) async fn create(call: Call) -> Answer {
    let mut input = call.input();
    input.keyed();
    let new = input.body::<NewToken>()?;
    let (new, keyed) = input.finish(new)?;
    call.caller.must_always(ScopeKind::Admin)?;
    let name = Name::new(&new.name).map_err(|_| error::internal("a name that was read is none"))?;
    if call.api.tokens.configured().iter().any(|known| known.name == name) {
        let detail = format!("a token named `{name}` is in the configuration: choose another name");
        return Err(Problem::new(Code::StateConflict, detail));
    }
    let secret = auth::new_secret().map_err(|error| error::internal(&error.to_string()))?;
    let token = AccessToken {
        name: name.clone(),
        hash: auth::hash(&secret),
        scopes: new.scopes.iter().map(scope).collect(),
        created_at: call.api.store.now().wall,
    };
    let mut made = Made { secret, created_at: token.created_at.0 };
    let mut ops = vec![Op::PutAccessToken(token), audit(&call, "token.create", name.as_str())];
    if let Some(keyed) = &keyed {
        let nonce = u128::from(call.api.store.entropy()) << 64 | u128::from(call.api.store.entropy());
        ops.push(Op::Note(made.note(keyed, nonce).into()));
    }
    let (key, entropy) = (keyed.map(|keyed| keyed.whole()), call.api.store.entropy());
    let committed = call.commit(Commit { key, ops, entropy, ..Commit::default() }, Shape::Single).await?;
    if let (true, Some(keyed)) = (committed.repeated, &keyed) {
        let first = committed.replies.iter().find_map(|reply| match reply {
            Reply::Note(note) => Made::read(note, keyed),
            _ => None,
        });
        made = first.ok_or_else(|| error::internal("what was kept of a token cannot be read"))?;
    } else {
        refresh(&call).await;
    }
    let Made { secret, created_at } = made;
    let created_at = Timestamp(created_at);
    let created = TokenCreated { name: name.to_string(), token: secret, scopes: new.scopes, created_at };
    json(StatusCode::CREATED, &created)
}

/// What the request does not say of the token that it made.
#[derive(Debug, PartialEq)]
struct Made {
    secret: String,
    created_at: i64,
}

impl Made {
    /// For the answer that is kept under the key.
    fn note(&self, keyed: &Keyed, nonce: u128) -> String {
        let veiled = keyed.veil(nonce.to_be_bytes(), self.secret.as_bytes());
        let hex: String = veiled.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {nonce:x} {hex}", self.created_at)
    }

    fn read(note: &str, keyed: &Keyed) -> Option<Made> {
        let mut words = note.split(' ');
        let created_at = words.next()?.parse().ok()?;
        let nonce = u128::from_str_radix(words.next()?, 16).ok()?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let veiled = words.next()?.as_bytes().chunks(2).map(byte).collect::<Option<Vec<_>>>()?;
        let secret = String::from_utf8(keyed.veil(nonce.to_be_bytes(), &veiled)).ok()?;
        Some(Made { secret, created_at })
    }
}

pub(super) async fn revoke(call: Call) -> Answer {
    let mut input = call.input();
    let name = input.name("name");
    let (name, _) = input.finish(name)?;
    call.caller.must_always(ScopeKind::Admin)?;
    let ops = vec![Op::RevokeAccessToken { name: name.clone() }, audit(&call, "token.revoke", name.as_str())];
    let configured = call.api.tokens.configured().iter().any(|known| known.name == name);
    call.apply(ops, None).await.map_err(|problem| match problem.code {
        Code::NotFound if configured => Problem::new(
            Code::StateConflict,
            format!(
                "the token `{name}` is defined in the server's configuration: take it out there, and restart the server"
            ),
        ),
        _ => problem,
    })?;
    refresh(&call).await;
    empty()
}

/// The change is durable; whoever asks next shall see it. If that fails now, the next second's refresh does it.
async fn refresh(call: &Call) {
    if let Err(error) = call.api.tokens.refresh().await {
        tracing::warn!(%error, "access tokens could not be read again");
    }
}

fn scope(grant: &Grant) -> Scope {
    let kind = match grant.scope {
        WireScope::JobsProduce => ScopeKind::JobsProduce,
        WireScope::JobsWork => ScopeKind::JobsWork,
        WireScope::LocksUse => ScopeKind::LocksUse,
        WireScope::EventsPublish => ScopeKind::EventsPublish,
        WireScope::EventsSubscribe => ScopeKind::EventsSubscribe,
        WireScope::Read => ScopeKind::Read,
        WireScope::Admin => ScopeKind::Admin,
    };
    Scope { kind, prefix: Some(grant.prefix.clone()).filter(|prefix| !prefix.is_empty()) }
}

fn wire_grant(scope: &Scope) -> Grant {
    let kind = match scope.kind {
        ScopeKind::JobsProduce => WireScope::JobsProduce,
        ScopeKind::JobsWork => WireScope::JobsWork,
        ScopeKind::LocksUse => WireScope::LocksUse,
        ScopeKind::EventsPublish => WireScope::EventsPublish,
        ScopeKind::EventsSubscribe => WireScope::EventsSubscribe,
        ScopeKind::Read => WireScope::Read,
        ScopeKind::Admin => WireScope::Admin,
    };
    Grant { scope: kind, prefix: scope.prefix.clone().unwrap_or_default() }
}
