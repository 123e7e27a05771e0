//! Where reading begins and ends, what retention and deletion do to it, and codecs.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use vault_client::{Client, Message, Offset, ReadError, Reader, Settings, Start, Timestamp};
use vault_tests::server::temporary_directory;

use crate::{STREAM, at_fixed_port, client, small_segments};

const SOON: Duration = Duration::from_secs(20);

async fn fill(client: &Client, count: u32, bytes: usize) {
    let producer = client.producer(STREAM).start().unwrap();
    for number in 0..count {
        producer.send(format!("{number} {}", "x".repeat(bytes))).await.unwrap();
    }
    assert_eq!(producer.close().await.acknowledged, u64::from(count));
}

async fn offsets(reader: Reader) -> Vec<u64> {
    reader.map_ok(|message| message.offset().0).try_collect().await.unwrap()
}

async fn next(reader: &mut Reader) -> Result<u64, ReadError> {
    let next = tokio::time::timeout(SOON, reader.next()).await.expect("it comes soon");
    next.expect("it goes on").map(|message| message.offset().0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_begins_and_ends_where_it_is_told_to() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &Settings::default()).await.unwrap();
    for from in [Start::Earliest, Start::Latest, Start::Offset(Offset(0)), Start::Time(Timestamp(5))] {
        let reader = client.reader(STREAM).from(from).start();
        assert_eq!(offsets(reader).await, [0_u64; 0], "{from:?} of an empty stream");
    }
    // Two batches of ten messages.
    let messages = |from: u32| (from..from + 10).map(|number| Message::new(number.to_string()).key("k"));
    let run = |from| vault_client::Run::of(messages(from)).unwrap();
    client.append(STREAM, run(0), Some(Offset(0))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = client.append(STREAM, run(10), Some(Offset(10))).await.unwrap();
    let wrong = client.append(STREAM, run(0), Some(Offset(10))).await.unwrap_err();
    assert_eq!(wrong.code(), Some("offset_mismatch"));

    let reader = |from| client.reader(STREAM).from(from);
    let all = (0..20).collect::<Vec<u64>>();
    assert_eq!(offsets(reader(Start::Earliest).start()).await, all);
    for from in 0..=20 {
        let at = Offset(from as u64);
        assert_eq!(offsets(reader(at.into()).start()).await, all[from..], "from {from}");
        for to in [0, 1, 9, 10, 11, 20, 25] {
            let read = offsets(reader(at.into()).to(Offset(to as u64)).start()).await;
            assert_eq!(read, all[from.min(to.min(20))..to.min(20)], "from {from} to {to}");
        }
    }
    assert_eq!(offsets(reader(Start::Earliest).to(Offset(0)).start()).await, [0_u64; 0]);
    assert_eq!(offsets(reader(Start::Time(second.timestamp)).start()).await, all[10..]);
    assert_eq!(offsets(reader(Start::Time(Timestamp(second.timestamp.0 + 1))).start()).await, [0_u64; 0]);
    assert_eq!(offsets(reader(Start::Latest).start()).await, [0_u64; 0]);
    let mut beyond = reader(Start::Offset(Offset(21))).start();
    assert!(
        matches!(next(&mut beyond).await, Err(ReadError::Request(error)) if error.code() == Some("beyond_tail"))
    );
    assert!(beyond.next().await.is_none() && beyond.next().await.is_none(), "nothing follows an error");
    let mut missing = client.reader("missing").start();
    assert!(
        matches!(next(&mut missing).await, Err(ReadError::Request(error)) if error.code() == Some("stream_not_found"))
    );

    // Those that follow wait, and a `to` ends them.
    let mut latest = reader(Start::Latest).follow().start();
    let mut until = reader(Start::Offset(Offset(15))).to(Offset(22)).follow().start();
    for offset in 15..20 {
        assert_eq!(next(&mut until).await.unwrap(), offset);
    }
    let waiting = tokio::time::timeout(Duration::from_millis(300), latest.next()).await;
    assert!(waiting.is_err() && until.next().now_or_never().is_none(), "{waiting:?}");
    assert_eq!(latest.next_offset(), Some(Offset(20)));
    client.append(STREAM, run(20), None).await.unwrap();
    assert_eq!((next(&mut latest).await.unwrap(), latest.next_offset()), (20, Some(Offset(21))));
    assert_eq!(offsets(until).await, [20, 21]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_streams_are_read_as_others_are() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    for codec in ["lz4", "zstd"] {
        let settings = Settings { codec: Some(codec.to_owned()), ..small_segments() };
        client.create_stream(codec, &settings).await.unwrap();
        let producer = client.producer(codec).start().unwrap();
        for number in 0..5_000 {
            let message = Message::new(format!("{number} and so on and on")).key("k").header("h", "v");
            producer.send(message).await.unwrap();
        }
        producer.close().await;
        let mut reader = client.reader(codec).from(Offset(77)).start();
        for number in 77..5_000 {
            let message = reader.next().await.unwrap().unwrap();
            assert_eq!(message.value(), format!("{number} and so on and on").as_bytes());
            assert_eq!((message.key(), message.header("h")), (&b"k"[..], Some("v")));
        }
        assert!(reader.next().await.is_none());
        let stored = client.describe_stream(codec).await.unwrap().bytes.unwrap();
        assert!(stored < 100_000, "{stored}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_not_taken_for_the_old_one() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    // Where the reader asks only once all of it is there, three messages leave it at the end of the new stream, and the
    // next one tells it.
    for (after, later) in [(0, 0), (1, 0), (3, 1), (5, 0)] {
        client.create_stream(STREAM, &Settings::default()).await.unwrap();
        fill(&client, 3, 1).await;
        let mut reader = client.reader(STREAM).follow().start();
        for offset in 0..3 {
            assert_eq!(next(&mut reader).await.unwrap(), offset);
        }
        assert!(reader.next().now_or_never().is_none());
        client.delete_stream(STREAM).await.unwrap();
        client.create_stream(STREAM, &Settings::default()).await.unwrap();
        fill(&client, after, 1).await;
        fill(&client, later, 1).await;
        match next(&mut reader).await {
            Err(ReadError::Replaced { known, found }) => assert!(known != found && after + later > 3),
            Err(ReadError::Request(error)) => {
                assert!(["stream_not_found", "beyond_tail"].contains(&error.code().unwrap()), "{error}");
            }
            other => panic!("{other:?}"),
        }
        client.delete_stream(STREAM).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_deletes_is_not_passed_over_silently() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &small_segments()).await.unwrap();
    fill(&client, 3_000, 10_000).await;
    let mut overtaken = client.reader(STREAM).start();
    let mut skipping = client.reader(STREAM).skip_deleted().start();
    let mut until = client.reader(STREAM).from(Offset(0)).to(Offset(2_990)).skip_deleted().start();
    for reader in [&mut overtaken, &mut skipping, &mut until] {
        assert_eq!(next(reader).await.unwrap(), 0);
    }
    let settings = Settings { retention_seconds: Some(Some(10)), ..Settings::default() };
    client.change_stream(STREAM, &settings).await.unwrap();
    let deleted = async {
        loop {
            let described = client.describe_stream(STREAM).await.unwrap();
            if described.first_offset > Some(2_000) {
                break described.first_offset.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let first = tokio::time::timeout(3 * SOON, deleted).await.expect("old messages are deleted");
    // What was on its way comes, and then what is not there is told.
    let mut known = 0;
    let error = loop {
        match next(&mut overtaken).await {
            Ok(offset) => {
                assert_eq!(offset, known + 1);
                known = offset;
            }
            Err(error) => break error,
        }
    };
    let ReadError::BelowFirst { wanted, first_offset } = error else { panic!("{error}") };
    assert!(wanted == Offset(known + 1) && first_offset.0 >= first, "{wanted} {first_offset}");
    for reader in [skipping, until] {
        let rest = offsets(reader).await;
        assert!(rest.is_sorted_by(|a, b| a < b) && rest.len() < 2_900, "{}", rest.len());
    }
    let mut anew = client.reader(STREAM).from(Offset(5)).start();
    assert!(matches!(next(&mut anew).await, Err(ReadError::BelowFirst { wanted: Offset(5), .. })));
    assert!(
        offsets(client.reader(STREAM).from(Offset(5)).skip_deleted().start())
            .await
            .iter()
            .all(|n| *n >= first)
    );
}
