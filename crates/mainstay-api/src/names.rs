//! The names of things: what the contract allows.

/// Whether this may name a queue, lock, group, schedule, worker or token: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
pub fn is_name(text: &str) -> bool {
    let [first, rest @ ..] = text.as_bytes() else { return false };
    rest.len() <= 127
        && first.is_ascii_alphanumeric()
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

/// Whether this may name a topic: 1 to 16 tokens `[A-Za-z0-9_-]+` joined by `.`, 255 characters at most.
pub fn is_topic(text: &str) -> bool {
    text.len() <= 255 && text.split('.').count() <= 16 && text.split('.').all(is_token)
}

/// Whether this may begin a name: what a token can be limited to. Empty means no limit.
pub fn is_prefix(text: &str) -> bool {
    text.is_empty() || is_name(text) || is_topic(text)
}

/// Says what a name looks like, in words that follow a field's name.
pub const NAME_RULE: &str =
    "must be a name: 1 to 128 letters, digits or . _ : - and the first a letter or digit";

/// Says what a topic looks like, in words that follow a field's name.
pub const TOPIC_RULE: &str =
    "must be a topic: 1 to 16 tokens of letters, digits, _ or - joined by dots, at most 255 characters";

/// Whether this may choose topics: a topic in which `*` stands for one token and a last `>` for one or more.
pub fn is_filter(text: &str) -> bool {
    let mut tokens = text.split('.').peekable();
    let mut right = text.len() <= 255 && text.split('.').count() <= 16;
    while let Some(token) = tokens.next() {
        right &= is_token(token) || token == "*" || token == ">" && tokens.peek().is_none();
    }
    right
}

/// Says what a filter looks like, in words that follow a field's name.
pub const FILTER_RULE: &str = "must be a topic filter: tokens of letters, digits, _ or - joined by dots, where * is any one token and a last > any rest";

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let long = "a".repeat(128);
        for name in ["a", "9", "mail", "tenant:mail.v2_x-1", long.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let longer = "a".repeat(129);
        for name in ["", ".a", "-a", ":a", "_a", "a b", "a/b", "ä", "a\0", "a\n", longer.as_str()] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn filters_follow_the_rule() {
        for filter in ["a", "*", ">", "a.*", "a.>", "*.b.*", "orders.*.eu-1"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", ".", ">.a", "a.>.b", "a*", "a..b", "a.", "**", ">>"] {
            assert!(!is_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn topics_follow_the_rule() {
        let sixteen = ["t"; 16].join(".");
        for topic in ["a", "-", "orders.created", "a.b_c.d-e", sixteen.as_str()] {
            assert!(is_topic(topic), "{topic}");
        }
        let seventeen = ["t"; 17].join(".");
        let long = "a".repeat(256);
        for topic in ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a:b", seventeen.as_str(), long.as_str()] {
            assert!(!is_topic(topic), "{topic:?}");
        }
    }

    proptest! {
        #[test]
        fn what_the_rule_makes_is_a_name(name in "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}") {
            prop_assert!(is_name(&name));
        }
    }
}
