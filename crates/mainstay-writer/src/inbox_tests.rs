//! What an inbox takes in and hands out, on one thread; `inbox_model` has the others.

use crate::inbox::{Inbox, Refused, Taken};

fn all(_: &u32, _: usize) -> bool {
    true
}

#[test]
fn the_bound_refuses_but_never_what_comes_alone() {
    let inbox = Inbox::new(10);
    assert_eq!(inbox.push(1, 50), Ok(()));
    assert_eq!(inbox.push(2, 1), Err((Refused::Full, 2)));
    let mut out = vec![];
    assert_eq!(inbox.take(&mut out, None, all), Taken::Open);
    assert_eq!(inbox.push(3, 6), Ok(()));
    assert_eq!(inbox.push(4, 5), Err((Refused::Full, 4)));
    assert_eq!(inbox.force(5), Ok(()));
    assert_eq!(inbox.weight(), 6);
}

#[test]
fn what_was_taken_in_before_the_close_comes_out() {
    let inbox = Inbox::new(10);
    inbox.push(1, 1).unwrap();
    inbox.push(2, 1).unwrap();
    inbox.close();
    assert_eq!(inbox.push(3, 1), Err((Refused::Closed, 3)));
    let mut out = vec![];
    assert_eq!(inbox.take(&mut out, None, |item, _| *item < 2), Taken::Open);
    assert_eq!(out, [1]);
    out.clear();
    assert_eq!(inbox.take(&mut out, None, all), Taken::Open);
    assert_eq!(out, [2]);
    out.clear();
    assert_eq!(inbox.take(&mut out, None, all), Taken::Over);
}

#[test]
fn an_alarm_that_rang_before_the_wait_is_not_missed() {
    let inbox = Inbox::<u32>::new(10);
    inbox.ring();
    assert_eq!(inbox.take(&mut vec![], None, all), Taken::Open);
}
