//! Batches that cannot be stored as they were, or not all of them.

use vault_format::batch::BatchWriter;
use vault_format::chain::Chain;
use vault_format::codec::Compressed;
use vault_format::header::Header;
use vault_format::ids::Term;

use super::*;

fn origin(segment_bytes: u64) -> Origin {
    let settings = Settings { segment_bytes, ..Settings::default() };
    Origin { id: StreamId([9; 16]), created: Timestamp(1), settings }
}

/// A batch behind the snapshot of a block, of requests with so many messages of so many bytes each; the first request of
/// several has a stamp.
fn stored(at: u64, requests: &[(u32, usize)], codec: Codec) -> StoredBatch {
    let mut chain = Chain::at_segment_start(StreamId([9; 16]), Offset(at));
    let (mut records, mut total) = (Vec::new(), 0);
    for (sequence, (count, bytes)) in (0..).zip(requests) {
        let mut run = Vec::new();
        for n in 0..*count {
            let value: Vec<u8> =
                (0u32..).map(|at| (at.wrapping_mul(n + 7) % 251) as u8).take(*bytes).collect();
            Message { value: &value, ..Message::default() }.encode(0, &mut run);
        }
        let stamp = Stamp { producer: b"p", epoch: 0, sequence, record_count: u64::from(*count) };
        records.extend(if *count > 1 { stamped(&run, &stamp) } else { run });
        total += count;
    }
    let (mut snapshot, mut out) = (Vec::new(), Vec::new());
    let fence = Term(4);
    BatchWriter { chain: &mut chain, fence, committed: Position::ZERO, out: &mut snapshot }.snapshot(&[]);
    let mut writer = BatchWriter { chain: &mut chain, fence, committed: Position::ZERO, out: &mut out };
    match Compressed::of(codec, &records) {
        Some(compressed) => writer.compressed_messages(&compressed, total, Timestamp(70)),
        None => writer.messages([&records[..]], total, Timestamp(70)),
    };
    StoredBatch { header: Header::decode(&out).unwrap(), bytes: out.into() }
}

async fn write(place: &Place, batches: &[StoredBatch]) -> Result<(), ArchiveError> {
    let origin = origin(BLOCK_BYTES);
    let mut writer = LogWriter::open(place, &orders(place), &origin, writer::Wholeness::Grows).await?;
    for batch in batches {
        if let Err(error) = writer.write(batch).await {
            return Err(writer.fail(error).await);
        }
    }
    writer.finish().await
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_no_block_of_the_copy_holds_is_taken_apart_between_requests() {
    let place = memory(&Env::controlled(14));
    // All of a block but its snapshot: in a segment of one block the seal must have room too.
    let whole = (4 << 20) - 512 - 128;
    let rest = whole - 3 * 1_200_011 - 20_000;
    let batch = stored(10, &[(1, 1_200_000), (2, 1_200_000), (1, rest)], Codec::None);
    assert!(u64::from(batch.header.total_bytes) > BLOCK_BYTES - 1_024 - 20_000);
    let wide = stored(10, &[(1, 1_200_000), (2, 1_200_000), (1, rest + 19_900)], Codec::None);
    assert!(u64::from(wide.header.total_bytes) > BLOCK_BYTES - 1_024);
    write(&place, std::slice::from_ref(&wide)).await.unwrap();
    assert_eq!(messages(&place).await, messages_of(&wide));
    let found = report(&place).await;
    assert!(found.is_whole() && found.segments > 1, "{found:?}");
    // The request of two messages stands in one batch.
    let mut walk = place.stream(&orders(&place)).await.unwrap().walk();
    while let Step::Batch(batch) = walk.next().await.unwrap() {
        let parsed = batch.batch().unwrap();
        if batch.header.kind == Kind::Messages {
            assert!(parsed.uncompressed().unwrap().records().all(|record| record.is_ok()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_is_there_in_part_the_rest_is_taken() {
    for codec in Codec::ALL {
        let place = memory(&Env::controlled(15));
        let all = [(1, 2_000), (3, 3_000), (1, 2_000), (1, 9_000)];
        let whole = stored(0, &all, codec);
        write(&place, &[stored(0, &all[..2], codec)]).await.unwrap();
        assert_eq!(messages(&place).await.len(), 4);
        write(&place, &[whole.clone(), whole.clone()]).await.unwrap();
        assert_eq!(messages(&place).await, messages_of(&whole));
        assert!(report(&place).await.is_whole());
        // Inside a request it cannot go on.
        let other = memory(&Env::controlled(15));
        write(&other, &[stored(0, &all[..1], codec), stored(1, &[(1, 10)], codec)]).await.unwrap();
        assert!(matches!(write(&other, &[whole]).await, Err(ArchiveError::Misfit { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_continue_the_stream_is_refused() {
    let place = memory(&Env::controlled(16));
    write(&place, &[stored(5, &[(1, 100)], Codec::None)]).await.unwrap();
    let gap = write(&place, &[stored(7, &[(1, 100)], Codec::None)]).await;
    assert!(
        matches!(gap, Err(ArchiveError::Misfit { offset: Offset(7), next_offset: Offset(6), .. })),
        "{gap:?}"
    );
    let mut spoiled = stored(6, &[(1, 100)], Codec::None);
    let mut bytes = spoiled.bytes.to_vec();
    bytes[140] ^= 1;
    spoiled.bytes = bytes.into();
    assert!(matches!(write(&place, &[spoiled]).await, Err(ArchiveError::Misfit { .. })));
    assert_eq!(messages(&place).await.len(), 1);
}
