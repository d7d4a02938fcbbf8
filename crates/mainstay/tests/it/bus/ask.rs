//! Events that somebody wants answers to.

use mainstay::bus::{AskError, Bus};
use mainstay::event::{Envelope, EventContext};
use mainstay::{Context, JobError, secs};
use tokio::time::Instant;

use super::{Placed, Seen};

async fn price(event: Placed, _: EventContext) -> Result<u32, JobError> {
    Ok(event.order * 100)
}

async fn audit(_: Envelope, _: EventContext) -> Result<(), JobError> {
    Ok(())
}

async fn fails(_: Placed, _: EventContext) -> Result<u32, JobError> {
    Err(JobError::permanent("sold out"))
}

async fn hangs(_: Placed, _: EventContext) -> Result<u32, JobError> {
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_counts_and_who_only_listens_gives_none() {
    let bus = Bus::new();
    let _subs = [
        bus.subscribe(">", audit).start().unwrap(),
        bus.on(hangs).start().unwrap(),
        bus.on(fails).start().unwrap(),
        bus.on(price).start().unwrap(),
    ];
    assert_eq!(bus.request(&Placed { order: 7 }).await, Ok(700));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_there_is_a_reason() {
    let bus = Bus::new();
    let ask = || bus.request::<u32>(&Placed { order: 7 });
    assert_eq!(ask().await, Err(AskError::NoAnswer), "nobody is there");
    let listening = bus.subscribe(">", audit).start().unwrap();
    assert_eq!(ask().await, Err(AskError::NoAnswer), "nobody has one");
    assert_eq!(
        bus.request::<()>(&Placed { order: 7 }).await,
        Ok(()),
        "handled is an answer to who wants no other"
    );
    let failing = bus.on(fails).start().unwrap();
    assert_eq!(ask().await, Err(AskError::Failed("sold out".into())));
    drop((listening, failing));
    let _pricing = bus.on(price).start().unwrap();
    let wrong = bus.request::<Vec<String>>(&Placed { order: 7 }).await.unwrap_err();
    assert!(matches!(&wrong, AskError::Unreadable(_)), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_they_said_or_their_deadline_says() {
    let bus = Bus::new();
    let _sub = bus.on(hangs).concurrency(4).start().unwrap();
    let at = Instant::now();
    assert_eq!(bus.request::<u32>(&Placed { order: 7 }).await, Err(AskError::TimedOut));
    assert_eq!(at.elapsed(), secs(5));
    let at = Instant::now();
    assert_eq!(bus.request::<u32>(&Placed { order: 7 }).within(secs(1)).await, Err(AskError::TimedOut));
    assert_eq!(at.elapsed(), secs(1));
    let at = Instant::now();
    let hurried = Context::new().with_time_limit(secs(2));
    let asked = hurried.scope(async { bus.request::<u32>(&Placed { order: 7 }).await });
    assert_eq!(asked.await, Err(AskError::TimedOut));
    assert_eq!(at.elapsed(), secs(2));
}

#[tokio::test(start_paused = true)]
async fn all_answers_come_in_the_order_of_subscribing() {
    async fn late(event: Placed, _: EventContext<u64>) -> Result<String, JobError> {
        tokio::time::sleep(secs(3)).await;
        Ok(format!("late {}", event.order))
    }
    async fn early(event: Placed, _: EventContext<u64>) -> Result<String, JobError> {
        Ok(format!("early {}", event.order))
    }
    let bus = Bus::new();
    let here = bus.with(0);
    let _subs = [
        here.on(late).start().unwrap(),
        here.on(early).start().unwrap(),
        bus.on(fails).start().unwrap(),
        bus.on(hangs).start().unwrap(),
    ];
    let replies = bus.gather::<String>(&Placed { order: 7 }).within(secs(4)).await.unwrap();
    let told: Vec<_> =
        replies.into_iter().map(|reply| (reply.subscriber.to_string(), reply.answer)).collect();
    assert_eq!(
        told,
        [
            ("late".to_owned(), Ok("late 7".to_owned())),
            ("early".to_owned(), Ok("early 7".to_owned())),
            ("fails".to_owned(), Err(AskError::Failed("sold out".into()))),
            ("hangs".to_owned(), Err(AskError::TimedOut)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn who_only_listens_is_not_asked() {
    let bus = Bus::new();
    let _unread = bus.listen::<Placed>("orders.placed", 8).unwrap();
    assert_eq!(bus.request::<()>(&Placed { order: 7 }).await, Err(AskError::NoAnswer), "nobody is asked");
    let _audit = bus.subscribe(">", audit).start().unwrap();
    let at = Instant::now();
    assert_eq!(bus.request::<()>(&Placed { order: 7 }).await, Ok(()));
    let _price = bus.on(price).start().unwrap();
    let replies = bus.gather::<Option<u32>>(&Placed { order: 7 }).await.unwrap();
    let told: Vec<_> = replies.into_iter().map(|reply| reply.answer).collect();
    assert_eq!((told, at.elapsed()), (vec![Ok(None), Ok(Some(700))], secs(0)));
}

#[tokio::test(start_paused = true)]
async fn a_question_ends_with_the_subscription_that_had_it() {
    async fn never(_: Placed, cx: EventContext<Seen>) -> Result<u32, JobError> {
        cx.add("began");
        std::future::pending().await
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let sub = bus.with(seen.clone()).on(never).start().unwrap();
    let event = Placed { order: 7 };
    let asking = async { bus.request::<u32>(&event).within(secs(60)).await };
    let ending = async {
        while seen.count() == 0 {
            tokio::task::yield_now().await;
        }
        sub.stop_by(Instant::now()).await
    };
    let at = Instant::now();
    let (asked, drained) = tokio::join!(asking, ending);
    assert_eq!(asked, Err(AskError::NoAnswer));
    assert_eq!((drained.unfinished, at.elapsed()), (1, secs(0)));
}
