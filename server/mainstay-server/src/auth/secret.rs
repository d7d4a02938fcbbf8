//! The secret of an access token. Only its hash is ever kept.

use sha2::{Digest, Sha256};

/// What a token begins with, so that scanners for leaked secrets can recognise it.
const PREFIX: &str = "mst_";

/// A new token: 192 bits from the operating system, which no table of hashes covers.
///
/// # Errors
/// The operating system gives no random bytes.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    let mut text = String::with_capacity(PREFIX.len() + 2 * bytes.len());
    text.push_str(PREFIX);
    bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    Ok(text)
}

/// What is kept of a token. Unsalted and fast on purpose: the secret is random, not a password.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Compares without telling by its duration where the difference is.
pub(super) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Reads 64 hexadecimal digits.
pub(super) fn read_hash(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_their_hashes_are_those_of_sha256() {
        assert_ne!(new_secret().unwrap(), new_secret().unwrap());
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(same(&hash("abc"), &read_hash(abc).unwrap()));
        assert!(!same(&hash("abd"), &hash("abc")));
        assert!(read_hash("12").is_none() && read_hash(&"g".repeat(64)).is_none());
    }
}
