//! When the leadership passes on, and when it does not.

use super::*;
use crate::limits::{LOOK_AGAIN, LOOK_EVERY};

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_replaced_when_it_was_silent_for_four_seconds() {
    for lived_on_ms in [0, 130, 490, 730, 990] {
        let place = Place::new(lived_on_ms);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        a.append("orders", "a").await;
        place.rest(2 * SECOND).await;
        let last_beat = place.beat().await;
        place.rest(Duration::from_millis(lived_on_ms)).await;
        let first = a.term().unwrap();
        a.die().await;
        b.leads().await;
        assert_eq!(b.append("orders", "b").await, 1);
        let silent = place.env.clock.monotonic() - last_beat;
        assert!((4 * SECOND..6 * SECOND).contains(&silent), "{silent:?}");
        assert!(b.term().unwrap() > first);
        b.end().await;
    }
}

/// What it hands on in between would go to the address of one that is dead.
#[tokio::test(start_paused = true)]
async fn a_server_that_begins_where_a_leader_died_is_ready_when_it_leads_itself() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.die().await;
    place.rest(LEASE).await;
    let b = place.start("b");
    b.faulty.on(Operation::AcquireLease).always().then(Fault::Delay(SECOND));
    b.faulty.on(Operation::SetSequenceNumber).always().then(Fault::Delay(SECOND));
    let mut standing = b.standing.clone();
    let ready = standing.wait_for(|standing| standing.why_not_ready().is_none());
    let leader = place.env.timeout(PATIENCE, ready).await.unwrap().unwrap().leader.clone();
    assert_eq!(leader.expect("somebody leads").endpoint, "http://b");
    assert!(b.term().is_some());
    b.end().await;
}

/// A legal hold on `leader` does that.
#[tokio::test(start_paused = true)]
async fn a_server_that_gets_no_term_serves_reads_all_the_same() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    a.end().await;
    let b = place.start("b");
    let held = StorageError::Refused("a legal hold".to_owned());
    b.faulty.on(Operation::SetSequenceNumber).always().then(Fault::Fail(held));
    let mut standing = b.standing.clone();
    let listed = standing.wait_for(|standing| standing.listed);
    place.env.timeout(PATIENCE, listed).await.unwrap().unwrap();
    let orders = b.vault.readable(&b.name("orders")).await.unwrap();
    assert_eq!(labels(&orders).await.len(), 1);
    assert_eq!(b.term(), None);
    b.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_hands_over_within_a_second_and_stores_what_was_accepted() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let stream = a.create("orders").await;
    append(&stream, "a", 10).await.unwrap();
    let accepted = tokio::spawn(async move { append(&stream, "b", 10).await });
    tokio::task::yield_now().await;
    let ended = place.env.clock.monotonic();
    a.end().await;
    assert_eq!(accepted.await.unwrap().unwrap().first_offset, Offset(1));
    b.leads().await;
    assert_eq!(b.append("orders", "c").await, 2);
    assert!(place.env.clock.monotonic() - ended < SECOND);
    b.end().await;
}

/// Whoever is turned away while the lead is handed over does not wait for the next look.
#[tokio::test(start_paused = true)]
async fn a_follower_whose_leader_is_doubted_looks_sooner() {
    // Ended at different times between two looks.
    for n in 0..10 {
        let place = Place::new(1);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        place.rest(LOOK_EVERY * n / 10).await;
        a.end().await;
        let ended = place.env.clock.monotonic();
        b.vault.doubt_leader();
        b.leads().await;
        let took = place.env.clock.monotonic() - ended;
        assert!(took <= LOOK_AGAIN, "{took:?} after {n} tenths");
        b.end().await;
    }
}

/// A look between the page that says so and the lease that is given back would else cost another half a second.
#[tokio::test(start_paused = true)]
async fn a_follower_that_sees_a_free_page_before_the_lease_is_given_back_looks_again_soon() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.faulty.on(Operation::ReleaseLease).then(Fault::Delay(2 * LOOK_EVERY));
    a.end().await;
    let given_back = place.env.clock.monotonic();
    b.leads().await;
    let took = place.env.clock.monotonic() - given_back;
    assert!(took <= LOOK_AGAIN, "{took:?}");
    b.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_storage_does_not_answer_stops_before_its_lease_can_have_run_out() {
    let hold = Hold::new();
    let away = StorageError::Unavailable("away".to_owned());
    for fault in [Fault::Hold(hold.clone()), Fault::Fail(away), Fault::Delay(60 * SECOND)] {
        let place = Place::new(1);
        let a = place.start("a");
        a.leads().await;
        a.create("orders").await;
        place.rest(7 * SECOND).await;
        let cut_off = place.env.clock.monotonic();
        a.faulty.on_any().always().then(fault);
        let mut reign = a.vault.context.reign.subscribe();
        place.env.timeout(PATIENCE, reign.wait_for(Option::is_none)).await.expect("it stops").unwrap();
        let believed = place.env.clock.monotonic() - cut_off;
        assert!((8 * SECOND..LEASE).contains(&believed), "{believed:?}");
        let theirs = place.memory.acquire_lease(&LeaseTarget::Blob(Place::leader_blob()), LEASE).await;
        assert_eq!(theirs, Err(StorageError::LeaseHeld), "it stopped while the lease was still its own");
        assert!(a.vault.stream(&a.name("orders")).is_err());
    }
    hold.discard();
}

#[tokio::test(start_paused = true)]
async fn when_storage_is_back_for_everybody_somebody_leads_soon() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    place.rest(2 * SECOND).await;
    for server in [&a, &b] {
        let away = StorageError::Unavailable("away".to_owned());
        server.faulty.on_any().always().then(Fault::Fail(away));
    }
    place.rest(30 * SECOND).await;
    assert!(a.term().is_none() && b.term().is_none());
    assert!(a.standing.borrow().why_not_ready().is_some() && b.standing.borrow().why_not_ready().is_some());
    a.faulty.heal();
    b.faulty.heal();
    let well_again = place.env.clock.monotonic();
    let somebody_leads = async {
        while a.term().or(b.term()).is_none() {
            place.rest(Duration::from_millis(10)).await;
        }
    };
    place.env.timeout(PATIENCE, somebody_leads).await.expect("somebody leads");
    let leads = if a.term().is_some() { &a } else { &b };
    assert_eq!(leads.append("orders", "b").await, 1);
    let took = place.env.clock.monotonic() - well_again;
    assert!(took < 6 * SECOND, "{took:?}");
    place.rest(SECOND).await;
    assert!(a.standing.borrow().why_not_ready().is_none() && b.standing.borrow().why_not_ready().is_none());
    assert!(a.term().is_none() || b.term().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_changes_no_leader() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let term = a.term();
    for server in [&a, &b] {
        let away = StorageError::Unavailable("away".to_owned());
        server.faulty.on_any().always().then(Fault::Fail(away));
    }
    place.rest(8 * SECOND).await;
    a.faulty.heal();
    b.faulty.heal();
    place.rest(20 * SECOND).await;
    assert_eq!((a.term(), b.term()), (term, None));
}

/// As many as in five seconds, were they sent as seldom as those that are answered.
#[tokio::test(start_paused = true)]
async fn a_few_beats_that_fail_depose_nobody() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let term = a.term();
    let away = StorageError::Unavailable("away".to_owned());
    a.faulty.on(Operation::RewritePage).times(5).then(Fault::Fail(away));
    place.rest(20 * SECOND).await;
    assert_eq!((a.term(), b.term()), (term, None));
}

#[tokio::test(start_paused = true)]
async fn slow_storage_deposes_no_leader_that_beats() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    let term = a.term();
    for server in [&a, &b] {
        server.faulty.on_any().always().then(Fault::Delay(2 * SECOND));
    }
    for _ in 0..120 {
        place.rest(SECOND).await;
        assert_eq!((a.term(), b.term()), (term, None));
    }
    let died = place.env.clock.monotonic();
    a.die().await;
    b.leads().await;
    assert!(place.env.clock.monotonic() - died < 25 * SECOND);
}

/// Whichever order they come in: one breaks the lease, one leads.
#[tokio::test(start_paused = true)]
async fn of_two_that_replace_a_dead_leader_one_wins() {
    for seed in 0..50 {
        let place = Place::new(seed);
        let (dead, b) = place.pair().await;
        dead.create("orders").await;
        let c = place.start(&format!("c{seed}"));
        c.follows("http://a").await;
        let longest_delay = Duration::from_millis(20 + 15 * seed);
        for server in [&b, &c] {
            server.faulty.by_chance(Chances { delay: 800, longest_delay, ..Chances::default() });
        }
        dead.die().await;
        place.rest(12 * SECOND).await;
        let (leads, follows) = if b.term().is_some() { (&b, &c) } else { (&c, &b) };
        let term = leads.term();
        assert!(term.is_some() && follows.term().is_none(), "seed {seed}: {term:?} {:?}", follows.term());
        assert_eq!(leads.append("orders", "a").await, 0, "seed {seed}");
        place.rest(20 * SECOND).await;
        assert_eq!((leads.term(), follows.term()), (term, None), "seed {seed}");
    }
}
