//! An issuer's keys, kept up to date.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jsonwebtoken::DecodingKey;
use metrics::counter;
use tokio::time::{Instant, timeout};

use super::{Algorithm, jwks, jwks::Key};
use crate::auth::Denied;
use crate::{Error, ErrorKind, Result, secs};

/// Keys older than this are fetched again before they are used.
const FRESH: Duration = secs(3_600);
/// Keys older than this are not used, even if there are no others.
const STALE: Duration = secs(24 * 3_600);
/// After a fetch, however it ended, before the next, whatever tokens say.
const COOLDOWN: Duration = secs(30);
/// The same while there have never been keys, and nobody gets in.
const COLD_COOLDOWN: Duration = secs(1);
/// For one fetch.
const FETCH_LIMIT: Duration = secs(5);

type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>;

pub(super) struct Keyring {
    name: String,
    fetch: Fetch,
    known: Mutex<Known>,
    /// Held by the one who fetches; the others wait for what it finds. A fetch whose caller has left stays here for the
    /// next, so that whoever calls and leaves starts no flood of them.
    fetching: tokio::sync::Mutex<Option<Running>>,
}

struct Running {
    began: Instant,
    fetch: BoxFuture<'static, Result<Vec<Key>>>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Arc<[Key]>,
    fetched: Option<Instant>,
    /// When the last fetch ended.
    tried: Option<Instant>,
}

impl Known {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let mut fitting = self.keys.iter().filter(|key| key.fits(id, algorithm));
        let first = fitting.next()?;
        // A token that names no key is not tried with several.
        (id.is_some() || fitting.next().is_none()).then(|| first.key.clone())
    }

    fn younger_than(&self, age: Duration) -> bool {
        self.fetched.is_some_and(|at| at.elapsed() < age)
    }

    fn may_fetch(&self) -> bool {
        let cooldown = if self.fetched.is_some() { COOLDOWN } else { COLD_COOLDOWN };
        self.tried.is_none_or(|at| at.elapsed() >= cooldown)
    }
}

impl Keyring {
    pub fn new(name: String, fetch: Fetch) -> Self {
        Self { name, fetch, known: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The key of this id. Cancel safe: another caller goes on with the fetch.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<DecodingKey>, Denied> {
        let satisfied = |known: &Known| known.find(id, algorithm).filter(|_| known.younger_than(FRESH));
        let known = self.known();
        if let Some(key) = satisfied(&known) {
            return Ok(key);
        }
        if known.may_fetch() {
            let usable = known.younger_than(STALE) && known.find(id, algorithm).is_some();
            // Who has a key that will do does not wait for somebody else's fetch.
            let one = if usable {
                self.fetching.try_lock().ok()
            } else {
                timeout(FETCH_LIMIT, self.fetching.lock()).await.ok()
            };
            // Somebody else may have fetched while we waited.
            if let Some(mut running) = one
                && satisfied(&self.known()).is_none()
                && self.known().may_fetch()
            {
                self.refresh(&mut running).await;
            }
        }
        let known = self.known();
        if !known.younger_than(STALE) {
            return Err(Denied::Unavailable(format!("no keys of the issuer `{}`", self.name)));
        }
        known.find(id, algorithm).ok_or(Denied::Invalid("the token's key is not known"))
    }

    fn begin(&self) -> Running {
        let answer = timeout(FETCH_LIMIT, (self.fetch)());
        let fetch = Box::pin(async move {
            match answer.await {
                Ok(text) => text.and_then(|text| jwks::parse(&text)),
                Err(_) => Err(Error::new(ErrorKind::TimedOut, "the issuer did not answer within 5 s")),
            }
        });
        Running { began: Instant::now(), fetch }
    }

    async fn refresh(&self, running: &mut Option<Running>) {
        // One that nobody has been waiting for is too old to tell anything.
        let left = running.take().filter(|left| left.began.elapsed() < FETCH_LIMIT);
        let fetched = (&mut running.insert(left.unwrap_or_else(|| self.begin())).fetch).await;
        *running = None;
        self.change(|known| known.tried = Some(Instant::now()));
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        counter!("mainstay.auth.key_fetches", "issuer" => self.name.clone(), "outcome" => outcome)
            .increment(1);
        match fetched {
            Ok(keys) => self.change(|known| {
                known.keys = keys.into();
                known.fetched = Some(Instant::now());
            }),
            Err(error) => {
                let age = self.known().fetched.map(|at| at.elapsed().as_secs());
                tracing::warn!(issuer = %self.name, error = %error.chain(), keys_age_s = age, "an issuer's keys could not be fetched");
            }
        }
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
