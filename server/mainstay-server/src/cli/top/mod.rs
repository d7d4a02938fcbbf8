//! `mainstay top`: what queues and workers do, as it happens.

mod sample;
mod screen;
mod terminal;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Failure, Outcome, Session};
use sample::{Sample, Top};
use terminal::Terminal;

/// Keys are looked for this often.
const KEYS: Duration = Duration::from_millis(100);

/// Flags of `mainstay top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How long between two looks, in milliseconds; rates are over this time
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// Print one picture and end, as when standard output is no terminal, or with --output json
    #[arg(long)]
    once: bool,
}

impl TopArgs {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let interval = Duration::from_millis(self.interval_ms);
        if self.once || !session.is_text() || !std::io::stdout().is_terminal() {
            let top = look_twice(session, interval).await?;
            return session.answer(&top, || screen::draw(&top, None));
        }
        live(session, interval).await
    }
}

/// Rates need two looks.
async fn look_twice(session: &Session, interval: Duration) -> Result<Top, Failure> {
    let api = session.api()?;
    let failed = |error| Failure::of_call(&error, api.url());
    let first = Sample::take(&api).await.map_err(failed)?;
    sleep(interval).await;
    let second = Sample::take(&api).await.map_err(failed)?;
    Ok(second.since(Some(&first)))
}

/// Until somebody has seen enough. A server that is away for a while is no reason to go.
async fn live(session: &Session, interval: Duration) -> Outcome {
    let api = session.api()?;
    let of_signal = |error| Failure::new(format!("cannot listen for signals: {error}"));
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()
        .map_err(of_signal)?;
    // The first look decides whether there is anything to show.
    let mut last = Some(Sample::take(&api).await.map_err(|error| Failure::of_call(&error, api.url()))?);
    let mut picture = last.as_ref().map(|sample| sample.since(None));
    let mut trouble = None;
    let mut terminal = Terminal::take().map_err(|error| Failure::of_output(&error))?;
    let mut next = Instant::now();
    loop {
        next += interval;
        if let Some(top) = &picture {
            let text =
                screen::draw(top, Some(screen::Frame { size: terminal.size(), trouble: trouble.as_deref() }));
            terminal.show(&text).map_err(|error| Failure::of_output(&error))?;
        }
        loop {
            let [interrupt, terminate, hangup] = &mut ends[..] else { return Ok(()) };
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = sleep_until(next.min(Instant::now() + KEYS)) => {}
            }
            if terminal.quit_was_pressed() {
                return Ok(());
            }
            if Instant::now() >= next {
                break;
            }
        }
        // One that does not answer must not keep the signals waiting for longer than a look may take.
        let looked = Sample::take(&api.with_timeout(interval.max(Duration::from_secs(2)))).await;
        match looked {
            Ok(sample) => {
                (picture, trouble) = (Some(sample.since(last.as_ref())), None);
                last = Some(sample);
            }
            Err(error) => trouble = Some(Failure::of_call(&error, api.url()).text()),
        }
        // After a pause, from now on: not all the looks that were missed.
        next = next.max(Instant::now());
    }
}
