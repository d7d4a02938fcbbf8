use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::FutureExt;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Theirs, EncodingKey, Header, encode};
use mainstay_core::time::{Now, StoreTime, Timestamp};
use serde_json::json;
use tokio::time::advance;

use super::*;
use crate::Error;

const NOW: i64 = 1_800_000_000;

struct Fixed;

#[async_trait]
impl Clock for Fixed {
    fn now(&self) -> Now {
        Now { wall: Timestamp(NOW * 1_000), store: StoreTime(0) }
    }

    async fn sleep_until(&self, _: StoreTime) {}

    fn entropy(&self) -> u64 {
        0
    }
}

/// An Ed25519 key: PKCS #8 around a seed.
fn private(seed: u8) -> EncodingKey {
    let mut der =
        vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn public(seed: u8) -> Value {
    let mut jwk = Jwk::from_encoding_key(&private(seed), Theirs::EdDSA).unwrap();
    jwk.common.key_id = Some(format!("key-{seed}"));
    serde_json::to_value(jwk).unwrap()
}

fn signed(seed: u8, claims: &Value) -> String {
    let header = Header { kid: Some(format!("key-{seed}")), ..Header::new(Theirs::EdDSA) };
    encode(&header, claims, &private(seed)).unwrap()
}

fn good() -> Value {
    json!({"sub": "alice", "iss": "id", "aud": ["shop", "x"], "exp": NOW + 300, "scope": "read write"})
}

/// An issuer whose keys change, and which can be down.
#[derive(Clone, Default)]
struct Issuer {
    keys: Arc<Mutex<Option<Vec<u8>>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn has(keys: &[u8]) -> Self {
        let issuer = Self::default();
        issuer.set(Some(keys));
        issuer
    }

    fn set(&self, keys: Option<&[u8]>) {
        *self.keys.lock().unwrap() = keys.map(<[u8]>::to_vec);
    }

    fn verifier(&self) -> JwtVerifier {
        let issuer = self.clone();
        let fetch = move || {
            issuer.asked.fetch_add(1, Relaxed);
            let keys = issuer.keys.lock().unwrap().clone();
            async move {
                let keys = keys.ok_or_else(|| Error::unavailable("down"))?;
                // What we cannot use must not hide what we can.
                let mut all =
                    vec![json!({"kty": "later"}), json!({"kty": "oct", "k": "c2VjcmV0", "kid": "key-9"})];
                all.extend(keys.into_iter().map(public));
                Ok(json!({ "keys": all }).to_string())
            }
        };
        JwtVerifier::jwks("id", fetch).issuer("id").audience("shop").clock(Arc::new(Fixed))
    }
}

async fn why(verifier: &JwtVerifier, token: &str) -> String {
    match verifier.verify(token).await {
        Ok(principal) => principal.name().to_owned(),
        Err(Denied::Invalid(why)) => why.to_owned(),
        Err(Denied::Unavailable(why)) => format!("unavailable: {why}"),
    }
}

#[tokio::test]
async fn a_good_token_tells_who_asks_and_a_bad_one_says_why() {
    let verifier = Issuer::has(&[1]).verifier();
    let principal = verifier.verify(&signed(1, &good())).await.unwrap();
    assert_eq!((principal.name(), principal.has_scope("write")), ("alice", true));
    assert_eq!(principal.claim("iss"), Some(&json!("id")));
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        signed(1, &claims)
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        signed(1, &claims)
    };
    for (token, expected) in [
        (with("exp", json!(NOW - 59)), "alice"),
        (with("exp", json!(NOW - 60)), "the token has expired"),
        (with("exp", json!("never")), "the token's exp is not a number"),
        (without("exp"), "the token has no exp"),
        (with("nbf", json!(NOW + 60)), "alice"),
        (with("nbf", json!(NOW + 61)), "the token is not valid yet"),
        (with("iss", json!("other")), "the token is of another issuer"),
        (without("iss"), "the token lacks iss or aud"),
        (with("aud", json!("other")), "the token is for another audience"),
        (without("aud"), "the token lacks iss or aud"),
        (without("sub"), "the token has no sub"),
        ("a.b.c".to_owned(), "the token is not a JWT"),
    ] {
        assert_eq!(why(&verifier, &token).await, expected, "{token}");
    }
    let mut forged = signed(1, &good());
    let other = signed(2, &good());
    forged.truncate(forged.rfind('.').unwrap());
    forged += &other[other.rfind('.').unwrap()..];
    assert_eq!(why(&verifier, &forged).await, "the token's signature does not fit");
}

#[tokio::test]
async fn the_algorithm_is_ours_to_choose() {
    let issuer = Issuer::has(&[1]);
    // Signed with a secret that everybody can read, under the id of a public key, or of a "secret" of the set.
    let public = public(1)["x"].as_str().unwrap().to_owned();
    for (kid, secret) in [("key-1", public.as_bytes()), ("key-9", b"secret")] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Theirs::HS256) };
        let token = encode(&header, &good(), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(why(&issuer.verifier(), &token).await, "the token's algorithm is not allowed");
    }
    let none = signed(1, &good()).replace(&signed(1, &good())[..20], "eyJhbGciOiJub25lIn0.");
    assert!(why(&issuer.verifier(), &none).await.starts_with("the token"));
    let only_rsa = issuer.verifier().algorithms([Algorithm::Rs256, Algorithm::Hs256]);
    assert_eq!(why(&only_rsa, &signed(1, &good())).await, "the token's algorithm is not allowed");
    assert_eq!(issuer.asked.load(Relaxed), 0, "nothing was fetched for them");

    let secret = JwtVerifier::secret(b"shared").audience("shop").clock(Arc::new(Fixed));
    let token = encode(&Header::new(Theirs::HS512), &good(), &EncodingKey::from_secret(b"shared")).unwrap();
    assert_eq!(why(&secret, &token).await, "alice");
    assert_eq!(why(&secret, &signed(1, &good())).await, "the token's algorithm is not allowed");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it_but_not_for_every_invention() {
    let issuer = Issuer::has(&[1]);
    let verifier = issuer.verifier();
    assert_eq!(why(&verifier, &signed(1, &good())).await, "alice");
    issuer.set(Some(&[1, 2]));
    assert_eq!(why(&verifier, &signed(2, &good())).await, "the token's key is not known", "too soon");
    advance(secs(30)).await;
    assert_eq!(why(&verifier, &signed(2, &good())).await, "alice");
    assert_eq!(issuer.asked.load(Relaxed), 2);
    for seed in 100..200 {
        why(&verifier, &signed(seed, &good())).await;
    }
    assert_eq!(issuer.asked.load(Relaxed), 2, "a flood of invented keys is no flood of fetches");
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_used_while_the_issuer_is_down_but_not_for_ever() {
    let issuer = Issuer::has(&[1]);
    let verifier = issuer.verifier();
    assert_eq!(why(&verifier, &signed(1, &good())).await, "alice");
    issuer.set(None);
    advance(secs(3_600)).await;
    assert_eq!(why(&verifier, &signed(1, &good())).await, "alice");
    assert_eq!(issuer.asked.load(Relaxed), 2, "it was tried");
    assert_eq!(why(&verifier, &signed(3, &good())).await, "the token's key is not known");
    advance(secs(23 * 3_600)).await;
    assert_eq!(why(&verifier, &signed(1, &good())).await, "unavailable: no keys of the issuer `id`");
    // A key that was withdrawn is gone with the next fetch.
    issuer.set(Some(&[2]));
    advance(secs(30)).await;
    assert_eq!(why(&verifier, &signed(1, &good())).await, "the token's key is not known");
    assert_eq!(why(&verifier, &signed(2, &good())).await, "alice");
}

#[tokio::test(start_paused = true)]
async fn callers_share_one_fetch_and_a_hanging_one_ends() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let verifier = JwtVerifier::jwks("id", move || {
        count.fetch_add(1, Relaxed);
        std::future::pending()
    });
    let token = signed(1, &good());
    let began = tokio::time::Instant::now();
    let (a, b) = tokio::join!(why(&verifier, &token), why(&verifier, &token));
    assert!(a.starts_with("unavailable") && a == b, "{a}");
    assert_eq!((asked.load(Relaxed), began.elapsed()), (1, secs(5)));
}

/// A verifier whose fetches wait for a permit, and which of them began.
fn gated() -> (Arc<JwtVerifier>, Arc<tokio::sync::Semaphore>, Arc<AtomicUsize>) {
    let (gate, asked) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (open, count) = (gate.clone(), asked.clone());
    let verifier = JwtVerifier::jwks("id", move || {
        let n = count.fetch_add(1, Relaxed);
        let open = open.clone();
        async move {
            open.acquire().await.unwrap().forget();
            // The first set has one key, later ones have two.
            let keys: Vec<_> = [1, 2].into_iter().take(n + 1).map(public).collect();
            Ok(json!({ "keys": keys }).to_string())
        }
    });
    (Arc::new(verifier.audience("shop").clock(Arc::new(Fixed))), gate, asked)
}

#[tokio::test(start_paused = true)]
async fn who_comes_during_a_fetch_waits_for_what_it_finds() {
    let (verifier, gate, asked) = gated();
    let (old, new) = (signed(1, &good()), signed(2, &good()));
    let (a, b, ()) = tokio::join!(why(&verifier, &old), why(&verifier, &old), async { gate.add_permits(1) });
    assert_eq!((a.as_str(), b.as_str(), asked.load(Relaxed)), ("alice", "alice", 1));
    // After a rotation, too; and nobody whose key is known waits for it.
    advance(secs(3_600)).await;
    let (a, b, ()) = tokio::join!(why(&verifier, &new), why(&verifier, &new), async {
        assert_eq!(why(&verifier, &old).await, "alice");
        gate.add_permits(1);
    });
    assert_eq!((a.as_str(), b.as_str(), asked.load(Relaxed)), ("alice", "alice", 2));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_no_fetch_with_it() {
    let (verifier, gate, asked) = gated();
    let token = signed(1, &good());
    for _ in 0..3 {
        assert!(why(&verifier, &token).now_or_never().is_none(), "it waits for the fetch, and leaves");
    }
    gate.add_permits(1);
    assert_eq!((why(&verifier, &token).await.as_str(), asked.load(Relaxed)), ("alice", 1));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_down_at_the_start_is_asked_again_soon() {
    let issuer = Issuer::default();
    let verifier = issuer.verifier();
    assert!(why(&verifier, &signed(1, &good())).await.starts_with("unavailable"));
    issuer.set(Some(&[1]));
    advance(secs(1)).await;
    assert_eq!(why(&verifier, &signed(1, &good())).await, "alice");
}

#[tokio::test]
async fn a_token_with_an_extension_that_must_be_understood_is_refused() {
    let verifier = JwtVerifier::secret(b"shared").audience("shop").clock(Arc::new(Fixed));
    for (crit, expected) in
        [(None, "alice"), (Some(vec!["b64".to_owned()]), "the token's crit is not understood")]
    {
        let header = Header { crit, ..Header::new(Theirs::HS256) };
        let token = encode(&header, &good(), &EncodingKey::from_secret(b"shared")).unwrap();
        assert_eq!(why(&verifier, &token).await, expected);
    }
}
