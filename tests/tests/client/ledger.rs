//! What producers were told, held against what readers see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use vault_client::{Client, Offset, Received, Report};

use crate::STREAM;

/// Messages that one producer sent, and where they are said to stand.
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) offsets: Vec<u64>,
    pub(crate) report: Report,
}

/// The `number`th message of a producer: its size is anything up to 20,000 bytes.
pub(crate) fn text(name: &str, number: usize) -> String {
    format!("{name}/{number}/{}", "x".repeat(number * 7_919 % 20_000))
}

/// Sends message after message until it is told to stop. All of them must be stored.
pub(crate) async fn produce(client: Client, name: String, stop: Arc<AtomicBool>) -> Told {
    let producer = client.producer(STREAM).start().unwrap();
    let mut receipts = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        receipts.push(producer.send(text(&name, receipts.len())).await.unwrap());
        if receipts.len() % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let report = producer.close().await;
    let mut offsets = Vec::new();
    for receipt in receipts {
        offsets.push(receipt.await.unwrap().offset.0);
    }
    Told { name, offsets, report }
}

/// Reads until `stop` and then up to the end, held to be what comes next each time.
pub(crate) async fn follow(client: Client, stop: Arc<AtomicBool>) -> Vec<Received> {
    let mut reader = client.reader(STREAM).follow().start();
    let mut messages = Vec::new();
    let mut end = None;
    loop {
        if stop.load(Ordering::Relaxed) && end.is_none() {
            end = client.describe_stream(STREAM).await.unwrap().next_offset;
        }
        if end.is_some_and(|end| messages.len() as u64 == end) {
            return messages;
        }
        let Ok(next) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await else {
            continue;
        };
        let message = next.expect("it goes on for ever").expect("servers come back");
        assert_eq!(message.offset(), Offset(messages.len() as u64), "neither gap nor repeat");
        messages.push(message);
        assert_eq!(reader.next_offset(), Some(Offset(messages.len() as u64)));
    }
}

pub(crate) async fn read_all(client: &Client) -> Vec<Received> {
    client.reader(STREAM).start().map(|message| message.unwrap()).collect().await
}

/// Panics unless the stream is what these producers were told it is, and nothing else.
pub(crate) fn check(read: &[Received], told: &[Told]) {
    let mut left = read.len();
    for (index, message) in read.iter().enumerate() {
        assert_eq!(message.offset(), Offset(index as u64));
    }
    for Told { name, offsets, report } in told {
        assert!(offsets.is_sorted(), "{name} is out of order");
        for (number, offset) in offsets.iter().enumerate() {
            let found = &read[usize::try_from(*offset).unwrap()];
            assert!(found.value() == text(name, number).as_bytes(), "{name}/{number} at {offset}: {found:?}");
        }
        left -= offsets.len();
        assert_eq!((report.acknowledged, report.not_stored, report.unknown), (offsets.len() as u64, 0, 0));
        assert_eq!(report.next_offset.map(|next| next.0), offsets.last().map(|last| last + 1));
    }
    assert_eq!(left, 0, "messages that nobody sent, or were sent twice");
}
