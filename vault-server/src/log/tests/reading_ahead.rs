//! What is loaded before anybody wants it.

use std::sync::RwLock;

use tokio::sync::watch;
use vault_format::chain::Chain;

use super::retention::stored;
use super::*;
use crate::log::reader::Reader;
use crate::log::recent::Recent;
use crate::log::store::{Segment, Store};
use crate::log::tail::Tail;
use crate::log::writer::Shown;
use crate::metrics::log::StreamMetrics;

/// A reader of the stream that has not seen the tail move into the last segment yet.
async fn behind(server: &Server, stream: &Stream) -> (Reader, Segment) {
    let context = &server.vault.context;
    let id = stream.meta().id;
    let bases = stored(server, stream).await;
    let segments: Vec<_> =
        bases.iter().map(|base| Segment { base: Offset(*base), bytes: BLOCK_BYTES }).collect();
    let [.., before, last] = segments[..] else { panic!("{segments:?}") };
    let store = Store {
        storage: Arc::clone(&context.storage),
        env: server.env.clone(),
        container: context.prefix.container(stream.name()),
        id,
        metrics: StreamMetrics::new(&context.metrics),
    };
    let tail = Tail { segment: before.base, chain: Chain::at_segment_start(id, before.base) };
    let shown = Shown {
        tail: watch::Sender::new(tail),
        segments: Arc::new(RwLock::new(segments)),
        ends: Arc::default(),
        recent: Arc::new(Recent::new(Arc::clone(&context.recent), 0)),
        sent: Arc::default(),
        stalled: Arc::default(),
    };
    let (blocks, heads) = (Arc::clone(&context.blocks), Arc::clone(&context.heads));
    (Reader { store, shown, blocks, heads }, last)
}

/// A writer shows a new segment a moment before its tail. Whoever reads ahead in that moment must not keep what stands there
/// as the whole block.
#[tokio::test(start_paused = true)]
async fn of_a_segment_that_the_tail_has_not_reached_nothing_is_kept() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 1).await;
    let mut count = 0;
    let mut append_until = async |segments: usize| {
        while stored(&server, &stream).await.len() < segments {
            append(&stream, &format!("m{count}"), 700_000).await.unwrap();
            count += 1;
        }
        count
    };
    append_until(2).await;
    let (reader, last) = behind(&server, &stream).await;
    reader.read_ahead(last.base, Chain::at_segment_start(reader.store.id, last.base)).await;
    // So many that the first of them are read from storage.
    let count = append_until(40).await;
    assert_eq!(labels(&stream).await.len(), count);
}
