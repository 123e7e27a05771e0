//! One leader after another.

use super::*;
use crate::log::stream::Condition;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold, Pages};
use crate::storage::operation::Operation;

#[tokio::test(start_paused = true)]
async fn nothing_of_a_deposed_leader_lands_after_its_successor_claimed_the_stream() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    old.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "late", 10).await });
    hold.arrived(1).await;
    let new = old.successor().await;
    append(&new.stream("orders"), "b", 10).await.unwrap();
    hold.release().await;
    assert_eq!(late.await.unwrap(), Err(AppendError::Unknown(Unusable::NoLeader)));
    let expected = [(0, "a".to_owned()), (1, "b".to_owned())];
    assert_eq!(labels(&new.stream("orders")).await, expected);
    assert_eq!(
        append(&stream, "c", 10).await,
        Err(Unusable::NoLeader.into()),
        "the old leader has stepped back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_successor_keeps_what_was_on_its_way_and_has_landed() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    old.faulty.on(Operation::PutPages).always().then(Fault::AppliedButLost);
    let landed = Arc::clone(&stream);
    let landed = tokio::spawn(async move { append(&landed, "landed", 10).await });
    old.env.clock.sleep(Duration::from_secs(1)).await;
    let new = old.successor().await;
    append(&new.stream("orders"), "b", 10).await.unwrap();
    old.faulty.heal();
    let stored: Vec<_> = labels(&new.stream("orders")).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "landed", "b"]);
    assert_eq!(landed.await.unwrap(), Err(AppendError::Unknown(Unusable::NoLeader)));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_was_stored_in_a_thousand_pieces_does_not_hold_up_its_successor() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let torn = Pages::These((1..3_000).step_by(2).collect());
    old.faulty.on(Operation::PutPages).then(Fault::TearAndCrash(torn));
    append(&stream, "torn", 1_900_000).await.unwrap_err();
    let new = old.successor().await;
    new.faulty.on(Operation::Read).always().then(Fault::Delay(Duration::from_millis(10)));
    let began = new.env.clock.monotonic();
    append(&new.stream("orders"), "b", 10).await.unwrap();
    let took = new.env.clock.monotonic() - began;
    assert!(took < Duration::from_secs(1), "{took:?}");
    new.faulty.heal();
    let stored: Vec<_> = labels(&new.stream("orders")).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_leader_makes_no_segment_that_it_writes_to() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 1).await;
    append(&stream, "a", 1_900_000).await.unwrap();
    append(&stream, "b", 1_900_000).await.unwrap();
    // The seal is stored; the request that makes the next segment is on its way when another leader takes over.
    let hold = Hold::new();
    old.faulty.on(Operation::CreatePageBlob).then(Fault::Hold(hold.clone()));
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "late", 1_900_000).await });
    hold.arrived(1).await;
    let new = old.successor().await;
    append(&new.stream("orders"), "c", 10).await.unwrap();
    hold.release().await;
    assert!(late.await.unwrap().is_err());
    let stored: Vec<_> = labels(&new.stream("orders")).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_does_not_take_its_successors_segment_for_damage() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 1).await;
    append(&stream, "a", 1_900_000).await.unwrap();
    append(&stream, "b", 1_900_000).await.unwrap();
    // The next segment is made, but the answer is lost; the claim that follows is answered when a successor has claimed
    // and written it.
    old.faulty.on(Operation::CreatePageBlob).then(Fault::AppliedButLost);
    old.faulty.on(Operation::RaiseSequenceNumber).then(Fault::LateAnswer(Duration::from_secs(5)));
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "late", 1_900_000).await });
    old.env.clock.sleep(Duration::from_secs(2)).await;
    let new = old.successor().await;
    append(&new.stream("orders"), "c", 10).await.unwrap();
    assert_eq!(late.await.unwrap(), Err(Unusable::NoLeader.into()));
    assert_ne!(stream.status().condition, Condition::Corrupt);
    let stored: Vec<_> = labels(&new.stream("orders")).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_may_be_stored_and_what_was_never_sent_is_not() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    leader.faulty.on(Operation::PutPages).always().then(Fault::AppliedButLost);
    let unheard = Arc::clone(&stream);
    let unheard = tokio::spawn(async move { append(&unheard, "b", 10).await });
    leader.env.clock.sleep(Duration::from_secs(5)).await;
    let reader = stream.reader(Freshness::Strong).await.unwrap();
    assert_eq!(reader.tail().next_offset(), Offset(1));
    assert!(reader.is_on_its_way(Offset(1)) && !reader.is_on_its_way(Offset(2)));
    leader.faulty.heal();
    unheard.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clear_whose_outcome_is_unknown_ends_the_term() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server.stop(Command::Finish).await;
    let blob = server.segment(&stream, 0);
    // A page that nobody was told of, beyond the tail.
    server.spoil(&blob, 64 * 512, |bytes| bytes[0] = 1).await;
    let late = Hold::new();
    server.faulty.on(Operation::ClearPages).then(Fault::LostAndHeld(late.clone()));
    server.lead().await;
    let end = server.reign_end().await;
    assert_eq!(end, crate::log::reign::ReignEnd::Unsure);
    server.stop(Command::Halt).await;
    server.lead().await;
    let stream = server.stream("orders");
    for n in 0..200 {
        append(&stream, &format!("m{n}"), 100).await.unwrap();
    }
    // The clear of the earlier term arrives now: were it obeyed, it would wipe out what was written since.
    late.release().await;
    assert_eq!(labels(&stream).await.len(), 201);
    let next = server.successor().await;
    assert_eq!(labels(&next.stream("orders")).await.len(), 201);
}

#[tokio::test(start_paused = true)]
async fn leadership_is_one_servers_at_a_time_and_passes_on() {
    let env = Env::controlled(1);
    let memory = Arc::new(MemoryStorage::new(env.clone()));
    let server = |seed| Server::on(Arc::clone(&memory), env.clone(), seed);
    let first = Elected::leading(server(1)).await;
    let second = Elected::run(server(2), "http://second");
    env.clock.sleep(Duration::from_secs(60)).await;
    append(&first.create("orders").await, "a", 10).await.unwrap();
    assert!(
        first.vault.term().is_some() && second.vault.term().is_none(),
        "the lease is renewed for as long as it leads"
    );
    let leader = second.standing.borrow().leader.clone().unwrap();
    assert_eq!((leader.endpoint.as_str(), Some(leader.term)), ("http://leader", first.vault.term()));
    let ended = first.vault.clone();
    first.end().await;
    assert!(ended.term().is_none());
    let handed_over = env.clock.monotonic();
    second.vault.until_led(PATIENCE).await;
    assert!(env.clock.monotonic() - handed_over < Duration::from_secs(1));
    assert_eq!(append(&second.stream("orders"), "b", 10).await.unwrap().first_offset, Offset(1));
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_outrun_while_it_holds_the_lease_rises_above_what_it_saw() {
    let env = Env::controlled(1);
    let memory = Arc::new(MemoryStorage::new(env.clone()));
    let server = Elected::leading(Server::on(Arc::clone(&memory), env.clone(), 1)).await;
    let stream = server.create("orders").await;
    append(&stream, "a", 10).await.unwrap();
    let first_term = server.vault.term().unwrap();
    // The leader blob was restored from an older copy: segments carry higher terms than it gives out.
    let segment = vault_format::names::SegmentName { stream: stream.meta().id, base: Offset(0) };
    let container = server.vault.context.prefix.container(stream.name());
    let blob = BlobName { container, name: segment.to_string() };
    let higher = Term(first_term.0 + 1_000_000);
    memory.raise_sequence_number(&blob, higher).await.unwrap();
    let lost = append(&stream, "b", 10).await;
    assert_eq!(lost, Err(AppendError::Unknown(Unusable::NoLeader)));
    env.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(append(&server.stream("orders"), "c", 10).await.unwrap().first_offset, Offset(1));
    assert!(server.vault.term().unwrap() > higher);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_leadership() {
    let env = Env::controlled(1);
    let memory = Arc::new(MemoryStorage::new(env.clone()));
    let server = Elected::leading(Server::on(Arc::clone(&memory), env.clone(), 1)).await;
    let first_term = server.vault.term().unwrap();
    server.faulty.on(Operation::RenewLease).then(Fault::Fail(StorageError::PreconditionFailed));
    let mut reign = server.vault.context.reign.subscribe();
    reign.wait_for(Option::is_none).await.unwrap();
    server.vault.until_led(PATIENCE).await;
    assert!(server.vault.term().unwrap() > first_term, "it leads again only under the next term");
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_restored_without_its_sequence_number_is_taken_over_under_a_higher_term() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    append(&stream, "a", 10).await.unwrap();
    server.stop(Command::Finish).await;
    let blob = server.segment(&stream, 0);
    let mut bytes = server.memory.read(&blob, 0..BLOCK_BYTES).await.unwrap().bytes.to_vec();
    server.memory.delete_blob(&blob, None).await.unwrap();
    server.memory.create_page_blob(&blob, BLOCK_BYTES, Term::ZERO).await.unwrap();
    // Batches of a term far above any that the leader blob has given out.
    let fence = Term(server.vault.context.env.clock.now().0);
    let mut chain = vault_format::chain::Chain::at_segment_start(stream.meta().id, Offset(0));
    let mut written = Vec::new();
    let mut writer = vault_format::batch::BatchWriter {
        chain: &mut chain,
        fence,
        committed: vault_format::ids::Position::ZERO,
        out: &mut written,
    };
    writer.snapshot(&[]);
    writer.messages([append_of("a", 10).records.as_ref()], 1, vault_format::ids::Timestamp(1));
    bytes[..written.len()].copy_from_slice(&written);
    bytes[written.len()..].fill(0);
    let start = vault_format::ids::Position::ZERO;
    server.memory.put_pages(&blob, start, bytes.into(), Term::ZERO, None).await.unwrap();
    server.lead().await;
    let end = server.reign_end().await;
    assert_eq!(end, crate::log::reign::ReignEnd::Outrun(Some(fence)));
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_uses_no_blank_segment_that_it_finds() {
    let old = Server::first(1).await;
    // Its recovery is about to list the segments when another leader takes over, who finds none.
    let hold = Hold::new();
    old.faulty.on(Operation::ListBlobs).then(Fault::Hold(hold.clone()));
    let stream = old.create("orders", 2).await;
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "late", 10).await });
    hold.arrived(1).await;
    let new = old.successor().await;
    new.stream("orders").reader(Freshness::Strong).await.unwrap();
    // The first segment, made by a request of an even earlier leader, arrives.
    old.memory.create_page_blob(&old.segment(&stream, 0), 2 * BLOCK_BYTES, Term::UNUSED).await.unwrap();
    hold.release().await;
    assert_eq!(late.await.unwrap(), Err(Unusable::NoLeader.into()));
    append(&new.stream("orders"), "a", 10).await.unwrap();
    assert_eq!(labels(&new.stream("orders")).await, [(0, "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_opened_again_under_a_term_that_is_over() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server.stop(Command::Finish).await;
    server.spoil(&server.segment(&stream, 0), 64 * 512, |bytes| bytes[0] = 1).await;
    let late = Hold::new();
    server.faulty.on(Operation::ClearPages).then(Fault::LostAndHeld(late.clone()));
    server.lead().await;
    assert_eq!(server.reign_end().await, crate::log::reign::ReignEnd::Unsure);
    // The election has not acted yet: whoever appends now must not be served under the term whose clear is on its way.
    assert_eq!(append(&stream, "b", 10).await, Err(Unusable::NoLeader.into()));
    late.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_ends_the_term_and_keeps_the_stream() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let away = StorageError::Unavailable("away".to_owned());
    server.faulty.on(Operation::DeleteContainer).then(Fault::Fail(away));
    assert!(server.vault.delete(&server.name("orders")).await.is_err());
    assert_eq!(append(&stream, "b", 10).await, Err(Unusable::NoLeader.into()));
    assert_eq!(server.reign_end().await, crate::log::reign::ReignEnd::Unsure);
    server.stop(Command::Halt).await;
    server.lead().await;
    assert_eq!(append(&server.stream("orders"), "c", 10).await.unwrap().first_offset, Offset(1));
}

/// A stream without a segment has nothing else to show a term.
#[tokio::test(start_paused = true)]
async fn a_strong_read_without_the_blob_of_terms_ends_the_term_and_finds_no_stream_gone() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    stream.reader(Freshness::Strong).await.unwrap();
    let container = server.vault.context.prefix.system_container();
    let leader_blob = BlobName { container, name: LEADER_BLOB.to_owned() };
    server.memory.delete_blob(&leader_blob, None).await.unwrap();
    assert!(matches!(stream.reader(Freshness::Strong).await, Err(Unusable::NoLeader)));
    assert_eq!(server.reign_end().await, crate::log::reign::ReignEnd::Outrun(None));
}

/// The next segment is made only under a term that is in force, which nothing shows any more.
#[tokio::test(start_paused = true)]
async fn without_the_blob_of_terms_the_next_segment_is_not_made_and_nothing_is_missing() {
    let mut server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    append(&stream, "a", 10).await.unwrap();
    let container = server.vault.context.prefix.system_container();
    let leader_blob = BlobName { container, name: LEADER_BLOB.to_owned() };
    server.memory.delete_blob(&leader_blob, None).await.unwrap();
    let end = async {
        loop {
            if append(&stream, "b", 1_900_000).await.is_err() {
                break;
            }
        }
        server.reign_end().await
    };
    assert_eq!(end.await, crate::log::reign::ReignEnd::Outrun(None));
    assert_ne!(stream.status().condition, Condition::DataMissing);
}

/// Storage goes away between two looks of a recovery.
#[tokio::test(start_paused = true)]
async fn a_segment_that_is_gone_while_the_list_cannot_be_had_is_no_missing_data() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    old.stop(Command::Halt).await;
    let new = old.beside(99);
    new.faulty.on(Operation::RaiseSequenceNumber).then(Fault::Fail(StorageError::NotFound));
    let away = StorageError::Unavailable("away".to_owned());
    new.faulty.on(Operation::ListBlobs).nth(2).always().then(Fault::Fail(away));
    new.lead().await;
    assert!(append(&new.stream("orders"), "b", 10).await.is_err());
    new.faulty.heal();
    assert_eq!(append(&new.stream("orders"), "b", 10).await.unwrap().first_offset, Offset(1));
}

/// The look that it shares is asked for by a read that knew only the segment before.
#[tokio::test(start_paused = true)]
async fn a_strong_read_is_not_certified_by_a_segment_that_was_sealed_before_its_look() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 1).await;
    // Two of them fill a segment.
    for label in ["a", "b", "c"] {
        append(&stream, label, 1_900_000).await.unwrap();
    }
    let hold = Hold::new();
    let last = old.segment(&stream, 2).name;
    old.faulty.on(Operation::Properties).blob(&last).then(Fault::Hold(hold.clone()));
    let ask = || {
        let stream = Arc::clone(&stream);
        tokio::spawn(async move { stream.reader(Freshness::Strong).await.map(|_| ()) })
    };
    let first = ask();
    hold.arrived(1).await;
    let second = ask();
    old.env.clock.sleep(Duration::from_millis(10)).await;
    for label in ["d", "e"] {
        append(&stream, label, 1_900_000).await.unwrap();
    }
    let new = old.successor().await;
    append(&new.stream("orders"), "acknowledged", 10).await.unwrap();
    let third = ask();
    old.env.clock.sleep(Duration::from_millis(10)).await;
    hold.release().await;
    assert_eq!(first.await.unwrap(), Ok(()), "it asked before there was another leader");
    assert_eq!(second.await.unwrap(), Err(Unusable::NoLeader));
    assert_eq!(third.await.unwrap(), Err(Unusable::NoLeader));
}

/// What is stored in the end where a message of a deposed leader is acknowledged while the claim of its successor, which
/// appends one too, is on its way.
async fn stored_where_a_claim_is_late() -> Vec<String> {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let new = old.beside(99);
    let claim = Hold::new();
    new.faulty.on(Operation::RaiseSequenceNumber).then(Fault::Hold(claim.clone()));
    new.lead().await;
    claim.arrived(1).await;
    append(&stream, "acknowledged", 10).await.unwrap();
    claim.release().await;
    append(&new.stream("orders"), "b", 10).await.unwrap();
    labels(&new.stream("orders")).await.into_iter().map(|(_, label)| label).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_while_a_claim_is_on_its_way_is_kept() {
    assert_eq!(stored_where_a_claim_is_late().await, ["a", "acknowledged", "b"]);
}

/// The test before this one notices the mistake.
#[cfg(feature = "canaries")]
#[test]
fn a_scan_before_the_claim_loses_what_is_acknowledged_meanwhile() {
    // In a thread of its own, so that no other test makes the mistake.
    let stored = std::thread::spawn(|| {
        vault_format::canary::Canary::ScanBeforeClaim.switch_on();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(stored_where_a_claim_is_late())
    });
    assert_eq!(stored.join().unwrap(), ["a", "b"]);
}
