//! Hires and dismisses workers, and sees which are stuck.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Item;
use super::shared::{Shared, Spawn};
use super::slot::Slot;
use crate::millis;
use crate::queue::Receiver;
use crate::scale::{Look, Scale};
use crate::tasks::Task;

/// Between looks while there is something to see, but nothing is urgent.
const LOOK: Duration = millis(500);
/// Looks at an idle pool before it is left alone until it is called.
const IDLE_LOOKS: u32 = 2;

pub(super) struct Supervisor<J, R> {
    shared: Arc<Shared<J, R>>,
    spawn: Spawn<J, R>,
    /// For the workers that are to come; it takes nothing itself.
    receiver: Receiver<Item<J, R>>,
    scale: Scale,
    crew: Vec<Member<J, R>>,
    /// Those whose slot is lost: they go when their job lets them.
    lost: Vec<Task<()>>,
    hired: u64,
    origin: Instant,
    /// What members that are gone have counted.
    gone: (u64, u64),
    counted: (u64, u64),
    waiting_since: Option<Instant>,
    idle_looks: u32,
}

struct Member<J, R> {
    slot: Arc<Slot<J, R>>,
    task: Task<()>,
}

impl<J: Send + 'static, R: Send + 'static> Supervisor<J, R> {
    pub fn new(shared: Arc<Shared<J, R>>, spawn: Spawn<J, R>, receiver: Receiver<Item<J, R>>) -> Self {
        let scale = Scale::new(shared.plan.rules);
        let mut supervisor = Self {
            shared,
            spawn,
            receiver,
            scale,
            crew: Vec::new(),
            lost: Vec::new(),
            hired: 0,
            origin: Instant::now(),
            gone: (0, 0),
            counted: (0, 0),
            waiting_since: None,
            idle_looks: 0,
        };
        // There from the start, so that the first job waits for nobody.
        supervisor.staff();
        supervisor.shared.saw(supervisor.slots(), crate::scale::Reason::Enough);
        supervisor
    }

    pub async fn run(mut self) {
        loop {
            let until = self.look();
            if self.shared.is_closed() && self.shared.pending() == 0 {
                break;
            }
            let called = self.shared.call.notified();
            match until {
                Some(at) => tokio::select! { biased; () = called => {}, () = sleep_until(at) => {} },
                None => called.await,
            }
        }
        // The workers see for themselves that there is nothing more to do.
        self.shared.meter.crew(0, 0);
    }

    /// Looks at everything; answers when to look again unless called, `None` if never.
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let stuck_at = self.part_with_stuck(now);
        self.bury();
        let (workers, waiting) = (self.crew.len(), self.receiver.depth());
        let reason = self.rescale(now, waiting);
        self.staff();
        let busy = self.crew.iter().filter(|member| member.slot.is_busy()).count();
        self.shared.meter.crew(self.crew.len(), busy);
        self.shared.saw(self.slots(), reason);

        let put_off = self.shared.later.first();
        if put_off.is_some_and(|at| at <= now) {
            self.shared.wake.notify_one();
        }
        let rules = self.scale.rules();
        let may_grow = self.shared.scales && self.scale.workers() < rules.ceiling;
        let may_shrink = self.scale.workers() > rules.floor;
        let in_hand = self.shared.pending() > self.shared.later.len() || !self.lost.is_empty();
        self.idle_looks = if in_hand || may_shrink { 0 } else { self.idle_looks + 1 };
        let (next, call_at) = if waiting > 0 && may_grow {
            (Some(now + rules.pause), usize::MAX)
        } else if self.idle_looks < IDLE_LOOKS {
            (Some(now + LOOK), if may_grow { workers + 1 } else { usize::MAX })
        } else {
            // What was put off is pending, too, and is in nobody's hands.
            (None, self.shared.later.len() + 1)
        };
        if self.shared.call_me_at(call_at) {
            // It came while we looked; the call is for the next look.
            self.shared.call.notify_one();
        }
        // One that is due already has been told.
        let put_off = put_off.filter(|at| *at > now);
        next.into_iter().chain(stuck_at).chain(put_off).min()
    }

    /// Takes the slots of jobs that hold their thread; answers when the next one will have to go.
    fn part_with_stuck(&mut self, now: Instant) -> Option<Instant> {
        let grace = self.shared.plan.grace;
        let mut next: Option<Instant> = None;
        let mut at = 0;
        while at < self.crew.len() {
            match self.crew[at].slot.take_stuck(now, grace) {
                Ok(current) => {
                    let Member { slot, task } = self.crew.swap_remove(at);
                    self.keep_counts(&slot);
                    slot.leave();
                    self.lost.push(task);
                    self.shared.lost(current, now);
                    let bound = self.scale.rules().ceiling;
                    if self.lost.len() == bound {
                        let pool = &*self.shared.plan.name;
                        tracing::error!(
                            pool,
                            lost = bound,
                            "no more lost slots are replaced until one is back"
                        );
                    }
                }
                Err(due) => {
                    next = next.into_iter().chain(due).min();
                    at += 1;
                }
            }
        }
        next
    }

    /// Forgets members whose task has ended.
    fn bury(&mut self) {
        self.lost.retain(|task| !task.is_finished());
        let (ended, crew) = std::mem::take(&mut self.crew)
            .into_iter()
            .partition::<Vec<_>, _>(|member| member.slot.has_left());
        self.crew = crew;
        ended.iter().for_each(|member| self.keep_counts(&member.slot));
    }

    fn rescale(&mut self, now: Instant, waiting: usize) -> crate::scale::Reason {
        if !self.shared.scales {
            return crate::scale::Reason::Enough;
        }
        let (busy, waited) = self.shared.look();
        let since = match waiting {
            0 => None,
            _ => Some(self.waiting_since.unwrap_or(now)),
        };
        self.waiting_since = since;
        // Of what waits nothing is known but since when anything does, if nothing was taken meanwhile.
        let stands = since.map_or(Duration::ZERO, |since| now - since);
        let mut counted = self.gone;
        for member in &self.crew {
            let (finished, took) = member.slot.counted();
            counted = (counted.0 + finished, counted.1 + took);
        }
        let finished = counted.0.saturating_sub(self.counted.0);
        let took_us = counted.1.saturating_sub(self.counted.1);
        self.counted = counted;
        let look = Look {
            busy: busy.min(self.scale.workers()),
            waiting,
            oldest: if finished == 0 { stands.max(waited) } else { waited },
            finished: finished as usize,
            latency: (finished > 0).then(|| Duration::from_micros(took_us / finished)),
        };
        let decision = self.scale.decide(now - self.origin, &look);
        if decision.is_change() {
            self.shared.meter.scaled(&decision);
        }
        decision.reason
    }

    /// Hires who is missing, dismisses who is too many.
    fn staff(&mut self) {
        if self.shared.is_halted() {
            // There is nothing to do for anybody new, and the others go by themselves.
            return;
        }
        let ceiling = self.scale.rules().ceiling;
        // However many slots are lost, there are never more than twice as many tasks as were allowed.
        let wanted = self.scale.workers().min((2 * ceiling).saturating_sub(self.lost.len()));
        let excess = self.crew.len().saturating_sub(wanted);
        self.shared.dismiss(excess);
        if self.crew.len() < wanted && !self.lost.is_empty() {
            // The one who takes over may hold its thread, too. If that is the thread whose turn it is to watch the
            // runtime's timers, nobody does: another thread is called to the work, and watches when it finds none.
            self.shared.tasks.spawn("nothing", async {});
        }
        while self.crew.len() < wanted {
            self.hired += 1;
            let slot = Arc::new(Slot::new(self.hired));
            let task = (self.spawn)(self.shared.clone(), slot.clone(), self.receiver.clone());
            self.crew.push(Member { slot, task });
        }
    }

    fn keep_counts(&mut self, slot: &Slot<J, R>) {
        let (finished, took) = slot.counted();
        self.gone = (self.gone.0 + finished, self.gone.1 + took);
    }

    fn slots(&self) -> Vec<Arc<Slot<J, R>>> {
        self.crew.iter().map(|member| member.slot.clone()).collect()
    }
}

#[cfg(test)]
#[path = "supervise_tests.rs"]
mod tests;
