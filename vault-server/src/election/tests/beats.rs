//! The leader's page: that it stays in order, and that slow storage is no reason to depose a leader.

use super::*;
use crate::log::error::{AppendError, Unusable};

/// What changes something in storage.
const WRITES: [Operation; 8] = [
    Operation::PutPages,
    Operation::RewritePage,
    Operation::RaiseSequenceNumber,
    Operation::SetSequenceNumber,
    Operation::AcquireLease,
    Operation::RenewLease,
    Operation::ReleaseLease,
    Operation::BreakLease,
];

fn away() -> Fault {
    Fault::Fail(StorageError::Unavailable("away".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_comes_late_does_not_take_back_that_a_stream_is_being_deleted() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    let (late, deletion) = (Hold::new(), Hold::new());
    a.faulty.on(Operation::RewritePage).then(Fault::LostAndHeld(late.clone()));
    late.arrived(1).await;
    a.faulty.on(Operation::DeleteContainer).then(Fault::Hold(deletion.clone()));
    let (vault, name) = (a.vault.clone(), a.name("orders"));
    let deleting = tokio::spawn(async move { vault.delete(&name).await });
    deletion.arrived(1).await;
    assert!(place.page().await.deleting);
    late.release().await;
    assert!(place.page().await.deleting);
    // The leader dies before it beats again, and the deletion comes through.
    a.die().await;
    deletion.release().await;
    deleting.abort();
    b.leads().await;
    assert!(!b.lists("orders"), "nobody has lost it");
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_comes_late_costs_the_next_one_another_try() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let term = a.term();
    for _ in 0..10 {
        let (late, next) = (Hold::new(), Hold::new());
        a.faulty.on(Operation::RewritePage).then(Fault::LostAndHeld(late.clone()));
        late.arrived(1).await;
        // The next one has looked at the page, and is overtaken on its way.
        a.faulty.on(Operation::RewritePage).then(Fault::Hold(next.clone()));
        next.arrived(1).await;
        let before = place.page().await.beat;
        late.release().await;
        assert!(place.page().await.beat > before);
        next.release().await;
        place.rest(Duration::from_millis(200)).await;
        assert!(place.page().await.beat > before + 2);
    }
    assert_eq!((a.term(), b.term()), (term, None));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_cannot_be_announced_ends_and_changes_nothing() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    a.faulty.on(Operation::RewritePage).always().then(away());
    a.vault.delete(&a.name("orders")).await.unwrap_err();
    place.rest(SECOND).await;
    assert!(!a.vault.is_deleting(), "nobody waits for it any longer");
    assert_eq!(a.append("orders", "b").await, 1);
    a.faulty.heal();
    a.vault.delete(&a.name("orders")).await.unwrap();
    assert!(!a.lists("orders"));
}

/// Looks are answered at once, so that followers do not know.
#[tokio::test(start_paused = true)]
async fn storage_that_takes_seconds_for_every_write_deposes_nobody() {
    for slow_ms in [2_500, 3_500, 4_500] {
        let place = Place::new(1);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        let term = a.term();
        for (server, operation) in [&a, &b].into_iter().flat_map(|it| WRITES.map(|write| (it, write))) {
            let slow = Fault::Delay(Duration::from_millis(slow_ms));
            server.faulty.on(operation).always().then(slow);
        }
        for number in 0..20 {
            assert_eq!(a.append("orders", "a").await, number);
        }
        a.vault.delete(&a.name("orders")).await.unwrap();
        assert_eq!((a.term(), b.term()), (term, None), "{slow_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_alone_has_slow_storage_beats_without_a_rest() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let term = a.term();
    for (times, slow_ms) in [(1, 2_900), (u64::MAX, 3_500)] {
        let slow = Fault::Delay(Duration::from_millis(slow_ms));
        a.faulty.on(Operation::RewritePage).times(times).then(slow);
    }
    place.rest(120 * SECOND).await;
    assert_eq!((a.term(), b.term()), (term, None));
}

/// Of 60 s, as storage stalls: what waits to be stored has its bound, and the leader goes on to show that it lives.
#[tokio::test(start_paused = true)]
async fn appends_that_stand_still_for_a_minute_fill_their_queue_and_depose_nobody() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let stream = a.create("orders").await;
    a.append("orders", "a").await;
    let term = a.term();
    let stall = Hold::new();
    a.faulty.on(Operation::PutPages).always().then(Fault::Hold(stall.clone()));
    let mut asked = Vec::new();
    for second in 0..60 {
        for n in 0..2 {
            let (stream, label) = (Arc::clone(&stream), format!("m{second}-{n}"));
            asked.push(tokio::spawn(async move { append(&stream, &label, 1_000_000).await }));
        }
        place.rest(SECOND).await;
        assert_eq!((a.term(), b.term()), (term, None), "after {second} s");
        assert!(stream.status().queued_bytes <= crate::limits::QUEUE_BYTES_PER_STREAM);
    }
    assert!(asked.iter().all(JoinHandle::is_finished), "each is answered within its time");
    a.faulty.heal();
    stall.release().await;
    let (mut full, mut unknown) = (0, 0);
    for append in asked {
        match append.await.unwrap() {
            Err(AppendError::QueueFull(_)) => full += 1,
            Err(AppendError::Unknown(Unusable::TimedOut)) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    // What has found room in the queue keeps it until storage has answered: nobody else's can have taken its place.
    assert_eq!((full, unknown), (104, 16));
    a.append("orders", "z").await;
    assert_eq!(stream.status().queued_bytes, 0);
    assert_eq!((a.term(), b.term()), (term, None));
}
