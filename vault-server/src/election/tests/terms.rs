//! That no term is given out twice, and that an older one does no harm.

use std::sync::Mutex;

use vault_format::ids::Position;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lost_answer_gives_no_term() {
    let hold = Hold::new();
    for fault in [Fault::AppliedButLost, Fault::LostAndHeld(hold.clone())] {
        let place = Place::new(1);
        let first = place.start("first");
        first.leads().await;
        let b = place.start("b");
        b.faulty.on(Operation::SetSequenceNumber).then(fault.clone());
        b.follows("http://first").await;
        first.end().await;
        b.leads().await;
        let term = b.term().unwrap();
        if matches!(fault, Fault::AppliedButLost) {
            let set = b.counted.snapshot().get(Operation::SetSequenceNumber);
            assert_eq!(set, 2, "the one that was set and not answered is nobody's");
        }
        hold.release().await;
        place.rest(10 * SECOND).await;
        assert_eq!((b.term(), place.number().await), (Some(term), term), "what comes late changes nothing");
        b.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_leader_blob_is_deleted_a_new_one_goes_on_above_its_terms() {
    for since in [Duration::ZERO, 3 * SECOND] {
        let place = Place::new(1);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        a.append("orders", "a").await;
        place.rest(since).await;
        let before = a.term().unwrap();
        let target = LeaseTarget::Blob(Place::leader_blob());
        // Storage refuses to delete what is leased; whoever insists breaks the lease first.
        let etag = place.memory.properties(&Place::leader_blob()).await.unwrap().etag;
        place.memory.break_lease(&Place::leader_blob(), &etag).await.unwrap();
        place.memory.delete_blob(&Place::leader_blob(), None).await.unwrap();
        place.rest(5 * SECOND).await;
        let leads = if a.term().is_some() { &a } else { &b };
        assert!(leads.term().unwrap() > before);
        assert_eq!(leads.append("orders", "b").await, 1);
        assert_eq!(place.memory.acquire_lease(&target, LEASE).await, Err(StorageError::LeaseHeld));
    }
}

/// As from a backup: the page and the number are those of an earlier leader.
#[tokio::test(start_paused = true)]
async fn where_the_leader_blob_is_put_back_as_it_was_terms_rise_all_the_same() {
    for (seed, is_new) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let place = Place::new(seed);
        let (a, b) = place.pair().await;
        a.create("orders").await;
        a.append("orders", "a").await;
        let blob = Place::leader_blob();
        let page = place.memory.read(&blob, 0..LEADER_BYTES).await.unwrap().bytes;
        let number = place.number().await;
        a.end().await;
        b.leads().await;
        assert_eq!(b.append("orders", "b").await, 1);
        let before = b.term().unwrap();
        // One that goes on knows the terms that were given out, a new one does not.
        let b = if is_new {
            b.die().await;
            None
        } else {
            Some(b)
        };
        let etag = place.memory.properties(&blob).await.unwrap().etag;
        place.memory.break_lease(&blob, &etag).await.unwrap();
        place.memory.delete_blob(&blob, None).await.unwrap();
        place.memory.create_page_blob(&blob, LEADER_BYTES, number).await.unwrap();
        place.memory.put_pages(&blob, Position::ZERO, page, number, None).await.unwrap();
        let leads = b.unwrap_or_else(|| place.start("c"));
        place.rest(10 * SECOND).await;
        assert_ne!(leads.term().unwrap(), before);
        // A term that is too low is found out when the segment is claimed.
        if append(&leads.stream("orders"), "c", 10).await.is_err() {
            place.rest(5 * SECOND).await;
            assert_eq!(leads.append("orders", "c").await, 2);
        }
        assert!(leads.term().unwrap() > before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_seen_no_term_repeats_none() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    a.create("orders").await;
    a.append("orders", "a").await;
    let before = a.term().unwrap();
    a.running.abort();
    let etag = place.memory.properties(&Place::leader_blob()).await.unwrap().etag;
    place.memory.break_lease(&Place::leader_blob(), &etag).await.unwrap();
    place.memory.delete_blob(&Place::leader_blob(), None).await.unwrap();
    // By the clock it is still the second in which the last one began.
    let b = place.start("b");
    b.leads().await;
    assert_ne!(b.term().unwrap(), before);
    assert_eq!(b.append("orders", "b").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_strong_read_of_an_earlier_term_does_not_end_the_next() {
    let place = Place::new(1);
    let a = place.start("a");
    a.leads().await;
    let stream = a.create("orders").await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    let first = a.term().unwrap();
    a.faulty.on(Operation::Properties).then(Fault::Hold(hold.clone()));
    let reading =
        tokio::spawn(async move { stream.reader(crate::log::stream::Freshness::Strong).await.map(|_| ()) });
    hold.arrived(1).await;
    a.vault.context.reign_is_over(first, crate::log::reign::ReignEnd::Unsure);
    place.rest(2 * SECOND).await;
    let second = a.term().unwrap();
    assert!(second > first);
    a.append("orders", "b").await;
    hold.release().await;
    assert!(reading.await.unwrap().is_err());
    place.rest(2 * SECOND).await;
    assert_eq!(a.term(), Some(second));
}

/// Appends again and again, wherever this server leads; answers what was acknowledged.
async fn append_on(vault: Vault, env: Env, name: &'static str, acknowledged: Arc<Mutex<Vec<(u64, String)>>>) {
    for n in 0.. {
        let label = format!("{name}{n}");
        let orders = vault.name("orders").unwrap();
        if let Ok(stream) = vault.stream(&orders)
            && let Ok(appended) = stream.append(crate::log::tests::append_of(&label, 10), 3 * SECOND).await
        {
            acknowledged.lock().unwrap().push((appended.first_offset.0, label));
        }
        env.clock.sleep(Duration::from_millis(97)).await;
    }
}

/// Two may believe that they lead, never two can write: the newer term is in force wherever its server writes.
async fn sample(place: &Place, servers: [&Server; 2], segment: &BlobName, duration: Duration) -> usize {
    let ends = place.env.clock.monotonic() + duration;
    let mut overlaps = 0;
    while place.env.clock.monotonic() < ends {
        if let (Some(one), Some(other)) = (servers[0].term(), servers[1].term()) {
            overlaps += 1;
            let (older, newer) = if one < other { (0, 1) } else { (1, 0) };
            assert_ne!(one, other, "a term is one server's");
            assert_eq!(place.number().await, one.max(other));
            let stream = servers[newer].stream("orders");
            if stream.status().condition == Condition::Open {
                let fence = place.memory.properties(segment).await.unwrap().sequence_number;
                assert_eq!(fence, one.max(other), "the server of the older term {older} can no longer write");
            }
        }
        place.rest(Duration::from_millis(50)).await;
    }
    overlaps
}

#[tokio::test(start_paused = true)]
async fn two_leaders_never_write_at_a_time_and_nothing_acknowledged_is_lost() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    let segment = {
        let stream = a.create("orders").await;
        append(&stream, "first", 10).await.unwrap();
        Place::first_segment(&stream)
    };
    let acknowledged: Arc<Mutex<Vec<_>>> = Arc::default();
    let appenders = [("a", &a), ("b", &b)].map(|(name, server)| {
        let (vault, env) = (server.vault.clone(), place.env.clone());
        tokio::spawn(append_on(vault, env, name, Arc::clone(&acknowledged)))
    });
    let servers = [&a, &b];
    let mut overlaps = 0;
    for round in 0..6 {
        overlaps += sample(&place, servers, &segment, 7 * SECOND).await;
        let leader = servers.into_iter().find(|server| server.term().is_some()).unwrap();
        let hold = Hold::new();
        leader.faulty.on_any().always().then(match round % 3 {
            0 => Fault::Hold(hold.clone()),
            1 => Fault::AppliedButLost,
            _ => Fault::Fail(StorageError::Unavailable("away".to_owned())),
        });
        overlaps += sample(&place, servers, &segment, 22 * SECOND).await;
        leader.faulty.heal();
        hold.release().await;
    }
    overlaps += sample(&place, servers, &segment, 20 * SECOND).await;
    assert!(overlaps > 100, "the test meets what it is about: {overlaps}");
    appenders.iter().for_each(tokio::task::JoinHandle::abort);
    let leader = servers.into_iter().find(|server| server.term().is_some()).unwrap();
    let stored = labels(&leader.stream("orders")).await;
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
    for (offset, label) in acknowledged.iter() {
        assert_eq!(&stored[usize::try_from(*offset).unwrap()], &(*offset, label.clone()));
    }
}
