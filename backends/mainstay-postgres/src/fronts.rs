//! The oldest of what has finished, read ahead: retention asks for a few of them again and again, and the tables would have
//! to be asked between two groups. A snapshot that somebody holds also keeps what was deleted in the way of whoever looks
//! for the first.

use std::collections::{HashMap, VecDeque};

use mainstay_core::engine::change::{FinishedKey, FinishedRef, Lane, QueueId};

/// At most so many are read at once, of which most are asked for later.
pub(crate) const READ_AHEAD: usize = 4_096;
/// So many times what is asked for is read.
pub(crate) const TIMES: usize = 8;
/// So many are known of all lanes together; with more, what is known is forgotten.
const MOST: usize = 16 * READ_AHEAD;

/// The fronts of lanes whose places grow, as the group under way leaves them.
#[derive(Default)]
pub(crate) struct Fronts {
    lanes: HashMap<(QueueId, Lane), Front>,
    /// How many places all of them know.
    known: usize,
}

#[derive(Default)]
struct Front {
    /// Nothing is left up to here.
    trimmed_to: u64,
    /// All that there is from there on, up to the last of these.
    oldest: VecDeque<FinishedRef>,
    /// Behind the last of them there is nothing.
    whole: bool,
}

impl Fronts {
    /// The oldest `limit` of a lane, if they are known.
    pub(crate) fn oldest(&self, queue: QueueId, lane: Lane, limit: usize) -> Option<Vec<FinishedRef>> {
        let front = self.lanes.get(&(queue, lane))?;
        let enough = front.whole || front.oldest.len() >= limit;
        enough.then(|| front.oldest.iter().take(limit).copied().collect())
    }

    /// The tables were asked: these are the oldest, with what the group under way has done; `whole`: there are no others.
    pub(crate) fn found(&mut self, queue: QueueId, lane: Lane, oldest: &[FinishedRef], whole: bool) {
        // Places of `Lane::Own` do not grow.
        if lane == Lane::Own {
            return;
        }
        let front = self.lanes.entry((queue, lane)).or_default();
        self.known = self.known + oldest.len() - front.oldest.len();
        (front.oldest, front.whole) = (oldest.iter().copied().collect(), whole);
        self.bound();
    }

    pub(crate) fn comes(&mut self, place: FinishedRef) {
        let key = place.key;
        let Some(front) = self.lanes.get_mut(&(key.queue, key.lane)) else { return };
        if front.oldest.back().map_or(front.trimmed_to, |last| last.key.f) >= key.f {
            // Not in order: what is known is not all.
            self.known -= front.oldest.len();
            *front = Front::default();
        } else if front.whole {
            front.oldest.push_back(place);
            self.known += 1;
            self.bound();
        }
    }

    pub(crate) fn goes(&mut self, key: FinishedKey) {
        let Some(front) = self.lanes.get_mut(&(key.queue, key.lane)) else { return };
        let known = front.oldest.len();
        match front.oldest.front() {
            Some(first) if first.key == key => {
                front.oldest.pop_front();
                front.trimmed_to = key.f;
            }
            // A job of the middle that is tried again, or deleted.
            _ => front.oldest.retain(|place| place.key != key),
        }
        self.known = self.known + front.oldest.len() - known;
    }

    /// What is read ahead is forgotten when it becomes much; how far all was trimmed is not.
    fn bound(&mut self) {
        if self.known > MOST {
            for front in self.lanes.values_mut() {
                (front.oldest, front.whole) = (VecDeque::new(), false);
            }
            self.known = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::{JobId, Timestamp, engine::change::PolicyId};

    use super::*;

    const QUEUE: QueueId = QueueId(3);

    fn place(f: u64) -> FinishedRef {
        let key = FinishedKey { queue: QUEUE, lane: Lane::Done, f };
        FinishedRef { key, id: JobId::MIN, n: f, policy: PolicyId(0), finished_at: Timestamp(0) }
    }

    fn trimmed_to(fronts: &Fronts) -> u64 {
        fronts.lanes[&(QUEUE, Lane::Done)].trimmed_to
    }

    fn oldest(fronts: &Fronts, limit: usize) -> Option<Vec<u64>> {
        let known = fronts.oldest(QUEUE, Lane::Done, limit)?;
        Some(known.iter().map(|place| place.key.f).collect())
    }

    #[test]
    fn what_was_read_ahead_is_told_until_it_does_not_reach() {
        let mut fronts = Fronts::default();
        assert_eq!(oldest(&fronts, 1), None);
        fronts.found(QUEUE, Lane::Done, &[1, 2, 4, 5].map(place), false);
        // There may be others behind them: what comes is not known to be next.
        fronts.comes(place(9));
        assert_eq!(oldest(&fronts, 3), Some(vec![1, 2, 4]));
        fronts.goes(place(1).key);
        fronts.goes(place(4).key);
        assert_eq!(oldest(&fronts, 2), Some(vec![2, 5]));
        assert_eq!((oldest(&fronts, 3), trimmed_to(&fronts)), (None, 1));
        // One that is not known at all.
        fronts.goes(place(9).key);
        assert_eq!(fronts.known, 2);
    }

    #[test]
    fn a_lane_that_is_known_whole_grows_with_what_comes() {
        let mut fronts = Fronts::default();
        fronts.found(QUEUE, Lane::Done, &[], true);
        fronts.comes(place(5));
        fronts.comes(place(7));
        assert_eq!(oldest(&fronts, 9), Some(vec![5, 7]));
        fronts.goes(place(5).key);
        fronts.goes(place(7).key);
        assert_eq!((oldest(&fronts, 9), trimmed_to(&fronts)), (Some(vec![]), 7));
        // Out of order, it is asked for anew.
        fronts.comes(place(6));
        assert_eq!((oldest(&fronts, 1), fronts.known), (None, 0));
    }

    #[test]
    fn what_is_known_of_many_lanes_is_bounded() {
        let mut fronts = Fronts::default();
        for queue in 0..40 {
            let of_queue =
                |f| FinishedRef { key: FinishedKey { queue: QueueId(queue), ..place(f).key }, ..place(f) };
            let many: Vec<_> = (1..=READ_AHEAD as u64).map(of_queue).collect();
            fronts.found(QueueId(queue), Lane::Done, &many, false);
            fronts.goes(many[0].key);
            let known = fronts.lanes.values().map(|front| front.oldest.len()).sum::<usize>();
            assert!(known == fronts.known && known <= MOST, "{known}, {}", fronts.known);
        }
        assert_eq!(fronts.lanes[&(QueueId(0), Lane::Done)].trimmed_to, 1);
    }
}
