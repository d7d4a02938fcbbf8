//! How many lines one place in the source may write.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Places that are counted apart; those beyond share one count. Only the `log` facade can make so many.
const MOST: usize = 4096;

/// Counts the lines of each place within whole seconds.
pub(super) struct Limiter {
    /// 0: no limit.
    per_second: u32,
    sites: RwLock<HashMap<Key, Arc<Site>>>,
    /// Whether anything is to be confessed.
    owing: AtomicBool,
}

/// Records of the `log` facade share a callsite: they are told apart by their place.
type Key = (Identifier, u64);

struct Site {
    level: Level,
    target: String,
    place: String,
    /// The second in the upper half, the lines in it in the lower.
    window: AtomicU64,
    suppressed: AtomicU64,
}

/// Whether a line may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// No. The first time in a while: whoever confesses is to be woken.
    SuppressFirst,
    Suppress,
}

/// Lines that were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owed {
    pub level: Level,
    pub target: String,
    pub place: String,
    pub lines: u64,
}

impl Limiter {
    pub fn new(per_second: u32) -> Self {
        Self { per_second, sites: RwLock::default(), owing: AtomicBool::new(false) }
    }

    /// Whether this place may write one more line now. `shared`: its callsite is that of all records of the `log`
    /// facade.
    pub fn admit(&self, meta: &Metadata<'_>, shared: bool, now_ms: u64) -> Verdict {
        if self.per_second == 0 {
            return Verdict::Write;
        }
        let key = (meta.callsite(), if shared { place_hash(meta) } else { 0 });
        let found = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let site = found.unwrap_or_else(|| self.enter(key, meta));
        if site.count(now_ms / 1000) <= u64::from(self.per_second) {
            return Verdict::Write;
        }
        site.suppressed.fetch_add(1, Relaxed);
        if self.owing.swap(true, Relaxed) { Verdict::Suppress } else { Verdict::SuppressFirst }
    }

    /// Whether [`confess`](Self::confess) will have something to say.
    pub fn is_owing(&self) -> bool {
        self.owing.load(Relaxed)
    }

    /// What was suppressed since it was last asked.
    pub fn confess(&self) -> Vec<Owed> {
        if !self.owing.swap(false, Relaxed) {
            return Vec::new();
        }
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let owed = sites.values().filter_map(|site| {
            let lines = site.suppressed.swap(0, Relaxed);
            let (level, target, place) = (site.level, site.target.clone(), site.place.clone());
            (lines > 0).then_some(Owed { level, target, place, lines })
        });
        owed.collect()
    }

    fn enter(&self, key: Key, meta: &Metadata<'_>) -> Arc<Site> {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        let key = if sites.len() < MOST { key } else { (key.0, u64::MAX) };
        let made = || {
            let place = match (meta.file(), meta.line()) {
                (Some(file), Some(line)) => format!("{file}:{line}"),
                _ => String::new(),
            };
            let (window, suppressed) = (AtomicU64::new(0), AtomicU64::new(0));
            Arc::new(Site {
                level: *meta.level(),
                target: meta.target().to_owned(),
                place,
                window,
                suppressed,
            })
        };
        sites.entry(key).or_insert_with(made).clone()
    }
}

impl Site {
    /// Counts one more line; answers how many there were in this second.
    fn count(&self, second: u64) -> u64 {
        let begin = second << 32;
        let mut seen = self.window.load(Relaxed);
        loop {
            let next = if seen >> 32 == second & 0xffff_ffff { seen.saturating_add(1) } else { begin | 1 };
            match self.window.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return next & 0xffff_ffff,
                Err(now) => seen = now,
            }
        }
    }
}

fn place_hash(meta: &Metadata<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (meta.target(), meta.file(), meta.line()).hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tracing::Subscriber;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    /// Asks the limiter about every event, at a time of the test's.
    struct Asks(Arc<Limiter>, Arc<AtomicU64>);

    thread_local! {
        static VERDICTS: RefCell<Vec<Verdict>> = const { RefCell::new(Vec::new()) };
    }

    impl<S: Subscriber> tracing_subscriber::Layer<S> for Asks {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let meta = event.metadata();
            let verdict = self.0.admit(meta, false, self.1.load(Relaxed));
            VERDICTS.with_borrow_mut(|all| all.push(verdict));
        }
    }

    #[test]
    fn a_place_that_says_too_much_is_suppressed_until_the_next_second() {
        let (limiter, now) = (Arc::new(Limiter::new(2)), Arc::new(AtomicU64::new(5_999)));
        let subscriber = tracing_subscriber::registry().with(Asks(limiter.clone(), now.clone()));
        tracing::subscriber::with_default(subscriber, || {
            use Verdict::{Suppress, SuppressFirst, Write};
            let noisy = || tracing::warn!(target: "noisy", "again");
            let say = |n: usize| {
                (0..n).for_each(|_| noisy());
                VERDICTS.take()
            };
            assert_eq!(say(4), [Write, Write, SuppressFirst, Suppress]);
            tracing::warn!("elsewhere");
            assert_eq!(VERDICTS.take(), [Write], "places are counted apart");
            now.store(6_000, Relaxed);
            assert_eq!(say(3), [Write, Write, Suppress]);
            let owed = limiter.confess();
            assert_eq!(owed.len(), 1);
            assert_eq!((owed[0].lines, &*owed[0].target, owed[0].level), (3, "noisy", Level::WARN));
            assert!(owed[0].place.contains("limit.rs:"), "{owed:?}");
            assert!(limiter.confess().is_empty() && !limiter.is_owing());
            assert_eq!(say(1), [SuppressFirst], "and again");
        });
    }
}
