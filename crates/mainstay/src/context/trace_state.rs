//! W3C Trace Context: the `tracestate`.

use std::sync::Arc;

/// What tracing systems along the way have left for each other: handed on as it came, never read.
///
/// A list that breaks the W3C's rules is refused as a whole. One longer than 512 bytes loses its members of more than
/// 128 bytes first, then the last ones, as the standard says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState(Option<Arc<str>>);

const MEMBERS: usize = 32;
const TOTAL: usize = 512;
const LARGE: usize = 128;

impl TraceState {
    pub(super) const NONE: Self = Self(None);

    /// Reads a list; several headers of one request are joined with commas first. `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let mut members: Vec<&str> = Vec::new();
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            // Empty ones are allowed, and mean nothing.
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let known = |other: &&str| other.split_once('=').is_some_and(|(other, _)| other == key);
            if !is_key(key) || !is_value(value) || members.iter().any(known) || members.len() == MEMBERS {
                return None;
            }
            members.push(member);
        }
        let length = |members: &[&str]| members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
        while length(&members) > TOTAL {
            let large = members.iter().rposition(|member| member.len() > LARGE);
            members.remove(large.unwrap_or(members.len() - 1));
        }
        Some(Self((!members.is_empty()).then(|| members.join(",").into())))
    }

    /// The list as a header's value; `None` if there is nothing in it.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// `[a-z][a-z0-9_*/-]*`, or `tenant@system`, of 256 bytes at most.
fn is_key(key: &str) -> bool {
    let rest =
        |text: &str| text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'));
    let letter = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase());
    match key.split_once('@') {
        None => letter(key) && rest(key) && key.len() <= 256,
        Some((tenant, system)) => {
            let begins = tenant.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            begins
                && rest(tenant)
                && tenant.len() <= 241
                && letter(system)
                && rest(system)
                && system.len() <= 14
        }
    }
}

/// Printable ASCII but `,` and `=`, not ending with a space, 256 bytes at most.
fn is_value(value: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'~') && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && !value.ends_with(' ') && value.bytes().all(printable)
}
