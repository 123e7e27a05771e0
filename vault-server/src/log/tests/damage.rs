//! Damage is never taken for the tail: it is reported, and nothing is skipped, cut off or cleared.

use vault_format::header::Header;

use super::*;
use crate::storage::StorageError;
use crate::storage::faulty::Fault;
use crate::storage::operation::Operation;

/// A stream of some messages of 100 kB that is quiet, so that all are on record as committed.
async fn quiet_stream(messages: u64, blocks: u64) -> (Server, Arc<Stream>) {
    quiet_stream_of(100_000, messages, blocks).await
}

async fn quiet_stream_of(bytes: usize, messages: u64, blocks: u64) -> (Server, Arc<Stream>) {
    let server = Server::first(1).await;
    let stream = server.create("orders", blocks).await;
    for n in 0..messages {
        append(&stream, &format!("m{n}"), bytes).await.unwrap();
    }
    server.env.clock.sleep(Duration::from_secs(5)).await;
    server.stop(Command::Finish).await;
    (server, stream)
}

/// Where the batch stands that holds a message, in a stream with one segment.
async fn position_of(server: &Server, stream: &Stream, offset: u64) -> u64 {
    let blob = server.segment(stream, 0);
    let mut at = 0;
    loop {
        let page = server.memory.read(&blob, at..at + 512).await.unwrap().bytes;
        let header = Header::decode(&page).unwrap();
        if header.kind == Kind::Messages && header.next_offset().0 > offset {
            return at;
        }
        at += u64::from(header.total_bytes);
    }
}

async fn assert_corrupt_from(server: &Server, offset: u64) {
    let stream = server.stream("orders");
    let refused = append(&stream, "x", 10).await;
    assert!(
        matches!(&refused, Err(AppendError::Unusable(Unusable::Fault(fault))) if fault.code() == "corrupt"),
        "{refused:?}"
    );
    assert_eq!(stream.status().condition, Condition::Corrupt);
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let mut read = 0;
    let end = match reader.seek(Offset(0)).await {
        Err(error) => error,
        Ok(mut cursor) => loop {
            match reader.next(&mut cursor).await {
                Ok(Some(batches)) => read = batches.after.next_offset.0,
                Ok(None) => panic!("damage was taken for the tail"),
                Err(error) => break error,
            }
        },
    };
    assert!(matches!(end, ReadError::Unusable(Unusable::Fault(_))), "{end:?}");
    assert_eq!(read, offset, "what comes before the damage is served");
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_any_batch_is_reported() {
    // In its head, behind it, in the middle and near its end.
    let places = [0, 5, 40, 130, 50_000, 99_000];
    for (damaged, into_batch) in (0..20).flat_map(|batch| places.map(|place| (batch, place))) {
        let (server, stream) = quiet_stream(20, 2).await;
        let blob = server.segment(&stream, 0);
        let position = position_of(&server, &stream, damaged).await;
        server.spoil(&blob, position + into_batch, |bytes| bytes[0] ^= 0x10).await;
        let before = server.memory.read(&blob, 0..2 * BLOCK_BYTES).await.unwrap().bytes;
        let next = server.successor().await;
        assert_corrupt_from(&next, damaged).await;
        let after = server.memory.read(&blob, 0..2 * BLOCK_BYTES).await.unwrap().bytes;
        assert!(before == after, "nothing is cleared in a damaged stream");
    }
}

/// Damage to padding, or to what only vouches for what stands before it, may go unnoticed: nothing is lost by it.
#[tokio::test(start_paused = true)]
async fn whichever_byte_is_damaged_all_is_read_or_damage_is_reported() {
    let (mut at, mut end, mut reported) = (0, 1, 0);
    while at < end {
        let (server, stream) = quiet_stream_of(10, 3, 1).await;
        let blob = server.segment(&stream, 0);
        end = server.memory.page_ranges(&blob, 0..BLOCK_BYTES).await.unwrap().last().unwrap().end;
        server.spoil(&blob, at, |bytes| bytes[0] ^= 0x10).await;
        match labels_from(&server.successor().await.stream("orders"), 0).await {
            Ok(read) => {
                let wanted = (0..3).map(|n| (n, format!("m{n}"))).collect::<Vec<_>>();
                assert_eq!(read, wanted, "byte {at} of {end}");
            }
            Err(ReadError::Unusable(Unusable::Fault(_))) => reported += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
        at += 1;
    }
    assert!(reported > 300, "{reported} of {end}");
}

/// Whoever wrote it had no time to end in order, but for a second it was quiet.
#[tokio::test(start_paused = true)]
async fn damage_in_the_last_message_is_reported_when_it_is_older_than_a_second() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    for n in 0..5 {
        append(&stream, &format!("m{n}"), 100_000).await.unwrap();
    }
    server.env.clock.sleep(Duration::from_millis(1_100)).await;
    server.stop(Command::Halt).await;
    let position = position_of(&server, &stream, 4).await;
    server.spoil(&server.segment(&stream, 0), position + 50_000, |bytes| bytes[0] ^= 0x10).await;
    assert_corrupt_from(&server.successor().await, 4).await;
}

#[tokio::test(start_paused = true)]
async fn zeroed_blocks_are_reported() {
    // 10 blocks are written; zeros in the middle are far behind the tail, in the last two within the window.
    for zeroed in [0, 1, 4, 7, 8] {
        let (server, stream) = quiet_stream(380, 12).await;
        let blob = server.segment(&stream, 0);
        let number = server.memory.properties(&blob).await.unwrap().sequence_number;
        let range = zeroed * BLOCK_BYTES..(zeroed + 1) * BLOCK_BYTES;
        let head = server.memory.read(&blob, range.start..range.start + 512).await.unwrap().bytes;
        let first_lost = Header::decode(&head).unwrap().base_offset.0;
        server.memory.clear_pages(&blob, range, number).await.unwrap();
        let next = server.successor().await;
        let stream = next.stream("orders");
        // Far behind the tail only a reader meets it.
        let read = labels_from(&stream, 0).await;
        assert!(matches!(&read, Err(ReadError::Unusable(Unusable::Fault(_)))), "block {zeroed}: {read:?}");
        assert_corrupt_from(&next, first_lost).await;
    }
}

/// The leader may not have come upon it, and goes on.
#[tokio::test(start_paused = true)]
async fn a_follower_that_came_upon_damage_answers_no_strong_read() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    append(&stream, "a", 100_000).await.unwrap();
    let follower = leader.beside(2);
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    theirs.reader(Freshness::Strong).await.unwrap();
    let position = position_of(&leader, &stream, 0).await;
    leader.spoil(&leader.segment(&stream, 0), position + 1_000, |bytes| bytes[0] ^= 1).await;
    assert!(labels_from(&theirs, 0).await.is_err());
    append(&stream, "b", 10).await.unwrap();
    let strong = theirs.reader(Freshness::Strong).await.map(|_| ()).unwrap_err();
    assert!(matches!(&strong, Unusable::Fault(fault) if fault.code() == "corrupt"), "{strong}");
    theirs.reader(Freshness::Recent).await.unwrap();
}

/// What is left of the stream ends with a segment that still has the term of whoever wrote it.
#[tokio::test(start_paused = true)]
async fn a_strong_read_of_a_stream_that_is_damaged_before_its_last_segment_deposes_nobody() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    for label in ["a", "b", "c"] {
        append(&stream, label, 1_900_000).await.unwrap();
    }
    server.env.clock.sleep(Duration::from_secs(5)).await;
    server.stop(Command::Finish).await;
    // Nothing valid begins the last segment, and nothing leads to it.
    server.spoil(&server.segment(&stream, 0), 0, |bytes| bytes[0] ^= 1).await;
    server.spoil(&server.segment(&stream, 2), 0, |bytes| bytes.fill(0)).await;
    let mut next = server.successor().await;
    let other = next.create("other", 1).await;
    let damaged = next.stream("orders");
    for _ in 0..2 {
        damaged.reader(Freshness::Strong).await.unwrap();
    }
    assert_corrupt_from(&next, 0).await;
    append(&other, "the others go on", 10).await.unwrap();
    assert!(next.reign_over.try_recv().is_err(), "the term is still in force");
    let _successor = next.successor().await;
    assert!(matches!(damaged.reader(Freshness::Strong).await, Err(Unusable::NoLeader)));
    assert_eq!(next.reign_end().await, crate::log::reign::ReignEnd::Outrun(None));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_head_in_the_middle_is_reported_by_whoever_seeks_there() {
    let (server, stream) = quiet_stream(380, 12).await;
    let blob = server.segment(&stream, 0);
    server.spoil(&blob, 5 * BLOCK_BYTES, |bytes| bytes[3] ^= 1).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    let reader = match stream.reader(Freshness::Recent).await {
        Ok(reader) => reader,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(labels_from(&stream, 370).await.map(|labels| labels.len()).unwrap_or(10), 10);
    let mut cursor = reader.seek(Offset(150)).await.unwrap();
    let end = loop {
        match reader.next(&mut cursor).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("damage was taken for the tail"),
            Err(error) => break error,
        }
    };
    assert!(end.to_string().contains(&(5 * BLOCK_BYTES).to_string()), "{end}");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_once_is_sent_again() {
    let (server, _) = quiet_stream(20, 2).await;
    let next = server.beside(7);
    next.faulty.on(Operation::Read).nth(3).then(Fault::Fail(StorageError::Unavailable("reset".to_owned())));
    next.lead().await;
    assert_eq!(labels(&next.stream("orders")).await.len(), 20);
    append(&next.stream("orders"), "x", 10).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_later_format_is_neither_tail_nor_damage() {
    let (server, stream) = quiet_stream(5, 2).await;
    let blob = server.segment(&stream, 0);
    let position = position_of(&server, &stream, 3).await;
    server
        .spoil(&blob, position, |page| {
            page[4] = 2;
            let crc = crc32c(&page[..124]);
            page[124..128].copy_from_slice(&crc.to_le_bytes());
        })
        .await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    let refused = append(&stream, "x", 10).await.unwrap_err();
    assert!(
        matches!(&refused, AppendError::Unusable(Unusable::Fault(fault)) if fault.code() == "format_too_new")
    );
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    assert_eq!(reader.tail().next_offset(), Offset(3));
    assert!(labels_from(&stream, 0).await.is_err(), "the end of what can be read is not the end of the log");
}

/// The checksum of the format, bit by bit: the crate under test must not check itself.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_begun_and_has_no_segment_is_not_made_anew() {
    let (server, stream) = quiet_stream(5, 2).await;
    server.memory.delete_blob(&server.segment(&stream, 0), None).await.unwrap();
    let next = server.successor().await;
    let refused = append(&next.stream("orders"), "x", 10).await.unwrap_err();
    assert!(
        matches!(&refused, AppendError::Unusable(Unusable::Fault(fault)) if fault.code() == "data_missing")
    );
    assert_eq!(next.stream("orders").status().condition, Condition::DataMissing);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_is_not_made_anew_until_it_is_forgotten() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    let other = server.create("other", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let container = server.vault.context.prefix.container(stream.name());
    let target = crate::storage::LeaseTarget::Container(container.clone());
    let lease = server.memory.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
    server.memory.delete_container(&container, &lease).await.unwrap();
    let lost = append(&stream, "b", 10).await.unwrap_err();
    assert!(lost.to_string().contains("missing"), "{lost}");
    for _ in 0..2 {
        let refused = append(&stream, "c", 10).await.unwrap_err();
        assert!(
            matches!(&refused, AppendError::Unusable(Unusable::Fault(fault)) if fault.code() == "data_missing")
        );
        server.vault.refresh(crate::log::vault::Absent::IsMissing).await.unwrap();
    }
    assert!(server.vault.create(stream.name(), SettingsPatch::default()).await.is_err());
    append(&other, "the others go on", 10).await.unwrap();
    server.vault.delete(stream.name()).await.unwrap();
    let anew = server.create("orders", 2).await;
    assert_eq!(append(&anew, "d", 10).await.unwrap().first_offset, Offset(0));
}

#[tokio::test(start_paused = true)]
async fn a_page_further_on_than_anything_can_be_in_flight_is_reported() {
    let (server, stream) = quiet_stream(5, 12).await;
    let blob = server.segment(&stream, 0);
    // Not a header, and not even of this stream: but nobody can have written so far from the tail.
    server.spoil(&blob, 5 * BLOCK_BYTES, |bytes| bytes[0] = 1).await;
    let next = server.successor().await;
    assert_corrupt_from(&next, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_far_behind_the_tail_is_reported_by_whoever_reads_there() {
    let (server, stream) = quiet_stream(380, 12).await;
    let blob = server.segment(&stream, 0);
    let position = position_of(&server, &stream, 50).await;
    server.spoil(&blob, position + 60_000, |bytes| bytes[0] ^= 4).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    append(&stream, "nobody knows yet", 10).await.unwrap();
    assert!(labels_from(&stream, 0).await.is_err());
    assert!(append(&stream, "now everybody does", 10).await.is_err());
    assert_eq!(stream.status().condition, Condition::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_when_a_segment_was_sealed_is_on_record_soon() {
    let server = Server::first(1).await;
    let settings = SettingsPatch {
        segment_bytes: Some(8 * BLOCK_BYTES),
        retention_bytes: Some(Some(64 << 20)),
        ..SettingsPatch::default()
    };
    server.vault.create(&server.name("orders"), settings).await.unwrap();
    let stream = server.stream("orders");
    for n in 0..7 {
        append(&stream, &format!("a{n}"), 1_000_000).await.unwrap();
    }
    // Long enough for the segment to be sealed right behind it; then nothing comes any more.
    server.env.clock.sleep(Duration::from_secs(60)).await;
    server.stop(Command::Halt).await;
    server.spoil(&server.segment(&stream, 0), 6_800_000, |bytes| bytes[0] ^= 1).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    let read = labels_from(&stream, 0).await;
    assert!(read.is_err(), "the damage is reported: {read:?}");
    let refused = append(&stream, "b", 10).await;
    assert!(
        matches!(&refused, Err(AppendError::Unusable(Unusable::Fault(fault))) if fault.code() == "corrupt"),
        "nothing is cut off: {refused:?}"
    );
}
