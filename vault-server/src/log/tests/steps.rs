//! A server dies before and after every request that it sends, whatever that does. The requests are not listed here: each
//! course of events is played until there is none left in it at which the server has not died.

use std::collections::BTreeMap;

use bytes::Bytes;
use vault_format::ids::Position;
use vault_format::names::SegmentName;

use super::crashes::{check, told};
use super::producers::sent;
use super::retention::{age, extent};
use super::*;
use crate::limits::ASIDES_KEPT;
use crate::log::error::AdminError;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold, Pages};
use crate::storage::operation::Operation;

/// How many requests of each kind a course of events sends.
type Steps = BTreeMap<Operation, u64>;

/// How long a producer waits for an answer until it tries another server.
const SOON: Duration = Duration::from_secs(3);

/// Plays a course of events in which a server dies before the first request of a kind, after it, before the second, and so
/// on. `course` says whether it came to that request, and so to the death.
async fn each_step<F: Future<Output = bool>>(course: impl Fn(Operation, u64, Fault) -> F) -> Steps {
    let mut steps = Steps::new();
    for operation in Operation::ALL {
        for nth in 1.. {
            let before = course(operation, nth, Fault::Crash).await;
            let after = course(operation, nth, Fault::AppliedAndCrash).await;
            if !before && !after {
                break;
            }
            steps.insert(operation, nth);
        }
    }
    steps
}

/// Asserts that the course of events has what it was made for.
fn assert_holds(steps: &Steps, operations: &[Operation]) {
    for operation in operations {
        assert!(steps.contains_key(operation), "{operation} is among {steps:?}");
    }
}

/// Another server leads from now on.
async fn relieve(server: &mut Server) {
    server.stop(Command::Halt).await;
    *server = server.successor().await;
}

/// Makes the stream, by whoever leads.
async fn create_until_made(server: &mut Server, settings: &SettingsPatch) {
    for _ in 0..5 {
        let made = server.vault.create(&server.name("orders"), settings.clone()).await;
        match made {
            Ok(_) => return,
            Err(AdminError::Unusable(_) | AdminError::LeadLost) => relieve(server).await,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never made")
}

/// Sends a request again and again until it is stored, by whoever leads. Every answer with success must be the same.
async fn send_until_stored(server: &mut Server, append: &Append) -> Appended {
    for _ in 0..20 {
        let told = server.stream("orders").append(append.clone(), SOON).await;
        match told {
            Ok(appended) => return appended,
            Err(AppendError::Unknown(_) | AppendError::Unusable(_)) => relieve(server).await,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never stored")
}

/// A stream is made, and a producer sends what fills several segments. Something happens to the `nth` request of a kind
/// that the first server sends. Whether that server has died.
async fn a_producer_sends(operation: Operation, nth: u64, fault: Fault) -> bool {
    let what = format!("{operation} {nth} {fault:?}");
    let mut server = Server::first(3).await;
    let first = Arc::clone(&server.faulty);
    first.on(operation).nth(nth).then(fault);
    let settings = SettingsPatch { segment_bytes: Some(BLOCK_BYTES), ..SettingsPatch::default() };
    create_until_made(&mut server, &settings).await;
    let mut answers = Vec::new();
    for sequence in 0..5 {
        let append = sent("p", 0, sequence, 1_900_000);
        answers.push(send_until_stored(&mut server, &append).await);
    }
    for (sequence, answer) in (0..).zip(&answers) {
        assert_eq!(answer.first_offset, Offset(sequence), "{what}");
        let again = send_until_stored(&mut server, &sent("p", 0, sequence, 1_900_000)).await;
        assert_eq!(again, *answer, "{what}");
    }
    relieve(&mut server).await;
    let stored = labels(&server.stream("orders")).await;
    let expected: Vec<_> = (0..5).map(|sequence| (sequence, format!("p/0/{sequence}"))).collect();
    assert_eq!(stored, expected, "{what}");
    first.has_crashed()
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_tries_again_is_exact_whichever_step_is_the_last() {
    let steps = each_step(a_producer_sends).await;
    assert_holds(
        &steps,
        &[
            Operation::CreateContainer,
            Operation::SetContainerMetadata,
            Operation::CreatePageBlob,
            Operation::PutPages,
            Operation::SetSequenceNumber,
            Operation::AcquireLease,
            Operation::ReleaseLease,
        ],
    );
    for (operation, count) in steps {
        for nth in 1..=count {
            a_producer_sends(operation, nth, Fault::AppliedButLost).await;
            let away = Fault::Fail(StorageError::Unavailable("away".to_owned()));
            a_producer_sends(operation, nth, away).await;
        }
    }
    for nth in 1..=8 {
        for pages in [Pages::First(1), Pages::Random] {
            a_producer_sends(Operation::PutPages, nth, Fault::TearAndCrash(pages)).await;
        }
    }
}

/// How long messages are kept where retention deletes.
const KEPT: Duration = Duration::from_secs(60);

/// A stream is made and lives for twice as long as it keeps its messages, each of which comes to stand in a segment of its
/// own. As above.
async fn retention_deletes(operation: Operation, nth: u64, fault: Fault) -> bool {
    const MESSAGES: u64 = 12;
    let what = format!("{operation} {nth} {fault:?}");
    let mut server = Server::first(3).await;
    let first = Arc::clone(&server.faulty);
    first.on(operation).nth(nth).then(fault);
    create_until_made(&mut server, &age(KEPT)).await;
    let clock = server.env.clock.clone();
    let mut answers = Vec::new();
    for sequence in 0..MESSAGES {
        let answer = send_until_stored(&mut server, &sent("p", 0, sequence, 20)).await;
        assert_eq!(answer.first_offset, Offset(sequence), "{what}");
        answers.push(answer);
        clock.sleep(KEPT / 6).await;
    }
    relieve(&mut server).await;
    let again = send_until_stored(&mut server, &sent("p", 0, MESSAGES - 1, 20)).await;
    assert_eq!(Some(&again), answers.last(), "{what}");
    // Nobody deletes anything from here on.
    server.stop(Command::Halt).await;
    let now = clock.now();
    let follower = server.beside(7);
    let stream = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let (oldest, next) = extent(&stream).await;
    assert!(oldest > 0 && next == MESSAGES, "{what}: {oldest} to {next}");
    for answer in answers.iter().filter(|answer| answer.first_offset < Offset(oldest)) {
        let age = Duration::from_millis(now.0 - answer.timestamp.0);
        assert!(age > KEPT, "{what}: {answer:?} was deleted when it was {age:?} old at most");
    }
    let expected: Vec<_> = (oldest..MESSAGES).map(|n| (n, format!("p/0/{n}"))).collect();
    assert_eq!(labels_from(&stream, oldest).await.unwrap(), expected, "{what}");
    first.has_crashed()
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_retention_loses_nothing_young_whichever_step_is_the_last() {
    let steps = each_step(retention_deletes).await;
    assert_holds(
        &steps,
        &[
            Operation::CreateContainer,
            Operation::SetContainerMetadata,
            Operation::CreatePageBlob,
            Operation::PutPages,
            Operation::SetSequenceNumber,
            Operation::DeleteBlob,
            Operation::AcquireLease,
            Operation::ReleaseLease,
        ],
    );
}

/// A server takes a stream over, of whose last two writes only the second was stored: it claims the segment, sets aside and
/// clears that write, drops the oldest of as many copies as are kept, deletes a segment that nobody has written to, and
/// appends. Something happens to a request of that server. Whether it has died.
async fn a_successor_clears(operation: Operation, nth: u64, fault: Fault) -> bool {
    let what = format!("{operation} {nth} {fault:?}");
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    let mut answers = vec![("a".to_owned(), told(&append(&stream, "a", 10).await))];
    let lost = Hold::new();
    old.faulty.on(Operation::PutPages).then(Fault::Hold(lost.clone()));
    let mut waiting = Vec::new();
    for label in ["lost", "orphan"] {
        let stream = Arc::clone(&stream);
        waiting.push(tokio::spawn(async move {
            let answer = append(&stream, label, 10).await;
            (label.to_owned(), told(&answer))
        }));
        old.env.clock.sleep(Duration::from_millis(10)).await;
    }
    old.stop(Command::Halt).await;
    lost.discard();
    for answer in waiting {
        answers.push(answer.await.unwrap());
    }
    let container = old.vault.context.prefix.container(stream.name());
    let segment = SegmentName { stream: stream.meta().id, base: Offset(0) };
    for copy in 0..ASIDES_KEPT as u64 {
        let name = segment.aside(Position(copy * 512), Term(1));
        let blob = BlobName { container: container.clone(), name };
        old.memory.put_block_blob(&blob, Bytes::from_static(b"copied earlier")).await.unwrap();
    }
    let leftover = old.segment(&stream, 77);
    old.memory.create_page_blob(&leftover, 2 * BLOCK_BYTES, Term(1)).await.unwrap();

    let next = old.beside(2);
    // In the stream's container alone: a server that cannot list the streams does not come to lead.
    next.faulty.on(operation).blob("mv-orders/").nth(nth).then(fault);
    next.lead().await;
    let answer = next.stream("orders").append(append_of("b", 10), SOON).await;
    answers.push(("b".to_owned(), told(&answer)));
    next.stop(Command::Halt).await;
    let last = next.successor().await;
    let stream = last.stream("orders");
    check(&labels(&stream).await, &answers);
    append(&stream, "c", 10).await.unwrap();
    let stored = labels(&stream).await;
    let names: Vec<_> = stored.iter().map(|(_, label)| label.as_str()).collect();
    assert!(names == ["a", "b", "c"] || names == ["a", "c"], "{what}: {names:?}");
    assert_eq!(last.memory.properties(&leftover).await, Err(StorageError::NotFound), "{what}");
    next.faulty.has_crashed()
}

#[tokio::test(start_paused = true)]
async fn a_recovery_is_made_good_whichever_step_is_its_last() {
    let steps = each_step(a_successor_clears).await;
    assert_holds(
        &steps,
        &[
            Operation::PutPages,
            Operation::ClearPages,
            Operation::RaiseSequenceNumber,
            Operation::PutBlockBlob,
            Operation::DeleteBlob,
        ],
    );
}
