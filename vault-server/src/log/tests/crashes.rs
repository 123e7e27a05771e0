//! Crashes at any moment, with any part of the last writes stored.

use proptest::prelude::*;
use proptest::test_runner::{TestRunner, contextualize_config};

use super::*;
use crate::limits::LEASE;
use crate::storage::faulty::{Fault, Hold, Pages};
use crate::storage::operation::Operation;

/// How many leaders follow each other, each of which crashes.
const ROUNDS: u64 = 3;

/// What a producer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Stored(u64),
    Unknown,
    Refused,
}

pub(super) fn told(answer: &Result<Appended, AppendError>) -> Told {
    match answer {
        Ok(appended) => Told::Stored(appended.first_offset.0),
        Err(AppendError::Unknown(_)) => Told::Unknown,
        Err(_) => Told::Refused,
    }
}

/// Every acknowledged message is there once at its offset, every refused one is not, no message is there twice.
pub(super) fn check(stored: &[(u64, String)], answers: &[(String, Told)]) {
    for (index, (offset, _)) in stored.iter().enumerate() {
        assert_eq!(*offset, index as u64, "offsets have no gaps");
    }
    for (label, told) in answers {
        let places: Vec<u64> = stored.iter().filter(|(_, l)| l == label).map(|(offset, _)| *offset).collect();
        match told {
            Told::Stored(offset) => assert_eq!(places, [*offset], "{label} was acknowledged"),
            Told::Unknown => assert!(places.len() <= 1, "{label} is stored {} times", places.len()),
            Told::Refused => assert!(places.is_empty(), "{label} was refused"),
        }
    }
}

/// Appends of all sizes, of which the writes go wrong in every way; a crash that tears one of them; then a successor.
/// Three times over. How many puts were torn, and how many appends were refused.
async fn life(seed: u64, sizes: Vec<usize>, crash_at: u64, blocks: u64) -> (u32, usize) {
    let first = Server::first(seed).await;
    first.create("orders", blocks).await;
    let mut answers: Vec<(String, Told)> = Vec::new();
    let (mut server, mut torn) = (first, 0);
    for round in 0..ROUNDS {
        let stream = server.stream("orders");
        let tears = server.faulty.on(Operation::PutPages).nth(1 + (crash_at + round) % sizes.len() as u64);
        tears.then(Fault::TearAndCrash(Pages::Random));
        server
            .faulty
            .by_chance(crate::storage::faulty::Chances { applied_but_lost: 100, ..Default::default() });
        let mut waiting = Vec::new();
        for (n, bytes) in sizes.iter().enumerate() {
            let (stream, label, bytes) = (Arc::clone(&stream), format!("r{round}m{n}"), *bytes);
            waiting.push(tokio::spawn(async move {
                let answer = append(&stream, &label, bytes).await;
                (label, told(&answer))
            }));
            tokio::task::yield_now().await;
        }
        server.env.clock.sleep(Duration::from_secs(3)).await;
        if !server.faulty.has_crashed() {
            // Several messages go into a put, so that there were not that many, or the answer was lost that gave the
            // lease of the container, and it has to run out. Nothing else goes wrong any more, and the next put is
            // torn.
            server.faulty.by_chance(crate::storage::faulty::Chances::default());
            server.faulty.on(Operation::PutPages).then(Fault::TearAndCrash(Pages::Random));
            server.env.clock.sleep(LEASE).await;
            let (stream, label) = (Arc::clone(&stream), format!("r{round}last"));
            let bytes = sizes[usize::try_from(crash_at % sizes.len() as u64).unwrap()];
            waiting.push(tokio::spawn(async move {
                let answer = append(&stream, &label, bytes).await;
                (label, told(&answer))
            }));
            server.env.clock.sleep(Duration::from_secs(1)).await;
        }
        // A claim or a clear whose answer is lost can end the term before that.
        let ended = server.reign_over.try_recv();
        assert!(server.faulty.has_crashed() || ended.is_ok(), "a put is torn in round {round}: {ended:?}");
        torn += u32::from(server.faulty.has_crashed());
        server.stop(Command::Halt).await;
        for answer in waiting {
            answers.push(answer.await.unwrap());
        }
        server = server.successor().await;
        check(&labels(&server.stream("orders")).await, &answers);
    }
    let stream = server.stream("orders");
    let next = append(&stream, "last", 10).await.unwrap().first_offset;
    assert_eq!(labels(&stream).await.last(), Some(&(next.0, "last".to_owned())));
    assert!(answers.iter().any(|(_, told)| *told != Told::Refused));
    (torn, answers.iter().filter(|(_, told)| *told == Told::Refused).count())
}

/// Where a crash in the middle of a recovery strikes: the how many-th request is torn, or not carried out.
#[derive(Clone, Copy, Debug)]
struct RecoveryCrash(u64);

/// Appends, of which the last puts, all those in flight, are stored in part; then recoveries that crash themselves, their
/// clears torn too; then one that does not. Twice over.
async fn life_with_many_torn(
    seed: u64,
    sizes: Vec<usize>,
    stored: u64,
    crashes: Vec<RecoveryCrash>,
) -> usize {
    let mut server = Server::first(seed).await;
    server.create("orders", 3).await;
    let mut answers: Vec<(String, Told)> = Vec::new();
    let mut torn = 0;
    for round in 0..2u64 {
        let stream = server.stream("orders");
        append(&stream, &format!("r{round}"), 1).await.unwrap();
        let hold = Hold::new();
        let later = server.faulty.on(Operation::PutPages).nth(stored + 1).always();
        later.then(Fault::HoldTorn(hold.clone(), Pages::Random));
        let mut waiting = Vec::new();
        for (n, bytes) in sizes.iter().enumerate() {
            let (stream, label, bytes) = (Arc::clone(&stream), format!("r{round}m{n}"), *bytes);
            waiting.push(tokio::spawn(async move {
                let answer = append(&stream, &label, bytes).await;
                (label, told(&answer))
            }));
            server.env.clock.sleep(Duration::from_millis(5)).await;
        }
        torn = torn.max(hold.stuck());
        server.faulty.crash();
        hold.release().await;
        server.stop(Command::Halt).await;
        for answer in waiting {
            answers.push(answer.await.unwrap());
        }
        for (n, RecoveryCrash(at)) in crashes.iter().enumerate() {
            let next = server.beside(seed ^ (n as u64 + 1));
            next.faulty.on_any().blob("mv-orders/").nth(1 + at % 12).then(Fault::TearAndCrash(Pages::Random));
            next.lead().await;
            // Where it has not come to the crash, it crashes now.
            let _ = next
                .env
                .timeout(Duration::from_secs(2), next.stream("orders").reader(Freshness::Recent))
                .await;
            next.faulty.crash();
            next.stop(Command::Halt).await;
        }
        server = server.successor().await;
        let stored = labels(&server.stream("orders")).await;
        let known = |label: &String| label.len() == 2 || answers.iter().any(|(known, _)| known == label);
        assert!(stored.iter().all(|(_, label)| known(label)), "nothing is invented: {stored:?}");
        check(&stored, &answers);
    }
    let stream = server.stream("orders");
    let next = append(&stream, "last", 10).await.unwrap().first_offset;
    assert_eq!(labels(&stream).await.last(), Some(&(next.0, "last".to_owned())));
    torn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_part_of_all_writes_in_flight_survives_a_crash_and_crashes_of_the_recovery(
        seed in any::<u64>(),
        sizes in proptest::collection::vec(prop_oneof![Just(1usize), 1..3_000usize, 1..1_000_000usize], 4..12),
        stored in 0..4u64,
        crashes in proptest::collection::vec(any::<u64>().prop_map(RecoveryCrash), 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let torn = runtime.block_on(life_with_many_torn(seed, sizes, stored, crashes));
        prop_assert!(torn > 0, "something is torn");
    }
}

#[test]
fn any_part_of_the_last_writes_survives_a_crash() {
    let size = prop_oneof![Just(1usize), 1..3_000usize, 1..1_000_000usize];
    let sizes = proptest::collection::vec(size, 1..24);
    let lives = (any::<u64>(), sizes, any::<u64>(), 1u64..4);
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(40) };
    // PROPTEST_CASES may ask for more.
    let config = contextualize_config(config);
    let rounds = config.cases * u32::try_from(ROUNDS).unwrap();
    let seen = std::cell::Cell::new((0, 0));
    let kept = TestRunner::new(config).run(&lives, |(seed, sizes, crash_at, blocks)| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (torn, refused) = runtime.block_on(life(seed, sizes, crash_at, blocks));
        seen.set((seen.get().0 + torn, seen.get().1 + refused));
        Ok(())
    });
    kept.unwrap_or_else(|broken| panic!("{broken}"));
    let (torn, refused) = seen.get();
    assert!(torn > rounds / 2, "in {torn} of {rounds} rounds a put was torn");
    // Fewer cases than usual may be without one.
    assert!(refused > 0 || rounds < 60, "something is refused, and must not be stored");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_set_aside_and_cleared() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    // The first of two puts never arrives, the second does: nobody will ever hear of it.
    let lost = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(lost.clone()));
    for label in ["lost", "orphan"] {
        let stream = Arc::clone(&stream);
        tokio::spawn(async move { append(&stream, label, 10).await });
        server.env.clock.sleep(Duration::from_millis(10)).await;
    }
    server.stop(Command::Halt).await;
    lost.discard();
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(labels(&stream).await, [(0, "a".to_owned())]);
    append(&stream, "b", 10).await.unwrap();
    assert_eq!(labels(&stream).await.len(), 2);
    let container = next.vault.context.prefix.container(stream.name());
    let asides = next
        .memory
        .list_blobs(&container, &vault_format::names::aside_prefix(&stream.meta().id))
        .await
        .unwrap();
    assert_eq!(asides.len(), 1);
    let aside = BlobName { container, name: asides[0].name.clone() };
    let copy = next.memory.read(&aside, 0..asides[0].bytes).await.unwrap().bytes;
    assert!(copy.windows(6).any(|window| window == b"orphan"), "the copy holds what was cleared");
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_seal_and_next_segment_loses_nothing() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    append(&stream, "a", 1_900_000).await.unwrap();
    server.faulty.on(Operation::CreatePageBlob).then(Fault::Crash);
    let (racing, too) = (Arc::clone(&stream), Arc::clone(&stream));
    let waiting = [
        tokio::spawn(async move { append(&racing, "b", 1_900_000).await }),
        tokio::spawn(async move { append(&too, "c", 1_900_000).await }),
    ];
    server.env.clock.sleep(Duration::from_secs(2)).await;
    server.stop(Command::Halt).await;
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await.unwrap());
    }
    assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(append(&stream, "d", 10).await.unwrap().first_offset, Offset(2));
    let stored: Vec<_> = labels(&stream).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn blank_segments_are_left_over_and_count_for_nobody() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    append(&stream, "a", 10).await.unwrap();
    server.stop(Command::Halt).await;
    // A stale leader made a segment to which no seal leads.
    let leftover = server.segment(&stream, 77);
    server.memory.create_page_blob(&leftover, BLOCK_BYTES, Term(1)).await.unwrap();
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(append(&stream, "b", 10).await.unwrap().first_offset, Offset(1));
    assert_eq!(next.memory.properties(&leftover).await, Err(crate::storage::StorageError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_segment_without_a_page_goes_on_where_the_one_before_it_ended() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    // The second closes the first segment; the third never reaches the next.
    append(&stream, "a", 1_900_000).await.unwrap();
    append(&stream, "b", 1_900_000).await.unwrap();
    server.faulty.on(Operation::PutPages).nth(2).then(Fault::Crash);
    let racing = Arc::clone(&stream);
    tokio::spawn(async move { append(&racing, "c", 1_900_000).await });
    server.env.clock.sleep(Duration::from_secs(2)).await;
    let tail = stream.reader(Freshness::Recent).await.unwrap().tail();
    assert_eq!((tail.segment, tail.chain.position.0), (Offset(2), 0), "the next segment is made and blank");
    server.stop(Command::Halt).await;
    let next = server.successor().await;
    let after = next.stream("orders");
    let recovered = after.reader(Freshness::Recent).await.unwrap().tail();
    assert_eq!(recovered.next_offset(), Offset(2));
    assert_eq!(recovered.chain.last_timestamp, tail.chain.last_timestamp, "time goes on from there too");
    append(&after, "d", 10).await.unwrap();
    assert_eq!(labels(&after).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_beginning_is_on_record_is_made_good() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    server.faulty.on(Operation::SetContainerMetadata).then(Fault::Crash);
    let racing = Arc::clone(&stream);
    let lost = tokio::spawn(async move { append(&racing, "a", 10).await });
    server.env.clock.sleep(Duration::from_secs(2)).await;
    server.stop(Command::Halt).await;
    assert_eq!(lost.await.unwrap(), Err(Unusable::NoLeader.into()), "nothing was sent");
    let next = server.successor().await;
    let stream = next.stream("orders");
    append(&stream, "b", 10).await.unwrap();
    next.stop(Command::Finish).await;
    assert!(stream.meta().begun);
    next.memory.delete_blob(&next.segment(&stream, 0), None).await.unwrap();
    let last = next.successor().await;
    let refused = append(&last.stream("orders"), "c", 10).await.unwrap_err();
    assert!(refused.to_string().contains("missing"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_missing_in_front_of_others_is_found_to_be_the_tail() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 12).await;
    // Two of these do not fit in a block. While the first write is held, the others queue up behind it.
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let lost = Hold::new();
    // The second closes the first block; the third begins the next.
    server.faulty.on(Operation::PutPages).nth(3).then(Fault::Hold(lost.clone()));
    let mut waiting = Vec::new();
    for label in ["a", "b", "c", "d"] {
        let stream = Arc::clone(&stream);
        waiting.push(tokio::spawn(async move { append(&stream, label, 2 << 20).await }));
        tokio::task::yield_now().await;
    }
    server.env.clock.sleep(Duration::from_secs(1)).await;
    hold.release().await;
    server.env.clock.sleep(Duration::from_secs(1)).await;
    server.stop(Command::Halt).await;
    lost.discard();
    let mut stored = Vec::new();
    for answer in waiting {
        stored.push(answer.await.unwrap().is_ok());
    }
    assert_eq!(stored, [true, false, false, false]);
    let heads = async |block: u64| {
        let at = block * BLOCK_BYTES;
        let page = server.memory.read(&server.segment(&stream, 0), at..at + 512).await.unwrap().bytes;
        vault_format::header::Header::decode(&page).is_ok()
    };
    assert_eq!(
        [heads(0).await, heads(1).await, heads(2).await],
        [true, false, true],
        "a head is missing between two"
    );
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(append(&stream, "e", 10).await.unwrap().first_offset, Offset(1));
    assert_eq!(labels(&stream).await, [(0, "a".to_owned()), (1, "e".to_owned())]);
}
