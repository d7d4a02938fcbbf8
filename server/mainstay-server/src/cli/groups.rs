//! `mainstay groups`.

use clap::{ArgGroup, Args, Subcommand};
use mainstay_api::types::{DeadEvent, DeadEventSelect, GroupConfig, GroupView, Seek, Start};
use mainstay_api::{Limits, RawJson, Timestamp, strict};

use super::jobs::{PageArgs, more};
use super::table::{Table, facts};
use super::words::{brief, count, now, span, when};
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// List consumer groups and how far they are behind
    List(PageArgs),
    /// Show a group with its configuration
    Show {
        /// The group
        group: String,
    },
    /// Make a group, or replace its whole configuration
    Set {
        /// The group
        group: String,
        /// As in the API, such as {"topics":["orders.*"],"start":"earliest"}
        config: String,
    },
    /// Move a group; what its consumers have now is void
    Seek(SeekArgs),
    /// List a group's dead letters
    Dead {
        /// The group
        group: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Deliver dead letters again
    Requeue(Requeue),
    /// Forget a group with its dead letters
    Delete {
        /// The group
        group: String,
        /// Yes, really
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Flags of `mainstay groups seek`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true))]
pub(crate) struct SeekArgs {
    /// The group
    group: String,
    /// To this event
    #[arg(long, value_name = "N", group = "to")]
    seq: Option<u64>,
    /// To the first event published then or later, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "INSTANT", group = "to")]
    time: Option<Timestamp>,
    /// To the oldest event there is
    #[arg(long, group = "to")]
    earliest: bool,
    /// Behind the last event
    #[arg(long, group = "to")]
    latest: bool,
}

/// Flags of `mainstay groups requeue`.
#[derive(Debug, Args)]
pub(crate) struct Requeue {
    /// The group
    group: String,
    /// Only these events; may be repeated
    #[arg(long, value_name = "ID", conflicts_with_all = ["kind", "error_type"])]
    id: Vec<String>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "error_type")]
    kind: Option<String>,
    /// Only those whose last failure was of this type
    #[arg(long, value_name = "TYPE")]
    error_type: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

impl Groups {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        match self {
            Groups::List(page) => {
                let page = api.groups(&page.query()).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() {
                    session::note("no groups yet: `mainstay groups set` makes one");
                    return Ok(());
                }
                session.answer(&page, || table(&page.items).render())?;
                more(&page, session);
                Ok(())
            }
            Groups::Show { group } => {
                let group = api.group(&group).await.map_err(failed)?;
                session.answer(&group, || shown(&group))
            }
            Groups::Set { group, config } => {
                let config = strict::parse::<GroupConfig>(config.as_bytes(), &Limits::default());
                let config = config.map_err(|problem| Failure::of_problem(&problem))?.value;
                let group = api.put_group(&group, &config).await.map_err(failed)?;
                session.answer(&group, || format!("{} is at {}", group.name, group.cursor))
            }
            Groups::Seek(args) => {
                let sought = api.seek(&args.group, &args.to()).await.map_err(failed)?;
                session.answer(&sought, || format!("{} goes on at {}", args.group, sought.cursor))
            }
            Groups::Dead { group, page } => {
                let page = api.dead_events(&group, &page.query()).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() && page.next_cursor.is_none() {
                    session::note("no dead letters");
                    return Ok(());
                }
                session.answer(&page, || letters(&page.items, now()).render())?;
                more(&page, session);
                Ok(())
            }
            Groups::Requeue(args) => {
                let (group, select) = (args.group.clone(), args.select());
                let changed = api.requeue_dead_events(&group, &select).await.map_err(failed)?;
                session.answer(&changed, || {
                    let events = count(changed.matched, "event");
                    if select.dry_run { events } else { format!("{} of {events} requeued", changed.changed) }
                })
            }
            Groups::Delete { group, .. } => {
                api.delete_group(&group).await.map_err(failed)?;
                let done = serde_json::json!({ "name": group, "deleted": true });
                session.answer(&done, || format!("{group} is forgotten"))
            }
        }
    }
}

impl SeekArgs {
    fn to(&self) -> Seek {
        Seek(match (self.seq, self.time) {
            (Some(seq), _) => Start::Seq(seq),
            (None, Some(time)) => Start::Time(time),
            (None, None) if self.earliest => Start::Earliest,
            (None, None) => Start::Latest,
        })
    }
}

impl Requeue {
    fn select(self) -> DeadEventSelect {
        let Self { id, kind, error_type, limit, dry_run, .. } = self;
        DeadEventSelect {
            ids: (!id.is_empty()).then_some(id),
            numbers: None,
            kind,
            error_type,
            limit,
            dry_run,
        }
    }
}

fn table(groups: &[GroupView]) -> Table {
    let mut table =
        Table::new(&["GROUP", "#LAG", "#IN FLIGHT", "#WAITING", "#DEAD", "#OLDEST", "TOPICS", "NOTE"]);
    for group in groups {
        let numbers =
            [group.lag, group.in_flight, group.waiting, group.dead].map(|number| number.to_string());
        let note = if group.stalled { "stalled: too much waits for another try" } else { "" };
        let rest = [oldest(group), group.config.topics.join(" "), note.to_owned()];
        table.row(std::iter::once(group.name.clone()).chain(numbers).chain(rest));
    }
    table
}

fn oldest(group: &GroupView) -> String {
    group.oldest_unacked_age_ms.map(span).unwrap_or_default()
}

fn shown(group: &GroupView) -> String {
    let config = RawJson::of(&group.config).map(|config| config.to_string()).unwrap_or_default();
    facts(&[
        ("group", group.name.clone()),
        ("next", group.cursor.to_string()),
        ("floor", group.floor.to_string()),
        ("lag", group.lag.to_string()),
        ("waiting", group.waiting.to_string()),
        ("in flight", group.in_flight.to_string()),
        ("oldest", oldest(group)),
        ("dead", group.dead.to_string()),
        ("skipped", group.skipped.to_string()),
        ("redelivered", group.redelivered.to_string()),
        ("stalled", if group.stalled { "yes" } else { "no" }.to_owned()),
        ("config", config),
    ])
}

fn letters(letters: &[DeadEvent], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "TOPIC", "#SEQ", "#ATTEMPTS", "REASON", "DIED", "ERROR"]);
    for letter in letters {
        let said = letter.error.as_ref().map(|error| brief(&error.message, 60)).unwrap_or_default();
        table.row([
            letter.id.clone(),
            letter.envelope.topic.clone(),
            letter.envelope.seq.to_string(),
            letter.attempts.to_string(),
            letter.reason.as_str().to_owned(),
            when(letter.died_at, now),
            said,
        ]);
    }
    table
}
