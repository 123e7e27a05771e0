use super::*;
use crate::log::pacing::Pacing;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold, Pages};
use crate::storage::operation::Operation;

#[tokio::test(start_paused = true)]
async fn what_was_appended_is_read_from_any_offset_and_time() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    let mut times = Vec::new();
    // Three segments of two blocks each, and a start on the fourth.
    for n in 0..26 {
        let appended = append(&stream, &format!("m{n}"), 1_000_000).await.unwrap();
        assert_eq!(appended.first_offset, Offset(n));
        times.push(appended.timestamp);
        server.env.clock.sleep(Duration::from_millis(10)).await;
    }
    let expected: Vec<_> = (0..26).map(|n| (n, format!("m{n}"))).collect();
    for from in 0..=26usize {
        assert_eq!(labels_from(&stream, from as u64).await.unwrap(), expected[from..], "from {from}");
    }
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    assert!(reader.size().await.0 >= 4, "{:?}", reader.size().await);
    for (n, time) in times.iter().enumerate() {
        assert_eq!(reader.offset_at(*time).await.unwrap(), Offset(n as u64));
        let just_after = vault_format::ids::Timestamp(time.0 + 1);
        assert_eq!(reader.offset_at(just_after).await.unwrap(), Offset(n as u64 + 1));
    }
    assert!(matches!(reader.seek(Offset(27)).await, Err(ReadError::BeyondTail { end_offset: Offset(26) })));
    // And again from storage alone.
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(labels(&stream).await, expected);
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    for (n, time) in times.iter().enumerate() {
        assert_eq!(reader.offset_at(*time).await.unwrap(), Offset(n as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_stores_nothing_twice() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server.faulty.on(Operation::PutPages).then(Fault::AppliedButLost);
    server.faulty.on(Operation::PutPages).then(Fault::Fail(StorageError::Unavailable("reset".to_owned())));
    assert_eq!(append(&stream, "b", 10).await.unwrap().first_offset, Offset(1));
    append(&stream, "c", 10).await.unwrap();
    let expected: Vec<_> =
        ["a", "b", "c"].iter().enumerate().map(|(n, l)| (n as u64, (*l).to_owned())).collect();
    assert_eq!(labels(&stream).await, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_all_that_comes_before_it_is_stored() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let (first, stream_too) = (Arc::clone(&stream), Arc::clone(&stream));
    let first = tokio::spawn(async move { append(&first, "first", 10).await });
    hold.arrived(1).await;
    let second = tokio::spawn(async move { append(&stream_too, "second", 10).await });
    server.env.clock.sleep(Duration::from_secs(2)).await;
    assert!(!second.is_finished(), "the second is stored, but the first is not");
    assert_eq!(stream.reader(Freshness::Recent).await.unwrap().tail().next_offset(), Offset(1));
    assert_eq!(labels(&stream).await.len(), 1, "readers see nothing that is not acknowledged");
    hold.release().await;
    assert_eq!(first.await.unwrap().unwrap().first_offset, Offset(1));
    assert_eq!(second.await.unwrap().unwrap().first_offset, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn four_puts_are_in_flight_and_no_more() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).always().then(Fault::Hold(hold.clone()));
    let mut waiting = Vec::new();
    for n in 0..8 {
        let stream = Arc::clone(&stream);
        waiting.push(tokio::spawn(async move { append(&stream, &format!("m{n}"), 10).await }));
        server.env.clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hold.stuck(), 4);
    server.faulty.heal();
    hold.release().await;
    let mut offsets = Vec::new();
    for append in waiting {
        offsets.push(append.await.unwrap().unwrap().first_offset.0);
    }
    assert_eq!(offsets, (1..9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn storage_that_takes_only_so_many_writes_gets_no_more_and_larger_ones() {
    let first = Server::first(1).await;
    first.stop(Command::Finish).await;
    let interval = Duration::from_millis(4);
    let pacing = Pacing { interval, ..Pacing::UNBOUNDED };
    let server = first.with(Options { pacing, ..Options::new(PATIENCE) });
    server.lead().await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let started = server.env.clock.monotonic();
    for n in 0..100 {
        append(&stream, &format!("one after the other {n}"), 10).await.unwrap();
    }
    assert!(server.env.clock.monotonic() - started >= 99 * interval);
    let started = server.env.clock.monotonic();
    let appends: Vec<_> = (0..100)
        .map(|n| {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { append(&stream, &format!("all at once {n}"), 10).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    assert!(server.env.clock.monotonic() - started <= 3 * interval, "what waits goes out together");
}

#[tokio::test(start_paused = true)]
async fn a_small_put_waits_for_the_one_before_it_where_nothing_is_gained_beside_it() {
    let first = Server::first(1).await;
    first.stop(Command::Finish).await;
    let pacing = Pacing { in_flight: 2, beside_bytes: 1_000, ..Pacing::UNBOUNDED };
    let server = first.with(Options { pacing, ..Options::new(PATIENCE) });
    server.lead().await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    for (bytes, in_flight) in [(100, 1), (1_000, 2)] {
        let hold = Hold::new();
        server.faulty.on(Operation::PutPages).always().then(Fault::Hold(hold.clone()));
        let mut appends = Vec::new();
        for bytes in [10, bytes, 10] {
            let stream = Arc::clone(&stream);
            appends.push(tokio::spawn(async move { append(&stream, "b", bytes).await }));
            server.env.clock.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(hold.stuck(), in_flight, "beside a put that is stuck {bytes} bytes wait");
        server.faulty.heal();
        hold.release().await;
        for append in appends {
            append.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_expected_offset_is_refused_only_when_the_refusal_is_certain() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let expecting = |offset: u64| Append { expected_offset: Some(Offset(offset)), ..append_of("x", 10) };
    assert_eq!(stream.append(expecting(1), PATIENCE).await.unwrap().first_offset, Offset(1));
    let refused = stream.append(expecting(1), PATIENCE).await;
    assert_eq!(refused, Err(AppendError::OffsetMismatch { next_offset: Offset(2) }));

    // A refusal that rests on a put in flight waits for it.
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let racing = Arc::clone(&stream);
    let in_flight = tokio::spawn(async move { append(&racing, "b", 10).await });
    hold.arrived(1).await;
    let racing = Arc::clone(&stream);
    let refusal = tokio::spawn(async move { racing.append(expecting(2), PATIENCE).await });
    server.env.clock.sleep(Duration::from_secs(1)).await;
    assert!(!refusal.is_finished());
    hold.release().await;
    assert!(in_flight.await.unwrap().is_ok());
    assert_eq!(refusal.await.unwrap(), Err(AppendError::OffsetMismatch { next_offset: Offset(3) }));

    // One that another leader could know better is no refusal.
    let next = server.successor().await;
    append(&next.stream("orders"), "c", 10).await.unwrap();
    let stale = Append { expected_offset: Some(Offset(9)), ..append_of("x", 10) };
    assert_eq!(stream.append(stale, PATIENCE).await, Err(Unusable::NoLeader.into()));
}

#[tokio::test(start_paused = true)]
async fn a_full_storage_refuses_at_once_and_goes_on_when_there_is_room() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server.faulty.on(Operation::PutPages).always().then(Fault::Full(Pages::First(1)));
    let first = Arc::clone(&stream);
    let first = tokio::spawn(async move { append(&first, "b", 2_000).await });
    server.env.clock.sleep(Duration::from_secs(1)).await;
    assert!(matches!(append(&stream, "c", 10).await, Err(AppendError::StorageFull(_))));
    assert_eq!(stream.status().condition, Condition::Stalled);
    server.faulty.heal();
    assert_eq!(first.await.unwrap().unwrap().first_offset, Offset(1));
    assert_eq!(append(&stream, "d", 10).await.unwrap().first_offset, Offset(2));
    assert_eq!(stream.status().condition, Condition::Open);
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_an_end_and_every_wait_too() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server
        .faulty
        .on(Operation::PutPages)
        .always()
        .then(Fault::Fail(StorageError::Unavailable("away".to_owned())));
    let waiting: Vec<_> = (0..40)
        .map(|n| {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { append(&stream, &format!("m{n}"), 1_000_000).await })
        })
        .collect();
    let mut full = 0;
    let mut unknown = 0;
    for append in waiting {
        match append.await.unwrap() {
            Err(AppendError::QueueFull(_)) => full += 1,
            Err(AppendError::Unknown(Unusable::TimedOut)) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((full, unknown), (24, 16));
    server.faulty.heal();
    // What nobody waits for any more is not stored, except what was on its way: four puts of up to four messages.
    let next = append(&stream, "z", 10).await.unwrap().first_offset;
    assert!(next.0 < 16, "{next}");
    assert_eq!(stream.status().queued_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn streams_that_want_more_than_storage_takes_leave_room_for_others() {
    let server = Server::first(1).await;
    let mut streams = Vec::new();
    for n in 0..9 {
        let stream = server.create(&format!("orders-{n}"), 2).await;
        append(&stream, "a", 10).await.unwrap();
        streams.push(stream);
    }
    let away = StorageError::Unavailable("away".to_owned());
    server.faulty.on(Operation::PutPages).always().then(Fault::Fail(away));
    let mut queued = Vec::new();
    for stream in &streams {
        for n in 0..40 {
            let stream = Arc::clone(stream);
            tokio::spawn(async move { append(&stream, &format!("m{n}"), 1_000_000).await });
        }
        server.env.clock.sleep(Duration::from_millis(1)).await;
        queued.push(stream.status().queued_bytes / 1_000_000);
    }
    // As much as is left for all others, at most 16 MiB, and one message in any case.
    assert_eq!(queued, [16, 16, 16, 9, 5, 2, 1, 1, 1]);
    let none = append(&streams[0], "z", 10).await;
    assert!(matches!(none, Err(AppendError::QueueFull(_))), "{none:?}");
    server.faulty.heal();
    server.env.clock.sleep(PATIENCE).await;
    append(&streams[8], "z", 10).await.unwrap();
    assert_eq!(
        streams.iter().map(|stream| stream.status().queued_bytes).sum::<usize>(),
        0,
        "all is given back"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_messages_are_put_on_record_when_it_gets_quiet_and_at_the_end() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    let kinds = async || {
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        let mut cursor = reader.seek(Offset(0)).await.unwrap();
        let mut kinds = Vec::new();
        while let Some(batches) = reader.next(&mut cursor).await.unwrap() {
            kinds.extend(batches.headers().map(|(_, header)| header.kind));
        }
        kinds
    };
    append(&stream, "a", 10).await.unwrap();
    server.env.clock.sleep(Duration::from_millis(900)).await;
    assert_eq!(kinds().await, [Kind::Messages]);
    server.env.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(kinds().await, [Kind::Messages, Kind::Commit], "once, however long it is quiet");
    append(&stream, "b", 10).await.unwrap();
    server.stop(Command::Finish).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let mut cursor = reader.seek(Offset(1)).await.unwrap();
    let batches = reader.next(&mut cursor).await.unwrap().unwrap();
    let last: Vec<_> = batches.headers().map(|(_, header)| header.kind).collect();
    assert_eq!(last, [Kind::Messages, Kind::Commit]);
}

#[tokio::test(start_paused = true)]
async fn waiting_readers_wake_when_something_arrives() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    reader.wait_beyond(Offset(0), PATIENCE).await.unwrap();
    let waiting = tokio::spawn(async move { reader.wait_beyond(Offset(1), PATIENCE).await });
    server.env.clock.sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    append(&stream, "b", 10).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_is_gone_for_those_who_use_it() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let racing = Arc::clone(&stream);
    let in_flight = tokio::spawn(async move { append(&racing, "b", 10).await });
    hold.arrived(1).await;
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let waiting = tokio::spawn(async move { reader.wait_beyond(Offset(1), PATIENCE).await });
    server.vault.delete(&server.name("orders")).await.unwrap();
    assert_eq!(in_flight.await.unwrap(), Err(AppendError::Unknown(Unusable::NotFound)));
    assert_eq!(waiting.await.unwrap(), Err(Unusable::NotFound.into()));
    assert!(matches!(server.vault.stream(&server.name("orders")), Err(Unusable::NotFound)));
    // A request that arrives late does not reach its successor.
    let successor = server.create("orders", 2).await;
    hold.release().await;
    assert_eq!(append(&successor, "new", 10).await.unwrap().first_offset, Offset(0));
    assert_eq!(labels(&successor).await, [(0, "new".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn the_orderly_end_comes_although_storage_is_away() {
    let first = Server::first(1).await;
    first.stop(Command::Finish).await;
    let server = first.beside(2);
    let faulty = Arc::clone(&server.faulty);
    let Elected { vault, stop, running, .. } = Elected::leading(server).await;
    let stream = vault.create(&vault.name("orders").unwrap(), SettingsPatch::default()).await.unwrap().1;
    append(&stream, "b", 10).await.unwrap();
    faulty.on(Operation::PutPages).always().then(Fault::Fail(StorageError::Unavailable("away".to_owned())));
    let waiting = tokio::spawn(async move { append(&stream, "c", 10).await });
    first.env.clock.sleep(Duration::from_secs(1)).await;
    stop.cancel();
    let ended = first.env.timeout(Duration::from_secs(15), running).await;
    ended.expect("every wait ends").unwrap().unwrap();
    assert_eq!(waiting.await.unwrap(), Err(AppendError::Unknown(Unusable::NoLeader)));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_goes_on_although_its_caller_goes_away() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::DeleteContainer).then(Fault::Hold(hold.clone()));
    let name = server.name("orders");
    let vault = server.vault.clone();
    let caller = tokio::spawn(async move { vault.delete(&name).await });
    hold.arrived(1).await;
    caller.abort();
    hold.release().await;
    server.env.clock.sleep(Duration::from_secs(1)).await;
    assert!(matches!(server.vault.stream(&server.name("orders")), Err(Unusable::NotFound)));
    let anew = server.create("orders", 2).await;
    assert_eq!(append(&anew, "b", 10).await.unwrap().first_offset, Offset(0));
}
