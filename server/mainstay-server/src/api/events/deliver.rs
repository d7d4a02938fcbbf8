//! Taking events and settling them: `POST /v1/groups/{group}/fetch` and `…/settle`.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{
    self, Delivery, EventInterest, EventOp, EventReply, Prolong, SettleDeliveries, Settled,
};
use mainstay::core::job::Retry;
use mainstay::core::lease::LeaseId;
use mainstay::core::op::{Commit, IdempotencyKey, Op, Reply};
use mainstay::core::store::{Batch, Interest};
use mainstay_api::types::{self as wire, DeliverySettled, ItemError, SettledDeliveries};
use mainstay_api::{Code, Problem};
use tokio::time::Instant;

use super::groups::may_use;
use super::write;
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::{Api, answer, convert, error, json};

/// Hands out events, waiting for the first if asked to.
pub(crate) async fn fetch(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    input.keyed();
    let asked = input.body::<wire::Fetch>()?;
    let ((group, asked), keyed) = input.finish(group.zip(asked))?;
    may_use(&call, &group).await?;
    // A client that is known to be gone is granted nothing.
    call.delivery().check_client().await;
    let consumer = asked.consumer.as_deref().and_then(|name| mainstay::core::name::Name::new(name).ok());
    let wanted = event::Fetch { group, max: asked.max, max_bytes: call.api.claim_bytes, consumer };
    let deliveries = if call.api.shutdown.is_draining() {
        Vec::new()
    } else {
        wait(&call, wanted, keyed.map(|keyed| keyed.whole()), call.wait(asked.wait_ms)).await?
    };
    let undelivered = Undelivered::new(&call, &deliveries, keyed.is_some());
    if !deliveries.is_empty() {
        // It may have left while its events were being granted.
        call.delivery().check_client().await;
    }
    let mut body = b"{\"events\":[".to_vec();
    // Of a fetch that is answered again, retention may have removed an event meanwhile.
    let there =
        deliveries.iter().filter_map(|delivery| delivery.event.as_ref().map(|event| (delivery, event)));
    for (index, (delivery, event)) in there.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write::delivery(&mut body, delivery, event);
    }
    body.extend_from_slice(b"]}");
    Ok(undelivered.answer(&call, answer::raw(StatusCode::OK, body)))
}

/// Fetches, and waits for as long as there is nothing; not into the drain.
async fn wait(
    call: &Call,
    wanted: event::Fetch,
    key: Option<IdempotencyKey>,
    at_most: Duration,
) -> Result<Vec<Delivery>, Problem> {
    let store = &call.api.store;
    let until = Instant::now() + at_most;
    let interests = [Interest::Event(EventInterest::Group(wanted.group.clone()))];
    // Held until the fetch it woke has been answered: then it is passed on.
    let mut _woken = None;
    loop {
        let op = Op::Event(EventOp::Fetch(wanted.clone()));
        let commit = Commit { key, ..Commit::of(op, store.entropy()) };
        let committed = call.commit(commit, Shape::Single).await?;
        let deliveries = match committed.replies.into_iter().next() {
            Some(Reply::Event(EventReply::Fetched(deliveries))) => deliveries,
            _ => return Err(error::internal("the store answered a fetch with something else")),
        };
        let left = until.saturating_duration_since(Instant::now());
        // A repeated fetch never grants anew, so there is nothing to wait for.
        if !deliveries.is_empty() || committed.repeated || left.is_zero() {
            return Ok(deliveries);
        }
        _woken = None;
        tokio::select! {
            biased;
            () = call.api.shutdown.draining() => return Ok(Vec::new()),
            wake = store.store().wait(&interests, left) => {
                _woken = Some(wake.map_err(|error| error::failed(&error))?);
            }
        }
    }
}

/// Deliveries on their way to a consumer. Dropped, or lost on the wire, they go back without spending an attempt.
struct Undelivered {
    api: Api,
    leases: Vec<LeaseId>,
}

impl Undelivered {
    fn new(call: &Call, deliveries: &[Delivery], keyed: bool) -> Undelivered {
        let leases = if keyed { Vec::new() } else { deliveries.iter().map(|one| one.lease).collect() };
        Undelivered { api: call.api.clone(), leases }
    }

    /// From here on, whether this answer gets out decides.
    fn answer(mut self, call: &Call, response: Response) -> Response {
        if self.leases.is_empty() {
            return response;
        }
        let (api, leases) = (self.api.clone(), std::mem::take(&mut self.leases));
        let delivery = call.delivery();
        response.map(|body| delivery.watch(body, move || give_back(api, leases)))
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            give_back(self.api.clone(), std::mem::take(&mut self.leases));
        }
    }
}

fn give_back(api: Api, leases: Vec<LeaseId>) {
    tracing::debug!(events = leases.len(), "a fetch's answer was lost, its events are given back");
    let tasks = api.tasks.clone();
    tasks.spawn("give events back", async move {
        let commit = Commit::of(Op::Event(EventOp::Release { leases, delay_ms: 0 }), api.store.entropy());
        // What cannot be given back now comes back when its lease runs out.
        if let Err(error) = api.store.store().submit(Batch::one(commit)).await {
            tracing::warn!(%error, "events of a lost answer could not be given back");
        }
    });
}

/// Acks, nacks and prolongs, each item alone.
pub(crate) async fn settle(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    input.keyed();
    let asked = input.body::<wire::SettleDeliveries>()?;
    let ((group, asked), keyed) = input.finish(group.zip(asked))?;
    may_use(&call, &group).await?;
    let texts = asked.ack.iter();
    let texts = texts.chain(asked.nack.iter().map(|nack| &nack.lease));
    let texts: Vec<_> = texts.chain(asked.extend.iter().map(|extend| &extend.lease)).cloned().collect();
    let settle = SettleDeliveries {
        group,
        ack: asked.ack.iter().map(|text| convert::lease(text)).collect(),
        nack: asked.nack.into_iter().map(nack).collect(),
        extend: asked
            .extend
            .iter()
            .map(|one| Prolong { lease: convert::lease(&one.lease), extend_ms: one.extend_ms })
            .collect(),
    };
    let op = Op::Event(EventOp::Settle(Box::new(settle)));
    let settled = match call.apply(vec![op], keyed.map(|keyed| keyed.whole())).await?.0 {
        Reply::Event(EventReply::Settled(settled)) if settled.len() == texts.len() => settled,
        _ => return Err(error::internal("the store answered a settle with something else")),
    };
    let results = texts.into_iter().zip(&settled).map(|(lease, settled)| result(lease, settled)).collect();
    json(StatusCode::OK, &SettledDeliveries { results })
}

/// Gives deliveries back as if they had not been fetched: the leases prove that the caller may.
pub(crate) async fn release(call: Call) -> Answer {
    let mut input = call.input();
    // A repeat finds leases that are not live any more, and changes nothing.
    input.keyed();
    let asked = input.body::<wire::ReleaseDeliveries>()?;
    let (asked, _) = input.finish(asked)?;
    call.caller.must_sometimes(ScopeKind::EventsSubscribe)?;
    let leases = asked.leases.iter().map(|text| convert::lease(text)).collect();
    let release = EventOp::Release { leases, delay_ms: asked.delay_ms };
    match call.apply(vec![Op::Event(release)], None).await?.0 {
        Reply::Count(released) => json(StatusCode::OK, &wire::DeliveriesReleased { released }),
        _ => Err(error::internal("the store answered a release with something else")),
    }
}

fn nack(nack: wire::Nack) -> event::Nack {
    event::Nack {
        lease: convert::lease(&nack.lease),
        retry: match nack.delay_ms {
            _ if nack.dead => Retry::Never,
            Some(delay_ms) => Retry::After(delay_ms),
            None => Retry::Auto,
        },
        error: nack.error.map(convert::failure),
    }
}

fn result(lease: String, settled: &Settled) -> DeliverySettled {
    let done = DeliverySettled { lease, ok: Some(true), at: None, dead: None, error: None };
    match settled {
        Settled::Acked => done,
        Settled::Nacked { due } => DeliverySettled { at: Some(convert::wire_time(*due)), ..done },
        Settled::Dead => DeliverySettled { dead: Some(true), ..done },
        Settled::Extended { expires_at } => {
            DeliverySettled { at: Some(convert::wire_time(*expires_at)), ..done }
        }
        Settled::LeaseLost => {
            let detail = "the lease is not live any more: it ran out, was settled, or the group has moved";
            let error = ItemError { code: Code::LeaseLost, detail: detail.to_owned() };
            DeliverySettled { ok: None, error: Some(error), ..done }
        }
    }
}
