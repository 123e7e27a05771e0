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
