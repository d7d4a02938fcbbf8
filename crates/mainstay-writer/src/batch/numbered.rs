//! Things by their number, where numbers are given in order: what comes and goes together lies together.

use hashbrown::HashMap;

/// So many numbers that follow one another share a page.
const PAGE: u64 = 64;

/// Things by number. Only pages that hold something take memory, whatever lies between the numbers.
#[derive(Clone)]
pub struct Numbered<T> {
    pages: HashMap<u64, Page<T>>,
    len: usize,
}

#[derive(Clone)]
struct Page<T> {
    slots: Box<[Option<T>]>,
    full: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { pages: HashMap::new(), len: 0 }
    }
}

/// The page of a number, and its place there.
fn place(n: u64) -> (u64, usize) {
    (n / PAGE, (n % PAGE) as usize)
}

impl<T> Numbered<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What has this number.
    pub fn get(&self, n: u64) -> Option<&T> {
        let (page, at) = place(n);
        self.pages.get(&page)?.slots[at].as_ref()
    }

    /// What has this number, to be changed.
    pub fn get_mut(&mut self, n: u64) -> Option<&mut T> {
        let (page, at) = place(n);
        self.pages.get_mut(&page)?.slots[at].as_mut()
    }

    /// Puts something; answers what had the number before.
    pub fn insert(&mut self, n: u64, new: T) -> Option<T> {
        let (page, at) = place(n);
        let empty = || Page { slots: (0..PAGE).map(|_| None).collect(), full: 0 };
        let page = self.pages.entry(page).or_insert_with(empty);
        let before = page.slots[at].replace(new);
        if before.is_none() {
            page.full += 1;
            self.len += 1;
        }
        before
    }

    /// Takes what has this number.
    pub fn remove(&mut self, n: u64) -> Option<T> {
        let (number, at) = place(n);
        let page = self.pages.get_mut(&number)?;
        let taken = page.slots[at].take()?;
        page.full -= 1;
        self.len -= 1;
        if page.full == 0 {
            self.pages.remove(&number);
        }
        Some(taken)
    }

    /// All of them in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_unstable_by_key(|(number, _)| **number);
        pages.into_iter().flat_map(|(number, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(at, slot)| Some((number * PAGE + at as u64, slot.as_ref()?)))
        })
    }

    /// Takes all of them, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.len = 0;
        self.pages.drain().flat_map(|(_, page)| page.slots.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay_core::rules::mix;

    use super::*;

    #[test]
    fn it_is_a_map_in_the_order_of_numbers() {
        let (mut ours, mut model) = (Numbered::default(), BTreeMap::new());
        for i in 0..20_000 {
            let draw = mix(11, i);
            // Dense, with another few far away, at the end of all numbers too.
            let n = if draw.is_multiple_of(50) { u64::MAX - draw % 3 } else { (draw >> 8) % 700 };
            if draw.is_multiple_of(3) {
                assert_eq!(ours.remove(n), model.remove(&n));
            } else {
                assert_eq!(ours.insert(n, i), model.insert(n, i));
            }
            assert_eq!((ours.len(), ours.get(n)), (model.len(), model.get(&n)));
            assert_eq!(ours.get_mut(n ^ 1), model.get_mut(&(n ^ 1)));
        }
        assert!(ours.iter().eq(model.iter().map(|(n, i)| (*n, i))));
        let mut drained: Vec<_> = ours.drain().collect();
        drained.sort_unstable();
        let mut all: Vec<_> = model.into_values().collect();
        all.sort_unstable();
        assert_eq!((drained, ours.len(), ours.pages.len()), (all, 0, 0));
    }

    #[test]
    fn what_is_gone_takes_no_memory() {
        let mut ours = Numbered::default();
        (0..1_000).for_each(|i| assert_eq!(ours.insert(i * 1_000, i), None));
        (0..1_000).for_each(|i| assert_eq!(ours.remove(i * 1_000), Some(i)));
        assert!(ours.is_empty() && ours.pages.is_empty());
    }
}
