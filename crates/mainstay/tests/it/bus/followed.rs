//! One id from the publisher to the handlers of what their handlers publish.

use mainstay::bus::Bus;
use mainstay::context::RequestId;
use mainstay::event::EventContext;
use mainstay::testing::{Level, Logs, Metrics, block_on_virtual};
use mainstay::{Context, JobError, secs};
use tokio::time::Instant;

use super::{Paid, Placed, Seen, note};

async fn charge(event: Placed, cx: EventContext<Bus>) -> Result<(), JobError> {
    tracing::info!("charging");
    // A handler's own fields are not the publisher's.
    Context::current().set("card", "visa");
    cx.publish(&Paid { order: event.order }).await?;
    Ok(())
}

async fn ship(_: Paid, cx: EventContext<Bus>) -> Result<(), JobError> {
    let attempt = cx.attempt();
    tracing::info!(deadline = ?Context::current().remaining(), "shipping");
    if attempt == 1 { Err(JobError::retry("no lorry")) } else { Ok(()) }
}

#[test]
fn the_request_is_on_every_line_of_every_handler() {
    let logs = Logs::capture();
    let request = Context::new()
        .with_request_id(RequestId::parse("req-7").unwrap())
        .with_field("tenant", "acme")
        .with_time_limit(secs(1));
    let trace = request.trace().unwrap().trace_id_text();
    block_on_virtual(async {
        let bus = Bus::new();
        let shop = bus.with(bus.clone());
        let subs = [shop.on(charge).start().unwrap(), shop.on(ship).start().unwrap()];
        request.scope(bus.publish(&Placed { order: 1 })).await.unwrap();
        bus.idle().await;
        drop(subs);
        bus.close();
    });
    let lines: Vec<String> = logs
        .lines()
        .iter()
        .filter(|line| ["charging", "shipping", "event handler failed"].contains(&&*line.message))
        .map(ToString::to_string)
        .collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in &lines {
        for field in ["request_id=req-7", &format!("trace_id={trace}"), "tenant=acme", "event.id="] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
    assert!(!lines[0].contains("card="), "{}", lines[0]);
    assert!(lines[1].contains("card=visa") && lines[1].contains("event.subscriber=ship"), "{}", lines[1]);
    // The publisher's second is not the handler's; its own thirty are.
    assert!(lines[1].contains("deadline=Some(30s)"), "{}", lines[1]);
    assert!(lines[3].contains("attempt=2"), "{}", lines[3]);
    assert!(!request_has_card(&request), "what a handler adds is not the request's");
    logs.assert_not_logged(Level::ERROR, "");
}

fn request_has_card(request: &Context) -> bool {
    format!("{request:?}").contains("card")
}

#[test]
fn a_bus_counts_what_it_does() {
    async fn fails(_: Placed, _: EventContext<Seen>) -> Result<(), JobError> {
        Err(JobError::permanent("no"))
    }
    let metrics = Metrics::capture();
    block_on_virtual(async {
        let (bus, seen) = (Bus::new(), Seen::default());
        let here = bus.with(seen);
        let subs = [here.on(note).start().unwrap(), here.on(fails).start().unwrap()];
        let unheard = bus.listen::<Placed>("orders.placed", 1).unwrap();
        for order in 0..3 {
            bus.publish(&Placed { order }).await.unwrap();
        }
        assert!(bus.drain_by(Instant::now() + secs(1)).await.is_complete());
        drop((subs, unheard));
    });
    metrics.assert_counter("mainstay.bus.published", &[("topic", "orders.placed")], 3);
    metrics.assert_counter("mainstay.bus.dead", &[("subscriber", "fails")], 3);
    metrics.assert_counter("mainstay.bus.dropped", &[("subscriber", "listener orders.placed")], 2);
    let handled = |subscriber, outcome| {
        let labels = [("subscriber", subscriber), ("outcome", outcome)];
        metrics.histogram("mainstay.event.duration", &labels).len()
    };
    assert_eq!((handled("note", "ok"), handled("fails", "failed"), handled("note", "failed")), (3, 3, 0));
}
