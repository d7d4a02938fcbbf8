//! The picture, as text.

use mainstay_api::Timestamp;

use super::sample::{QueueRow, Top};
use crate::cli::table::Table;
use crate::cli::words::{clean, count, span};
use crate::cli::workers;

/// What a live picture has to fit into.
pub(super) struct Frame<'t> {
    /// Rows and columns.
    pub size: (usize, usize),
    /// Why the picture is old.
    pub trouble: Option<&'t str>,
}

/// The picture. In a frame it is cut to its size.
pub(super) fn draw(top: &Top, frame: Option<Frame<'_>>) -> String {
    let mut lines = vec![heading(top)];
    if let Some(trouble) = frame.as_ref().and_then(|frame| frame.trouble) {
        lines.push(format!("! {}", clean(trouble).replace('\n', "; ")));
    }
    lines.push(String::new());
    let rows = frame.as_ref().map(|frame| frame.size.0);
    // Workers keep at least a third of the screen, if there are so many.
    let left = rows.map(|rows| rows.saturating_sub(lines.len() + 3));
    let workers_take = left.map(|left| (top.workers.len() + 1).min(left / 3));
    let queues_take = left.zip(workers_take).map(|(left, workers)| left.saturating_sub(workers));
    let room = frame.as_ref().map(|frame| frame.size.1.saturating_sub(REST).max(SHORTEST));
    if top.queues.is_empty() {
        lines.push("no queues yet: a queue exists from its first job".to_owned());
    } else {
        lines.extend(cut(&queues(&top.queues, room), queues_take));
    }
    lines.push(String::new());
    if top.workers.is_empty() {
        lines.push("no workers: none has claimed under a name in the last 5 minutes".to_owned());
    } else {
        let mut named = top.workers.clone();
        named.iter_mut().for_each(|worker| worker.name = short(&worker.name, room));
        lines.extend(cut(&workers::table(&named, top.at).render(), workers_take));
    }
    if top.more {
        lines.push("(there are more than a thousand; these are the first by name)".to_owned());
    }
    if let Some(Frame { size: (rows, columns), .. }) = frame {
        lines.truncate(rows);
        lines.iter_mut().for_each(|line| *line = line.chars().take(columns).collect());
    }
    lines.join("\n")
}

/// What stands beside the name of a queue, about.
const REST: usize = 86;
/// Names are cut no shorter, however narrow the screen.
const SHORTEST: usize = 16;

/// A name, without its middle if it is longer than that.
fn short(name: &str, room: Option<usize>) -> String {
    let length = name.chars().count();
    match room {
        Some(room) if length > room => {
            let end = room / 2;
            let begin = room.saturating_sub(end + 1);
            let (first, last) = (name.chars().take(begin), name.chars().skip(length - end));
            first.chain(['…']).chain(last).collect()
        }
        _ => name.to_owned(),
    }
}

fn heading(top: &Top) -> String {
    let sum = |of: fn(&QueueRow) -> u64| top.queues.iter().map(of).sum::<u64>();
    let rate =
        |of: fn(&QueueRow) -> Option<f64>| top.queues.iter().filter_map(of).fold(0.0, |sum, rate| sum + rate);
    let waiting = sum(|row| {
        let depth = &row.queue.depth;
        depth.available + depth.scheduled + depth.retryable + depth.blocked
    });
    format!(
        "{}   {}: {waiting} waiting, {} running, {} dead; {:.1}/s in, {:.1}/s out; {}",
        time(top.at),
        count(top.queues.len() as u64, "queue"),
        sum(|row| row.queue.depth.running),
        sum(|row| row.queue.depth.dead),
        rate(|row| row.enqueued_per_second),
        rate(|row| row.finished_per_second),
        count(top.workers.len() as u64, "worker"),
    )
}

/// To the second.
fn time(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.split('.').next().unwrap_or(&text).trim_end_matches('Z'))
}

fn queues(rows: &[QueueRow], room: Option<usize>) -> String {
    let mut table = Table::new(&[
        "QUEUE",
        "#AVAILABLE",
        "#RUNNING",
        "#RETRYABLE",
        "#SCHEDULED",
        "#BLOCKED",
        "#DEAD",
        "#IN/S",
        "#OUT/S",
        "#OLDEST",
        "NOTE",
    ]);
    for row in rows {
        let depth = &row.queue.depth;
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        table.row([
            short(&row.queue.name, room),
            depth.available.to_string(),
            depth.running.to_string(),
            depth.retryable.to_string(),
            depth.scheduled.to_string(),
            depth.blocked.to_string(),
            depth.dead.to_string(),
            rate(row.enqueued_per_second),
            rate(row.finished_per_second),
            row.queue.oldest_available_age_ms.map(span).unwrap_or_default(),
            if row.queue.paused { "paused".to_owned() } else { String::new() },
        ]);
    }
    table.render()
}

/// A table's lines, with a word about those for which there is no room.
fn cut(table: &str, room: Option<usize>) -> Vec<String> {
    let lines: Vec<String> = table.lines().map(str::to_owned).collect();
    match room {
        Some(room) if lines.len() > room => {
            let shown = room.saturating_sub(1);
            let more = lines.len() - shown.max(1);
            lines.into_iter().take(shown).chain([format!("… and {more} more")]).collect()
        }
        _ => lines,
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::types::WorkerView;

    use super::*;

    fn top(queues: usize, workers: usize) -> Top {
        let queue = |n: usize| {
            QueueRow {
            queue: serde_json::from_value(serde_json::json!({
                "name": format!("q{n:02}"), "paused": n == 1, "depth": {"available": 5, "running": 2, "dead": 1},
                "oldest_available_age_ms": 61_000, "config": {},
            }))
            .unwrap(),
            enqueued_per_second: Some(2.0),
            finished_per_second: None,
        }
        };
        let worker = |n: usize| WorkerView {
            name: format!("w{n:02}"),
            queues: vec!["q".into()],
            running: 1,
            last_seen: Timestamp(0),
        };
        Top {
            at: Timestamp(3_000),
            queues: (0..queues).map(queue).collect(),
            workers: (0..workers).map(worker).collect(),
            more: false,
        }
    }

    #[test]
    fn a_picture_has_sums_queues_and_workers() {
        let text = draw(&top(2, 1), None);
        assert_eq!(
            text.lines().next(),
            Some(
                "1970-01-01T00:00:03Z   2 queues: 10 waiting, 4 running, 2 dead; 4.0/s in, 0.0/s out; 1 worker"
            )
        );
        assert!(
            text.contains(
                "q01            5        2          0          0        0     1   2.0      -    1m1s  paused"
            ),
            "{text}"
        );
        assert!(text.contains("w00           1  3s ago  q"), "{text}");
        assert!(draw(&top(0, 0), None).contains("no queues yet"));
    }

    #[test]
    fn a_long_name_leaves_room_for_what_it_names() {
        let mut all = top(2, 1);
        all.queues[0].queue.name = format!("begin{}end", "x".repeat(120));
        all.workers[0].name = format!("work{}er", "x".repeat(120));
        let text = draw(&all, Some(Frame { size: (24, 110), trouble: None }));
        let row = text.lines().find(|line| line.starts_with("begin")).unwrap();
        assert!(row.contains("end ") && row.contains(" 5 ") && row.contains("1m1s"), "{text}");
        let row = text.lines().find(|line| line.starts_with("work")).unwrap();
        assert!(row.contains("er ") && row.contains("3s ago"), "{text}");
        assert!(draw(&all, None).contains(&all.queues[0].queue.name), "whole where there is no screen");
    }

    #[test]
    fn a_picture_fits_its_frame() {
        for (queues, workers) in [(0, 0), (1, 1), (50, 50), (3, 50), (50, 2)] {
            for size in [(24, 80), (10, 40), (3, 20), (1, 5), (0, 0)] {
                let trouble = Some("no server answers\nat all");
                let text = draw(&top(queues, workers), Some(Frame { size, trouble }));
                let lines: Vec<&str> = text.lines().collect();
                assert!(lines.len() <= size.0, "{size:?}: {text}");
                assert!(lines.iter().all(|line| line.chars().count() <= size.1), "{size:?}: {text}");
            }
        }
        let text = draw(&top(50, 50), Some(Frame { size: (24, 120), trouble: None }));
        assert!(text.contains("more") && text.contains("q05") && text.contains("w02"), "{text}");
    }
}
