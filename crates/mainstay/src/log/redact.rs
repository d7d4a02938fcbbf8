//! Fields that hold a secret, by their name.

const SECRET: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "authorization",
    "cookie",
    "bearer",
    "api_key",
    "apikey",
    "private_key",
    "auth_token",
    "access_token",
    "refresh_token",
];

/// Which fields are hidden.
#[derive(Debug, Clone)]
pub(crate) struct Redact {
    names: Vec<Box<str>>,
    /// A bit for how each of them ends: most fields end otherwise, and each of a line's is asked about.
    ends: u64,
}

impl Redact {
    pub fn new(more: &[String]) -> Self {
        let all = SECRET.into_iter().chain(more.iter().map(String::as_str));
        let names = all.map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        let names: Vec<Box<str>> = names.map(Into::into).collect();
        let ends = names.iter().fold(0, |ends, name| ends | end(name.as_bytes()));
        Self { names, ends }
    }

    /// Whether a name is one of them, or ends in one: `db_password`, `http.request.header.cookie`.
    pub fn hides(&self, name: &str) -> bool {
        if self.ends & end(name.as_bytes()) == 0 {
            return false;
        }
        self.names.iter().any(|secret| {
            let Some(at) = name.len().checked_sub(secret.len()) else { return false };
            let (before, last) = (name.as_bytes().get(..at), name.as_bytes().get(at..));
            last.is_some_and(|last| last.eq_ignore_ascii_case(secret.as_bytes()))
                && before.is_some_and(|before| matches!(before.last(), None | Some(b'_' | b'.' | b'-')))
        })
    }
}

/// One bit for the last two letters, whatever their case; all bits for a single letter, which any may stand before.
fn end(name: &[u8]) -> u64 {
    match name {
        [] => 0,
        [_] => u64::MAX,
        [.., before, last] => {
            let pair = before.to_ascii_lowercase().wrapping_mul(5) ^ last.to_ascii_lowercase();
            1 << (pair & 63)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_whole_word_by_word() {
        let redact = Redact::new(&["Ssn".to_owned(), " ".to_owned(), "X".to_owned()]);
        for hidden in [
            "password",
            "Password",
            "db_password",
            "http.request.header.cookie",
            "x-api_key",
            "ssn",
            "x",
            "pin.X",
        ] {
            assert!(redact.hides(hidden), "{hidden}");
        }
        for shown in ["token", "passwords", "nopassword", "secretary", "", "id"] {
            assert!(!redact.hides(shown), "{shown}");
        }
    }
}
