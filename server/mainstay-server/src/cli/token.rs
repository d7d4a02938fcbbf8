//! `mainstay token`: through the admin listener of a server, or on a store that no server has open.

use clap::{Args, Subcommand};
use mainstay::Client;
use mainstay::core::access::{AccessToken, AuditRecord, Scope, ScopeKind};
use mainstay::core::name::Name;
use mainstay::core::op::{Op, Reason};
use mainstay::core::store::{self, Query, Record};
use mainstay_api::client::ApiError;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{self, Grant, NewToken, Page, TokenCreated, TokenView};
use mainstay_api::{Code, NAME_RULE, Timestamp, is_name};
use mainstay_server::auth;

use super::table::Table;
use super::words::{now, when};
use super::{Failure, Outcome, Session, session};

/// Who is in the audit trail of a store that was changed without a server.
const ACTOR: &str = "command line";

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is the only thing on standard output, and is never shown again
    Create(Create),
    /// List the tokens
    List(Where),
    /// End a token
    Revoke {
        /// What it is called
        #[arg(value_parser = name)]
        name: String,
        #[command(flatten)]
        at: Where,
    },
}

/// Flags of `mainstay token create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is called in lists and in the audit trail
    #[arg(long, value_parser = name)]
    name: String,
    /// What it allows, perhaps only on names that begin so; may be repeated. jobs:produce, jobs:work, locks:use,
    /// events:publish, events:subscribe, read, admin
    #[arg(long = "scope", required = true, value_name = "SCOPE[=PREFIX]")]
    scopes: Vec<Grant>,
    #[command(flatten)]
    at: Where,
}

/// Where tokens are kept.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Open this store instead of asking a server (--admin); no server may have it open
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

fn name(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(NAME_RULE) }
}

impl Token {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let store = match &self {
            Token::Create(Create { at, .. }) | Token::List(at) | Token::Revoke { at, .. } => at.store.clone(),
        };
        match (self, store.as_deref()) {
            (Token::Create(create), Some("memory:")) => create.for_configuration(session),
            (_, Some("memory:")) => {
                Err(Failure::usage("the tokens of a memory: store are those of its server's configuration")
                    .tip("look at `tokens` in the configuration file, or ask the server with --admin"))
            }
            (command, Some(url)) => {
                // Opening a store makes it; there is nothing to see or to revoke in one that nobody meant.
                if !matches!(command, Token::Create(_)) {
                    must_exist(url)?;
                }
                session::block_on(async { Direct::open(url)?.run(command, session).await })
            }
            (command, None) => session::block_on(command.at_server(session)),
        }
    }

    async fn at_server(self, session: &Session) -> Outcome {
        let admin = session.admin()?;
        let failed = |error: ApiError| {
            let failure = Failure::of_admin_call(&error, admin.url());
            if failure.exit_code() == 69 {
                failure.detail("without a server, `--store sqlite:PATH` opens the store itself")
            } else {
                failure
            }
        };
        match self {
            Token::Create(Create { name, scopes, .. }) => {
                let failed = |error: ApiError| {
                    let tip = "choose another name, or revoke that one first";
                    if error.code() == Some(Code::StateConflict) {
                        failed(error).tip(tip)
                    } else {
                        failed(error)
                    }
                };
                let made = admin.create_token(&NewToken { name, scopes }).await.map_err(failed)?;
                session.answer(&made, || made.token.clone())
            }
            Token::List(_) => {
                let mut all = Page { items: Vec::new(), next_cursor: None };
                let mut page = PageQuery::default();
                loop {
                    let some = admin.tokens(&page).await.map_err(failed)?;
                    all.items.extend(some.items);
                    page.cursor = some.next_cursor;
                    if page.cursor.is_none() {
                        return list(&all, session);
                    }
                }
            }
            Token::Revoke { name, .. } => {
                let failed = |error: ApiError| {
                    let tip = "what is in the configuration is not revoked, but taken out there";
                    if error.code() == Some(Code::StateConflict) {
                        failed(error).tip(tip)
                    } else {
                        failed(error)
                    }
                };
                admin.revoke_token(&name).await.map_err(failed)?;
                revoked(&name, session)
            }
        }
    }
}

/// Whether there is a store, where that is a matter of a file.
fn must_exist(url: &str) -> Outcome {
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() && !std::path::Path::new(path).exists() => {
            Err(Failure::unavailable(format!("there is no store at {path}"))
                .tip("look at the path; `mainstay serve` and `mainstay token create` make stores"))
        }
        _ => Ok(()),
    }
}

impl Create {
    /// A `memory:` store forgets its tokens; its server takes them from the configuration.
    fn for_configuration(self, session: &Session) -> Outcome {
        let secret = secret()?;
        session.answer(&created(&self, &secret), || secret.clone())?;
        session.note(&format!(
            "put this into the server's configuration file:\n\n{}",
            configuration(&self.name, &self.scopes, &secret)
        ));
        Ok(())
    }
}

fn configuration(name: &str, scopes: &[Grant], secret: &str) -> String {
    let hash: String = auth::hash(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    format!("[[tokens]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [{}]\n", scopes.join(", "))
}

fn secret() -> Result<String, Failure> {
    auth::new_secret().map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))
}

fn created(create: &Create, secret: &str) -> TokenCreated {
    let (name, scopes) = (create.name.clone(), create.scopes.clone());
    TokenCreated { name, token: secret.to_owned(), scopes, created_at: now() }
}

/// A store that this process has opened.
struct Direct(Client);

impl Direct {
    fn open(url: &str) -> Result<Self, Failure> {
        mainstay::store::open(url).map(Self).map_err(|error| {
            Failure::new(format!("cannot open {url}: {error}"))
                .tip("when a server has the store open, leave --store out: the server does it (--admin)")
        })
    }

    async fn run(&self, command: Token, session: &Session) -> Outcome {
        match command {
            Token::Create(create) => {
                let secret = secret()?;
                let made = created(&create, &secret);
                let token = AccessToken {
                    name: core_name(&create.name)?,
                    hash: auth::hash(&secret),
                    scopes: create.scopes.iter().map(core_scope).collect(),
                    created_at: mainstay::core::time::Timestamp(made.created_at.0),
                };
                self.commit(Op::PutAccessToken(token), "token.create", &create.name).await?;
                session.answer(&made, || secret.clone())
            }
            Token::List(_) => list(&Page { items: self.all().await?, next_cursor: None }, session),
            Token::Revoke { name, .. } => {
                self.commit(Op::RevokeAccessToken { name: core_name(&name)? }, "token.revoke", &name).await?;
                revoked(&name, session)
            }
        }
    }

    async fn commit(&self, op: Op, action: &str, name: &str) -> Outcome {
        let audit = AuditRecord {
            at: self.0.now().wall,
            actor: ACTOR.to_owned(),
            action: action.to_owned(),
            subject: name.to_owned(),
            detail: String::new(),
        };
        let done = self.0.commit().op(op).op(Op::Audit(audit)).await;
        done.map(drop).map_err(|error| match error.reason() {
            Some(Reason::StateConflict(_)) => Failure::new(format!("there is a token called {name}"))
                .tip("choose another name, or revoke that one first"),
            Some(Reason::NotFound(_)) => Failure::new(format!("no token is called {name}"))
                .tip("`mainstay token list` shows which there are"),
            _ => Failure::new(format!("the store did not do it: {error}")),
        })
    }

    async fn all(&self) -> Result<Vec<TokenView>, Failure> {
        let mut page = store::Page { limit: 1_000, cursor: None };
        let mut all = Vec::new();
        loop {
            let slice = self.0.store().list(&Query::AccessTokens, &page).await;
            let slice = slice.map_err(|error| Failure::new(format!("the store cannot be read: {error}")))?;
            all.extend(slice.items.into_iter().filter_map(|record| match record {
                Record::AccessToken(token) => Some(view(&token)),
                _ => None,
            }));
            page.cursor = slice.next;
            if page.cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

fn view(token: &AccessToken) -> TokenView {
    let scopes = token.scopes.iter().filter_map(|scope| scope.to_string().parse().ok()).collect();
    let created_at = Some(Timestamp(token.created_at.0));
    TokenView { name: token.name.to_string(), scopes, created_at }
}

fn core_name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::usage(format!("name: {error}")))
}

fn core_scope(grant: &Grant) -> Scope {
    let kind = match grant.scope {
        types::Scope::JobsProduce => ScopeKind::JobsProduce,
        types::Scope::JobsWork => ScopeKind::JobsWork,
        types::Scope::LocksUse => ScopeKind::LocksUse,
        types::Scope::EventsPublish => ScopeKind::EventsPublish,
        types::Scope::EventsSubscribe => ScopeKind::EventsSubscribe,
        types::Scope::Read => ScopeKind::Read,
        types::Scope::Admin => ScopeKind::Admin,
    };
    Scope { kind, prefix: Some(grant.prefix.clone()).filter(|prefix| !prefix.is_empty()) }
}

fn list(page: &Page<TokenView>, session: &Session) -> Outcome {
    if session.is_text() && page.items.is_empty() {
        session::note("no tokens: on a loopback address none is needed");
        return Ok(());
    }
    session.answer(page, || {
        let now = now();
        let mut table = Table::new(&["NAME", "SCOPES", "MADE"]);
        for token in &page.items {
            let scopes: Vec<String> = token.scopes.iter().map(ToString::to_string).collect();
            let made = token.created_at.map_or_else(|| "in the configuration".to_owned(), |at| when(at, now));
            table.row([token.name.clone(), scopes.join(" "), made]);
        }
        table.render()
    })
}

fn revoked(name: &str, session: &Session) -> Outcome {
    session.answer(&serde_json::json!({ "name": name, "revoked": true }), || format!("{name} is revoked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_configuration_is_one_that_serve_takes() {
        let scopes = ["jobs:work=mail".parse().unwrap(), "read".parse().unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mainstay.toml");
        std::fs::write(&path, configuration("ci", &scopes, "mst_1")).unwrap();
        let none: [(&str, &str); 0] = [];
        let loaded = mainstay_server::serve::loader().file(&path).variables(none).load().unwrap();
        assert_eq!(loaded.config.tokens[0].name, "ci");
        assert_eq!(loaded.config.tokens[0].scopes, ["jobs:work=mail", "read"]);
    }

    #[test]
    fn scopes_mean_the_same_in_the_store() {
        for scope in types::Scope::ALL {
            let grant = Grant { scope, prefix: "a:".to_owned() };
            assert_eq!(core_scope(&grant).to_string(), grant.to_string());
        }
    }
}
