//! What nobody sees from outside while stores tidy up before each commit.

use super::change::{DeliveryLease, DeliveryState, GroupId, GroupPlace, GroupRow, TopicId, Unsettled};
use crate::{
    engine::Engine,
    event::{EventReply, GroupConfig, Prolong, SettleDeliveries, Settled},
    lease::{LeaseId, Token},
    name::Name,
    op::Reply,
    time::{Now, StoreTime, Timestamp},
};

const ENDS: u64 = 1_000;

/// An engine with one delivery under way, nobody having tidied up since before [`ENDS`]; its lease.
fn delivering(at: u64) -> (Engine, SettleDeliveries, LeaseId) {
    let (group, name) = (GroupId(0), Name::new("g").unwrap());
    let config = GroupConfig::new(vec!["t".parse().unwrap()]);
    let lease = LeaseId { token: Token(7), nonce: 9 };
    let leased = DeliveryLease { id: lease, until: StoreTime(ENDS), ms: ENDS, consumer: None };
    let event = Unsettled {
        topic: TopicId(0),
        size: 1,
        attempt: 1,
        key: 0,
        at: Timestamp(0),
        dead: None,
        error: None,
        state: DeliveryState::Leased(leased),
    };
    let mut engine = Engine::new();
    let place = GroupPlace { cursor: 2, ..GroupPlace::default() };
    engine.load_group(GroupRow { id: group, name: name.clone(), config: config.into(), place });
    engine.load_delivery(group, 1, event);
    engine.set_now(Now { wall: Timestamp(at as i64), store: StoreTime(at) });
    let nothing = SettleDeliveries { group: name, ack: vec![], nack: vec![], extend: vec![] };
    (engine, nothing, lease)
}

#[test]
fn a_lease_that_ran_out_settles_nothing_though_nobody_has_tidied_up() {
    for at in [ENDS - 1, ENDS] {
        let is_late = at >= ENDS;
        let settled = |extend: bool| {
            let (mut engine, nothing, lease) = delivering(at);
            let settle = match extend {
                true => SettleDeliveries { extend: vec![Prolong { lease, extend_ms: 5 }], ..nothing },
                false => SettleDeliveries { ack: vec![lease], ..nothing },
            };
            match engine.settle_deliveries(&settle, 0) {
                Ok(Reply::Event(EventReply::Settled(settled))) => settled[0],
                _ => panic!("another answer"),
            }
        };
        assert_eq!(settled(false) == Settled::LeaseLost, is_late, "an ack at {at}");
        assert_eq!(settled(true) == Settled::LeaseLost, is_late, "an extend at {at}");
        let (mut engine, nothing, lease) = delivering(at);
        assert_eq!(engine.ack_in_commit(&nothing.group, lease).is_err(), is_late);
        let (mut engine, _, lease) = delivering(at);
        assert_eq!(engine.release_deliveries(&[lease], 0), Reply::Count(u64::from(!is_late)));
    }
}
