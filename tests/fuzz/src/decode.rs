//! Hostile bytes through every decoder: nothing panics, and what decodes is encoded again to the same bytes.

use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{MessageId, Offset, StreamId, Timestamp};
use vault_format::limits::{MAX_SEGMENT_BYTES, MAX_VALUE_BYTES};
use vault_format::names::{ContainerName, Prefix, SegmentName};
use vault_format::record::{Message, Record, check_run};
use vault_format::snapshot;

use crate::common::{Plain, set_checksums};

/// Decodes a structure.
pub fn decode(bytes: &[u8]) {
    batch(bytes);
    let mut intact = bytes.to_vec();
    set_checksums(&mut intact);
    batch(&intact);

    run(bytes);
    producers(bytes);
    if let Ok(text) = str::from_utf8(bytes) {
        names(text);
    }
}

fn batch(bytes: &[u8]) {
    let Ok(header) = Header::decode(bytes) else { return };
    assert_eq!(header.encode(), bytes[..128]);
    assert!(header.end().0 <= MAX_SEGMENT_BYTES && header.written_bytes() <= header.total_bytes.into());
    let mut chain = Chain::before(&header);
    let accepted = chain.accept(bytes).is_ok();
    let decoded = Batch::decode(bytes);
    assert_eq!(accepted, decoded.is_ok(), "the place in front of a batch is where it belongs");
    let Ok(batch) = decoded else { return };
    assert_eq!((chain.position, chain.next_offset), (header.end(), header.next_offset()));

    let Ok(uncompressed) = batch.uncompressed() else { return };
    let payload = uncompressed.clone().into_bytes();
    assert_eq!(payload.len(), header.uncompressed_bytes as usize);
    let mut offset = header.base_offset.0;
    let mut again = Vec::new();
    let mut failed = false;
    for record in uncompressed.records() {
        assert!(!failed, "nothing follows an error");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        again.extend_from_slice(&Plain::from(&record).encode());
        let timestamp = Timestamp(header.first_timestamp.0 + record.timestamp_delta);
        assert!(timestamp <= header.last_timestamp);
        if let Some(stamp) = record.stamp {
            assert!(offset + stamp.record_count <= header.next_offset().0);
        }
        let id = MessageId::new(&header.stream, Offset(offset), timestamp);
        assert_eq!((id.offset(), id.timestamp()), (Offset(offset), timestamp));
        offset += 1;
    }
    if header.kind == Kind::Messages && !failed {
        assert_eq!((offset, again.as_slice()), (header.next_offset().0, &*payload));
    }
    run(&payload);
    producers(&payload);
}

fn run(bytes: &[u8]) {
    let mut rest = bytes;
    if let Ok(record) = Record::take(&mut rest) {
        let taken = bytes.len() - rest.len();
        assert_eq!(Plain::from(&record).encode(), bytes[..taken]);
    }
    let Ok(count) = check_run(bytes, MAX_VALUE_BYTES) else { return };
    let (mut rest, mut again) = (bytes, Vec::new());
    for _ in 0..count {
        let record = Record::take(&mut rest).expect("a run that was checked holds its records");
        let headers: Vec<_> = record.headers().collect();
        let message = Message {
            attributes: record.attributes,
            key: record.key,
            headers: &headers,
            value: record.value,
        };
        assert_eq!(message.check(MAX_VALUE_BYTES), Ok(()));
        message.encode(0, &mut again);
    }
    assert_eq!(again, bytes);
}

fn producers(bytes: &[u8]) {
    let Ok(producers) = snapshot::decode(bytes) else { return };
    let mut again = Vec::new();
    snapshot::encode(&producers, &mut again);
    assert_eq!(again, bytes);
    for outcome in producers.iter().flat_map(|producer| &producer.outcomes) {
        let last = Offset(outcome.offset.0 + u64::from(outcome.count) - 1);
        assert_eq!(MessageId::new(&StreamId([0; 16]), last, outcome.timestamp).offset(), last);
    }
}

fn names(text: &str) {
    if let Some(segment) = SegmentName::parse(text) {
        assert_eq!(segment.to_string(), text);
    }
    if let Some(container) = ContainerName::listed(text) {
        assert_eq!(container.as_str(), text);
    }
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(prefix) = Prefix::new(text) {
        let stream = prefix.stream("stream");
        assert!(
            stream.is_err() || prefix.stream_of(&prefix.container(&stream.expect("it is one"))).is_some()
        );
    }
    let prefix = Prefix::new("mv-").expect("a prefix");
    if let Ok(stream) = prefix.stream(text) {
        let container = prefix.container(&stream);
        assert_eq!(prefix.stream_of(&container), Some(stream));
        assert_eq!(ContainerName::listed(container.as_str()), Some(container));
    }
}
