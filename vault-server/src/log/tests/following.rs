//! Servers that read what another one appends.

use super::*;
use crate::log::error::StreamFault;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold};
use crate::storage::operation::Operation;

/// The labels of all messages as a follower reads them now.
async fn followed(follower: &Server, name: &str) -> Result<Vec<String>, ReadError> {
    assert!(follower.vault.term().is_none());
    let stream = follower.vault.readable(&follower.name(name)).await?;
    stream.reader(Freshness::Strong).await?;
    Ok(labels_from(&stream, 0).await?.into_iter().map(|(_, label)| label).collect())
}

#[tokio::test(start_paused = true)]
async fn a_follower_reads_all_that_was_acknowledged_through_every_roll_over() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = leader.create("orders", 1).await;
    assert_eq!(followed(&follower, "orders").await.unwrap(), Vec::<String>::new());
    let mut appended = Vec::new();
    for n in 0..40 {
        let label = format!("m{n}");
        append(&stream, &label, if n % 3 == 0 { 700_000 } else { 50 }).await.unwrap();
        appended.push(label);
        assert_eq!(followed(&follower, "orders").await.unwrap(), appended, "a strong read sees all");
    }
    // And one that has not seen it grow.
    assert_eq!(followed(&leader.beside(3), "orders").await.unwrap(), appended);
}

#[tokio::test(start_paused = true)]
async fn a_follower_changes_nothing_in_storage() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    // The next write is on its way, and the one behind it has landed.
    let hold = Hold::new();
    leader.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let (one, two) = (Arc::clone(&stream), Arc::clone(&stream));
    let one = tokio::spawn(async move { append(&one, "b", 10).await });
    hold.arrived(1).await;
    let two = tokio::spawn(async move { append(&two, "c", 10).await });
    leader.env.clock.sleep(Duration::from_millis(100)).await;
    let follower = leader.beside(2);
    for operation in
        [Operation::PutPages, Operation::ClearPages, Operation::RaiseSequenceNumber, Operation::DeleteBlob]
    {
        let refused = StorageError::Refused("followers read".to_owned());
        follower.faulty.on(operation).always().then(Fault::Fail(refused));
    }
    assert_eq!(
        followed(&follower, "orders").await.unwrap(),
        ["a"],
        "what has a gap before it is not in the log yet"
    );
    hold.release().await;
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["a", "b", "c"]);
}

/// It is stored, although whoever sent it never hears of that.
#[tokio::test(start_paused = true)]
async fn what_a_follower_has_shown_stays_where_its_leader_dies_before_it_acknowledges_it() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    leader.faulty.on(Operation::PutPages).always().then(Fault::AppliedButLost);
    let landed = tokio::spawn(async move { append(&stream, "b", 10).await });
    leader.env.clock.sleep(Duration::from_secs(1)).await;
    let follower = leader.beside(2);
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let mut shown = labels(&theirs).await;
    assert_eq!(shown, [(0, "a".to_owned()), (1, "b".to_owned())]);
    leader.faulty.crash();
    leader.stop(Command::Halt).await;
    assert!(matches!(landed.await.unwrap(), Err(AppendError::Unknown(_))));
    let next = leader.successor().await;
    append(&next.stream("orders"), "c", 10).await.unwrap();
    shown.push((2, "c".to_owned()));
    assert_eq!(labels(&next.stream("orders")).await, shown);
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_reports_damage_and_serves_what_comes_before() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    let follower = leader.beside(2);
    append(&stream, "a", 10).await.unwrap();
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["a"]);
    let segment = leader.segment(&stream, 0);
    let damaged = leader.memory.page_ranges(&segment, 0..BLOCK_BYTES).await.unwrap().last().unwrap().end;
    for label in ["b", "c", "d"] {
        append(&stream, label, 10).await.unwrap();
    }
    leader.spoil(&segment, damaged, |bytes| bytes[3] ^= 1).await;
    for server in [follower, leader.beside(3)] {
        let error = followed(&server, "orders").await.unwrap_err();
        assert!(
            matches!(error, ReadError::Unusable(Unusable::Fault(StreamFault::Corrupt { .. }))),
            "{error}"
        );
        let stream = server.vault.readable(&server.name("orders")).await.unwrap();
        assert_eq!(stream.status().condition, Condition::Corrupt);
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        assert_eq!(reader.tail().next_offset(), Offset(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_finds_streams_that_are_deleted_and_made_anew() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    append(&leader.create("orders", 2).await, "a", 10).await.unwrap();
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["a"]);
    leader.vault.delete(&leader.name("orders")).await.unwrap();
    assert_eq!(followed(&follower, "orders").await, Err(Unusable::NotFound.into()));
    append(&leader.create("orders", 2).await, "b", 10).await.unwrap();
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_made_anew_is_not_taken_for_the_one_before() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    for before in [0, 1] {
        let stream = leader.create("orders", 2).await;
        for _ in 0..before {
            append(&stream, "old", 10).await.unwrap();
        }
        assert_eq!(followed(&follower, "orders").await.unwrap().len(), before);
        leader.vault.delete(&leader.name("orders")).await.unwrap();
        append(&leader.create("orders", 2).await, "new", 10).await.unwrap();
        assert_eq!(followed(&follower, "orders").await.unwrap(), ["new"], "what was acknowledged is seen");
        leader.vault.delete(&leader.name("orders")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_follower_gets_what_is_appended() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = leader.create("orders", 2).await;
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    let reader = theirs.reader(Freshness::Recent).await.unwrap();
    let waiting = tokio::spawn(async move {
        reader.wait_beyond(Offset(0), PATIENCE).await.unwrap();
        reader.tail().next_offset()
    });
    leader.env.clock.sleep(Duration::from_secs(5)).await;
    append(&stream, "a", 10).await.unwrap();
    let started = leader.env.clock.monotonic();
    assert_eq!(waiting.await.unwrap(), Offset(1));
    assert!(leader.env.clock.monotonic() - started < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_strong_read_of_a_deposed_leader_fails() {
    let mut old = Server::first(1).await;
    append(&old.create("orders", 2).await, "a", 10).await.unwrap();
    let stream = old.stream("orders");
    assert!(stream.reader(Freshness::Strong).await.is_ok());
    let new = old.successor().await;
    append(&new.stream("orders"), "b", 10).await.unwrap();
    // It does not know yet: what it shows is a prefix, but it does not claim to show all.
    assert!(stream.reader(Freshness::Recent).await.is_ok());
    assert_eq!(stream.reader(Freshness::Strong).await.map(|_| ()), Err(Unusable::NoLeader));
    assert_eq!(old.reign_end().await, crate::log::reign::ReignEnd::Outrun(None));
}

#[tokio::test(start_paused = true)]
async fn what_was_followed_is_led_by_the_next_term() {
    let old = Server::first(1).await;
    append(&old.create("orders", 2).await, "a", 10).await.unwrap();
    let follower = old.beside(2);
    assert_eq!(followed(&follower, "orders").await.unwrap(), ["a"]);
    old.stop(Command::Finish).await;
    follower.lead().await;
    append(&follower.stream("orders"), "b", 10).await.unwrap();
    assert_eq!(labels(&follower.stream("orders")).await.len(), 2);
    assert_eq!(followed(&old, "orders").await.unwrap(), ["a", "b"], "and the one who led follows");
}

/// A read while the lead is taken over is still a follower's. What it comes upon must not keep the term from opening the
/// stream.
#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_upon_damage_while_it_takes_over_leads_the_stream_all_the_same() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 1).await;
    for label in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        append(&stream, label, 700_000).await.unwrap();
    }
    // Not in the last segment, which is all that a new leader reads.
    leader.spoil(&leader.segment(&stream, 0), 1_400_000, |bytes| bytes[0] ^= 1).await;
    leader.stop(Command::Finish).await;
    let next = leader.beside(2);
    let theirs = next.vault.readable(&next.name("orders")).await.unwrap();
    let listing = Hold::new();
    next.faulty.on(Operation::ListContainers).then(Fault::Hold(listing.clone()));
    let reading = async {
        listing.arrived(1).await;
        let error = labels_from(&theirs, 0).await.unwrap_err();
        assert!(
            matches!(error, ReadError::Unusable(Unusable::Fault(StreamFault::Corrupt { .. }))),
            "{error}"
        );
        listing.release().await;
    };
    let ((), ()) = tokio::join!(next.lead(), reading);
    assert_eq!(append(&theirs, "k", 10).await.unwrap().first_offset, Offset(10));
    let error = labels_from(&theirs, 0).await.unwrap_err();
    assert!(matches!(error, ReadError::Unusable(Unusable::Fault(StreamFault::Corrupt { .. }))), "{error}");
}
