//! Many filters, matched at once: a trie over their tokens. A match costs as much as the topic has tokens (times two
//! for each level at which a `*` leads on as well), however many filters there are that do not match.

use hashbrown::HashMap;

use super::{TopicFilter, TopicName};

/// Filters with a value each; the same filter may be there with many values.
#[derive(Clone, Debug)]
pub struct FilterSet<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that can be used again.
    free: Vec<u32>,
    len: usize,
}

/// What is known after some tokens.
#[derive(Clone, Debug)]
struct Node<T> {
    words: HashMap<Box<str>, u32>,
    star: Option<u32>,
    /// Filters that end here.
    here: Vec<T>,
    /// Filters that end here with a `>`.
    rest: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Node<T> {
        Node { words: HashMap::new(), star: None, here: Vec::new(), rest: Vec::new() }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

const ROOT: u32 = 0;

impl<T> Default for FilterSet<T> {
    fn default() -> FilterSet<T> {
        FilterSet { nodes: vec![Node::default()], free: Vec::new(), len: 0 }
    }
}

impl<T: PartialEq> FilterSet<T> {
    /// A set without filters.
    pub fn new() -> FilterSet<T> {
        FilterSet::default()
    }

    /// How many filters it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a filter with its value, also if both are there already.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut at = ROOT;
        self.len += 1;
        for token in filter.tokens() {
            let next = match token {
                ">" => return self.nodes[at as usize].rest.push(value),
                "*" => self.nodes[at as usize].star,
                word => self.nodes[at as usize].words.get(word).copied(),
            };
            at = next.unwrap_or_else(|| self.grow(at, token));
        }
        self.nodes[at as usize].here.push(value);
    }

    fn grow(&mut self, at: u32, token: &str) -> u32 {
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            (self.nodes.len() - 1) as u32
        });
        let node = &mut self.nodes[at as usize];
        if token == "*" {
            node.star = Some(new);
        } else {
            node.words.insert(token.into(), new);
        }
        new
    }

    /// Takes a filter with this value out, once. `false`: it is not there.
    pub fn remove(&mut self, filter: &TopicFilter, value: &T) -> bool {
        let mut path = Vec::new();
        let mut at = ROOT;
        let mut rest = false;
        for token in filter.tokens() {
            if token == ">" {
                rest = true;
                break;
            }
            let node = &self.nodes[at as usize];
            let next = if token == "*" { node.star } else { node.words.get(token).copied() };
            let Some(next) = next else { return false };
            path.push((at, token));
            at = next;
        }
        let node = &mut self.nodes[at as usize];
        let values = if rest { &mut node.rest } else { &mut node.here };
        let Some(found) = values.iter().position(|known| known == value) else { return false };
        values.swap_remove(found);
        self.len -= 1;
        // What leads nowhere any more goes, so that filters that come and go leave nothing behind.
        while self.nodes[at as usize].is_empty()
            && let Some((parent, token)) = path.pop()
        {
            self.nodes[at as usize] = Node::default();
            self.free.push(at);
            let node = &mut self.nodes[parent as usize];
            if token == "*" {
                node.star = None;
            } else {
                node.words.remove(token);
            }
            at = parent;
        }
        true
    }

    /// Calls `found` with the value of each filter that matches, in no order.
    pub fn matches<'s>(&'s self, topic: &TopicName, mut found: impl FnMut(&'s T)) {
        self.walk(ROOT, Some(topic.as_str()), &mut found);
    }

    /// `left`: the tokens still to come; `None`: none.
    fn walk<'s>(&'s self, at: u32, left: Option<&str>, found: &mut impl FnMut(&'s T)) {
        let node = &self.nodes[at as usize];
        let Some(left) = left else { return node.here.iter().for_each(found) };
        node.rest.iter().for_each(&mut *found);
        let (token, left) = match left.split_once('.') {
            Some((token, left)) => (token, Some(left)),
            None => (left, None),
        };
        if let Some(next) = node.words.get(token) {
            self.walk(*next, left, found);
        }
        if let Some(next) = node.star {
            self.walk(next, left, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    /// All texts of up to three tokens of these.
    fn texts(tokens: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        let mut last = all.clone();
        for _ in 0..2 {
            last = last.iter().flat_map(|text| tokens.iter().map(move |t| format!("{text}.{t}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn a_set_finds_what_each_filter_alone_would_match() {
        let filters: Vec<_> =
            texts(&["a", "b", "*", ">"]).iter().filter_map(|text| TopicFilter::new(text).ok()).collect();
        let mut set = FilterSet::new();
        for (i, filter) in filters.iter().enumerate() {
            set.insert(filter, i);
        }
        // Every third goes again.
        for (i, filter) in filters.iter().enumerate().step_by(3) {
            assert!(set.remove(filter, &i));
            assert!(!set.remove(filter, &i));
        }
        for topic in texts(&["a", "b", "c"]) {
            let topic = TopicName::new(&topic).unwrap();
            let mut found = Vec::new();
            set.matches(&topic, |i| found.push(*i));
            found.sort_unstable();
            let alone: Vec<_> =
                (0..filters.len()).filter(|i| i % 3 != 0 && filters[*i].matches(&topic)).collect();
            assert_eq!(found, alone, "{topic}");
        }
    }

    #[test]
    fn filters_that_come_and_go_leave_nothing_behind() {
        let mut set = FilterSet::new();
        for i in 0..1_000 {
            let text = format!("a.*.t{i}.>");
            set.insert(&filter(&text), i);
            assert!(set.remove(&filter(&text), &i));
        }
        assert!(set.is_empty());
        assert!(set.nodes.len() <= 4, "{} nodes", set.nodes.len());
    }

    #[test]
    fn a_filter_may_be_there_with_many_values() {
        let mut set = FilterSet::new();
        set.insert(&filter("a.>"), 1);
        set.insert(&filter("a.>"), 2);
        set.remove(&filter("a.>"), &1);
        let mut found = Vec::new();
        set.matches(&TopicName::new("a.b").unwrap(), |value| found.push(*value));
        assert_eq!((found, set.len()), (vec![2], 1));
    }
}
