//! Whose vault it is.

use super::*;

async fn refused(server: Server) -> Conflict {
    server.env.timeout(5 * SECOND, server.running).await.unwrap().unwrap().unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_server_for_another_vault_refuses_to_start() {
    for led_before in [false, true] {
        let place = Place::new(1);
        place.make_vault(&Place::system(), "theirs").await;
        if led_before {
            let theirs = place.start("theirs");
            theirs.leads().await;
            theirs.end().await;
        }
        let ours = place.start_as("mv-", "ours", Some("ours"));
        let conflict = refused(ours).await;
        assert!(
            matches!(&conflict, Conflict::AnotherVault { ours, theirs, .. } if ours == "ours" && theirs == "theirs")
        );
        assert!(conflict.to_string().contains("`mv-sys` belongs to the vault theirs"), "{conflict}");
        // Any vault will do for a server that was given none.
        let any = place.start("any");
        any.leads().await;
        assert_eq!(any.standing.borrow().vault_uid.as_deref(), Some("theirs"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_no_vaults_is_left_alone() {
    let place = Place::new(1);
    place.memory.create_container(&Place::system(), &Metadata::new()).await.unwrap();
    assert!(matches!(refused(place.start("a")).await, Conflict::NoVault(container) if container == "mv-sys"));
}

#[tokio::test(start_paused = true)]
async fn prefixes_that_overlap_are_refused() {
    for (theirs, ours) in [("mv-", "mv-a-"), ("mv-a-", "mv-")] {
        let place = Place::new(1);
        let first = place.start_as(theirs, "first", None);
        first.leads().await;
        let conflict = refused(place.start_as(ours, "second", None)).await;
        assert!(
            matches!(&conflict, Conflict::PrefixOverlaps { ours: o, theirs: t } if o == ours && t == theirs)
        );
        let beside = place.start_as("other-", "third", None);
        beside.leads().await;
        assert!(first.term().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_knows_the_vault() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let uid = place.vault_uid().await;
    for server in [&a, &b] {
        assert_eq!(server.standing.borrow().vault_uid.as_ref(), Some(&uid));
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_container_that_is_deleted_is_made_again_for_the_same_vault() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    let (uid, before) = (place.vault_uid().await, a.term().unwrap());
    place.rest(3 * SECOND).await;
    place.delete_container(&Place::system()).await;
    place.rest(5 * SECOND).await;
    assert_eq!(place.vault_uid().await, uid);
    let leads = if a.term().is_some() { &a } else { &b };
    assert!(leads.term().unwrap() > before);
    assert_eq!(leads.append("orders", "b").await, 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_leads_where_another_vault_has_taken_the_place_until_it_is_gone() {
    for with_leader_blob in [false, true] {
        let place = Place::new(1);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        a.append("orders", "a").await;
        let uid = place.vault_uid().await;
        place.delete_container(&Place::system()).await;
        place.make_vault(&Place::system(), "theirs").await;
        if with_leader_blob {
            let number = Term(place.env.clock.now().0 / 1_000);
            place.memory.create_page_blob(&Place::leader_blob(), LEADER_BYTES, number).await.unwrap();
        }
        place.rest(3 * SECOND).await;
        for _ in 0..20 {
            place.rest(Duration::from_millis(777)).await;
            for server in [&a, &b] {
                assert!(server.term().is_none() && !server.running.is_finished());
                let trouble = server.standing.borrow().trouble.clone().unwrap();
                assert!(trouble.contains("theirs") && trouble.contains(&uid), "{trouble}");
            }
        }
        place.delete_container(&Place::system()).await;
        place.rest(5 * SECOND).await;
        assert_eq!(place.vault_uid().await, uid);
        let leads = if a.term().is_some() { &a } else { &b };
        assert_eq!(leads.append("orders", "b").await, 1);
        assert!(leads.standing.borrow().trouble.is_none());
    }
}
