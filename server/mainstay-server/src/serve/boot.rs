//! Putting the server together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use mainstay::http::Http;
use mainstay::{Boot, Client, Error, Result, Shutdown, Weight, health, millis, secs};
use rustix::process::Pid;

use super::{Config, addr_file, banner};
use crate::admin;
use crate::api::{self, Api, Parts, error};
use crate::auth::{Origins, Tokens, limiter};
use crate::pages;

/// No request of the contract takes longer: it waits for 60 s at most.
const TIME_LIMIT: Duration = secs(300);
/// Tokens that another node made or revoked are known after this long at most.
const REFRESH: Duration = secs(1);
/// Reading the tokens at the start: a store that does not answer for so long is not there.
const READ_LIMIT: Duration = secs(30);
/// How long a task that is ready may wait for its turn.
const LAG_LIMIT: Duration = millis(500);
/// Between two looks after the process that started the server.
const LOOK_AFTER_PARENT: Duration = millis(200);
/// Looking up the name of a listener's address.
const LOOKUP_LIMIT: Duration = secs(10);

/// Opens the store and puts the server on it.
///
/// # Errors
/// What [`Boot::store`] and [`assemble`] say.
pub async fn boot(b: &mut Boot<Config>) -> Result<()> {
    let store = b.store(&b.config.store).await?;
    assemble(b, store).await.map(drop)
}

/// Puts the server on an open store; answers the API's listener, which is up once `boot` has returned.
///
/// # Errors
/// The configuration is wrong: an address that needs an access token and there is none.
pub async fn assemble(b: &mut Boot<Config>, store: Client) -> Result<Http> {
    let config = &b.config;
    let mut tokens = Tokens::new(store.clone(), &config.tokens);
    b.component("access tokens", tokens.refresh()).within(READ_LIMIT).await?;
    let mut reachable = false;
    for (key, listen) in [("listen", &config.listen), ("admin_listen", &b.settings().admin_listen)] {
        match b.component(key, open_door(key, listen)).within(LOOKUP_LIMIT).await {
            Ok(None) => {}
            Ok(Some(address)) if !tokens.any() => return Err(refuse_open_door(key, address)),
            Err(error) if !tokens.any() => return Err(error),
            // A name that cannot be looked up now may be found, and be any address, when it is listened on.
            Ok(Some(_)) | Err(_) => reachable = true,
        }
    }
    if !reachable {
        tokens.allow_anonymous();
    }
    let tokens = Arc::new(tokens);
    checks(b);
    let api = Api::new(Parts {
        store: store.clone(),
        tokens: tokens.clone(),
        origins: Origins::new(&config.allowed_origins),
        rate: config.caller_rate_per_second.map(|rate| limiter(rate, config.caller_burst)).transpose()?,
        limits: config.limits.for_reading(),
        claim_bytes: config.limits.claim_bytes,
        schemas: api::Schemas::default(),
        backup_dir: folder(&config.store).unwrap_or_else(std::env::temp_dir),
        shutdown: b.shutdown(),
        tasks: b.tasks(),
    });
    b.background("access tokens", |shutdown| async move {
        while shutdown.unless_cancelled(tokio::time::sleep(REFRESH)).await.is_some() {
            if let Err(error) = tokens.refresh().await {
                tracing::debug!(%error, "access tokens could not be read again");
            }
        }
    });
    if config.with_parent {
        let parent = rustix::process::getppid();
        b.background("parent", move |shutdown| ends_with(parent, shutdown));
    }
    let guarded = api.clone();
    b.admin(move |chassis| admin::extend(chassis, guarded));

    let http = b.http(&config.listen, router(b, api));
    http.pipeline(|pipeline| pipeline.time_limit(TIME_LIMIT).refuse_with(error::refuse));
    when_bound(b, &http, &store);
    Ok(http)
}

/// Ends the server when its parent has gone: it has another one then.
async fn ends_with(parent: Option<Pid>, shutdown: Shutdown) {
    while shutdown.unless_draining(tokio::time::sleep(LOOK_AFTER_PARENT)).await.is_some() {
        if rustix::process::getppid() != parent {
            tracing::info!("the process that started the server has gone");
            return shutdown.begin();
        }
    }
}

/// Everything on the API listener. One visible list: what is not under `/v1` is added here.
fn router(b: &Boot<Config>, api: Api) -> Router {
    // The API looks at the origin itself, with the words and headers that its answers to allowed pages have.
    let open = Router::new().merge(b.health().router()).merge(pages::routes(b.admin_address()));
    open.layer(from_fn_with_state(api.clone(), own_pages_only)).merge(api::routes(api))
}

/// A foreign page sees as little of the probes and pages as of the API.
async fn own_pages_only(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match api.origins.admit(&parts) {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => pages::problem(problem, parts.uri.path()),
    }
}

/// Both listeners are up: says so where it is wanted.
fn when_bound(b: &Boot<Config>, http: &Http, store: &Client) {
    let (http, admin, file) = (http.clone(), b.admin_address(), b.config.addr_file.clone());
    let url = shown(&b.config.store);
    let durable = store.capabilities().durable;
    b.on_ready(async move {
        let api = http.bound().await;
        if let Some(file) = file {
            addr_file::write(&file, api, admin)?;
        }
        banner::print(api, admin, &url, durable);
        Ok::<_, Error>(())
    });
}

/// What the store's own check does not see. Degraded: a replica that is short of something still serves, and whoever
/// watches is told.
fn checks(b: &Boot<Config>) {
    if let Some(folder) = folder(&b.config.store) {
        b.check("disk", Weight::Degraded, health::disk(folder));
    }
    b.check("memory", Weight::Degraded, health::memory());
    b.check("runtime lag", Weight::Degraded, b.health().runtime_lag(LAG_LIMIT));
}

/// A store's URL without what is secret in it: the name and password before the host, the parameters behind it.
fn shown(store: &str) -> String {
    let Some((scheme, rest)) = store.split_once("://") else { return store.to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// The folder of a store that is a file.
fn folder(store: &str) -> Option<PathBuf> {
    match Path::new(store.strip_prefix("sqlite:")?).parent()? {
        folder if folder.as_os_str().is_empty() => Some(PathBuf::from(".")),
        folder => Some(folder.to_owned()),
    }
}

/// The address of this listener that other machines can reach, if there is one.
async fn open_door(key: &str, listen: &str) -> Result<Option<SocketAddr>> {
    if key == "admin_listen" && (listen.trim().is_empty() || listen == "off") {
        return Ok(None);
    }
    let addresses = mainstay::http::resolve(listen)
        .await
        .map_err(|error| Error::config(format!("{key}: cannot resolve `{listen}`: {}", error.chain())))?;
    Ok(addresses.into_iter().find(|address| !address.ip().is_loopback()))
}

/// Everybody who can reach the machine could do everything.
fn refuse_open_door(key: &str, address: SocketAddr) -> Error {
    Error::config(format!(
        "{key}: {address} can be reached from other machines and there is no access token: make one with \
         `mainstay token create --name admin --scope admin --store URL`, put one into `tokens` of the \
         configuration file, or listen on a loopback address"
    ))
}
