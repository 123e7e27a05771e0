//! Readers under whom segments are deleted, and streams of many short segments.

use vault_format::batch::BatchWriter;
use vault_format::chain::Chain;
use vault_format::ids::{Position, Timestamp};

use super::retention::{SECOND, age, create, extent, patch, stored};
use super::*;
use crate::log::reading::StreamReader;
use crate::storage::StorageError;
use crate::storage::faulty::Fault;

pub(super) const AGE: Duration = Duration::from_secs(600);

/// A message every 70 s: each gets a segment of its own.
pub(super) async fn messages(server: &Server, stream: &Arc<Stream>, range: std::ops::Range<u64>) {
    for n in range {
        append(stream, &format!("m{n}"), 10).await.unwrap();
        server.env.clock.sleep(70 * SECOND).await;
    }
}

pub(super) async fn following(server: &Server) -> StreamReader {
    let stream = server.vault.readable(&server.name("orders")).await.unwrap();
    stream.reader(Freshness::Strong).await.unwrap()
}

pub(super) fn below(first_offset: u64) -> ReadError {
    ReadError::BelowFirst { first_offset: Offset(first_offset) }
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_overtaken_are_told_what_is_kept() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = create(&leader, age(AGE)).await;
    messages(&leader, &stream, 0..6).await;
    let theirs = following(&follower).await;
    let ours = stream.reader(Freshness::Recent).await.unwrap();
    // One who has read the first message, and one who has yet to.
    for reader in [&ours, &theirs] {
        assert_eq!(reader.first_offset(), Offset(0));
        let mut read = reader.seek(Offset(0)).await.unwrap();
        reader.next(&mut read).await.unwrap();
        let mut unread = reader.seek(Offset(2)).await.unwrap();
        leader.env.clock.sleep(5 * SECOND).await;
        reader.next(&mut unread).await.unwrap();
    }
    let mut cursors = Vec::new();
    for reader in [&ours, &theirs] {
        cursors.push((reader, reader.seek(Offset(1)).await.unwrap()));
    }
    patch(&leader, age(AGE / 5)).await;
    leader.env.clock.sleep(90 * SECOND).await;
    let (first, _) = extent(&stream).await;
    assert!(first > 2, "{first}");
    for (reader, mut cursor) in cursors {
        // What was loaded is read still; behind it there is nothing.
        let error = loop {
            match reader.next(&mut cursor).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("what was deleted is not the tail"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, below(first));
        assert_eq!(reader.seek(Offset(1)).await.map(|_| ()), Err(below(first)));
        assert_eq!(reader.offset_at(Timestamp(0)).await, Ok(Offset(first)));
    }
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    for stream in [&stream, &theirs] {
        assert_eq!(stream.status().condition, Condition::Open);
        assert_eq!(labels_from(stream, first).await.unwrap().len() as u64, 6 - first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_the_beginning_move_without_reading_there() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = create(&leader, age(AGE)).await;
    messages(&leader, &stream, 0..5).await;
    assert_eq!(following(&follower).await.first_offset(), Offset(0));
    messages(&leader, &stream, 5..14).await;
    let (first, next) = extent(&stream).await;
    leader.env.clock.sleep(10 * SECOND).await;
    let reader = following(&follower).await;
    assert_eq!((reader.first_offset().0, reader.tail().next_offset().0), (first, next));
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_which_nothing_is_left_takes_over_what_is_there() {
    let leader = Server::first(1).await;
    let stream = create(&leader, age(AGE)).await;
    let (late, empty, at_a_seal) = (leader.beside(2), leader.beside(3), leader.beside(4));
    assert_eq!(following(&empty).await.tail().next_offset(), Offset(0));
    append(&stream, "m0", 10).await.unwrap();
    let reader = following(&late).await;
    let mut cursor = reader.seek(Offset(1)).await.unwrap();
    leader.env.clock.sleep(70 * SECOND).await;
    following(&at_a_seal).await;
    messages(&leader, &stream, 1..3).await;
    leader.env.clock.sleep(AGE + 20 * SECOND).await;
    append(&stream, "m3", 10).await.unwrap();
    assert_eq!(stored(&leader, &stream).await, [3]);
    for follower in [&late, &empty, &at_a_seal] {
        let reader = following(follower).await;
        assert_eq!((reader.first_offset(), reader.tail().next_offset()), (Offset(3), Offset(4)));
        let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
        assert_eq!(labels_from(&theirs, 3).await.unwrap(), [(3, "m3".to_owned())]);
        assert_eq!(theirs.status().condition, Condition::Open);
    }
    assert_eq!(reader.next(&mut cursor).await.map(|_| ()), Err(below(3)));
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_of_whose_segments_none_is_left_does_not_call_them_missing() {
    let old = Server::first(1).await;
    let stream = create(&old, age(AGE)).await;
    messages(&old, &stream, 0..3).await;
    // What it appended itself is no longer in its memory.
    old.stop(Command::Finish).await;
    old.lead().await;
    let stream = old.stream("orders");
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    // It is cut off, while its successor's retention deletes all that it knows.
    let cut_off = StorageError::Unavailable("cut off".to_owned());
    old.faulty.on_any().always().then(Fault::Fail(cut_off));
    let new = old.successor().await;
    let successors = new.stream("orders");
    messages(&new, &successors, 3..30).await;
    assert!(stored(&new, &successors).await[0] > 3);
    old.faulty.heal();
    assert_eq!(stream.reader(Freshness::Strong).await.map(|_| ()), Err(Unusable::NoLeader));
    assert_eq!(reader.seek(Offset(0)).await.map(|_| ()), Err(Unusable::NoLeader.into()));
    assert_eq!(append(&stream, "late", 10).await, Err(AppendError::Unknown(Unusable::NoLeader)));
    // What a read of then found is not held against the stream as it is followed now.
    old.stop(Command::Halt).await;
    let following = following(&old).await;
    assert_eq!(reader.seek(Offset(0)).await.map(|_| ()), Err(Unusable::NoLeader.into()));
    following.check_end().unwrap();
    let again = stream.reader(Freshness::Strong).await.unwrap();
    again.check_end().unwrap();
    assert!(again.tail().next_offset() >= Offset(30));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_all_gone_is_missing_its_data() {
    let leader = Server::first(1).await;
    let stream = create(&leader, age(AGE)).await;
    messages(&leader, &stream, 0..3).await;
    let follower = leader.beside(2);
    following(&follower).await;
    for base in stored(&leader, &stream).await {
        leader.memory.delete_blob(&leader.segment(&stream, base), None).await.unwrap();
    }
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let gone = async { reader.next(&mut reader.seek(Offset(0)).await?).await.map(|_| ()) }.await;
    assert!(matches!(gone, Err(ReadError::Unusable(Unusable::Fault(_)))), "{gone:?}");
    assert_eq!(stream.status().condition, Condition::DataMissing);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_missing_in_the_middle_is_no_retention() {
    let leader = Server::first(1).await;
    let stream = create(&leader, age(AGE)).await;
    messages(&leader, &stream, 0..4).await;
    leader.memory.delete_blob(&leader.segment(&stream, 1), None).await.unwrap();
    let error = labels_from(&stream, 0).await.unwrap_err();
    assert!(matches!(error, ReadError::Unusable(Unusable::Fault(_))), "{error}");
    assert_eq!(stream.status().condition, Condition::DataMissing);
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_seal_goes_on_in_the_next_segment() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = create(&leader, age(AGE)).await;
    append(&stream, "m0", 10).await.unwrap();
    let hold = crate::storage::faulty::Hold::new();
    let made = crate::storage::operation::Operation::CreatePageBlob;
    leader.faulty.on(made).then(crate::storage::faulty::Fault::Hold(hold.clone()));
    hold.arrived(1).await;
    // The seal is stored, the next segment is not there yet.
    let readers = [stream.reader(Freshness::Recent).await.unwrap(), following(&follower).await];
    let mut cursors = Vec::new();
    for reader in &readers {
        cursors.push(reader.seek(Offset(1)).await.unwrap());
    }
    hold.release().await;
    append(&stream, "m1", 10).await.unwrap();
    following(&follower).await;
    for (reader, cursor) in readers.iter().zip(&mut cursors) {
        let mut next = Offset(1);
        while let Some(batches) = reader.next(cursor).await.unwrap() {
            next = batches.after.next_offset;
        }
        assert_eq!(next, Offset(2));
    }
}

/// A stream of `count` segments that were sealed early, written behind the log's back: segment `n` holds two messages,
/// appended at second `10 * n` and five seconds later.
pub(super) async fn many_segments(server: &Server, count: u64) -> (Arc<Stream>, u64) {
    let stream = server.create("orders", 4).await;
    let term = server.vault.term().unwrap();
    let mut chain = Chain::at_segment_start(stream.meta().id, Offset(0));
    let mut stored_bytes = 0;
    for n in 0..count {
        let blob = server.segment(&stream, chain.next_offset.0);
        server.memory.create_page_blob(&blob, 4 * BLOCK_BYTES, term).await.unwrap();
        let mut out = Vec::new();
        let mut writer =
            BatchWriter { chain: &mut chain, fence: term, committed: Position::ZERO, out: &mut out };
        writer.snapshot(&[]);
        for m in 0..2 {
            let message = append_of(&format!("m{}", 2 * n + m), 10);
            writer.messages([message.records.as_ref()], 1, Timestamp(1_000 * (10 * n + 5 * m)));
        }
        writer.seal();
        stored_bytes += out.len() as u64;
        server.memory.put_pages(&blob, Position::ZERO, out.into(), term, None).await.unwrap();
        chain = chain.in_next_segment();
    }
    (stream, stored_bytes)
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_hundred_segments_is_read_from_any_place() {
    let leader = Server::first(1).await;
    let (stream, stored_bytes) = many_segments(&leader, 100).await;
    append(&stream, "m200", 10).await.unwrap();
    let follower = leader.beside(2);
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    for stream in [&stream, &theirs] {
        for from in [0, 1, 2, 99, 100, 197, 200, 201] {
            let expected: Vec<_> = (from..201).map(|n| (n, format!("m{n}"))).collect();
            assert_eq!(labels_from(stream, from).await.unwrap(), expected);
        }
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        for n in 0..100 {
            let at = async |ms: u64| reader.offset_at(Timestamp(ms)).await.unwrap().0;
            assert_eq!((at(10_000 * n).await, at(10_000 * n + 1).await), (2 * n, 2 * n + 1));
        }
        let open = reader.tail().chain.position.0;
        assert_eq!(reader.size().await, (101, stored_bytes + open));
        let (_, extents) = reader.segments(Some(Offset(0)), true, 1_000).await.unwrap();
        assert_eq!(extents.iter().map(|extent| extent.end.0).sum::<u64>(), stored_bytes + open);
        assert_eq!(stream.status().condition, Condition::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn replays_at_the_leader_and_a_follower_meet_nothing_but_messages_and_what_is_gone() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = create(&leader, age(AGE)).await;
    messages(&leader, &stream, 0..3).await;
    let mut replays = Vec::new();
    for (number, server) in [&leader, &leader, &follower, &follower, &follower].into_iter().enumerate() {
        let theirs = server.vault.readable(&server.name("orders")).await.unwrap();
        let pause = SECOND * u32::try_from(40 * number + 1).unwrap();
        let env = leader.env.clone();
        replays.push(tokio::spawn(async move {
            let (mut gone, mut next) = (0, 0);
            while next < 80 {
                let reader = theirs.reader(Freshness::Recent).await.unwrap();
                let step = async {
                    let mut cursor = reader.seek(Offset(next)).await?;
                    while let Some(batches) = reader.next(&mut cursor).await? {
                        for (_, header) in batches.headers().filter(|(_, it)| it.kind == Kind::Messages) {
                            assert_eq!(header.base_offset.0, next, "no message is passed over");
                            next = header.next_offset().0;
                        }
                        env.clock.sleep(pause).await;
                    }
                    reader.wait_beyond(Offset(next), SECOND).await
                };
                match step.await {
                    Ok(()) => {}
                    Err(ReadError::BelowFirst { first_offset }) => {
                        assert!(first_offset.0 > next);
                        (gone, next) = (gone + 1, first_offset.0);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            gone
        }));
    }
    messages(&leader, &stream, 3..80).await;
    let mut overtaken = Vec::new();
    for replay in replays {
        overtaken.push(replay.await.unwrap());
    }
    assert_eq!(overtaken[0], 0, "who keeps up misses nothing");
    assert!(overtaken.iter().any(|gone| *gone > 0), "{overtaken:?}");
}
