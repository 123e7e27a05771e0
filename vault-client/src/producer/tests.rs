//! The producer against answers that no server gives when it is asked to. Time is paused and passes by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::limits::LONGEST_RETRY_AFTER;
use crate::scripted::{Log, Reply, Scripted, Sent};

type Shown = Arc<Mutex<Log>>;

/// Servers that store, but what `fault` says comes back in the place of the true answer. It is asked before (`None`) and
/// after the request is carried out, with the number of the attempt at it, from 0.
fn vault(mut fault: impl FnMut(&Sent, u32, bool) -> Option<Reply> + Send + 'static) -> (Scripted, Shown) {
    let log = Shown::default();
    let (shown, mut attempts) = (Arc::clone(&log), std::collections::HashMap::new());
    let scripted = Scripted::new(move |sent| {
        let attempt = attempts.entry(sent.stamp.clone()).or_insert(0);
        *attempt += 1;
        if let Some(reply) = fault(sent, *attempt - 1, false) {
            return reply;
        }
        let reply = shown.lock().unwrap().append(sent);
        fault(sent, *attempt - 1, true).unwrap_or(reply)
    });
    (scripted, log)
}

/// A producer that sends each message in a request of its own.
fn producer(scripted: &Scripted) -> Producer {
    scripted.client().producer("orders").id("p").request_bytes(1).start().unwrap()
}

/// Sends the numbers from 0 on: their receipts.
async fn send(producer: &Producer, count: u64) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for number in 0..count {
        receipts.push(producer.send(number.to_string()).await.unwrap());
    }
    receipts
}

fn numbers(count: u64) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// What became of each: the offset, or whether it may be stored.
async fn outcomes(receipts: Vec<Receipt>) -> Vec<Result<u64, SideEffects>> {
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(receipt.await.map(|stored| stored.offset.0).map_err(|error| error.side_effects()));
    }
    outcomes
}

const NONE: Result<u64, SideEffects> = Err(SideEffects::None);
const POSSIBLE: Result<u64, SideEffects> = Err(SideEffects::Possible);

#[tokio::test(start_paused = true)]
async fn what_was_stored_and_not_answered_is_stored_once() {
    let (scripted, log) = vault(|sent, attempt, done| {
        let lost = done && attempt < (sent.sequence() % 3) as u32;
        lost.then_some(Reply::Broken(SideEffects::Possible))
    });
    let producer = producer(&scripted);
    let receipts = send(&producer, 20).await;
    assert_eq!(outcomes(receipts).await, (0..20).map(Ok).collect::<Vec<_>>());
    let report = producer.close().await;
    assert_eq!((report.acknowledged, report.not_stored, report.unknown), (20, 0, 0));
    assert_eq!((report.next_offset, report.failure), (Some(Offset(20)), None));
    assert_eq!(log.lock().unwrap().values, numbers(20));
    assert!(scripted.seen().iter().any(|sent| sent.server == 1), "another server was tried");
}

#[tokio::test(start_paused = true)]
async fn what_overtakes_waits_for_those_before_it() {
    let (scripted, log) = vault(|sent, attempt, done| {
        // Number 3 is lost on its way at first, and found out late.
        let lost = !done && sent.sequence() == 3 && attempt == 0;
        lost.then(|| Reply::Broken(SideEffects::Possible).late(Duration::from_secs(5)))
    });
    let producer = producer(&scripted);
    let receipts = send(&producer, 12).await;
    assert_eq!(outcomes(receipts).await, (0..12).map(Ok).collect::<Vec<_>>());
    assert_eq!(log.lock().unwrap().values, numbers(12));
    let tries = scripted.seen().iter().filter(|sent| sent.sequence() == 4).count();
    assert!((10..60).contains(&tries), "it tries again now and then: {tries}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_forgotten_the_producer_gets_a_new_epoch() {
    let (scripted, log) = vault(|_, _, _| None);
    let producer = producer(&scripted);
    assert_eq!(outcomes(send(&producer, 8).await).await.len(), 8);
    log.lock().unwrap().forget();
    let receipts = send(&producer, 8).await;
    assert_eq!(outcomes(receipts).await, (8..16).map(Ok).collect::<Vec<_>>());
    assert_eq!(log.lock().unwrap().values, [numbers(8), numbers(8)].concat());
    let epochs: std::collections::BTreeSet<_> =
        scripted.seen().iter().map(|sent| sent.stamp.clone().unwrap().1).collect();
    assert_eq!(epochs.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_new_epoch_begins_while_a_request_may_be_stored() {
    let (scripted, log) = vault(|sent, attempt, done| match (sent.sequence(), attempt, done) {
        (4, 0, true) => Some(Reply::Broken(SideEffects::Possible)),
        (4.., _, false) if attempt > 0 => Some(Reply::problem(409, "producer_unknown", false)),
        _ => None,
    });
    let producer = producer(&scripted);
    let receipts = send(&producer, 5).await;
    assert_eq!(outcomes(receipts).await, [Ok(0), Ok(1), Ok(2), Ok(3), POSSIBLE]);
    assert_eq!(log.lock().unwrap().values, numbers(5));
}

#[tokio::test(start_paused = true)]
async fn servers_that_know_nobody_end_the_producer() {
    let (scripted, _) = vault(|_, _, _| Some(Reply::problem(409, "producer_unknown", false)));
    let producer = producer(&scripted);
    assert_eq!(outcomes(send(&producer, 3).await).await, [NONE; 3]);
    assert_eq!(scripted.seen().len(), 1, "it does not begin epoch after epoch");
}

#[tokio::test(start_paused = true)]
async fn it_waits_as_long_as_it_is_asked_to() {
    for (asked, least, tries) in [(7_u64, 7, 2), (u64::MAX, 0, 1)] {
        let (scripted, _) = vault(move |_, attempt, _| {
            let full = Reply::problem(429, "queue_full", true).header("retry-after", asked);
            (attempt == 0).then_some(full)
        });
        let producer = producer(&scripted);
        let begun = Instant::now();
        let outcome = outcomes(send(&producer, 1).await).await;
        assert_eq!(outcome, [if tries == 2 { Ok(0) } else { NONE }]);
        assert!((least..least + 2).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(scripted.seen().len(), tries);
    }
    assert!(LONGEST_RETRY_AFTER > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_refusal_is_not_stored() {
    let (scripted, log) = vault(|sent, _, done| {
        let full = !done && sent.sequence() == 6;
        full.then(|| Reply::problem(507, "stream_full", false).late(Duration::from_millis(30)))
    });
    let producer = producer(&scripted);
    let receipts = send(&producer, 30).await;
    let outcomes = outcomes(receipts.clone()).await;
    assert_eq!(outcomes[..6], [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(outcomes[6..], [NONE; 24]);
    let error = receipts[6].wait().await.unwrap_err();
    assert!(matches!(&error, SendError::Request { error, .. } if error.code() == Some("stream_full")));
    for receipt in &receipts[7..] {
        let error = receipt.wait().await.unwrap_err();
        assert!(matches!(&error, SendError::AfterFailure { .. }), "{error:?}");
    }
    assert!(matches!(producer.send("more").await, Err(SendError::AfterFailure { .. })));
    assert_eq!(producer.flush().await.as_ref(), Err(&error));
    let report = producer.close().await;
    assert_eq!((report.acknowledged, report.not_stored, report.unknown), (6, 24, 0));
    assert_eq!(report.failure, Some(error));
    assert_eq!(log.lock().unwrap().values, numbers(6));
}

#[tokio::test(start_paused = true)]
async fn what_may_be_stored_is_said_to_be_unknown() {
    // From number 2 on nothing is answered any more, and 3 was stored all the same.
    let (scripted, _) = vault(|sent, _, done| (done && sent.sequence() >= 2).then_some(Reply::Silence));
    let producer = producer(&scripted);
    let receipts = send(&producer, 12).await;
    let outcomes = outcomes(receipts).await;
    assert_eq!(outcomes[..2], [Ok(0), Ok(1)]);
    // Five were on their way.
    assert_eq!(outcomes[2..], [[POSSIBLE; 5], [NONE; 5]].concat());
    let report = producer.close().await;
    assert_eq!((report.acknowledged, report.not_stored, report.unknown), (2, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn what_proxies_say_is_not_taken_for_the_servers_word() {
    for (status, outcome, tries) in [(502, Ok(0), 2), (500, Ok(0), 2), (404, POSSIBLE, 1), (302, POSSIBLE, 1)]
    {
        let (scripted, _) = vault(move |_, attempt, _| (attempt == 0).then(|| Reply::html(status)));
        let producer = producer(&scripted);
        assert_eq!(outcomes(send(&producer, 1).await).await, [outcome], "{status}");
        assert_eq!(scripted.seen().len(), tries, "{status}");
    }
    // A success that breaks off may be one.
    let (scripted, log) = vault(|_, attempt, done| {
        let body = vec![Ok("{\"first_off".into()), Err("it broke off".to_owned())];
        (done && attempt == 0).then_some(Reply::Answer { status: 200, headers: Vec::new(), body })
    });
    assert_eq!(outcomes(send(&producer(&scripted), 1).await).await, [Ok(0)]);
    assert_eq!(log.lock().unwrap().values, numbers(1));
}

#[tokio::test(start_paused = true)]
async fn without_numbers_nothing_is_sent_again_that_may_be_stored() {
    let (scripted, log) = vault(|_, attempt, done| match (attempt, done) {
        (0, false) => Some(Reply::problem(429, "queue_full", true)),
        (3, true) => Some(Reply::Broken(SideEffects::Possible)),
        _ => None,
    });
    let builder = scripted.client().producer("orders").without_idempotence().request_bytes(1);
    let producer = builder.start().unwrap();
    let receipts = send(&producer, 5).await;
    assert_eq!(outcomes(receipts).await, [Ok(0), Ok(1), POSSIBLE, NONE, NONE]);
    assert_eq!(log.lock().unwrap().values, numbers(3));
}

#[tokio::test(start_paused = true)]
async fn receipts_of_a_producer_that_is_dropped_are_told() {
    let (scripted, _) = vault(|_, _, _| Some(Reply::Silence));
    let producer = producer(&scripted);
    let receipts = send(&producer, 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(producer);
    // The first alone was on its way: nobody knows this producer yet.
    assert_eq!(outcomes(receipts).await, [POSSIBLE, NONE, NONE]);
}

#[tokio::test(start_paused = true)]
async fn who_sends_waits_while_the_buffer_is_full() {
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let shown = Arc::clone(&open);
    let (scripted, log) = vault(move |_, _, _| {
        let full = !shown.load(std::sync::atomic::Ordering::Relaxed);
        full.then(|| Reply::problem(503, "no_leader", true))
    });
    let producer = scripted.client().producer("orders").buffer_bytes(0).start().unwrap();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(2), producer.send(value.clone())).await.is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 5, "six requests' worth less what records take besides");
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    producer.send(value).await.unwrap();
    assert_eq!(producer.close().await.acknowledged, 6);
    assert_eq!(log.lock().unwrap().values.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_long_value_that_cannot_be_sent_whole_is_not_begun() {
    let (scripted, log) = vault(|_, _, _| None);
    let producer = scripted.client().producer("orders").start().unwrap();
    let long = Bytes::from(vec![b'x'; 5 << 20]);
    let mut crowded = Message::new(long.clone());
    for number in 0..64 {
        crowded = crowded.header(number.to_string(), "");
    }
    let wide = Message::new(long.clone()).header("h", "x".repeat(16 << 10));
    let marked = Message::new(long.clone()).header(PART_HEADER, "mine");
    let keyed = Message::new(long.clone()).key(vec![0; 1025]);
    let odd = Message { attributes: 1, ..Message::new(long.clone()) };
    for message in [crowded, wide, marked, keyed, odd] {
        assert!(matches!(producer.send(message).await, Err(SendError::Message(_))));
    }
    let longest = scripted.client().producer("orders").value_bytes(4 << 20).start().unwrap();
    assert!(matches!(longest.send(long.clone()).await, Err(SendError::ValueTooLong { .. })));
    assert_eq!(scripted.seen().len(), 0);
    // The producer goes on.
    let stored = producer.send(long).await.unwrap().await.unwrap();
    assert_eq!((stored.offset, log.lock().unwrap().values.len()), (Offset(4), 5));
}

#[tokio::test(start_paused = true)]
async fn settings_at_their_ends_do_no_harm() {
    let (scripted, log) = vault(|_, _, _| None);
    let client = scripted.client();
    let builder = client.producer("orders").linger(Duration::MAX).retry_time(Duration::MAX);
    let producer = builder.start().unwrap();
    let receipt = producer.send("one").await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(receipt.await.unwrap().offset, Offset(0));
    let stored = client.producer("orders").linger(Duration::ZERO).start().unwrap().send("two").await.unwrap();
    drop(stored);
    for id in ["", "a b", &"x".repeat(65), "ä"] {
        assert!(client.producer("orders").id(id).start().is_err(), "{id}");
    }
    assert!(client.producer("").start().is_err());
    assert_eq!(log.lock().unwrap().values[0], "one");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_task_that_is_gone() {
    let scripted = Scripted::new(|_| panic!("a mistake"));
    let producer = producer(&scripted);
    let receipts = send(&producer, 3).await;
    assert!(producer.flush().await.is_err());
    assert!(producer.send("more").await.is_err());
    assert_eq!(outcomes(receipts).await, [POSSIBLE, NONE, NONE]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever gets lost: what is acknowledged stands where it is said to, once, in order, and the report adds up.
    #[test]
    fn the_truth_is_told_whatever_happens(
        faults in proptest::collection::vec(0_u8..12, 60),
        ends_at in proptest::option::of(0_u64..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let mut faults = faults.into_iter();
            let mut drawn = 0;
            let (scripted, log) = vault(move |sent, _, done| {
                if !done {
                    drawn = faults.next().unwrap_or(99);
                    if ends_at == Some(sent.sequence()) {
                        return Some(Reply::problem(507, "stream_full", false));
                    }
                }
                match (drawn, done) {
                    (0, true) => Some(Reply::Broken(SideEffects::Possible)),
                    (1, false) => Some(Reply::Broken(SideEffects::None)),
                    (2, false) => Some(Reply::Broken(SideEffects::Possible)),
                    (3, false) => Some(Reply::problem(429, "queue_full", true).header("retry-after", 1)),
                    (4, true) => Some(Reply::Silence),
                    (5, false) => Some(Reply::problem(503, "no_leader", true).late(Duration::from_secs(3))),
                    (6, true) => Some(Reply::html(504).late(Duration::from_millis(300))),
                    _ => None,
                }
            });
            let builder = scripted.client().producer("orders").request_bytes(1);
            let producer = builder.retry_time(Duration::from_secs(600)).start().unwrap();
            let receipts = send(&producer, 15).await;
            let (outcomes, report) = (outcomes(receipts).await, producer.close().await);
            let values = log.lock().unwrap().values.clone();
            assert_eq!(values, numbers(values.len() as u64));
            let stored = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
            for (index, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Ok(offset) => assert_eq!(*offset, index as u64),
                    Err(SideEffects::None) => assert!(index >= values.len(), "{index} is stored"),
                    Err(SideEffects::Possible) => {}
                }
            }
            assert_eq!(stored as u64, report.acknowledged);
            assert_eq!(report.acknowledged + report.not_stored + report.unknown, 15);
            assert_eq!(stored, ends_at.map_or(15, |at| usize::try_from(at).unwrap()));
        });
    }
}
