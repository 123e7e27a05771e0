//! Segments that are made late, taken for leftovers, or gone when they are to be used.

use super::retention::{SECOND, age, create, stored};
use super::retention_readers::{AGE, below, following, messages};
use super::*;
use crate::log::inspect::{Step, StoredStream};
use crate::log::reading::StreamReader;
use crate::storage::faulty::{Fault, Hold};
use crate::storage::operation::Operation;

/// A leader that is deposed while the request that makes segment 1 is on its way, and its successor, whose retention
/// has deleted that segment by now. And two followers: one stands at the end of what was in that segment, one behind
/// its seal.
pub(super) struct Overtaken {
    pub(super) old: Server,
    pub(super) new: Server,
    followers: [Server; 2],
    /// Reads at the first of them, and knows of nothing later.
    reader: StreamReader,
    kept: Vec<u64>,
}

impl Overtaken {
    async fn by(fault: impl FnOnce(Hold) -> Fault) -> (Self, Hold) {
        let old = Server::first(1).await;
        let stream = create(&old, age(AGE)).await;
        let hold = Hold::new();
        old.faulty.on(Operation::CreatePageBlob).nth(2).always().then(fault(hold.clone()));
        append(&stream, "m0", 10).await.unwrap();
        hold.arrived(1).await;
        (Self::from(old).await, hold)
    }

    /// From where the old leader has written one message, and ended its first segment.
    pub(super) async fn from(old: Server) -> Self {
        let new = old.successor().await;
        let stream = new.stream("orders");
        let followers = [new.beside(3), new.beside(4)];
        append(&stream, "m1", 10).await.unwrap();
        let reader = following(&followers[0]).await;
        new.env.clock.sleep(70 * SECOND).await;
        following(&followers[1]).await;
        messages(&new, &stream, 2..15).await;
        let kept = stored(&new, &stream).await;
        assert!(kept[0] > 2, "{kept:?}");
        Self { old, new, followers, reader, kept }
    }

    /// Makes segment 1 anew, as a request would that has been on its way for so long.
    pub(super) async fn make_anew(&self) -> BlobName {
        let segment = self.new.segment(&self.new.stream("orders"), 1);
        self.new.memory.create_page_blob(&segment, BLOCK_BYTES, Term::UNUSED).await.unwrap();
        segment
    }

    /// Asserts that everybody takes segment 1, which was made anew, for nobody's.
    pub(super) async fn goes_on(&self) {
        let Self { old, new, followers, reader, kept } = self;
        let stream = new.stream("orders");
        let first = kept[0];
        assert_eq!(stored(new, &stream).await, [&[1], &kept[..]].concat(), "it is there again");
        assert_eq!(reader.seek(Offset(1)).await.map(|_| ()), Err(below(first)));
        append(&stream, "m15", 10).await.unwrap();
        let all: Vec<_> = (first..16).map(|n| (n, format!("m{n}"))).collect();
        for server in [&followers[0], &followers[1], &new.beside(5)] {
            let reader = following(server).await;
            let theirs = server.vault.readable(&server.name("orders")).await.unwrap();
            assert_eq!((reader.first_offset(), reader.tail().next_offset()), (Offset(first), Offset(16)));
            assert_eq!(labels_from(&theirs, first).await.unwrap(), all);
            assert_eq!(labels_from(&theirs, 1).await, Err(below(first)));
            assert_eq!(theirs.status().condition, Condition::Open);
        }
        assert_eq!(labels_from(&stream, first).await.unwrap(), all);
        let mut walk = stored_stream(new).await.walk();
        loop {
            match walk.next().await.unwrap() {
                Step::Batch(_) => {}
                Step::Damaged(damage) => panic!("{damage:?}"),
                Step::End => break,
            }
        }
        assert_eq!((walk.first_offset(), walk.next_offset()), (Some(Offset(first)), Offset(16)));
        // Whoever comes next finds nothing amiss, and gets rid of it.
        old.stop(Command::Halt).await;
        new.stop(Command::Halt).await;
        let next = new.successor().await;
        append(&next.stream("orders"), "m16", 10).await.unwrap();
        assert_eq!(next.stream("orders").status().condition, Condition::Open);
        assert_eq!(stored(&next, &stream).await, *kept);
    }
}

async fn stored_stream(server: &Server) -> StoredStream {
    let storage: Arc<dyn Storage> = server.memory.clone();
    let prefix = server.vault.context.prefix.clone();
    StoredStream::open(storage, server.env.clone(), &prefix, &server.name("orders")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_a_dead_leaders_request_makes_after_its_deletion_counts_for_nothing() {
    let (overtaken, hold) = Overtaken::by(Fault::LostAndHeld).await;
    overtaken.old.stop(Command::Halt).await;
    hold.release().await;
    overtaken.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_claims_nothing_that_it_made_too_late() {
    let (mut overtaken, hold) = Overtaken::by(Fault::Hold).await;
    hold.release().await;
    overtaken.old.reign_end().await;
    overtaken.goes_on().await;
}

/// No server claims it. But who follows need not trust that.
#[tokio::test(start_paused = true)]
async fn a_follower_at_the_end_of_a_segment_that_was_made_anew_and_claimed_shows_no_old_end() {
    let (overtaken, hold) = Overtaken::by(Fault::LostAndHeld).await;
    let theirs = overtaken.old.vault.term().unwrap();
    overtaken.old.stop(Command::Halt).await;
    hold.release().await;
    let Overtaken { new, followers, .. } = overtaken;
    let made_anew = new.segment(&new.stream("orders"), 1);
    let state = new.memory.properties(&made_anew).await.unwrap().etag;
    new.memory.set_sequence_number(&made_anew, theirs, &state, None).await.unwrap();
    let follower = &followers[0];
    let stream = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let read = stream.reader(Freshness::Strong).await.map(|reader| reader.tail().next_offset());
    assert_ne!(read, Ok(Offset(2)), "that was the end when the follower looked last");
}

#[tokio::test(start_paused = true)]
async fn a_front_that_was_zeroed_is_told_from_one_that_was_made_too_late() {
    let (overtaken, hold) = Overtaken::by(Fault::LostAndHeld).await;
    overtaken.old.stop(Command::Halt).await;
    hold.release().await;
    let Overtaken { new, kept, .. } = overtaken;
    let stream = new.stream("orders");
    let (oldest, term) = (new.segment(&stream, kept[0]), new.vault.term().unwrap());
    let bytes = new.memory.properties(&oldest).await.unwrap().bytes;
    new.memory.clear_pages(&oldest, 0..bytes, term).await.unwrap();
    let reader = following(&new.beside(5)).await;
    assert_eq!(reader.first_offset(), Offset(kept[0]), "what is damaged is not forgotten");
    let read = async { reader.next(&mut reader.seek(Offset(kept[0])).await?).await.map(|_| ()) }.await;
    assert!(matches!(read, Err(ReadError::Unusable(Unusable::Fault(_)))), "{read:?}");
    let found = stored_stream(&new).await.walk().next().await.unwrap();
    assert!(matches!(found, Step::Damaged(_)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_made_anew_while_a_stream_is_taken_over_counts_for_nothing() {
    // The segments are listed; or the oldest is about to be claimed.
    for nth in [1, 2] {
        made_anew_before_claim(nth).await;
    }
}

async fn made_anew_before_claim(nth: u64) {
    let (overtaken, hold) = Overtaken::by(Fault::LostAndHeld).await;
    overtaken.old.stop(Command::Halt).await;
    hold.discard();
    let Overtaken { new, kept, .. } = overtaken;
    let stream = new.stream("orders");
    new.stop(Command::Halt).await;
    let next = new.beside(99);
    let claim = Hold::new();
    next.faulty.on(Operation::RaiseSequenceNumber).nth(nth).then(Fault::Hold(claim.clone()));
    next.lead().await;
    claim.arrived(1).await;
    // Now a deletion of the last leader's lands, and a request that once made that segment.
    let oldest = next.segment(&stream, kept[0]);
    let bytes = next.memory.properties(&oldest).await.unwrap().bytes;
    next.memory.delete_blob(&oldest, None).await.unwrap();
    next.memory.create_page_blob(&oldest, bytes, Term::UNUSED).await.unwrap();
    claim.release().await;
    let stream = next.stream("orders");
    append(&stream, "m15", 10).await.unwrap();
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    assert_eq!(reader.first_offset(), Offset(kept[1]));
    let all: Vec<_> = (kept[1]..16).map(|n| (n, format!("m{n}"))).collect();
    for stream in [stream, next.beside(5).vault.readable(&next.name("orders")).await.unwrap()] {
        assert_eq!(labels_from(&stream, kept[1]).await.unwrap(), all);
        assert_eq!(stream.reader(Freshness::Recent).await.unwrap().first_offset(), Offset(kept[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_is_no_leftover_although_the_seal_before_it_is_damaged() {
    // The successor is about to claim what it takes for the last segment; to claim what it takes for a leftover; to delete it.
    for (operation, nth, lands) in [
        (Operation::RaiseSequenceNumber, 1, true),
        (Operation::RaiseSequenceNumber, 2, true),
        (Operation::DeleteBlob, 1, false),
    ] {
        let old = Server::first(1).await;
        let stream = old.create("orders", 1).await;
        append(&stream, "a", 1_900_000).await.unwrap();
        append(&stream, "b", 1_900_000).await.unwrap();
        let written = Hold::new();
        let second = old.segment(&stream, 2);
        old.faulty.on(Operation::PutPages).blob(&second.name).then(Fault::Hold(written.clone()));
        let late = Arc::clone(&stream);
        let late = tokio::spawn(async move { append(&late, "c", 1_900_000).await });
        written.arrived(1).await;
        let first = old.segment(&stream, 0);
        let pages = old.memory.page_ranges(&first, 0..BLOCK_BYTES).await.unwrap();
        old.spoil(&first, pages.last().unwrap().end - 512, |seal| seal[20] ^= 1).await;
        let new = old.beside(99);
        let hold = Hold::new();
        new.faulty.on(operation).nth(nth).then(Fault::Hold(hold.clone()));
        new.lead().await;
        hold.arrived(1).await;
        written.release().await;
        hold.release().await;
        let stream = new.stream("orders");
        if !lands {
            // Whether a write changes the state of a blob is storage's choice: so it is kept from landing.
            assert_eq!(late.await.unwrap(), Err(AppendError::Unknown(Unusable::NoLeader)));
            assert_eq!(append(&stream, "d", 10).await.unwrap().first_offset, Offset(2));
            assert_eq!(stored(&new, &stream).await, [0]);
            assert_eq!(labels(&stream).await.len(), 3);
            continue;
        }
        assert_eq!(late.await.unwrap().unwrap().first_offset, Offset(2));
        assert_eq!(append(&stream, "d", 10).await.unwrap().first_offset, Offset(3), "{operation:?}");
        assert_eq!(stored(&new, &stream).await, [0, 2]);
        assert_eq!(labels_from(&stream, 2).await.unwrap().len(), 2);
        let read = labels_from(&stream, 0).await;
        assert!(matches!(read, Err(ReadError::Unusable(Unusable::Fault(_)))), "{read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_deleted_before_it_is_claimed_is_made_again() {
    for operation in [Operation::RaiseSequenceNumber, Operation::Properties, Operation::SetSequenceNumber] {
        let leader = Server::first(1).await;
        let stream = leader.create("orders", 2).await;
        let blob = leader.segment(&stream, 0);
        // It is there already when the request is sent again, and an earlier leader's recovery takes it for a leftover.
        leader.faulty.on(Operation::CreatePageBlob).then(Fault::AppliedButLost);
        let hold = Hold::new();
        leader.faulty.on(operation).blob(&blob.name).then(Fault::Hold(hold.clone()));
        let appended = Arc::clone(&stream);
        let appended = tokio::spawn(async move { append(&appended, "a", 10).await });
        hold.arrived(1).await;
        leader.memory.delete_blob(&blob, None).await.unwrap();
        hold.release().await;
        assert_eq!(appended.await.unwrap().unwrap().first_offset, Offset(0), "{operation:?}");
        assert_eq!(labels(&stream).await, [(0, "a".to_owned())]);
        assert_eq!(
            leader.memory.properties(&blob).await.unwrap().sequence_number,
            leader.vault.term().unwrap()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_that_comes_to_claim_what_is_gone_calls_nothing_missing() {
    let mut old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    old.stop(Command::Finish).await;
    let blob = old.segment(&stream, 0);
    let hold = Hold::new();
    old.faulty.on(Operation::RaiseSequenceNumber).blob(&blob.name).then(Fault::Hold(hold.clone()));
    old.lead().await;
    let stream = old.stream("orders");
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "late", 10).await });
    hold.arrived(1).await;
    let new = old.beside(99);
    new.lead().await;
    old.memory.delete_blob(&blob, None).await.unwrap();
    hold.release().await;
    assert_eq!(late.await.unwrap(), Err(Unusable::NoLeader.into()));
    assert_ne!(stream.status().condition, Condition::DataMissing);
    assert_eq!(old.reign_end().await, crate::log::reign::ReignEnd::Outrun(None));
}
