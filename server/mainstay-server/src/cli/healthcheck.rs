//! `mainstay healthcheck`, for containers: the image needs no curl.

use std::time::Duration;

use clap::Args;
use mainstay_api::types::{Probe, ProbeReason, ProbeStatus};

use super::{Failure, Outcome, Session};

/// Flags of `mainstay healthcheck`.
#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// How long to wait for the answer, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    timeout_ms: u64,
}

impl Healthcheck {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let admin = session.admin()?.with_timeout(Duration::from_millis(self.timeout_ms));
        let probe = match admin.readyz().await {
            Ok(probe) => probe,
            // Containers know healthy and unhealthy; there is no third answer.
            Err(error) => return Err(Failure::of_admin_call(&error, admin.url()).with_code(1)),
        };
        session.answer(&probe, || words(&probe).to_owned())?;
        if probe.status == ProbeStatus::Ready { Ok(()) } else { Err(Failure::silent(1)) }
    }
}

fn words(probe: &Probe) -> &'static str {
    match (probe.status, probe.reason) {
        (ProbeStatus::Ready, _) => "ready",
        (_, Some(ProbeReason::Initializing)) => "not ready: starting",
        (_, Some(ProbeReason::Draining)) => "not ready: draining",
        (_, Some(ProbeReason::Dependency)) => "not ready: a dependency is down",
        _ => "not ready",
    }
}
