//! Idempotency keys, as a store takes them.

use mainstay::core::op::IdempotencyKey;
use mainstay_api::strict::{Cx, Kind, Path, Strict, Value};
use sha2::{Digest, Sha256};

/// The key a request came under: bound to its caller, its path and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
    scope: [u8; 32],
    fingerprint: [u8; 16],
}

impl Keyed {
    pub fn new(caller: &str, method: &str, path: &str, key: &str, body: [u8; 32]) -> Keyed {
        let mut scope = Sha256::new();
        for part in [caller, method, path, key] {
            text(&mut scope, part);
        }
        Keyed { scope: scope.finalize().into(), fingerprint: first_half(&body) }
    }

    /// For a request that is one commit.
    pub fn whole(&self) -> IdempotencyKey {
        IdempotencyKey { scope: first_half(&self.scope), fingerprint: self.fingerprint }
    }

    /// The id of an event that came without one: it follows from the key and what was asked, so that a repeat names the
    /// same even when retention has removed the event meanwhile. A UUID of version 8 (RFC 9562).
    pub fn event_id(&self, index: usize) -> String {
        let IdempotencyKey { scope, fingerprint } = self.part("event", index);
        let bits = u128::from_be_bytes(scope) ^ u128::from_be_bytes(fingerprint);
        let (version, variant) = (0x8_u128 << 76, 0b10_u128 << 62);
        let bits = (bits & !((0xf_u128 << 76) | (0b11_u128 << 62))) | version | variant;
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// Hides a secret that has to be kept with an answer, and shows it again: it is its own inverse. A store sees half of
    /// `scope`, and never the key: who only reads the store learns nothing, if the key is one that cannot be guessed.
    /// (A stream cipher of SHA-256 in counter mode; no `nonce` is used twice.)
    pub fn veil(&self, nonce: [u8; 16], secret: &[u8]) -> Vec<u8> {
        let block = |number: usize| {
            let mut hash = Sha256::new();
            text(&mut hash, "mainstay: a secret under a key");
            hash.update(self.scope);
            hash.update(nonce);
            hash.update((number as u64).to_be_bytes());
            hash.finalize()
        };
        let blocks = secret.chunks(32).enumerate();
        blocks
            .flat_map(|(n, part)| part.iter().zip(block(n)).map(|(a, b)| a ^ b).collect::<Vec<_>>())
            .collect()
    }

    /// For one of the commits that a request is made of.
    pub fn part(&self, what: &str, index: usize) -> IdempotencyKey {
        let mut scope = Sha256::new();
        scope.update(self.scope);
        text(&mut scope, what);
        scope.update((index as u64).to_be_bytes());
        IdempotencyKey { scope: first_half(&scope.finalize().into()), fingerprint: self.fingerprint }
    }
}

/// A request body with its fingerprint: bodies that say the same thing in another order or with other white space have
/// the same one. How long to wait is no part of what is asked.
pub(crate) struct Fingerprinted<T> {
    pub value: T,
    pub fingerprint: [u8; 32],
}

impl<T: Strict> Strict for Fingerprinted<T> {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let mut hash = Sha256::new();
        feed(&mut hash, value, Waits::Here);
        let value = T::read(cx, at, value)?;
        Some(Self { value, fingerprint: hash.finalize().into() })
    }
}

/// The fingerprint of a body of many lines.
pub(crate) fn fingerprint_of_lines<T>(lines: &[Fingerprinted<T>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line.fingerprint);
    }
    hash.finalize().into()
}

/// The fingerprint of an event in binary mode: its attributes and its data.
pub(crate) fn fingerprint_of_event(headers: &[(&str, &[u8])], content_type: &[u8], body: &[u8]) -> [u8; 32] {
    let mut headers: Vec<_> = headers.iter().collect();
    headers.sort_unstable();
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for (name, value) in headers {
        part(name.as_bytes());
        part(value);
    }
    part(content_type);
    part(body);
    hash.finalize().into()
}

/// Where `wait_ms` means how long to wait: in the body itself and in its `claim`, not in anybody's payload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Here,
    InClaim,
    No,
}

/// The walk recurses no deeper than the reader's limit on nesting.
fn feed(hash: &mut Sha256, value: Value<'_>, waits: Waits) {
    match value.kind() {
        Kind::Object => {
            let mut members: Vec<_> = value.members().into_iter().flatten().collect();
            members.retain(|(name, _)| waits == Waits::No || name != "wait_ms");
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            hash.update(b"{");
            hash.update((members.len() as u64).to_be_bytes());
            for (name, value) in members {
                let inside = if waits == Waits::Here && name == "claim" { Waits::InClaim } else { Waits::No };
                text(hash, &name);
                feed(hash, value, inside);
            }
        }
        Kind::Array => {
            hash.update(b"[");
            for element in value.elements().into_iter().flatten() {
                feed(hash, element, Waits::No);
            }
            hash.update(b"]");
        }
        Kind::String => {
            hash.update(b"\"");
            text(hash, &value.as_str().unwrap_or_default());
        }
        Kind::Null | Kind::Bool | Kind::Number => {
            hash.update(b"=");
            text(hash, value.text());
        }
    }
}

/// With its length, so that two texts cannot be mistaken for two others.
fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

fn first_half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use mainstay_api::{Limits, strict};

    use super::*;

    struct Anything;
    impl Strict for Anything {
        fn read(_: &mut Cx<'_>, _: &Path<'_>, _: Value<'_>) -> Option<Self> {
            Some(Anything)
        }
    }

    fn fingerprint(body: &str) -> [u8; 32] {
        strict::parse::<Fingerprinted<Anything>>(body.as_bytes(), &Limits::default())
            .unwrap()
            .value
            .fingerprint
    }

    #[test]
    fn bodies_that_say_the_same_have_one_fingerprint() {
        let same = [
            r#"{"a":1,"b":{"c":[1,"x\u0041"]}}"#,
            r#" { "b" : {"c":[1, "xA"]}, "a" : 1 } "#,
            r#"{"a":1,"wait_ms":500,"b":{"c":[1,"xA"]}}"#,
        ];
        assert!(same.iter().all(|body| fingerprint(body) == fingerprint(same[0])));
        let other = [
            r#"{"a":1,"b":{"c":["x\u0041",1]}}"#,
            r#"{"a":1,"b":{"c":[1,"xA"],"wait_ms":1}}"#,
            r#"{"a":"1","b":{"c":[1,"xA"]}}"#,
            r#"{"a":1,"b":{"c":[[1],"xA"]}}"#,
        ];
        assert!(other.iter().all(|body| fingerprint(body) != fingerprint(same[0])));
        assert_eq!(fingerprint(r#"{"claim":{"wait_ms":1}}"#), fingerprint(r#"{"claim":{}}"#));
    }

    #[test]
    fn a_veiled_secret_is_shown_under_its_key_alone() {
        let key = |key| Keyed::new("a", "POST", "/p", key, [0; 32]);
        let secret = b"mst_0123456789abcdef0123456789abcdef0123456789abcdef";
        let veiled = key("k").veil([1; 16], secret);
        assert_eq!(key("k").veil([1; 16], &veiled), secret);
        for other in [key("l").veil([1; 16], &veiled), key("k").veil([2; 16], &veiled)] {
            assert!(other.iter().zip(secret).filter(|(a, b)| a == b).count() < 10);
        }
        assert!(veiled[..20].iter().zip(&veiled[32..]).any(|(a, b)| a ^ b != secret[0] ^ secret[32]));
    }

    #[test]
    fn a_key_is_bound_to_caller_path_and_part() {
        let of = |caller, path, key| Keyed::new(caller, "POST", path, key, [0; 32]);
        let one = of("a", "/p", "k");
        for other in [of("b", "/p", "k"), of("a", "/q", "k"), of("a", "/p", "l"), of("a/", "p", "k")] {
            assert_ne!(one.whole().scope, other.whole().scope);
        }
        assert_ne!(one.part("item", 0).scope, one.part("item", 1).scope);
        assert_ne!(one.part("item", 0).scope, one.part("claim", 0).scope);
        assert_eq!(one, of("a", "/p", "k"));
    }
}
