//! Records, and the runs of them that clients send.

use proptest::prelude::*;
use vault_format::batch::{Batch, BatchWriter};
use vault_format::chain::Chain;
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::limits::{
    MAX_HEADER_NAME_BYTES, MAX_HEADERS, MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};
use vault_format::record::{InvalidRecord, InvalidRun, Message, Record, Stamp, check_run};

use crate::common::Plain;

/// A record that owns what [`Plain`] borrows.
#[derive(Clone, Debug)]
struct Owned {
    attributes: u8,
    delta: u64,
    stamp: Option<(Vec<u8>, u64, u64, u64)>,
    key: Vec<u8>,
    headers: Vec<(String, String)>,
    value: Vec<u8>,
}

impl Owned {
    fn plain(&self) -> Plain<'_> {
        Plain {
            attributes: self.attributes,
            timestamp_delta: self.delta,
            stamp: self.stamp.as_ref().map(|(producer, epoch, sequence, record_count)| Stamp {
                producer,
                epoch: *epoch,
                sequence: *sequence,
                record_count: *record_count,
            }),
            key: &self.key,
            headers: self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            value: &self.value,
        }
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=most)
}

prop_compose! {
    /// A record that a client may send.
    fn sent()(
        attributes in any::<u8>(),
        key in bytes(200),
        headers in prop::collection::btree_map(".{1,20}", ".{0,40}", 0..6),
        value in bytes(300),
    ) -> Owned {
        let headers = headers.into_iter().collect();
        Owned { attributes: attributes & !1, delta: 0, stamp: None, key, headers, value }
    }
}

prop_compose! {
    /// A record as it may stand in a batch.
    fn stored()(
        record in sent(),
        delta in any::<u64>(),
        stamp in prop::option::of((prop::collection::vec(any::<u8>(), 1..=64), any::<u64>(), any::<u64>(), 1..=u64::MAX)),
    ) -> Owned {
        Owned { delta, stamp, ..record }
    }
}

fn run_of(records: &[Owned]) -> Vec<u8> {
    let mut run = Vec::new();
    for record in records {
        let plain = record.plain();
        let Plain { attributes, key, headers, value, .. } = &plain;
        Message { attributes: *attributes, key, headers, value }.encode(record.delta, &mut run);
    }
    run
}

proptest! {
    #[test]
    fn records_round_trip(record in stored(), behind in bytes(10)) {
        let mut bytes = record.plain().encode();
        bytes.extend_from_slice(&behind);
        let mut rest = bytes.as_slice();
        let taken = Record::take(&mut rest).unwrap();
        prop_assert_eq!(Plain::from(&taken), record.plain());
        prop_assert_eq!(rest, behind.as_slice());
    }

    #[test]
    fn messages_are_encoded_as_the_document_says(record in sent(), delta in any::<u64>()) {
        let record = Owned { delta, ..record };
        prop_assert_eq!(run_of(std::slice::from_ref(&record)), record.plain().encode());
    }

    #[test]
    fn a_run_of_encoded_messages_passes(records in prop::collection::vec(sent(), 0..6)) {
        for record in &records {
            let plain = record.plain();
            let Plain { attributes, key, headers, value, .. } = &plain;
            prop_assert_eq!(Message { attributes: *attributes, key, headers, value }.check(MAX_VALUE_BYTES), Ok(()));
        }
        let count = u32::try_from(records.len()).unwrap();
        prop_assert_eq!(check_run(&run_of(&records), MAX_VALUE_BYTES), Ok(count));
    }

    /// The other direction: what passes is what encoding its messages again would give, byte for byte.
    #[test]
    fn a_run_that_passes_has_one_encoding(
        records in prop::collection::vec(sent(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut run = run_of(&records);
        for (at, byte) in changes {
            let at = at.index(run.len());
            run[at] = byte;
        }
        if let Ok(count) = check_run(&run, MAX_VALUE_BYTES) {
            let (mut again, mut found, mut rest) = (Vec::new(), 0, run.as_slice());
            while !rest.is_empty() {
                let plain = Plain::from(&Record::take(&mut rest).unwrap());
                let Plain { attributes, key, headers, value, .. } = &plain;
                let message = Message { attributes: *attributes, key, headers, value };
                prop_assert_eq!(message.check(MAX_VALUE_BYTES), Ok(()));
                message.encode(0, &mut again);
                found += 1;
            }
            prop_assert_eq!(found, count);
            prop_assert_eq!(again, run);
        }
    }

    #[test]
    fn arbitrary_runs_never_panic(run in bytes(200)) {
        let _ = check_run(&run, MAX_VALUE_BYTES);
    }

    #[test]
    fn a_client_cannot_set_what_is_the_servers(records in prop::collection::vec(sent(), 1..4), record in stored()) {
        let index = u32::try_from(records.len()).unwrap();
        let mut run = run_of(&records);
        run.extend_from_slice(&record.plain().encode());
        let reserved = record.stamp.is_some() || record.delta != 0;
        let expected = if reserved {
            Err(InvalidRun { index, reason: InvalidRecord::Reserved })
        } else {
            Ok(index + 1)
        };
        prop_assert_eq!(check_run(&run, MAX_VALUE_BYTES), expected);
    }
}

/// Each limit passes, and one more does not, in a message to be encoded and in the bytes of a record alike.
#[test]
fn limits_hold_to_the_byte() {
    let both = |message: Message<'_>, max_value_bytes: usize| {
        let mut run = Vec::new();
        message.encode(0, &mut run);
        let checked = message.check(max_value_bytes);
        assert_eq!(check_run(&run, max_value_bytes).map_err(|error| error.reason).err(), checked.err());
        checked
    };
    let key = |len| both(Message { key: &vec![1; len], ..Message::default() }, MAX_VALUE_BYTES);
    assert_eq!(key(MAX_KEY_BYTES), Ok(()));
    assert_eq!(key(MAX_KEY_BYTES + 1), Err(InvalidRecord::KeyTooLong));

    let value = |len, limit| both(Message { value: &vec![1; len], ..Message::default() }, limit);
    assert_eq!(value(10, 10), Ok(()));
    assert_eq!(value(11, 10), Err(InvalidRecord::ValueTooLong { bytes: 11, limit: 10 }));
    assert_eq!(value(MAX_VALUE_BYTES, usize::MAX), Ok(()));
    let (bytes, limit) = (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES);
    assert_eq!(value(bytes, usize::MAX), Err(InvalidRecord::ValueTooLong { bytes, limit }));

    let headers = |headers: &[(&str, &str)]| both(Message { headers, ..Message::default() }, 1);
    let names: Vec<String> = (0..=MAX_HEADERS).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(headers(&many[1..]), Ok(()));
    assert_eq!(headers(&many), Err(InvalidRecord::TooManyHeaders));
    let longest = "n".repeat(MAX_HEADER_NAME_BYTES);
    assert_eq!(headers(&[(&longest, "")]), Ok(()));
    assert_eq!(headers(&[(&format!("{longest}n"), "")]), Err(InvalidRecord::HeaderName));
    assert_eq!(headers(&[("", "x")]), Err(InvalidRecord::HeaderName));
    assert_eq!(headers(&[("a", "x"), ("b", ""), ("a", "y")]), Err(InvalidRecord::RepeatedHeader));
    let text = "v".repeat(MAX_HEADERS_BYTES - 1);
    assert_eq!(headers(&[("n", &text)]), Ok(()));
    assert_eq!(headers(&[("nn", &text)]), Err(InvalidRecord::HeadersTooLong));
    assert_eq!(
        Message { attributes: 1, ..Message::default() }.check(MAX_VALUE_BYTES),
        Err(InvalidRecord::Reserved)
    );
}

/// A writer's mistake under an intact checksum must not lead a reader to offsets or timestamps beyond the batch's.
#[test]
fn records_stay_within_their_batch() {
    let first_error = |records: &[Plain<'_>], count: u32| {
        let mut chain =
            Chain { position: Position(512), ..Chain::at_segment_start(StreamId([1; 16]), Offset(0)) };
        let mut out = Vec::new();
        let runs: Vec<Vec<u8>> = records.iter().map(Plain::encode).collect();
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(1), committed: Position(0), out: &mut out };
        writer.messages(runs.iter().map(Vec::as_slice), count, Timestamp(5));
        let held = Batch::decode(&out).unwrap().uncompressed().unwrap();
        let records: Vec<_> = held.records().collect();
        assert!(records.iter().rev().skip(1).all(Result::is_ok), "nothing follows an error");
        records.last().and_then(|last| last.as_ref().err().copied())
    };
    let plain = Plain::default();
    let stamped = |record_count| {
        let stamp = Stamp { producer: b"p", epoch: 0, sequence: 0, record_count };
        Plain { stamp: Some(stamp), ..Plain::default() }
    };
    assert_eq!(first_error(&[plain.clone(), plain.clone()], 2), None);
    assert_eq!(first_error(&[plain.clone(), plain.clone()], 1), Some(InvalidRecord::Truncated));
    assert_eq!(first_error(&[plain.clone(), plain.clone()], 3), Some(InvalidRecord::Truncated));
    assert_eq!(first_error(&[stamped(2), plain.clone()], 2), None);
    assert_eq!(first_error(&[stamped(3), plain.clone()], 2), Some(InvalidRecord::Stamp));
    assert_eq!(first_error(&[plain.clone(), stamped(2)], 2), Some(InvalidRecord::Stamp));
    assert_eq!(first_error(&[stamped(u64::MAX)], 1), Some(InvalidRecord::Stamp));
    assert_eq!(first_error(&[stamped(0)], 1), Some(InvalidRecord::Stamp));
    let late = |timestamp_delta| Plain { timestamp_delta, ..Plain::default() };
    assert_eq!(first_error(&[late(1)], 1), Some(InvalidRecord::Timestamp));
    assert_eq!(first_error(&[plain, late(u64::MAX)], 2), Some(InvalidRecord::Timestamp));
}

/// Records written by hand, each a step away from the first, which is right.
#[test]
fn malformed_records_are_refused() {
    let right = [9, 2, 0, 1, b'k', 1, 1, b'n', 0, 0];
    assert_eq!(check_run(&right, 10), Ok(1));
    let wrong: [(&[u8], InvalidRecord); 9] = [
        (&[10, 2, 0, 1, b'k', 1, 1, b'n', 0, 0, 0], InvalidRecord::Truncated),
        (&[8, 2, 0, 1, b'k', 1, 1, b'n', 0, 0], InvalidRecord::Truncated),
        (&[10, 2, 0, 1, b'k', 1, 1, b'n', 0, 0], InvalidRecord::Truncated),
        (&[9, 2, 0, 1, b'k', 1, 1, b'n', 0, 1], InvalidRecord::Truncated),
        (&[0], InvalidRecord::Truncated),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 0], InvalidRecord::Truncated),
        (&[9, 2, 0, 1, b'k', 1, 1, 0xff, 0, 0], InvalidRecord::HeaderNotText),
        (&[10, 2, 0, 1, b'k', 1, 1, b'n', 1, 0xff, 0], InvalidRecord::HeaderNotText),
        (&[9, 2, 0, 1, b'k', 65, 1, b'n', 0, 0], InvalidRecord::TooManyHeaders),
    ];
    for (bytes, reason) in wrong {
        assert_eq!(check_run(bytes, 10), Err(InvalidRun { index: 0, reason }), "{bytes:?}");
    }
}
