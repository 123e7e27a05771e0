//! Idempotent producers: a request that is sent again is stored once and answered as the first time, whatever dies.

use proptest::prelude::*;
use vault_format::limits::{MAX_PRODUCERS, PRODUCER_KEPT_MS};
use vault_format::producers::Refused;
use vault_format::record::{Stamp, stamped};

use super::*;
use crate::limits::EARLY_WAIT;
use crate::log::error::Unusable;
use crate::storage::faulty::{Chances, Fault, Hold, Pages};
use crate::storage::operation::Operation;

/// One message of `bytes` bytes, sent by a producer.
pub(super) fn sent(producer: &str, epoch: u64, sequence: u64, bytes: usize) -> Append {
    let append = append_of(&format!("{producer}/{epoch}/{sequence}"), bytes);
    let stamp = Stamp { producer: producer.as_bytes(), epoch, sequence, record_count: 1 };
    Append { records: stamped(&append.records, &stamp).into(), ..append }
}

pub(super) async fn send(
    stream: &Arc<Stream>,
    producer: &str,
    epoch: u64,
    sequence: u64,
) -> Result<Appended, AppendError> {
    stream.append(sent(producer, epoch, sequence, 20), PATIENCE).await
}

pub(super) fn refused(answer: Result<Appended, AppendError>) -> Refused {
    match answer {
        Err(AppendError::Producer(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_again_is_stored_once() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    append(&stream, "plain", 10).await.unwrap();
    let first = send(&stream, "p", 0, 0).await.unwrap();
    append(&stream, "plain", 10).await.unwrap();
    server.env.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(send(&stream, "p", 0, 0).await, Ok(first), "offsets and timestamp of the first time");
    // The offset that it insists on was right the first time.
    let insisting = Append { expected_offset: Some(Offset(1)), ..sent("p", 0, 0, 20) };
    assert_eq!(stream.append(insisting, PATIENCE).await, Ok(first));
    assert_eq!(labels(&stream).await.len(), 3);
    server.stop(Command::Finish).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(send(&stream, "p", 0, 0).await, Ok(first));
    assert_eq!(send(&stream, "p", 0, 1).await.unwrap().first_offset, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_again_while_it_is_stored_waits_for_it() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    append(&stream, "begun", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let sending = |stream: &Arc<Stream>| {
        let stream = Arc::clone(stream);
        tokio::spawn(async move { send(&stream, "p", 0, 0).await })
    };
    let first = sending(&stream);
    hold.arrived(1).await;
    let again = [sending(&stream), sending(&stream)];
    server.env.clock.sleep(Duration::from_secs(5)).await;
    assert!(!first.is_finished() && again.iter().all(|again| !again.is_finished()));
    hold.release().await;
    let first = first.await.unwrap().unwrap();
    for again in again {
        assert_eq!(again.await.unwrap(), Ok(first));
    }
    assert_eq!(labels(&stream).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_put_that_never_comes_back_is_not_told_that_it_is_stored() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    append(&stream, "begun", 10).await.unwrap();
    let lost = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(lost.clone()));
    let sending = |stream: &Arc<Stream>| {
        let stream = Arc::clone(stream);
        tokio::spawn(async move { send(&stream, "p", 0, 0).await })
    };
    let waiting = [sending(&stream), sending(&stream)];
    server.env.clock.sleep(Duration::from_secs(1)).await;
    server.stop(Command::Halt).await;
    lost.discard();
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), Err(AppendError::Unknown(_))));
    }
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(send(&stream, "p", 0, 0).await.unwrap().first_offset, Offset(1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_overtake_each_other_are_stored_in_order() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    send(&stream, "p", 0, 0).await.unwrap();
    // Five at once, and each comes before the one that should be there.
    let sending: Vec<_> = (1..=5)
        .rev()
        .map(|sequence| {
            let stream = Arc::clone(&stream);
            let sent = tokio::spawn(async move { send(&stream, "p", 0, sequence).await });
            (sequence, sent)
        })
        .collect();
    for (sequence, sent) in sending {
        assert_eq!(sent.await.unwrap().unwrap().first_offset, Offset(sequence));
    }
    assert_eq!(labels(&stream).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_predecessor_does_not_come_is_refused_soon() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    send(&stream, "p", 0, 0).await.unwrap();
    let clock = &server.env.clock;
    let begun = clock.monotonic();
    assert_eq!(refused(send(&stream, "p", 0, 3).await), Refused::Gap { expected: 1 });
    let waited = clock.monotonic() - begun;
    assert!((EARLY_WAIT..EARLY_WAIT * 2).contains(&waited), "{waited:?}");
    // Further ahead than a producer may be: nothing that is on its way can help.
    let begun = clock.monotonic();
    assert_eq!(refused(send(&stream, "p", 0, 6).await), Refused::Gap { expected: 1 });
    assert!(clock.monotonic() - begun < EARLY_WAIT);
    // Meanwhile others are not held up, and it may come again.
    let early = {
        let stream = Arc::clone(&stream);
        tokio::spawn(async move { send(&stream, "p", 0, 2).await })
    };
    clock.sleep(EARLY_WAIT / 4).await;
    assert_eq!(append(&stream, "other", 10).await.unwrap().first_offset, Offset(1));
    assert!(!early.is_finished());
    assert_eq!(send(&stream, "p", 0, 1).await.unwrap().first_offset, Offset(2));
    assert_eq!(early.await.unwrap().unwrap().first_offset, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn each_that_came_early_waits_as_long_as_any_other() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    for producer in ["p", "q", "r"] {
        send(&stream, producer, 0, 0).await.unwrap();
    }
    let clock = &server.env.clock;
    let early = |producer: &'static str| {
        let (stream, clock) = (Arc::clone(&stream), server.env.clock.clone());
        tokio::spawn(async move {
            let begun = clock.monotonic();
            let answer = send(&stream, producer, 0, 2).await;
            (answer, clock.monotonic() - begun)
        })
    };
    // The first one has its turn; the others change places at each that is put meanwhile.
    let p = early("p");
    clock.sleep(EARLY_WAIT / 5).await;
    let q = early("q");
    clock.sleep(EARLY_WAIT / 5).await;
    let r = early("r");
    clock.sleep(EARLY_WAIT / 5).await;
    send(&stream, "p", 0, 1).await.unwrap();
    assert!(p.await.unwrap().0.is_ok());
    for early in [q, r] {
        let (answer, waited) = early.await.unwrap();
        assert_eq!(refused(answer), Refused::Gap { expected: 1 });
        assert!((EARLY_WAIT..EARLY_WAIT * 6 / 5).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_keeps_nobody_waiting_who_came_early() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    send(&stream, "p", 0, 0).await.unwrap();
    let early = tokio::spawn(async move { send(&stream, "p", 0, 2).await });
    server.env.clock.sleep(EARLY_WAIT / 4).await;
    server.stop(Command::Finish).await;
    assert_eq!(early.await.unwrap(), Err(Unusable::NoLeader.into()));
}

#[tokio::test(start_paused = true)]
async fn gaps_old_epochs_and_strangers_are_refused() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    assert_eq!(refused(send(&stream, "p", 0, 7).await), Refused::Unknown);
    for sequence in 0..8 {
        send(&stream, "p", 4, sequence).await.unwrap();
    }
    assert_eq!(refused(send(&stream, "p", 4, 9).await), Refused::Gap { expected: 8 });
    assert_eq!(refused(send(&stream, "p", 4, 2).await), Refused::Forgotten { oldest: 3 });
    assert!(send(&stream, "p", 4, 3).await.is_ok());
    assert_eq!(refused(send(&stream, "p", 5, 1).await), Refused::Gap { expected: 0 });
    send(&stream, "p", 5, 0).await.unwrap();
    server.stop(Command::Halt).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(refused(send(&stream, "p", 4, 8).await), Refused::OlderEpoch { current: 5 });
    assert_eq!(refused(send(&stream, "p", 4, 7).await), Refused::OlderEpoch { current: 5 });
    assert_eq!(labels(&stream).await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_storage_to_show_that_nobody_else_leads() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    send(&stream, "p", 0, 0).await.unwrap();
    // Somebody else leads by now and has taken the second request.
    let next = server.successor().await;
    send(&next.stream("orders"), "p", 0, 1).await.unwrap();
    let told = send(&stream, "p", 0, 2).await;
    assert!(matches!(told, Err(AppendError::Unusable(Unusable::NoLeader))), "{told:?}");
    // What it says of the first is true all the same.
    assert!(send(&next.stream("orders"), "p", 0, 2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_is_forgotten_goes_by_the_log_and_not_by_the_server() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 4).await;
    send(&stream, "first", 0, 0).await.unwrap();
    send(&stream, "second", 0, 0).await.unwrap();
    for n in 2..MAX_PRODUCERS {
        send(&stream, &format!("p{n}"), 0, 0).await.unwrap();
    }
    send(&stream, "first", 0, 1).await.unwrap();
    send(&stream, "one more", 0, 0).await.unwrap();
    let known = async |server: &Server| {
        let stream = server.stream("orders");
        assert_eq!(refused(send(&stream, "second", 0, 1).await), Refused::Unknown);
        assert!(send(&stream, "first", 0, 1).await.is_ok());
    };
    known(&server).await;
    server.stop(Command::Halt).await;
    let server = server.successor().await;
    known(&server).await;
    // A day without appends is no time in the log: a request from the day before is known.
    server.env.clock.sleep(Duration::from_millis(2 * PRODUCER_KEPT_MS)).await;
    known(&server).await;
    let stream = server.stream("orders");
    append(&stream, "time goes on", 10).await.unwrap();
    assert_eq!(refused(send(&stream, "first", 0, 2).await), Refused::Unknown);
    server.stop(Command::Halt).await;
    let server = server.successor().await;
    assert_eq!(refused(send(&server.stream("orders"), "first", 0, 2).await), Refused::Unknown);
}

#[tokio::test(start_paused = true)]
async fn producers_are_known_across_blocks_and_segments() {
    let mut server = Server::first(1).await;
    server.create("orders", 2).await;
    for sequence in 0..12 {
        let stream = server.stream("orders");
        let request = sent("p", 0, sequence, 1_900_000);
        let first = stream.append(request.clone(), PATIENCE).await.unwrap();
        assert_eq!(first.first_offset, Offset(sequence));
        // In the middle of a block, at its border, in a segment that is blank yet: at every place somebody else goes on.
        server.stop(Command::Halt).await;
        server = server.successor().await;
        assert_eq!(server.stream("orders").append(request, PATIENCE).await, Ok(first));
    }
    assert_eq!(labels(&server.stream("orders")).await.len(), 12);
}

/// Producers with requests in flight beside each other, through torn writes and crashes; each tries again in its order
/// until all is stored.
async fn life(seed: u64, sizes: Vec<usize>, crash_at: u64, blocks: u64) {
    const PRODUCERS: usize = 3;
    let mut server = Server::first(seed).await;
    server.create("orders", blocks).await;
    let mut acknowledged: Vec<Vec<Appended>> = vec![Vec::new(); PRODUCERS];
    for round in 0..6u64 {
        if round < 5 {
            let tears = server.faulty.on(Operation::PutPages).nth(1 + (crash_at + round) % 7);
            tears.then(Fault::TearAndCrash(Pages::Random));
            server.faulty.by_chance(Chances { applied_but_lost: 100, ..Default::default() });
        }
        let tasks: Vec<_> = acknowledged
            .iter()
            .enumerate()
            .map(|(n, done)| {
                let (stream, sizes, done) = (server.stream("orders"), sizes.clone(), done.len());
                tokio::spawn(async move {
                    let mut stored = Vec::new();
                    for (sequence, bytes) in (0..).zip(sizes).skip(done) {
                        let request = sent(&format!("p{n}"), 1, sequence, bytes);
                        match stream.append(request, Duration::from_secs(3)).await {
                            Ok(appended) => stored.push(appended),
                            Err(AppendError::Unknown(_) | AppendError::Unusable(_)) => break,
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    stored
                })
            })
            .collect();
        for (task, done) in tasks.into_iter().zip(&mut acknowledged) {
            done.extend(task.await.unwrap());
        }
        server.stop(Command::Halt).await;
        server = server.successor().await;
    }
    let stored = labels(&server.stream("orders")).await;
    assert_eq!(stored.len(), PRODUCERS * sizes.len(), "each once, and nothing else");
    for (n, done) in acknowledged.iter().enumerate() {
        let expected: Vec<_> = (0..sizes.len())
            .zip(done)
            .map(|(sequence, told)| (told.first_offset.0, format!("p{n}/1/{sequence}")))
            .collect();
        let found: Vec<_> =
            stored.iter().filter(|(_, label)| label.starts_with(&format!("p{n}/"))).cloned().collect();
        assert_eq!(found, expected, "in order, where they were said to be");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn producers_are_exact_through_any_crashes(
        seed in any::<u64>(),
        sizes in proptest::collection::vec(prop_oneof![Just(20usize), 20..3_000usize, 20..1_000_000usize], 1..12),
        crash_at in any::<u64>(),
        blocks in 1u64..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(life(seed, sizes, crash_at, blocks));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_before_the_stream_was_full_is_known_when_it_is_sent_again() {
    let server = Server::first(1).await;
    let settings = SettingsPatch { max_bytes: Some(Some(1 << 20)), ..SettingsPatch::default() };
    let stream = server.vault.create(&server.name("orders"), settings).await.unwrap().1;
    let request = |sequence| sent("p", 0, sequence, 900_000);
    let first = stream.append(request(0), PATIENCE).await.unwrap();
    let full = stream.append(request(1), PATIENCE).await;
    assert!(matches!(full, Err(AppendError::StreamFull { .. })), "{full:?}");
    assert_eq!(stream.append(request(0), PATIENCE).await, Ok(first));
    assert_eq!(append(&stream, "small", 10).await.unwrap().first_offset, Offset(1));
    assert_eq!(send(&stream, "p", 0, 1).await.unwrap().first_offset, Offset(2), "it was never stored");
}
