//! Values that are longer than one message.

use futures::{StreamExt, TryStreamExt};
use vault_client::{Client, Message, Offset, ReadError, Received, SendError, Settings};
use vault_tests::server::temporary_directory;

use crate::{STREAM, at_fixed_port, client, url};

fn value(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|at| ((at ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn read(client: &Client, from: u64) -> Vec<Received> {
    client.reader(STREAM).from(Offset(from)).start().try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_values_of_several_producers_come_back_whole_and_in_order() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &Settings::default()).await.unwrap();
    let sending = (0..3_u32).map(|seed| {
        let producer = client.producer(STREAM).start().unwrap();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for number in 0..3_u32 {
                for bytes in [10_000_000 + seed, 10, 1 << 20, (1 << 20) + 1, 0] {
                    let message = Message {
                        attributes: 2 * u8::try_from(seed).unwrap() + 32,
                        ..Message::new(value(seed, bytes))
                            .key(seed.to_string())
                            .header("n", number.to_string())
                    };
                    told.push((message.clone(), producer.send(message).await.unwrap()));
                }
            }
            assert_eq!(producer.close().await.failure, None);
            let mut offsets = Vec::new();
            for (message, receipt) in told {
                offsets.push((message, receipt.await.unwrap().offset.0));
            }
            offsets
        })
    });
    let mut told = Vec::new();
    for sender in sending.collect::<Vec<_>>() {
        let theirs = sender.await.unwrap();
        assert!(theirs.is_sorted_by(|a, b| a.1 < b.1), "in order");
        told.extend(theirs);
    }
    told.sort_by_key(|(_, offset)| *offset);
    let same = |found: &[Received], told: &[(Message, u64)]| {
        assert_eq!(found.len(), told.len());
        for (found, (message, offset)) in found.iter().zip(told) {
            assert_eq!((found.offset().0, found.attributes()), (*offset, message.attributes));
            assert!(found.value() == &message.value[..] && found.key() == &message.key[..]);
            let headers: Vec<_> = found.headers().collect();
            assert_eq!(headers, [("n", message.headers[0].1.as_str())]);
        }
    };
    same(&read(&client, 0).await, &told);
    // From the middle of the parts of each.
    for (_, last) in told.iter().filter(|(message, _)| message.value.len() > 2 << 20) {
        for from in [last - 5, last - 1, *last] {
            let behind = told.iter().position(|(_, offset)| *offset >= from).unwrap();
            let count = 2.min(told.len() - behind);
            let reader = client.reader(STREAM).from(Offset(from)).start();
            let found: Vec<_> = reader.take(count).map(Result::unwrap).collect().await;
            same(&found, &told[behind..behind + count]);
        }
    }
    // Where there is room for one value alone, parts are looked for again.
    let tight = client.reader(STREAM).value_bytes(10_000_010).start();
    same(&tight.try_collect::<Vec<_>>().await.unwrap(), &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_above_a_limit_is_told_and_passed() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &Settings::default()).await.unwrap();
    let producer = client.producer(STREAM).value_bytes(5 << 20).start().unwrap();
    let long = producer.send(value(1, (5 << 20) + 1)).await.unwrap_err();
    assert_eq!(long, SendError::ValueTooLong { bytes: (5 << 20) + 1, limit: 5 << 20 });
    for attributes in [64, 128, 192, 1] {
        let message = Message { attributes, ..Message::new("x") };
        assert!(matches!(producer.send(message).await, Err(SendError::Message(_))), "{attributes}");
    }
    let last = producer.send(value(1, 5 << 20)).await.unwrap().await.unwrap().offset;
    producer.send("behind").await.unwrap();
    assert_eq!(producer.close().await.not_stored, 0);
    // A reader that takes less says so, and goes on behind it.
    let mut reader = client.reader(STREAM).value_bytes(1 << 20).start();
    let error = reader.next().await.unwrap().unwrap_err();
    assert_eq!(error, ReadError::ValueTooLong { offset: last, bytes: 5 << 20, limit: 1 << 20 });
    let next = reader.next_offset().unwrap();
    assert_eq!(next, Offset(last.0 + 1));
    assert_eq!(read(&client, next.0).await[0].value(), b"behind");
    // A server that takes less than the client believes refuses it, and nothing behind it is stored.
    let bold = Client::builder(&url(server.address())).message_bytes(2 << 20).build().unwrap();
    let producer = bold.producer(STREAM).request_bytes(1).start().unwrap();
    let refused = producer.send(value(1, (1 << 20) + 1)).await.unwrap();
    let behind = producer.send("x").await;
    let error = refused.await.unwrap_err();
    assert!(matches!(&error, SendError::Request { error, .. } if error.code() == Some("message_too_large")));
    if let Ok(receipt) = behind {
        assert!(matches!(receipt.await, Err(SendError::AfterFailure { .. })));
    }
    let report = producer.close().await;
    assert_eq!((report.acknowledged, report.unknown), (0, 0));
    assert_eq!(read(&client, 0).await.len(), 2);
}
