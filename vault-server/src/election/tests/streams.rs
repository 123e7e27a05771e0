//! What the servers know of the streams as the leadership passes on.

use super::*;

#[tokio::test(start_paused = true)]
async fn followers_list_what_the_leader_makes_changes_and_deletes_within_a_second() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    for round in 0..10 {
        place.rest(Duration::from_millis(370 * round)).await;
        a.create("orders").await;
        place.rest(SECOND).await;
        assert!(b.lists("orders"));
        let larger = SettingsPatch { segment_bytes: Some(64 << 20), ..SettingsPatch::default() };
        a.vault.change(&a.name("orders"), larger).await.unwrap();
        place.rest(SECOND).await;
        let (streams, _) = b.vault.list("orders", None, 1);
        assert_eq!(streams[0].meta().settings.segment_bytes, 64 << 20);
        a.vault.delete(&a.name("orders")).await.unwrap();
        place.rest(SECOND).await;
        assert!(!b.lists("orders"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_deleted_is_not_missing_for_the_next_leader() {
    for lived_on_ms in [0, 1, 400, 900, 1_700] {
        let place = Place::new(lived_on_ms);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        a.append("orders", "a").await;
        place.rest(3 * SECOND).await;
        assert!(b.lists("orders"));
        a.vault.delete(&a.name("orders")).await.unwrap();
        place.rest(Duration::from_millis(lived_on_ms)).await;
        a.die().await;
        b.leads().await;
        assert!(!b.lists("orders"));
        b.create("orders").await;
        assert_eq!(b.append("orders", "b").await, 0);
    }
}

/// The follower lists when the change is announced, which is before the container is gone.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_deletion_takes_long_is_not_missing_for_the_next_leader() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    a.faulty.on(Operation::DeleteContainer).then(Fault::Delay(2 * SECOND));
    a.vault.delete(&a.name("orders")).await.unwrap();
    place.rest(SECOND).await;
    assert!(!b.lists("orders"));
    a.die().await;
    b.leads().await;
    assert!(!b.lists("orders"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_deleted_is_not_missing_for_a_leader_that_could_not_list_before() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    assert!(b.lists("orders"));
    let hold = Hold::new();
    b.faulty.on(Operation::ListContainers).always().then(Fault::Hold(hold.clone()));
    a.vault.delete(&a.name("orders")).await.unwrap();
    a.die().await;
    // By then it has the lease.
    place.rest(6 * SECOND).await;
    assert!(b.lists("orders"), "it has not heard of it");
    hold.release().await;
    b.leads().await;
    assert!(!b.lists("orders"));
}

/// All that the next leader has to go by is what was announced before.
#[tokio::test(start_paused = true)]
async fn a_stream_is_not_missing_for_the_next_leader_where_one_dies_as_it_deletes() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    assert!(b.lists("orders"));
    a.faulty.on(Operation::DeleteContainer).then(Fault::LateAnswer(2 * SECOND));
    let (vault, name) = (a.vault.clone(), a.name("orders"));
    let deleting = tokio::spawn(async move { vault.delete(&name).await });
    place.rest(Duration::from_millis(1)).await;
    a.die().await;
    b.leads().await;
    assert!(!b.lists("orders"));
    deleting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_deletion_was_not_answered_is_not_missing() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    let first = a.term();
    a.faulty.on(Operation::DeleteContainer).then(Fault::AppliedButLost);
    a.vault.delete(&a.name("orders")).await.unwrap_err();
    place.rest(5 * SECOND).await;
    assert!(a.term() > first);
    assert!(!a.lists("orders"));
    a.create("orders").await;
    assert_eq!(a.append("orders", "b").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_deleted_while_the_leader_lists_stays_deleted() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    a.faulty.on(Operation::ListContainers).then(Fault::LateAnswer(2 * SECOND));
    let slow = a.vault.clone();
    let listing = tokio::spawn(async move { slow.refresh(crate::log::vault::Absent::IsMissing).await });
    place.rest(SECOND).await;
    a.vault.delete(&a.name("orders")).await.unwrap();
    listing.await.unwrap().unwrap();
    assert!(!a.lists("orders"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_disappears_is_missing_for_the_next_leader() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let stream = a.create("orders").await;
    a.append("orders", "a").await;
    a.create("others").await;
    place.rest(3 * SECOND).await;
    assert!(b.lists("orders"));
    place.delete_container(&Place::first_segment(&stream).container).await;
    a.die().await;
    b.leads().await;
    let stream = b.stream("orders");
    assert_eq!(stream.status().condition, Condition::DataMissing);
    assert!(append(&stream, "b", 10).await.is_err());
    assert!(b.vault.create(&b.name("orders"), SettingsPatch::default()).await.is_err());
    // Whoever says so gets it back, empty.
    b.vault.delete(&b.name("orders")).await.unwrap();
    b.create("orders").await;
    assert_eq!(b.append("orders", "b").await, 0);
    assert_eq!(b.append("others", "a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_by_a_leader_that_dies_at_once_is_there_for_the_next() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.die().await;
    b.leads().await;
    assert_eq!(b.append("orders", "a").await, 0);
}

/// A follower that lists between the announcement and the deletion still sees the container, and the leader dies before
/// it can say that it is gone.
#[tokio::test(start_paused = true)]
async fn a_stream_listed_while_it_is_being_deleted_is_not_missing_for_the_next_leader() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    a.faulty.on(Operation::DeleteContainer).then(Fault::Delay(2 * SECOND));
    let (vault, name) = (a.vault.clone(), a.name("orders"));
    let deleting = tokio::spawn(async move { vault.delete(&name).await });
    place.rest(Duration::from_millis(1_500)).await;
    assert!(b.lists("orders"), "it has listed what is about to go");
    a.faulty
        .on(Operation::RewritePage)
        .always()
        .then(Fault::Fail(StorageError::Unavailable("dead".to_owned())));
    place.rest(SECOND).await;
    a.die().await;
    b.leads().await;
    assert!(!b.lists("orders"));
    deleting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_neither_deletes_nor_says_that_it_has_created() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(3 * SECOND).await;
    // It goes on believing that it leads, and is on its way to the container when the other takes over.
    let lease = Hold::new();
    a.faulty.on(Operation::AcquireLease).then(Fault::Hold(lease.clone()));
    let creation = Hold::new();
    a.faulty.on(Operation::CreateContainer).then(Fault::Hold(creation.clone()));
    let (vault, name) = (a.vault.clone(), a.name("orders"));
    let deleting = tokio::spawn(async move { vault.delete(&name).await });
    let (vault, name) = (a.vault.clone(), a.name("later"));
    let creating =
        tokio::spawn(async move { vault.create(&name, SettingsPatch::default()).await.map(|_| ()) });
    lease.arrived(1).await;
    creation.arrived(1).await;
    for operation in [Operation::RewritePage, Operation::RenewLease, Operation::ReleaseLease] {
        a.faulty.on(operation).always().then(Fault::Hold(Hold::new()));
    }
    b.leads().await;
    assert_eq!(b.append("orders", "b").await, 1);
    lease.release().await;
    creation.release().await;
    assert!(deleting.await.unwrap().is_err());
    assert!(creating.await.unwrap().is_err());
    assert_eq!(b.append("orders", "c").await, 2);
}

/// Its first request is carried out when the other leads, and the second one finds what it made.
#[tokio::test(start_paused = true)]
async fn nor_does_one_whose_request_arrives_late_and_is_sent_again() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let (first, second) = (Hold::new(), Hold::new());
    a.faulty.on(Operation::CreateContainer).then(Fault::LostAndHeld(first.clone()));
    a.faulty.on(Operation::CreateContainer).then(Fault::Hold(second.clone()));
    let (vault, name) = (a.vault.clone(), a.name("later"));
    let creating =
        tokio::spawn(async move { vault.create(&name, SettingsPatch::default()).await.map(|_| ()) });
    first.arrived(1).await;
    second.arrived(1).await;
    for operation in [Operation::RewritePage, Operation::RenewLease, Operation::ReleaseLease] {
        a.faulty.on(operation).always().then(Fault::Hold(Hold::new()));
    }
    b.leads().await;
    first.release().await;
    second.release().await;
    assert!(creating.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn followers_list_a_stream_whose_creation_was_answered_the_second_time() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.faulty.on(Operation::CreateContainer).then(Fault::AppliedButLost);
    a.create("orders").await;
    place.rest(SECOND).await;
    assert!(b.lists("orders"));
}
