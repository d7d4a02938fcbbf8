//! What the outbox keeps waiting, so that it keeps nothing else waiting.

use std::{collections::HashMap, hash::Hash, time::Duration};

use mainstay_writer::stopwatch::Stopwatch;

/// The first pause, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// So many at most are passed over; what is beyond is tried each time.
const MOST: usize = 1_000;

/// Things that are passed over for a while: ever longer, while nothing comes of them.
pub(super) struct Parked<K>(HashMap<K, Place>);

struct Place {
    since: Stopwatch,
    pause: Duration,
}

impl<K> Default for Parked<K> {
    fn default() -> Parked<K> {
        Parked(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Parked<K> {
    /// Those that are passed over now.
    pub(super) fn now(&self) -> Vec<K> {
        self.0
            .iter()
            .filter(|(_, place)| place.since.elapsed() < place.pause)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Nothing came of it. There will hardly be room before `hint` is over.
    pub(super) fn park(&mut self, key: K, hint: Duration) {
        let longest = hint.clamp(PAUSE[0], PAUSE[1]);
        let room = self.0.len() < MOST;
        match self.0.get_mut(&key) {
            // Of many rows of one queue, the first counts.
            Some(place) if place.since.elapsed() < place.pause => {}
            Some(place) => {
                *place = Place { since: Stopwatch::start(), pause: (place.pause * 2).min(longest) }
            }
            None if room => {
                self.0.insert(key, Place { since: Stopwatch::start(), pause: PAUSE[0] });
            }
            None => {}
        }
    }

    /// Something came of it.
    pub(super) fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Those that were not tried again for long are gone.
    pub(super) fn tidy(&mut self) {
        self.0.retain(|_, place| place.since.elapsed() < place.pause + 2 * PAUSE[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_parked_is_passed_over_until_something_comes_of_it() {
        let mut parked = Parked::default();
        parked.park("a", Duration::from_secs(60));
        assert_eq!(parked.now(), ["a"]);
        parked.forget(&"a");
        assert!(parked.now().is_empty());
    }

    #[test]
    fn only_so_many_are_passed_over() {
        let mut parked = Parked::default();
        (0..2 * MOST).for_each(|key| parked.park(key, Duration::ZERO));
        assert_eq!(parked.0.len(), MOST);
    }
}
