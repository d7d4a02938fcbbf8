//! `mainstay topics`.

use clap::Subcommand;
use mainstay_api::types::{TopicConfig, TopicView};
use mainstay_api::{Limits, strict};

use super::jobs::{PageArgs, more};
use super::table::Table;
use super::words::exact;
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// List topics and how much is in them
    List(PageArgs),
    /// Replace the whole configuration of a topic
    Set {
        /// The topic
        topic: String,
        /// As in the API, such as {"retention":{"count":100000}}; {} means the defaults
        config: String,
    },
    /// Forget a topic with all of its events
    Delete {
        /// The topic
        topic: String,
        /// Yes, really
        #[arg(long, required = true)]
        yes: bool,
    },
}

impl Topics {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        match self {
            Topics::List(page) => {
                let page = api.topics(&page.query()).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() {
                    session::note("no topics yet: a topic exists from its first event");
                    return Ok(());
                }
                session.answer(&page, || table(&page.items).render())?;
                more(&page, session);
                Ok(())
            }
            Topics::Set { topic, config } => {
                let config = strict::parse::<TopicConfig>(config.as_bytes(), &Limits::default());
                let config = config.map_err(|problem| Failure::of_problem(&problem))?.value;
                let put = api.put_topic(&topic, &config).await.map_err(failed)?;
                for found in &put.incompatible {
                    session.note(&format!("the new schema is narrower: {found}"));
                }
                session.answer(&put, || format!("{topic} is configured"))
            }
            Topics::Delete { topic, .. } => {
                api.delete_topic(&topic).await.map_err(failed)?;
                let done = serde_json::json!({ "name": topic, "deleted": true });
                session.answer(&done, || format!("{topic} is forgotten"))
            }
        }
    }
}

fn table(topics: &[TopicView]) -> Table {
    let mut table = Table::new(&["TOPIC", "#EVENTS", "#BYTES", "#LAST", "KEPT", "SCHEMA"]);
    for topic in topics {
        let retention = topic.config.retention.unwrap_or_default();
        let kept = [
            retention.age_ms.map(exact),
            retention.count.map(|count| format!("{count} events")),
            retention.bytes.map(|bytes| format!("{bytes} bytes")),
        ];
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        let kept = if kept.is_empty() { "all".to_owned() } else { kept.join(", ") };
        let schema = if topic.config.schema.is_some() { "yes" } else { "" };
        let numbers = [topic.count, topic.bytes, topic.last_seq].map(|number| number.to_string());
        table.row(std::iter::once(topic.name.clone()).chain(numbers).chain([kept, schema.to_owned()]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_row_with_what_bounds_it() {
        let topic: TopicView = serde_json::from_str(
            r#"{"name":"orders","count":3,"bytes":900,"last_seq":17,"removed_up_to":0,
                "config":{"retention":{"count":10,"age_ms":60000}}}"#,
        )
        .unwrap();
        let text = table(&[topic]).render();
        assert!(text.lines().nth(1).unwrap().ends_with("3    900    17  1m, 10 events"), "{text}");
    }
}
