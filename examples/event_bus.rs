//! Two handlers on one event, one on another: on a bus, each behind a queue of its own, all at once.
//!
//! Handlers finish in whatever order they like. The lines do not: each handler answers with its own, and the answers
//! come in the order in which the handlers were subscribed.

use std::error::Error;

use mainstay::bus::{AskError, Bus};
use mainstay::testing::block_on_virtual;
use mainstay::{Event, EventContext, JobError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct UserCreated {
    name: String,
}
impl Event for UserCreated {
    const TOPIC: &'static str = "user.created";
}

#[derive(Clone, Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
}
impl Event for OrderPlaced {
    const TOPIC: &'static str = "order.placed";
}

async fn welcome(user: UserCreated, cx: EventContext) -> Result<String, JobError> {
    Ok(format!("{} handler 1: {}", cx.topic(), user.name))
}

async fn count(user: UserCreated, cx: EventContext) -> Result<String, JobError> {
    Ok(format!("{} handler 2: {}", cx.topic(), user.name))
}

async fn ship(order: OrderPlaced, cx: EventContext) -> Result<String, JobError> {
    Ok(format!("{} handler: {}", cx.topic(), order.order))
}

async fn announce(bus: &Bus, event: &impl Event) -> Result<(), AskError> {
    for reply in bus.gather::<String>(event).await? {
        println!("{}", reply.answer?);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    block_on_virtual(async {
        let bus = Bus::new();
        let _handlers = [bus.on(welcome).start()?, bus.on(count).start()?, bus.on(ship).start()?];
        announce(&bus, &UserCreated { name: "alice".to_owned() }).await?;
        announce(&bus, &OrderPlaced { order: "order_99".to_owned() }).await?;
        Ok(())
    })
}
