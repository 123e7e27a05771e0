//! What a scan reads of batches, and how long it keeps its thread.

use std::future::poll_fn;
use std::pin::pin;

use vault_format::chain::Chain;
use vault_format::codec::Codec;
use vault_format::limits::PAGE_BYTES;
use vault_format::producers::Producers;

use super::compression::{append_noise, create, headers, misspell};
use super::*;
use crate::log::error::StreamFault;
use crate::log::recover::{Purpose, recover};
use crate::log::scan::{Scanned, scan};
use crate::log::store::Store;
use crate::metrics::log::StreamMetrics;

fn store(server: &Server, stream: &Stream) -> Store {
    Store {
        storage: server.memory.clone(),
        env: server.env.clone(),
        container: server.vault.context.prefix.container(stream.name()),
        id: stream.meta().id,
        metrics: StreamMetrics::new(&server.vault.context.metrics),
    }
}

/// Scans the first segment, and counts how often it was polled.
async fn scanned(store: &Store, producers: Option<Producers>) -> (Scanned, u32) {
    let segment = store.segments().await.unwrap()[0];
    let start = Chain::at_segment_start(store.id, segment.base);
    let (mut scanning, mut polls) = (pin!(scan(store, &segment, start, producers)), 0);
    let scanned = poll_fn(|context| {
        polls += 1;
        scanning.as_mut().poll(context)
    });
    (scanned.await.unwrap(), polls)
}

#[tokio::test(start_paused = true)]
async fn a_scan_yields_after_each_batch_that_it_uncompresses() {
    const BATCHES: u32 = 20;
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 2).await;
    for n in 0..BATCHES {
        append(&stream, &format!("m{n}"), 200_000).await.unwrap();
    }
    server.stop(Command::Finish).await;
    let store = store(&server, &stream);
    let (without, few) = scanned(&store, None).await;
    let (with, many) = scanned(&store, Some(Producers::default())).await;
    assert_eq!((with.chain, with.end, with.recorded), (without.chain, without.end, without.recorded));
    assert!(matches!((with.producers, without.producers), (Ok(Some(_)), Ok(None))));
    assert!(many >= few + BATCHES, "{many} polls, {few} where nothing is uncompressed");
}

#[tokio::test(start_paused = true)]
async fn who_follows_uncompresses_nothing() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 2).await;
    append(&stream, "m0", 200_000).await.unwrap();
    server.env.clock.sleep(Duration::from_secs(5)).await;
    let header = headers(&stream).await[0];
    server.stop(Command::Finish).await;
    misspell(&server, &server.segment(&stream, 0), &header).await;
    let recovered = recover(&store(&server, &stream), Purpose::Follow, true).await.unwrap();
    assert!(recovered.fault.is_none(), "{:?}", recovered.fault);
    assert_eq!(recovered.chain.next_offset, Offset(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_sealed_segment_says_wrongly_is_reported_of_that_segment() {
    let server = Server::first(1).await;
    let stream = create(&server, Codec::Zstd, 1).await;
    append(&stream, "m0", 200_000).await.unwrap();
    let header = headers(&stream).await[0];
    append_noise(&stream, "m1", 1_900_000).await;
    append_noise(&stream, "m2", 1_900_000).await;
    append_noise(&stream, "m3", 1_900_000).await;
    server.stop(Command::Halt).await;
    misspell(&server, &server.segment(&stream, 0), &header).await;
    // As if the leader had died before it wrote to the next segment.
    let store = store(&server, &stream);
    let segments = store.segments().await.unwrap();
    assert_eq!(segments.len(), 2);
    let next = server.segment(&stream, segments[1].base.0);
    let fence = server.memory.properties(&next).await.unwrap().sequence_number;
    server.memory.clear_pages(&next, 0..BLOCK_BYTES, fence).await.unwrap();
    let stream = server.successor().await.stream("orders");
    let refused = append(&stream, "m4", 10).await.unwrap_err();
    let AppendError::Unusable(Unusable::Fault(StreamFault::Corrupt { segment, position, .. })) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((segment, position.0), (Offset(0), header.position.0));
    assert_eq!(position.0, PAGE_BYTES);
}
