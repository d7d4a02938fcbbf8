//! The judge of histories is judged: what is right is found to be right, and each kind of wrong is noticed.

use std::time::Duration;

use mainstay_core::lock::LockMode;
use mainstay_testkit::history::{Asked, Call, Got, Register, check, line};

const TTL: u64 = 10;

fn call(asked: Asked, got: Got, from: u64, to: u64) -> Call {
    Call { client: 1, lock: "l".into(), asked, got, from, to: Some(to) }
}

fn acquire(token: u64, from: u64, to: u64) -> Call {
    call(Asked::Acquire { mode: LockMode::Exclusive, ttl_ms: TTL, wait_ms: 0 }, Got::Granted(token), from, to)
}

fn read(token: u64, from: u64, to: u64) -> Call {
    call(Asked::Acquire { mode: LockMode::Shared, ttl_ms: TTL, wait_ms: 0 }, Got::Granted(token), from, to)
}

fn held(from: u64, to: u64) -> Call {
    call(Asked::Acquire { mode: LockMode::Exclusive, ttl_ms: TTL, wait_ms: 0 }, Got::Held, from, to)
}

fn renew(token: u64, got: Got, from: u64, to: u64) -> Call {
    call(Asked::Renew { token, ttl_ms: TTL }, got, from, to)
}

fn release(token: u64, got: Got, from: u64, to: u64) -> Call {
    call(Asked::Release { token }, got, from, to)
}

fn checked(token: u64, current: Option<u64>, from: u64, to: u64) -> Call {
    let valid = current == Some(token);
    call(Asked::Check { token }, Got::Checked { valid, current }, from, to)
}

fn unanswered(call: Call) -> Call {
    Call { got: Got::Nothing, to: None, ..call }
}

fn right(calls: &[Call]) {
    check(calls, Duration::ZERO).unwrap_or_else(|violation| panic!("{violation}"));
}

fn wrong(calls: &[Call]) {
    check(calls, Duration::ZERO).expect_err("somebody was lied to");
}

#[test]
fn ordinary_histories_are_right() {
    right(&[]);
    right(&[acquire(1, 0, 1), held(2, 3), release(1, Got::Done, 4, 5), acquire(2, 6, 7)]);
    // Concurrent calls may have happened in any order.
    right(&[
        acquire(1, 0, 10),
        held(0, 10),
        release(1, Got::Done, 11, 30),
        acquire(2, 12, 30),
        checked(1, None, 12, 30),
    ]);
    right(&[acquire(1, 0, 1), acquire(2, 2, 10_002), renew(1, Got::Lost, 10_003, 10_004)]);
    right(&[
        acquire(1, 0, 1),
        renew(1, Got::Done, 9_000, 9_001),
        held(10_500, 10_501),
        acquire(2, 10_600, 19_000),
    ]);
}

#[test]
fn readers_may_share_and_permits_may_be_used_up() {
    right(&[
        read(1, 0, 1),
        read(2, 2, 3),
        held(4, 5),
        release(1, Got::Done, 6, 7),
        release(2, Got::Done, 8, 9),
    ]);
    let two = |token, from| {
        let mode = LockMode::Semaphore { permits: 2 };
        call(Asked::Acquire { mode, ttl_ms: TTL, wait_ms: 0 }, Got::Granted(token), from, from + 1)
    };
    right(&[two(1, 0), two(2, 2), held(4, 5), release(1, Got::Done, 6, 7), two(3, 8)]);
    wrong(&[two(1, 0), two(2, 2), two(3, 4)]);
    wrong(&[read(1, 0, 1), acquire(2, 2, 3)]);
}

#[test]
fn two_holders_at_a_time_are_noticed() {
    wrong(&[acquire(1, 0, 1), acquire(2, 2, 9_999)]);
    wrong(&[acquire(1, 0, 1), renew(1, Got::Done, 5_000, 5_001), acquire(2, 6_000, 14_999)]);
}

#[test]
fn an_early_grant_is_right_only_if_somebody_may_have_released() {
    let again = acquire(2, 3_000, 3_001);
    wrong(&[acquire(1, 0, 1), again.clone()]);
    right(&[acquire(1, 0, 1), unanswered(release(1, Got::Done, 2_000, 0)), again.clone()]);
    wrong(&[acquire(1, 0, 1), unanswered(release(1, Got::Done, 3_500, 0)), again]);
}

#[test]
fn a_stale_holder_that_was_believed_is_noticed() {
    let takeover = [acquire(1, 0, 1), acquire(2, 10_500, 10_501)];
    for stale in [
        renew(1, Got::Done, 10_600, 10_601),
        release(1, Got::Done, 10_600, 10_601),
        checked(1, Some(1), 10_600, 10_601),
        call(Asked::Use { token: 1 }, Got::Done, 10_600, 10_601),
    ] {
        wrong(&[&takeover[..], &[stale]].concat());
    }
    right(&[&takeover[..], &[checked(1, Some(2), 10_600, 10_601)]].concat());
}

#[test]
fn a_grant_that_does_not_live_its_time_is_noticed() {
    wrong(&[acquire(1, 5, 6), renew(1, Got::Lost, 7, 10_004)]);
    right(&[acquire(1, 5, 6), renew(1, Got::Lost, 7, 10_005)]);
    wrong(&[acquire(1, 5, 6), checked(1, None, 7, 8)]);
}

#[test]
fn a_release_that_happened_twice_is_noticed() {
    wrong(&[acquire(1, 0, 1), release(1, Got::Done, 2, 3), release(1, Got::Done, 4, 5)]);
    right(&[acquire(1, 0, 1), release(1, Got::Done, 2, 3), release(1, Got::Lost, 4, 5)]);
}

#[test]
fn a_free_lock_that_is_refused_is_noticed() {
    wrong(&[held(0, 1)]);
    wrong(&[acquire(1, 0, 1), release(1, Got::Done, 2, 3), held(4, 5)]);
    // Unless somebody may have it who never heard so.
    right(&[acquire(1, 0, 1), release(1, Got::Done, 2, 3), unanswered(acquire(9, 3, 0)), held(4, 5)]);
    right(&[unanswered(acquire(9, 4, 0)), held(3, 5)]);
}

#[test]
fn one_who_never_heard_of_its_grant_does_not_explain_everything_that_comes_after() {
    let unseen = |wait_ms| {
        let asked = Asked::Acquire { mode: LockMode::Exclusive, ttl_ms: TTL, wait_ms };
        unanswered(call(asked, Got::Nothing, 1_000, 0))
    };
    right(&[unseen(0), held(11_000, 11_001)]);
    wrong(&[unseen(0), held(11_001, 11_002)]);
    right(&[unseen(5), held(16_000, 16_001)]);
    wrong(&[unseen(5), held(16_001, 16_002)]);
    let late = [unseen(5), held(18_000, 18_001)];
    check(&late, Duration::from_millis(2)).expect("there was a little more");
    wrong(&late);
    // Nor what came before.
    wrong(&[unseen(0), held(998, 999)]);
    // A token that nobody was told of is seen as long.
    right(&[unseen(0), checked(1, Some(7), 2_000, 2_001)]);
    wrong(&[unseen(0), checked(1, Some(7), 11_001, 11_002)]);
}

#[test]
fn tokens_that_go_back_are_noticed() {
    wrong(&[acquire(2, 0, 1), release(2, Got::Done, 2, 3), acquire(1, 4, 5)]);
    wrong(&[acquire(1, 0, 1), release(1, Got::Done, 2, 3), acquire(1, 4, 5)]);
    let other = Call { lock: "other".into(), ..acquire(1, 4, 5) };
    right(&[acquire(2, 0, 1), other]);
}

#[test]
fn a_violation_says_what_did_not_fit() {
    let lie = acquire(2, 2, 3);
    let violation = check(&[acquire(1, 0, 1), lie.clone()], Duration::ZERO).expect_err("two holders");
    assert_eq!((violation.explained, violation.stuck), (vec![acquire(1, 0, 1)], vec![lie]));
}

#[test]
fn long_histories_are_judged_in_little_time() {
    let mut calls = vec![];
    for n in 0..3_000 {
        let at = n * 100;
        calls.push(acquire(n + 1, at.saturating_sub(250), at + 20));
        calls.push(held(at + 25, at + 30));
        calls.push(release(n + 1, Got::Done, at + 40, at + 60));
        if n % 50 == 0 {
            calls.push(unanswered(renew(n + 1, Got::Done, at + 30, 0)));
            calls.push(unanswered(release(n + 1, Got::Done, at + 35, 0)));
        }
    }
    right(&calls);
}

#[test]
fn one_who_overtakes_is_noticed() {
    let waited = |from, seen, token| line::Waited { lock: "l".into(), from, seen, token };
    assert_eq!(line::overtaken(&[waited(0, Some(5), 1), waited(6, Some(7), 2), waited(4, None, 3)]), []);
    assert_eq!(
        line::overtaken(&[waited(0, Some(5), 2), waited(4, Some(7), 1)]),
        [],
        "nobody knows who was first"
    );
    assert_eq!(line::overtaken(&[waited(0, Some(5), 2), waited(6, Some(7), 1)]).len(), 1);
}

#[test]
fn a_register_accepts_no_token_below_the_last() {
    let mut register = Register::default();
    let accepted = [3, 3, 5, 4, 3, 6].map(|token| register.write(token));
    assert_eq!(accepted, [true, true, true, false, false, true]);
    assert_eq!(register.counts(), (4, 2));
}
