//! `mainstay events`.

use std::time::Duration;

use clap::{Args, Subcommand};
use mainstay::{millis, secs};
use mainstay_api::RawJson;
use mainstay_api::client::{ApiError, HttpClient, Streamed};
use mainstay_api::query::PageQuery;
use mainstay_api::types::Envelope;
use serde_json::{Map, Value, json};

use super::jobs::payload;
use super::session::print;
use super::{Failure, Outcome, Session, session};

/// How many events are asked for at once.
const PAGE: u32 = 1_000;
/// Between two streams.
const SHORTEST_PAUSE: Duration = millis(100);
const LONGEST_PAUSE: Duration = secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Publish an event
    Publish(Box<Publish>),
    /// Print events as they come, one a line
    Tail(Tail),
    /// Print what is in a topic's log, one event a line, and end
    Replay(Replay),
}

/// Flags of `mainstay events publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic; it exists from its first event
    topic: String,
    /// JSON, `-` for standard input, or `@FILE`; nothing means no data
    #[arg(allow_hyphen_values = true)]
    data: Option<String>,
    /// The data is text, not JSON: it becomes a JSON string
    #[arg(long)]
    text: bool,
    /// Unique for its source: the same id within two minutes is not stored again [default: a new UUID]
    #[arg(long)]
    id: Option<String>,
    /// What happened [default: the topic]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Where it comes from [default: /mainstay]
    #[arg(long)]
    source: Option<String>,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    /// Groups that are ordered by key settle the events of one key one after the other
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// An extension attribute, NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    extension: Vec<String>,
}

/// Flags of `mainstay events tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Which topics, such as `orders.*` or `>` [default: all]
    topics: Vec<String>,
    /// Where to begin: `latest`, `earliest`, a number, an instant
    #[arg(long, value_name = "FROM", default_value = "latest")]
    from: String,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Flags of `mainstay events replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The topic
    topic: String,
    /// Where to begin: `earliest`, a number, an instant
    #[arg(long, value_name = "FROM", default_value = "earliest")]
    from: String,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Events {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Events::Publish(args) => args.run(session).await,
            Events::Tail(args) => args.run(session).await,
            Events::Replay(args) => args.run(session).await,
        }
    }
}

impl Publish {
    async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let (topic, event) = (self.topic.clone(), self.event()?);
        let published =
            api.publish(&topic, &event).await.map_err(|error| Failure::of_call(&error, api.url()))?;
        if published.deduplicated {
            session.note("it is there already");
        }
        session.answer(&published, || match published.seq {
            Some(seq) => format!("{seq} {}", published.id),
            None => published.id.clone(),
        })
    }

    fn event(self) -> Result<RawJson, Failure> {
        let mut event = Map::new();
        event.insert("specversion".into(), "1.0".into());
        let attributes = [
            ("id", self.id),
            ("type", self.kind),
            ("source", self.source),
            ("subject", self.subject),
            ("partitionkey", self.key),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                event.insert(name.into(), value.into());
            }
        }
        for extension in &self.extension {
            let Some((name, value)) = extension.split_once('=') else {
                return Err(Failure::usage(format!("--extension {extension}: must be NAME=VALUE")));
            };
            event.insert(name.to_owned(), value.into());
        }
        if let Some(data) = self.data {
            event.insert("datacontenttype".into(), "application/json".into());
            let data = payload(&data, self.text)?;
            let data: Value = data.read().map_err(|error| Failure::usage(format!("the data: {error}")))?;
            event.insert("data".into(), data);
        }
        RawJson::of(&event).map_err(|error| Failure::usage(error.to_string()))
    }
}

impl Tail {
    /// Goes on in another stream when one ends or breaks, until as many events were printed as are wanted, or the
    /// process is interrupted. Before its first event it has no place to go on from: then it fails.
    async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let (mut last, mut left) = (None, self.count.unwrap_or(u64::MAX));
        let mut tries = 0;
        while left > 0 {
            let before = last;
            self.follow(&api, &mut last, &mut left, session).await?;
            if last != before {
                tries = 0;
            }
            if left > 0 {
                tokio::time::sleep(pause(tries)).await;
                tries += 1;
            }
        }
        Ok(())
    }

    async fn follow(
        &self,
        api: &HttpClient,
        last: &mut Option<u64>,
        left: &mut u64,
        session: &Session,
    ) -> Outcome {
        let lost = |error: ApiError, last: Option<u64>| {
            if last.is_some() && error.is_retryable() {
                tracing::debug!(%error, "the stream is lost; another goes on after its last event");
                return Ok(());
            }
            Err(Failure::of_call(&error, api.url()))
        };
        let from = last.is_none().then_some(self.from.as_str());
        let mut stream = match api.stream(&self.topics, from, *last).await {
            Ok(stream) => stream,
            Err(error) => return lost(error, *last),
        };
        while *left > 0 {
            let streamed = match stream.next().await {
                Ok(streamed) => streamed,
                Err(error) => return lost(error, *last),
            };
            match streamed {
                Some(Streamed::Event(event)) => {
                    *last = Some(event.seq);
                    *left -= 1;
                    show(&event, session)?;
                }
                Some(Streamed::Lagged(lagged)) => {
                    let (skipped, next) = (lagged.skipped, lagged.next);
                    session::note(&format!(
                        "retention has removed up to {skipped} events; it goes on at {next}"
                    ));
                }
                Some(Streamed::Drain) | None => {
                    return match last {
                        // The server stops; another, or the next one, goes on from here.
                        Some(_) => Ok(()),
                        None => {
                            Err(Failure::new("the server is about to stop").tip("run it again in a moment"))
                        }
                    };
                }
            }
        }
        Ok(())
    }
}

/// How long to wait after so many streams in a row that brought nothing: a server that stops, or is gone, is not
/// asked again and again.
fn pause(tries: u32) -> Duration {
    LONGEST_PAUSE.min(SHORTEST_PAUSE * 2_u32.pow(tries.min(16)))
}

impl Replay {
    async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let (mut left, mut cursor) = (self.count.unwrap_or(u64::MAX), None);
        loop {
            let from = cursor.is_none().then_some(self.from.as_str());
            let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
            let page = PageQuery { limit: limit.max(1), cursor: cursor.take() };
            let page = api.events(&self.topic, from, &page).await;
            let page = page.map_err(|error| Failure::of_call(&error, api.url()))?;
            for event in page.items.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                show(event, session)?;
                left -= 1;
            }
            match page.next_cursor {
                Some(next) if left > 0 => cursor = Some(next),
                _ => return Ok(()),
            }
        }
    }
}

/// A line: for people number, topic and data; as JSON the whole envelope.
fn show(event: &Envelope, session: &Session) -> Outcome {
    if !session.is_text() {
        let text = serde_json::to_string(event)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
        return print(&format!("{text}\n"));
    }
    let content: Value = event.event.read().unwrap_or_default();
    let data = content.get("data").or_else(|| content.get("data_base64")).unwrap_or(&Value::Null);
    print(&format!("{} {} {data}\n", event.seq, event.topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_nothing_is_asked_less_and_less_often() {
        let pauses: Vec<_> = [0, 1, 2, 5, 6, 1_000].map(pause).into();
        assert_eq!(pauses, [millis(100), millis(200), millis(400), millis(3_200), secs(5), secs(5)]);
    }
}
