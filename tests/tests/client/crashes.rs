//! The server is killed and started again, and stands still, while producers and readers go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rustix::process::Signal;
use vault_client::Offset;
use vault_tests::server::temporary_directory;

use crate::ledger::{check, follow, produce, read_all};
use crate::{STREAM, at_fixed_port, client, small_segments};

const KILLS: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_stored_once_and_read_once_through_twelve_crashes() {
    let directory = temporary_directory();
    let mut server = at_fixed_port(directory.path()).start();
    client(&server).create_stream(STREAM, &small_segments()).await.unwrap();
    // Told to producers, and then to the reader.
    let [stop, ended] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let producers: Vec<_> =
        (0..3).map(|n| tokio::spawn(produce(client(&server), format!("p{n}"), Arc::clone(&stop)))).collect();
    let reader = tokio::spawn(follow(client(&server), Arc::clone(&ended)));
    let random = std::process::id();
    for round in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(u64::from((random >> round) % 250))).await;
        server.kill();
        server.restart();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for producer in producers {
        told.push(producer.await.unwrap());
    }
    ended.store(true, Ordering::Relaxed);
    let followed = reader.await.unwrap();
    assert!(told.iter().all(|told| told.offsets.len() > 50), "they went on between the crashes");
    check(&read_all(&client(&server)).await, &told);
    check(&followed, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_through_crashes() {
    let directory = temporary_directory();
    let mut server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &small_segments()).await.unwrap();
    let producer = client.producer(STREAM).start().unwrap();
    // More than what connections hold by themselves.
    for number in 0..3_000 {
        producer.send(format!("{number} {}", "x".repeat(10_000))).await.unwrap();
    }
    assert_eq!(producer.close().await.acknowledged, 3_000);
    let mut reader = client.reader(STREAM).start();
    let mut next = 0;
    while let Some(message) = reader.next().await {
        let message = message.unwrap();
        assert_eq!(message.offset(), Offset(next));
        assert!(message.value().starts_with(format!("{next} x").as_bytes()));
        next += 1;
        if next % 700 == 0 {
            server.kill();
            server.restart();
        }
    }
    assert_eq!(next, 3_000);
    assert_eq!(reader.end_offset(), Some(Offset(3_000)));
    assert!(reader.next().await.is_none(), "the end is the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_holds_no_more_than_its_buffer_while_the_server_stands_still() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let client = client(&server);
    client.create_stream(STREAM, &small_segments()).await.unwrap();
    let producer = client.producer(STREAM).buffer_bytes(8 << 20).start().unwrap();
    producer.send("first").await.unwrap().await.unwrap();
    server.signal(Signal::STOP);
    let value = "x".repeat(100_000);
    let mut receipts = Vec::new();
    while let Ok(receipt) =
        tokio::time::timeout(Duration::from_millis(500), producer.send(value.clone())).await
    {
        receipts.push(receipt.unwrap());
    }
    assert!((75..84).contains(&receipts.len()), "{}", receipts.len());
    server.signal(Signal::CONT);
    let begun = Instant::now();
    producer.flush().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for (receipt, offset) in receipts.into_iter().zip(1..) {
        assert_eq!(receipt.await.unwrap().offset, Offset(offset));
    }
}
