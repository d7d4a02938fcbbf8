//! Bodies that are read before they are asked for. What a queue hands out next is known, many bodies side by side are
//! read for the price of a few, and a claim that finds its body here is answered without another thread.
//!
//! A queue is looked at once a body of it had to be waited for, and then, from where that ended, whenever half of what
//! was read for it has been handed out. How far ahead doubles as long as that goes well, and shrinks when what was read
//! is not what is asked for: so a queue that is claimed from now and then costs little, and one whose jobs come in
//! another order too.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use mainstay_core::{QueueName, engine::Turn, job::JobBody};

/// So many bodies of a queue are read ahead, at least and at most.
const WINDOW: [usize; 2] = [8, 512];
/// Longer ones are not read ahead.
const LONGEST: usize = 64 << 10;
/// Queues of which it is known how they are claimed from; when there are more, it is found out anew.
const QUEUES: usize = 4_096;
/// What a body costs beside its bytes.
const OVERHEAD: usize = 160;

#[derive(Default)]
pub(crate) struct Ahead {
    /// By number.
    bodies: HashMap<u64, Entry>,
    /// In the order of asking; some of them are gone.
    order: VecDeque<u64>,
    bytes: usize,
    limit: usize,
    queues: HashMap<QueueName, Look>,
    /// Queues to be looked at, each once.
    due: Vec<QueueName>,
}

/// A queue that is to be looked at.
pub struct Due {
    pub queue: QueueName,
    /// Behind this, if it has been looked at before and nothing had to be waited for since.
    pub after: Option<Turn>,
    pub count: usize,
}

struct Entry {
    cost: usize,
    /// `None`: it was asked for, and has not come.
    body: Option<Arc<JobBody>>,
}

/// How a queue is claimed from, since it was looked at.
struct Look {
    window: usize,
    /// How far it has been looked at.
    after: Option<Turn>,
    hits: usize,
    missed: bool,
    due: bool,
}

impl Ahead {
    pub(crate) fn new(limit: usize) -> Ahead {
        Ahead { limit, ..Ahead::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands out a body that is not in RAM otherwise, if it was read.
    pub(crate) fn take(&mut self, queue: &QueueName, n: u64) -> Option<Arc<JobBody>> {
        if self.limit == 0 {
            return None;
        }
        let body = self.remove(n);
        if !self.queues.contains_key(queue) {
            if self.queues.len() == QUEUES {
                self.queues.clear();
                self.due.clear();
            }
            let look = Look { window: WINDOW[0], after: None, hits: 0, missed: false, due: false };
            self.queues.insert(queue.clone(), look);
        }
        let look = self.queues.get_mut(queue)?;
        match body {
            Some(_) => look.hits += 1,
            None => look.missed = true,
        }
        if !look.due && (look.missed || look.hits * 2 >= look.window) {
            look.due = true;
            self.due.push(queue.clone());
        }
        body
    }

    /// The queues to be looked at now.
    pub(crate) fn take_due(&mut self) -> Vec<Due> {
        let due = std::mem::take(&mut self.due);
        let looked_at = |queue: QueueName| {
            let look = self.queues.get_mut(&queue)?;
            let went_well = look.hits * 2 >= look.window;
            // What is left of before is not read again.
            let left = if look.missed { 0 } else { look.window.saturating_sub(look.hits) };
            if went_well {
                look.window = (look.window * 2).min(WINDOW[1]);
            } else {
                look.window = (look.window / 4).max(WINDOW[0]);
            }
            if look.missed {
                look.after = None;
            }
            (look.hits, look.missed, look.due) = (0, false, false);
            Some(Due { after: look.after, count: look.window - left, queue })
        };
        due.into_iter().filter_map(looked_at).collect()
    }

    /// Up to here a queue has been looked at.
    pub(crate) fn has_seen(&mut self, queue: &QueueName, up_to: Turn) {
        if let Some(look) = self.queues.get_mut(queue) {
            look.after = Some(up_to);
        }
    }

    /// Notes that a body of so many bytes is asked for; `false`: it is not to be, being here, or for want of room.
    pub(crate) fn ask(&mut self, n: u64, size: usize) -> bool {
        let cost = size + OVERHEAD;
        if size > LONGEST || cost > self.limit || self.bodies.contains_key(&n) {
            return false;
        }
        while self.bytes + cost > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
        self.bytes += cost;
        self.bodies.insert(n, Entry { cost, body: None });
        self.order.push_back(n);
        if self.order.len() > 2 * self.bodies.len() + WINDOW[1] {
            let bodies = &self.bodies;
            self.order.retain(|n| bodies.contains_key(n));
        }
        true
    }

    /// A body that was asked for has been read, or could not be.
    pub(crate) fn came(&mut self, n: u64, body: Option<Arc<JobBody>>) {
        match (self.bodies.get_mut(&n), body) {
            (Some(entry), Some(body)) => entry.body = Some(body),
            (Some(_), None) => drop(self.remove(n)),
            // Nobody will ask for it any more.
            (None, _) => {}
        }
    }

    pub(crate) fn remove(&mut self, n: u64) -> Option<Arc<JobBody>> {
        if self.bodies.is_empty() {
            return None;
        }
        let entry = self.bodies.remove(&n)?;
        self.bytes -= entry.cost;
        entry.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 100;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn body() -> Option<Arc<JobBody>> {
        Some(Arc::new(JobBody::new("k", "1")))
    }

    /// Asks for what is due of a queue whose jobs have the numbers from `next` on, and has it come.
    fn look(ahead: &mut Ahead, next: u64) -> usize {
        let due = ahead.take_due();
        for due in &due {
            // Also what is there, which is not asked for again.
            for n in next..next + WINDOW[1].min(2 * due.count) as u64 {
                if ahead.ask(n, SIZE) {
                    ahead.came(n, body());
                }
            }
        }
        due.first().map_or(0, |due| due.count)
    }

    #[test]
    fn it_looks_further_while_it_is_right_and_only_then() {
        let (mut ahead, q) = (Ahead::new(1 << 20), queue("q"));
        let (mut misses, mut widest) = (0, 0);
        for n in 1..20_000 {
            misses += usize::from(ahead.take(&q, n).is_none());
            widest = widest.max(look(&mut ahead, n + 1));
        }
        assert_eq!(misses, 1);
        assert!((WINDOW[1] / 2..=WINDOW[1]).contains(&widest), "{widest}");
        // Now they come in another order.
        for n in (100_000..200_000).step_by(1_000) {
            assert!(ahead.take(&q, n).is_none());
            look(&mut ahead, n + 1);
        }
        assert!(ahead.take(&q, 300_000).is_none());
        assert_eq!(look(&mut ahead, 300_001), WINDOW[0]);
    }

    #[test]
    fn the_bound_holds_and_what_is_gone_leaves_no_bytes() {
        let mut ahead = Ahead::new(10 * (SIZE + OVERHEAD));
        assert!(!ahead.ask(1, LONGEST + 1) && !ahead.ask(1, 11 * (SIZE + OVERHEAD)));
        for n in 1..=1_000 {
            assert!(ahead.ask(n, SIZE) && !ahead.ask(n, SIZE));
            ahead.came(n, body().filter(|_| n % 3 > 0));
            assert!(ahead.bytes() <= ahead.limit);
        }
        assert!(ahead.take(&queue("q"), 1_000).is_some() && ahead.take(&queue("q"), 1_000).is_none());
        for n in 1..=1_000 {
            ahead.remove(n);
        }
        assert_eq!((ahead.bytes(), ahead.bodies.len()), (0, 0));
        assert!(ahead.order.len() <= WINDOW[1] + 20);
    }

    #[test]
    fn what_comes_when_nobody_asks_any_more_is_let_go() {
        let mut ahead = Ahead::new(1 << 20);
        assert!(ahead.ask(1, SIZE));
        assert!(ahead.take(&queue("q"), 1).is_none());
        ahead.came(1, body());
        assert_eq!((ahead.bytes(), ahead.bodies.len()), (0, 0));
    }

    #[test]
    fn without_room_nothing_is_looked_at() {
        let mut ahead = Ahead::new(0);
        assert!(ahead.take(&queue("q"), 1).is_none() && ahead.take_due().is_empty());
        assert!(!ahead.ask(1, 0));
    }

    #[test]
    fn more_queues_than_it_knows_are_found_out_anew() {
        let mut ahead = Ahead::new(1 << 20);
        for i in 0..3 * QUEUES {
            ahead.take(&queue(&format!("q{i}")), 1);
            assert!(ahead.queues.len() <= QUEUES && ahead.due.len() <= QUEUES);
        }
        assert_eq!(ahead.take_due().len(), ahead.queues.len());
    }
}
