//! Names of topics, and filters that match them.

mod set;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use set::FilterSet;

use crate::{name::InvalidName, text::Text};

/// At most this many tokens.
const MOST_TOKENS: usize = 16;
/// At most this many characters.
const MOST_CHARACTERS: usize = 255;

/// The name of a topic: 1–16 tokens `[A-Za-z0-9_-]+` joined by `.`, 255 characters at most. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Text);

/// Which topics: a topic's name in which `*` stands for exactly one token and a last `>` for one or more. `>` alone
/// is every topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicFilter(Arc<str>);

impl TopicName {
    /// Checks `text` and makes it the name of a topic.
    ///
    /// # Errors
    /// What is wrong with it, for its author.
    pub fn new(text: &str) -> Result<TopicName, InvalidName> {
        check("a topic", text, is_word)?;
        Ok(TopicName(Text::from(text)))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of the name.
    pub fn to_text(&self) -> Text {
        self.0.clone()
    }

    /// Its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl TopicFilter {
    /// Checks `text` and makes it a filter.
    ///
    /// # Errors
    /// What is wrong with it, for its author.
    pub fn new(text: &str) -> Result<TopicFilter, InvalidName> {
        check("a topic filter", text, |token| is_word(token) || token == "*" || token == ">")?;
        let before_last = text.rsplit_once('.').map_or("", |(before, _)| before);
        if before_last.split('.').any(|token| token == ">") {
            return Err(InvalidName::of("a topic filter has `>` only as its last token".into()));
        }
        Ok(TopicFilter(Arc::from(text)))
    }

    /// The filter that matches every topic.
    pub fn all() -> TopicFilter {
        TopicFilter(Arc::from(">"))
    }

    /// The text of the filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// The one topic it matches, if it has no wildcard.
    pub fn literal(&self) -> Option<TopicName> {
        let wild = self.tokens().any(|token| token == "*" || token == ">");
        (!wild).then(|| TopicName(Text::from(self.0.clone())))
    }

    /// Whether it matches this topic. For many filters at once there is [`FilterSet`].
    pub fn matches(&self, topic: &TopicName) -> bool {
        let mut names = topic.tokens();
        for token in self.tokens() {
            match (token, names.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (token, Some(name)) if token == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn check(what: &str, text: &str, fits: impl Fn(&str) -> bool) -> Result<(), InvalidName> {
    let bad = |why: String| Err(InvalidName::of(format!("{what} {why}")));
    if text.is_empty() {
        return bad("has at least one character".into());
    }
    if text.len() > MOST_CHARACTERS {
        return bad(format!("has at most {MOST_CHARACTERS} characters"));
    }
    if text.split('.').count() > MOST_TOKENS {
        return bad(format!("has at most {MOST_TOKENS} tokens"));
    }
    if !text.split('.').all(fits) {
        return bad("consists of tokens of A-Z, a-z, 0-9, _ and -, joined by single dots".into());
    }
    Ok(())
}

impl TryFrom<String> for TopicName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<TopicName, InvalidName> {
        TopicName::new(&text)
    }
}
impl From<TopicName> for String {
    fn from(name: TopicName) -> String {
        name.0.as_ref().to_owned()
    }
}
impl std::str::FromStr for TopicName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<TopicName, InvalidName> {
        TopicName::new(text)
    }
}
impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl PartialEq<str> for TopicName {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}
impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<TopicFilter, InvalidName> {
        TopicFilter::new(&text)
    }
}
impl From<TopicFilter> for String {
    fn from(name: TopicFilter) -> String {
        name.0.as_ref().to_owned()
    }
}
impl std::str::FromStr for TopicFilter {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<TopicFilter, InvalidName> {
        TopicFilter::new(text)
    }
}
impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl std::borrow::Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters_follow_the_contract() {
        let sixteen = ["a"; 16].join(".");
        for good in ["a", "orders.created", "A_1.b-2", &sixteen, &"a".repeat(255)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
            assert!(TopicFilter::new(good).is_ok(), "{good}");
        }
        let seventeen = ["a"; 17].join(".");
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "é", "a:b", &seventeen, &"a".repeat(256)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
            assert!(TopicFilter::new(bad).is_err(), "{bad}");
        }
        for good in [">", "*", "a.*", "*.b.>", "*.*", "a.>"] {
            assert!(TopicFilter::new(good).is_ok(), "{good}");
            assert!(TopicName::new(good).is_err(), "{good}");
        }
        for bad in [">.a", "a.>.b", "a*", "a.b>", "**", ">>", ">.>"] {
            assert!(TopicFilter::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_is_one_token_and_the_arrow_at_least_one() {
        let rows = [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c.d", true),
            (">", "a", true),
            ("*.>", "a", false),
            ("*.>", "a.b", true),
        ];
        for (filter, topic, expected) in rows {
            let (filter, topic) = (TopicFilter::new(filter).unwrap(), TopicName::new(topic).unwrap());
            assert_eq!(filter.matches(&topic), expected, "{filter} {topic}");
        }
    }
}
