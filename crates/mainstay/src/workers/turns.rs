//! Whose turn it is among several queues.

use mainstay_core::name::QueueName;

/// The queues of some workers: in order of preference, or by weight.
pub(super) struct Turns {
    queues: Vec<QueueName>,
    /// One for each queue, if they are served by weight.
    weights: Option<Vec<u32>>,
    credit: Vec<i64>,
}

impl Turns {
    pub fn new(queues: Vec<QueueName>, weights: Option<Vec<u32>>) -> Self {
        let credit = vec![0; queues.len()];
        Self { queues, weights, credit }
    }

    /// Shares `free` slots out: how many go to which order of queues. A share that its first queue cannot fill is filled
    /// by the others, so that nothing waits while a slot is free.
    pub fn share(&mut self, free: usize) -> Vec<(Vec<QueueName>, usize)> {
        let Some(weights) = &self.weights else { return vec![(self.queues.clone(), free)] };
        // Smooth weighted round-robin (as in nginx): every turn each gains its weight, the richest pays for all.
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut shares = vec![0; self.queues.len()];
        for _ in 0..free {
            let mut richest = 0;
            for (at, weight) in weights.iter().enumerate() {
                self.credit[at] += i64::from(*weight);
                if self.credit[at] > self.credit[richest] {
                    richest = at;
                }
            }
            self.credit[richest] -= total;
            shares[richest] += 1;
        }
        let first = |at: usize| {
            let mut order = self.queues.clone();
            order[..=at].rotate_right(1);
            order
        };
        let some = shares.into_iter().enumerate().filter(|(_, share)| *share > 0);
        some.map(|(at, share)| (first(at), share)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Vec<QueueName> {
        ["a", "b", "c"].map(|name| QueueName::new(name).unwrap()).into()
    }

    #[test]
    fn in_order_everything_is_asked_of_the_first_queue_first() {
        assert_eq!(Turns::new(queues(), None).share(7), [(queues(), 7)]);
    }

    #[test]
    fn by_weight_each_gets_its_share_however_few_slots_are_free_at_a_time() {
        for at_once in [1, 2, 5, 10] {
            let mut turns = Turns::new(queues(), Some(vec![5, 3, 2]));
            let mut got = [0; 3];
            for _ in 0..100 / at_once {
                let shares = turns.share(at_once);
                assert_eq!(shares.iter().map(|(_, share)| share).sum::<usize>(), at_once);
                for (order, share) in shares {
                    assert_eq!(order.len(), 3, "what one cannot fill, another may");
                    got[queues().iter().position(|queue| *queue == order[0]).unwrap()] += share;
                }
            }
            assert_eq!(got, [50, 30, 20], "{at_once} at once");
        }
    }

    #[test]
    fn no_queue_waits_longer_than_its_share() {
        let mut turns = Turns::new(queues(), Some(vec![8, 1, 1]));
        let firsts: Vec<_> = (0..10).map(|_| turns.share(1)[0].0[0].to_string()).collect();
        assert_eq!(firsts.iter().filter(|first| *first == "b").count(), 1, "{firsts:?}");
        assert_eq!(firsts.iter().filter(|first| *first == "c").count(), 1, "{firsts:?}");
    }
}
