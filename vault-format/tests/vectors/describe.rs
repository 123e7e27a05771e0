//! What stored bytes say, as the lines of text that stand beside each golden vector.

use std::fmt::Write as _;

use vault_format::batch::{Batch, BatchError};
use vault_format::chain::Chain;
use vault_format::header::{Header, HeaderError, Kind};
use vault_format::ids::MessageId;
use vault_format::leader::{LeaderPage, LeaderState};
use vault_format::names::SegmentName;
use vault_format::record::{InvalidRecord, Record, check_run};
use vault_format::snapshot;

use super::SEGMENT_BYTES;
use crate::common::Plain;

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

macro_rules! line {
    ($out:ident, $($text:tt)*) => { writeln!($out, $($text)*).expect("a string can be written") };
}

/// A batch, or the reason why it is none.
pub(crate) fn batch(bytes: &[u8]) -> String {
    let mut out = String::new();
    line!(out, "bytes: {}", bytes.len());
    match Batch::decode(bytes) {
        Ok(batch) => {
            line!(out, "result: intact");
            fields(&batch, &mut out);
        }
        Err(error) => line!(out, "result: {}", reason(error)),
    }
    out
}

fn reason(error: BatchError) -> String {
    match error {
        BatchError::Header(HeaderError::Absent) => "absent".to_owned(),
        BatchError::Header(HeaderError::TooNew { version, kind, codec }) => {
            format!("format_too_new, version {version}, kind {kind}, codec {codec}")
        }
        BatchError::Header(HeaderError::Malformed(_)) => "malformed".to_owned(),
        BatchError::Truncated => "cut off".to_owned(),
        BatchError::Payload => "payload damaged".to_owned(),
    }
}

fn fields(batch: &Batch<'_>, out: &mut String) {
    let Header { kind, codec, stream, position, total_bytes, payload_bytes, .. } = batch.header;
    let Header { uncompressed_bytes, record_count, base_offset, first_timestamp, .. } = batch.header;
    let Header { last_timestamp, fence, committed, payload_crc, .. } = batch.header;
    let kind_name = match kind {
        Kind::Messages => "messages",
        Kind::Snapshot => "snapshot",
        Kind::Filler => "filler",
        Kind::Seal => "seal",
        Kind::Commit => "commit",
    };
    line!(out, "kind: {} {kind_name}", kind as u8);
    line!(out, "codec: {}", codec as u8);
    line!(out, "stream id: {stream}");
    line!(out, "position: {position}");
    line!(out, "total length: {total_bytes}");
    line!(out, "payload length: {payload_bytes}");
    line!(out, "uncompressed length: {uncompressed_bytes}");
    line!(out, "record count: {record_count}");
    line!(out, "base offset: {base_offset}");
    line!(out, "first timestamp: {first_timestamp}");
    line!(out, "last timestamp: {last_timestamp}");
    line!(out, "fence: {fence}");
    line!(out, "committed: {committed}");
    line!(out, "payload crc32c: {payload_crc:08x}");
    match batch.uncompressed() {
        Ok(uncompressed) => {
            for (index, record) in uncompressed.records().enumerate() {
                match record {
                    Ok(found) => record_fields(index, &found, out),
                    Err(error) => line!(out, "record {index}: {}", record_reason(error)),
                }
            }
        }
        Err(_) => line!(out, "records: do not decompress"),
    }
    if kind == Kind::Snapshot {
        producers(batch.payload, out);
    }
}

fn record_reason(error: InvalidRecord) -> &'static str {
    match error {
        InvalidRecord::Truncated => "malformed lengths",
        InvalidRecord::Timestamp => "delta beyond the last timestamp",
        _ => "another error",
    }
}

fn record_fields(index: usize, record: &Record<'_>, out: &mut String) {
    line!(out, "record {index} attributes: {:02x}", record.attributes);
    let Plain { timestamp_delta, stamp, key, headers, value, .. } = Plain::from(record);
    line!(out, "record {index} timestamp delta: {timestamp_delta}");
    if let Some(stamp) = stamp {
        line!(out, "record {index} producer id: {}", hex(stamp.producer));
        line!(out, "record {index} producer epoch: {}", stamp.epoch);
        line!(out, "record {index} producer sequence: {}", stamp.sequence);
        line!(out, "record {index} request's records: {}", stamp.record_count);
    }
    line!(out, "record {index} key: {}", hex(key));
    for (name, text) in headers {
        line!(out, "record {index} header: {name:?} = {text:?}");
    }
    line!(out, "record {index} value: {}", hex(value));
}

fn producers(payload: &[u8], out: &mut String) {
    let Ok(producers) = snapshot::decode(payload) else {
        line!(out, "snapshot: malformed");
        return;
    };
    line!(out, "producers: {}", producers.len());
    for (index, producer) in producers.iter().enumerate() {
        line!(out, "producer {index} id: {}", hex(&producer.id));
        line!(out, "producer {index} epoch: {}", producer.epoch);
        for outcome in &producer.outcomes {
            line!(
                out,
                "producer {index} outcome: sequence {}, offset {}, count {}, timestamp {}",
                outcome.sequence,
                outcome.offset,
                outcome.count,
                outcome.timestamp
            );
        }
    }
}

/// A client's run of records.
pub(crate) fn run(mut bytes: &[u8]) -> String {
    let mut out = String::new();
    match check_run(bytes, usize::MAX) {
        Ok(count) => line!(out, "records: {count}"),
        Err(error) => line!(out, "{error}"),
    }
    let mut index = 0;
    while let Ok(record) = Record::take(&mut bytes) {
        record_fields(index, &record, &mut out);
        index += 1;
    }
    out
}

/// A segment, from its written bytes: those of a block follow those of the block before. A filler's first page is the
/// last that is written of its block.
pub(crate) fn segment(mut bytes: &[u8]) -> String {
    let mut out = String::new();
    let Ok(first) = Header::decode(bytes) else { return "no segment\n".to_owned() };
    let mut chain = Chain::at_segment_start(first.stream, first.base_offset);
    line!(out, "segment length: {SEGMENT_BYTES}");
    line!(out, "name: {}", SegmentName { stream: chain.stream, base: chain.next_offset });
    let mut at = 0;
    while let Ok(batch) = chain.accept(bytes) {
        let written = usize::try_from(batch.header.written_bytes()).expect("a batch fits in memory");
        line!(out, "\nbatch at {}: bytes {at} to {} of the file", batch.header.position, at + written);
        fields(&batch, &mut out);
        at += written;
        bytes = &bytes[written..];
        if batch.header.kind == Kind::Seal {
            let next = SegmentName { stream: chain.stream, base: chain.next_offset };
            line!(out, "\nnext segment: {next}");
            break;
        }
    }
    line!(out, "left over: {}", bytes.len());
    out
}

/// The page of the blob `leader`.
pub(crate) fn leader(bytes: &[u8]) -> String {
    match LeaderPage::decode(bytes) {
        Ok(LeaderPage { state, term, beat, changes, deleting, endpoint }) => format!(
            "state: {}\nterm: {term}\nbeat: {beat}\nchanges: {changes}\ndeleting: {deleting}\nendpoint: {endpoint:?}\n",
            if state == LeaderState::Leading { "leading" } else { "free" }
        ),
        Err(invalid) => format!("{invalid}\n"),
    }
}

/// The id of a message.
pub(crate) fn message_id(bytes: &[u8]) -> String {
    let Ok(bytes) = bytes.try_into() else { return "no message id\n".to_owned() };
    let id = MessageId(bytes);
    format!("id: {id}\ntimestamp: {}\noffset: {}\n", id.timestamp(), id.offset())
}
