//! What a handler gets beside its job.

use std::sync::Arc;

use super::ticket::Stop;

/// A running job's surroundings. Cheap to clone.
#[derive(Clone)]
pub struct PoolContext {
    pub(super) stop: Arc<dyn Stop>,
    pub(super) attempt: u32,
    pub(super) pool: Arc<str>,
}

impl PoolContext {
    /// The job's number: the pool's first is 1.
    pub fn id(&self) -> u64 {
        self.stop.id()
    }

    /// Which attempt this is, from 1. A job that was put off begins anew; only a policy's retries count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The pool's name.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Whether the handler should stop: the job was cancelled, or the pool's time is up.
    pub fn is_cancelled(&self) -> bool {
        self.stop.is_told()
    }

    /// Resolves when the handler should stop. It is cut at its next await point after the pool's grace. Cancel safe.
    pub async fn cancelled(&self) {
        self.stop.told().await;
    }
}

impl std::fmt::Debug for PoolContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("PoolContext");
        fields.field("id", &self.id()).field("pool", &self.pool).field("attempt", &self.attempt).finish()
    }
}
