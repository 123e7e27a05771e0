//! Retention that runs beside reads, failures and changes of mind.

use vault_format::ids::Timestamp;

use super::retention::{age, patch, stored};
use super::retention_readers::many_segments;
use super::*;
use crate::log::error::AdminError;
use crate::storage::StorageError;
use crate::storage::faulty::Fault;
use crate::storage::operation::Operation;

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// A stream of `count` segments that are all old by now, and the open one.
async fn old_stream(server: &Server, count: u64) -> Arc<Stream> {
    let (stream, _) = many_segments(server, count).await;
    append(&stream, "last", 10).await.unwrap();
    // What makes sizes known, so that a deletion takes three requests.
    stream.reader(Freshness::Recent).await.unwrap().size().await;
    stream
}

fn slow(server: &Server) {
    for operation in [Operation::Read, Operation::Properties, Operation::DeleteBlob, Operation::ListBlobs] {
        server.faulty.on(operation).always().then(Fault::Delay(Duration::from_millis(10)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_by_time_while_many_segments_are_deleted_finds_the_first_that_is_kept() {
    let leader = Server::first(1).await;
    let stream = old_stream(&leader, 100).await;
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let follower = leader.beside(2);
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let followed = theirs.reader(Freshness::Strong).await.unwrap();
    slow(&leader);
    slow(&follower);
    patch(&leader, age(TEN_MINUTES)).await;
    for _ in 0..20 {
        leader.env.clock.sleep(Duration::from_millis(50)).await;
        for reader in [&reader, &followed] {
            let before = reader.first_offset();
            let found = reader.offset_at(Timestamp(1)).await.unwrap();
            assert!(found >= before, "{found} {before}");
        }
    }
    leader.env.clock.sleep(Duration::from_secs(60)).await;
    assert!(stored(&leader, &stream).await.len() <= 3);
    for stream in [&stream, &theirs] {
        assert_eq!(stream.status().condition, Condition::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_tried_again_ends_when_retention_is_taken_back() {
    let leader = Server::first(1).await;
    let stream = old_stream(&leader, 3).await;
    let hold = Fault::Fail(StorageError::Refused("legal hold".to_owned()));
    leader.faulty.on(Operation::DeleteBlob).times(3).then(hold);
    patch(&leader, age(TEN_MINUTES)).await;
    leader.env.clock.sleep(Duration::from_secs(10)).await;
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    assert_eq!(reader.first_offset(), Offset(0), "what cannot be deleted is there to be read");
    let none = SettingsPatch { retention_seconds: Some(None), ..SettingsPatch::default() };
    patch(&leader, none).await;
    leader.env.clock.sleep(Duration::from_secs(3_600)).await;
    assert_eq!(stored(&leader, &stream).await[0], 0, "it is kept for ever by now");
    assert_eq!(labels(&stream).await.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn segments_that_are_gone_from_the_front_are_lost_where_retention_has_deleted_none() {
    let leader = Server::first(1).await;
    let stream = old_stream(&leader, 3).await;
    leader.memory.delete_blob(&leader.segment(&stream, 0), None).await.unwrap();
    let follower = leader.beside(2);
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let _ = theirs.reader(Freshness::Recent).await.unwrap();
    assert_eq!(
        theirs.status().condition,
        Condition::DataMissing,
        "the follower sees it when it opens the stream"
    );
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let read = async { reader.next(&mut reader.seek(Offset(0)).await?).await.map(|_| ()) }.await;
    assert!(matches!(read, Err(ReadError::Unusable(Unusable::Fault(_)))), "{read:?}");
    assert_eq!(stream.status().condition, Condition::DataMissing, "the leader when it comes there");
    leader.stop(Command::Halt).await;
    let next = leader.successor().await;
    let refused = append(&next.stream("orders"), "more", 10).await.unwrap_err();
    assert!(refused.to_string().contains("retention has deleted nothing"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_direct_reads_begins_where_it_was_asked_to_or_is_refused() {
    let leader = Server::first(1).await;
    let stream = old_stream(&leader, 5).await;
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    patch(&leader, age(TEN_MINUTES)).await;
    leader.env.clock.sleep(Duration::from_secs(60)).await;
    let (first, plan) = reader.segments(None, true, 10).await.unwrap();
    assert_eq!((first, plan[0].first_offset), (Offset(10), Offset(10)));
    let refused = reader.segments(Some(Offset(3)), true, 10).await;
    assert_eq!(refused, Err(ReadError::BelowFirst { first_offset: Offset(10) }));
}

#[tokio::test(start_paused = true)]
async fn segments_of_a_container_that_is_gone_do_not_count_as_deleted() {
    use crate::storage::LeaseTarget;

    let leader = Server::first(1).await;
    let stream = old_stream(&leader, 3).await;
    let hold = Fault::Fail(StorageError::Refused("legal hold".to_owned()));
    leader.faulty.on(Operation::DeleteBlob).times(1).then(hold);
    patch(&leader, age(TEN_MINUTES)).await;
    leader.env.clock.sleep(Duration::from_secs(10)).await;
    let container = leader.vault.context.prefix.container(stream.name());
    let target = LeaseTarget::Container(container.clone());
    let lease = leader.memory.acquire_lease(&target, crate::limits::LEASE).await.unwrap();
    leader.memory.delete_container(&container, &lease).await.unwrap();
    leader.env.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(leader.vault.context.metrics.log.deleted_segments.get(), 0);
}

/// The lease is given back at once, and the answer comes late: the other change is carried out in between.
#[tokio::test(start_paused = true)]
async fn of_two_changes_the_one_that_storage_took_last_is_in_force() {
    let leader = Arc::new(Server::first(1).await);
    let stream = leader.create("orders", 1).await;
    leader.faulty.on(Operation::ReleaseLease).then(Fault::LateAnswer(Duration::from_secs(5)));
    let first = Arc::clone(&leader);
    let first = tokio::spawn(async move { patch(&first, age(TEN_MINUTES)).await });
    leader.env.clock.sleep(Duration::from_secs(1)).await;
    patch(&leader, SettingsPatch { retention_seconds: Some(None), ..SettingsPatch::default() }).await;
    first.await.unwrap();
    assert_eq!(stream.meta().settings.retention_seconds, None);
    // As whoever reads it in storage finds it.
    assert_eq!(leader.successor().await.stream("orders").meta().settings.retention_seconds, None);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_carried_out_after_its_term_is_not_confirmed() {
    let leader = Arc::new(Server::first(1).await);
    let stream = leader.create("orders", 1).await;
    leader.faulty.on(Operation::ReleaseLease).then(Fault::LateAnswer(Duration::from_secs(5)));
    let changes = [TEN_MINUTES, 2 * TEN_MINUTES].map(|retention| {
        let (vault, name) = (leader.vault.clone(), leader.name("orders"));
        tokio::spawn(async move { vault.change(&name, age(retention)).await.map(|_| ()) })
    });
    leader.env.clock.sleep(Duration::from_secs(1)).await;
    // The successor has read the first of them by now. The second waits for the first still.
    let successor = leader.successor().await;
    let known = successor.stream("orders").meta().settings.retention_seconds;
    for change in changes {
        let answer = change.await.unwrap();
        assert!(matches!(answer, Err(AdminError::LeadLost)), "{answer:?}");
    }
    let stored = stream.meta().settings.retention_seconds;
    assert_ne!(known, stored, "what was not confirmed is what the successor does not go by");
}
