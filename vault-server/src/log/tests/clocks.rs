//! Timestamps and producers while the wall clock jumps.

use std::sync::atomic::Ordering;

use vault_format::producers::Refused;

use super::producers::{refused, send};
use super::retention::{HOUR, SECOND, with_a_clock_that_jumps};
use super::*;
use crate::limits::CLOCK_JUMP_STANDS;

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}

/// How many seconds later than `first` a message was appended, as its timestamp says.
fn seconds_after(first: &Appended, appended: &Appended) -> u64 {
    (appended.timestamp.0 - first.timestamp.0) / 1_000
}

#[tokio::test(start_paused = true)]
async fn a_jump_ahead_by_more_than_a_day_and_back_changes_nothing() {
    let (server, clock) = with_a_clock_that_jumps().await;
    let stream = server.create("orders", 4).await;
    let first = send(&stream, "p", 0, 0).await.unwrap();
    clock.ahead_ms.store(ms(25 * HOUR), Ordering::Relaxed);
    server.env.clock.sleep(10 * SECOND).await;
    let second = append(&stream, "plain", 10).await.unwrap();
    assert_eq!(seconds_after(&first, &second), 10, "time goes on as the monotonic clock does");
    assert_eq!(send(&stream, "p", 0, 0).await, Ok(first));
    let third = send(&stream, "p", 0, 1).await.unwrap();
    clock.ahead_ms.store(0, Ordering::Relaxed);
    server.env.clock.sleep(10 * SECOND).await;
    let fourth = send(&stream, "p", 0, 2).await.unwrap();
    assert_eq!((seconds_after(&first, &third), seconds_after(&first, &fourth)), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn a_jump_that_stands_for_an_hour_counts_in_all_streams() {
    let (server, clock) = with_a_clock_that_jumps().await;
    let (stream, other) = (server.create("orders", 4).await, server.create("other", 4).await);
    let first = send(&stream, "p", 0, 0).await.unwrap();
    send(&other, "p", 0, 0).await.unwrap();
    clock.ahead_ms.store(ms(25 * HOUR), Ordering::Relaxed);
    assert_eq!(seconds_after(&first, &append(&stream, "seen", 10).await.unwrap()), 0);
    server.env.clock.sleep(CLOCK_JUMP_STANDS - SECOND).await;
    assert_eq!(seconds_after(&first, &send(&stream, "p", 0, 1).await.unwrap()), 3_599);
    server.env.clock.sleep(SECOND).await;
    let believed = append(&other, "after an hour", 10).await.unwrap();
    assert_eq!(seconds_after(&first, &believed), 26 * 3_600);
    assert_eq!(refused(send(&other, "p", 0, 1).await), Refused::Unknown, "a day has passed");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_for_a_night_is_believed_at_once() {
    let (server, clock) = with_a_clock_that_jumps().await;
    let stream = server.create("orders", 4).await;
    let first = send(&stream, "p", 0, 0).await.unwrap();
    clock.ahead_ms.store(ms(8 * HOUR), Ordering::Relaxed);
    let second = send(&stream, "p", 0, 1).await.unwrap();
    assert_eq!(seconds_after(&first, &second), 8 * 3_600);
    // Back at once as well, and timestamps do not fall.
    clock.ahead_ms.store(0, Ordering::Relaxed);
    assert_eq!(send(&stream, "p", 0, 2).await.unwrap().timestamp, second.timestamp);
}
