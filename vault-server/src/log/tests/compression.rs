//! Streams whose batches are compressed.

use vault_format::batch::Batch;
use vault_format::codec::Codec;
use vault_format::header::Header;
use vault_format::ids::Timestamp;

use super::*;
use crate::limits::READ_MEMORY_BYTES;

const CODECS: [Codec; 2] = [Codec::Lz4, Codec::Zstd];

fn patch(codec: Codec) -> SettingsPatch {
    SettingsPatch { codec: Some(codec), ..SettingsPatch::default() }
}

pub(super) async fn create(server: &Server, codec: Codec, blocks: u64) -> Arc<Stream> {
    let settings = SettingsPatch { segment_bytes: Some(blocks * BLOCK_BYTES), ..patch(codec) };
    server.vault.create(&server.name("orders"), settings).await.unwrap().1
}

/// One message whose value no codec makes shorter.
pub(super) async fn append_noise(stream: &Arc<Stream>, label: &str, bytes: usize) -> Appended {
    let mut state = bytes as u64 | 1;
    let value: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(bytes)
    .collect();
    let mut records = Vec::new();
    Message { key: label.as_bytes(), value: &value, ..Message::default() }.encode(0, &mut records);
    let append = Append { records: records.into(), record_count: 1, expected_offset: None };
    stream.append(append, PATIENCE).await.unwrap()
}

/// The headers of all batches of messages.
pub(super) async fn headers(stream: &Arc<Stream>) -> Vec<Header> {
    let reader = stream.reader(Freshness::Strong).await.unwrap();
    let mut cursor = reader.seek(Offset(0)).await.unwrap();
    let mut found = Vec::new();
    while let Some(batches) = reader.next(&mut cursor).await.unwrap() {
        found.extend(batches.headers().map(|(_, header)| header).filter(|it| it.kind == Kind::Messages));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn what_is_compressed_is_read_again_by_all_servers() {
    for codec in CODECS {
        let server = Server::first(1).await;
        let stream = create(&server, codec, 1).await;
        let mut appended = Vec::new();
        for n in 0..30 {
            let label = format!("m{n}");
            let at = append(&stream, &label, if n % 3 == 0 { 900_000 } else { 50 }).await.unwrap();
            appended.push((at.first_offset.0, label));
        }
        assert_eq!(labels(&stream).await, appended, "{codec}");
        let headers = headers(&stream).await;
        assert!(headers.iter().any(|header| header.codec == codec && header.uncompressed_bytes > 900_000));
        let stored: u64 = headers.iter().map(|header| u64::from(header.total_bytes)).sum();
        assert!(stored < 100_000, "{stored} bytes are stored of 9 MB");

        let follower = server.beside(2);
        let followed = follower.vault.readable(&follower.name("orders")).await.unwrap();
        assert_eq!(labels(&followed).await, appended, "{codec}, a follower");
        // The setting is the container's, and so is what was appended.
        let next = server.successor().await;
        let taken_over = next.stream("orders");
        assert_eq!(labels(&taken_over).await, appended, "{codec}, a successor");
        append(&taken_over, "after", 100_000).await.unwrap();
        let reader = taken_over.reader(Freshness::Strong).await.unwrap();
        assert_eq!(reader.tail().next_offset(), Offset(31));
        assert_eq!(taken_over.meta().settings.codec, codec);
        for from in [0, 1, 17, 29, 30] {
            assert_eq!(labels_from(&taken_over, from).await.unwrap()[0].0, from);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn time_is_found_in_compressed_batches() {
    for codec in CODECS {
        let server = Server::first(1).await;
        let stream = create(&server, codec, 2).await;
        let mut times = Vec::new();
        for n in 0..10 {
            server.env.clock.sleep(Duration::from_secs(1)).await;
            times.push(append(&stream, &format!("m{n}"), 300_000).await.unwrap().timestamp.0);
        }
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        for (offset, time) in times.iter().enumerate() {
            assert_eq!(reader.offset_at(Timestamp(*time)).await.unwrap(), Offset(offset as u64));
            assert_eq!(reader.offset_at(Timestamp(time + 1)).await.unwrap(), Offset(offset as u64 + 1));
        }
    }
}

/// Other writers may put messages of several times in a batch: they are told apart by their deltas.
#[tokio::test(start_paused = true)]
async fn time_is_found_inside_a_compressed_batch() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 1).await;
    append(&stream, "first", 100_000).await.unwrap();
    server.env.clock.sleep(Duration::from_secs(5)).await;
    server.stop(Command::Finish).await;
    // In place of the batch: ten messages, a second apart.
    let blob = server.segment(&stream, 0);
    let bytes = server.memory.read(&blob, 512..4096).await.unwrap().bytes;
    let right = Batch::decode(&bytes).unwrap().header;
    let mut records = Vec::new();
    for n in 0..10u8 {
        // Length, attributes, delta in ms (varint), no key, no headers, a value of 40 bytes.
        let delta = u64::from(n) * 100;
        let mut record = vec![0];
        if delta < 128 {
            record.push(delta.to_le_bytes()[0]);
        } else {
            record.extend([(delta & 0x7f | 0x80).to_le_bytes()[0], (delta >> 7).to_le_bytes()[0]]);
        }
        record.extend([0, 0, 40]);
        record.extend([b'x'; 40]);
        records.push(u8::try_from(record.len()).unwrap());
        records.extend(record);
    }
    let compressed = vault_format::codec::Compressed::of(Codec::Zstd, &records).unwrap();
    let first = right.first_timestamp;
    let header = Header {
        codec: Codec::Zstd,
        payload_bytes: u32::try_from(compressed.bytes().len()).unwrap(),
        uncompressed_bytes: compressed.uncompressed_bytes(),
        record_count: 10,
        total_bytes: 512,
        last_timestamp: Timestamp(first.0 + 900),
        payload_crc: crc(compressed.bytes()),
        ..right
    };
    let mut page = [header.encode().as_slice(), compressed.bytes()].concat();
    page.resize(512, 0);
    server.spoil(&blob, 512, |bytes| bytes.copy_from_slice(&page)).await;
    let fence = server.memory.properties(&blob).await.unwrap().sequence_number;
    server.memory.clear_pages(&blob, 1024..BLOCK_BYTES, fence).await.unwrap();
    let next = server.successor().await;
    let reader = next.stream("orders").reader(Freshness::Recent).await.unwrap();
    assert_eq!(reader.tail().next_offset(), Offset(10));
    for (after, offset) in [(0, 0), (1, 1), (100, 1), (450, 5), (900, 9), (901, 10)] {
        let found = reader.offset_at(Timestamp(first.0 + after)).await.unwrap();
        assert_eq!(found, Offset(offset), "{after} ms later");
    }
}

/// CRC-32C, as the format has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[tokio::test(start_paused = true)]
async fn another_codec_begins_with_the_next_batch() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::None, 2).await;
    let mut expected = Vec::new();
    for (n, codec) in [Codec::None, Codec::Zstd, Codec::Lz4, Codec::None, Codec::Zstd].into_iter().enumerate()
    {
        server.vault.change(&server.name("orders"), patch(codec)).await.unwrap();
        append(&stream, &format!("m{n}"), 50_000).await.unwrap();
        expected.push(codec);
    }
    let found: Vec<_> = headers(&stream).await.iter().map(|header| header.codec).collect();
    assert_eq!(found, expected);
    assert_eq!(labels(&server.successor().await.stream("orders")).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_become_shorter_is_stored_as_it_is() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 1).await;
    for n in 0..9 {
        append_noise(&stream, &format!("m{n}"), 700_000 + n).await;
    }
    append(&stream, "short", 20).await.unwrap();
    let headers = headers(&stream).await;
    assert!(headers.iter().all(|header| header.codec == Codec::None));
    assert_eq!(headers.len(), 10);
    assert_eq!(labels(&server.successor().await.stream("orders")).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_a_compressed_payload_is_damage() {
    for codec in CODECS {
        let server = Server::first(1).await;
        let stream = create(&server, codec, 2).await;
        for n in 0..6 {
            append(&stream, &format!("m{n}"), 200_000).await.unwrap();
        }
        server.env.clock.sleep(Duration::from_secs(5)).await;
        let damaged = headers(&stream).await[3];
        assert_eq!(damaged.codec, codec);
        server.stop(Command::Finish).await;
        let blob = server.segment(&stream, 0);
        server.spoil(&blob, damaged.position.0 + 128 + 20, |bytes| bytes[0] ^= 4).await;
        let next = server.successor().await;
        let stream = next.stream("orders");
        let refused = append(&stream, "x", 10).await.unwrap_err();
        assert!(matches!(refused, AppendError::Unusable(Unusable::Fault(_))), "{refused:?}");
        assert_eq!(stream.status().condition, Condition::Corrupt);
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        assert_eq!(reader.tail().next_offset(), Offset(3), "what comes before it is served");
    }
}

/// Changes the payload of a batch that fits in a page, and its checksums with it: a writer's mistake.
pub(super) async fn misspell(server: &Server, blob: &BlobName, header: &Header) {
    let payload = header.payload_bytes as usize;
    assert!(payload < 384, "it is in the header's page");
    let change = |bytes: &mut [u8]| {
        bytes[128] ^= 0xff;
        let payload = crc(&bytes[128..128 + payload]).to_le_bytes();
        bytes[120..124].copy_from_slice(&payload);
        let header = crc(&bytes[..124]).to_le_bytes();
        bytes[124..128].copy_from_slice(&header);
    };
    server.spoil(blob, header.position.0, change).await;
}

/// A writer's mistake: the checksum holds. The batch stays in the log, and who reads it is told.
#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_decompress_is_reported_by_readers_and_by_who_takes_the_stream_over() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 2).await;
    for n in 0..3 {
        append(&stream, &format!("m{n}"), 200_000).await.unwrap();
    }
    let header = headers(&stream).await[1];
    server.env.clock.sleep(Duration::from_secs(5)).await;
    server.stop(Command::Finish).await;
    let blob = server.segment(&stream, 0);
    misspell(&server, &blob, &header).await;
    let next = server.successor().await;
    let stream = next.stream("orders");
    // Nobody knows any more which producers it is from.
    let refused = append(&stream, "m3", 10).await;
    assert!(matches!(&refused, Err(AppendError::Unusable(Unusable::Fault(_)))), "{refused:?}");
    let read = labels_from(&stream, 0).await;
    assert!(matches!(&read, Err(ReadError::Unusable(Unusable::Fault(_)))), "{read:?}");
}

/// What is made of compressed batches counts as long as somebody holds it.
#[tokio::test(start_paused = true)]
async fn uncompressed_records_count_against_the_memory_of_readers() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Lz4, 2).await;
    append(&stream, "m", 1 << 20).await.unwrap();
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let mut cursor = reader.seek(Offset(0)).await.unwrap();
    let batches = reader.next(&mut cursor).await.unwrap().unwrap();
    let (at, header) = batches.headers().find(|(_, header)| header.kind == Kind::Messages).unwrap();
    let mut held = Vec::new();
    for _ in 0..READ_MEMORY_BYTES / header.uncompressed_bytes as usize {
        held.push(reader.records(&batches, at, &header).await.unwrap().slice(100..101));
    }
    let refused = reader.records(&batches, at, &header).await;
    assert!(matches!(refused, Err(ReadError::Overloaded)), "{refused:?}");
    held.pop();
    reader.records(&batches, at, &header).await.unwrap();
}
