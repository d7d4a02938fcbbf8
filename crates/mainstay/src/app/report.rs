//! What a shutdown was like.

use std::time::Duration;

use super::Overstayer;
use crate::shutdown::{Cause, Phase};
use crate::time::human;
use crate::{Error, ErrorKind};

/// How an app ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ended {
    /// Who asked for the end; `None` if it never came up.
    pub cause: Option<Cause>,
    /// How long each phase took.
    pub phases: Vec<(Phase, Duration)>,
    /// What was still running when its time was up, and was cut.
    pub cut: Vec<Overstayer>,
    /// What had to stop and failed at it, and why: what it should have written or given back may not be.
    pub unclean: Vec<(String, Error)>,
    /// Why it failed, if it did.
    pub error: Option<Error>,
}

impl Ended {
    /// 0 when everything drained and stopped, 1 when something had to be cut or did not stop cleanly, or the error's
    /// own code.
    pub fn exit_code(&self) -> u8 {
        match &self.error {
            Some(error) if error.kind() != ErrorKind::Interrupted => error.exit_code(),
            _ => u8::from(!self.cut.is_empty() || !self.unclean.is_empty()),
        }
    }

    /// Says it in the log: one line for each thing that was cut or did not stop cleanly, and one for the whole.
    pub(crate) fn log(&self) {
        for cut in &self.cut {
            let (age_ms, span) = (cut.age.as_millis() as u64, cut.span.as_deref());
            tracing::warn!(what = %cut.what, whence = %cut.whence, age_ms, span, "still running, was cut");
        }
        for (component, error) in &self.unclean {
            tracing::warn!(%component, error = %error.chain(), "did not stop cleanly");
        }
        let phases: Vec<_> =
            self.phases.iter().map(|(phase, took)| format!("{phase:?} {}", human(*took))).collect();
        let took: Duration = self.phases.iter().map(|(_, took)| *took).sum();
        let cause = self.cause.map_or_else(|| "start".to_owned(), |cause| cause.to_string());
        let (took_ms, cut, unclean) = (took.as_millis() as u64, self.cut.len(), self.unclean.len());
        let (phases, exit_code) = (phases.join(", "), self.exit_code());
        if exit_code == 0 {
            tracing::info!(%cause, took_ms, %phases, "stopped, everything drained");
        } else {
            tracing::warn!(%cause, took_ms, cut, unclean, exit_code, %phases, "stopped");
        }
    }
}
