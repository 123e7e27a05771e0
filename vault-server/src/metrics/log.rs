//! What the log counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Histogram;

use super::families::{
    BATCH_BYTES, BATCH_MESSAGES, BATCH_REQUESTS, BYTES, COMMIT_SECONDS, MESSAGES, REQUESTS, SECONDS,
};
use super::{Count, Metrics, histogram};

/// What all streams together count. Its sums outlive the streams.
#[derive(Debug)]
pub(crate) struct LogMetrics {
    /// Of batches with messages. Their sums are the requests, messages and bytes that were stored.
    pub(crate) batch_requests: Histogram,
    pub(crate) batch_messages: Histogram,
    pub(crate) batch_bytes: Histogram,
    /// Of all puts, those without messages too.
    pub(crate) commit_seconds: Histogram,
    pub(crate) tail_clears: Count,
    pub(crate) set_aside_bytes: Count,
    pub(crate) repeated: Count,
    pub(crate) deleted_segments: Count,
    pub(crate) deleted_bytes: Count,
    pub(crate) readers: Arc<Count>,
}

impl Default for LogMetrics {
    fn default() -> Self {
        Self {
            batch_requests: histogram(&BATCH_REQUESTS, REQUESTS),
            batch_messages: histogram(&BATCH_MESSAGES, MESSAGES),
            batch_bytes: histogram(&BATCH_BYTES, BYTES),
            commit_seconds: histogram(&COMMIT_SECONDS, SECONDS),
            tail_clears: Count::default(),
            set_aside_bytes: Count::default(),
            repeated: Count::default(),
            deleted_segments: Count::default(),
            deleted_bytes: Count::default(),
            readers: Arc::default(),
        }
    }
}

/// What one stream counts, on this server and since it came to know the stream.
#[derive(Debug)]
pub(crate) struct StreamMetrics {
    server: Arc<Metrics>,
    pub(crate) messages: Count,
    pub(crate) bytes: Count,
}

impl StreamMetrics {
    pub(crate) fn new(server: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { server: Arc::clone(server), messages: Count::default(), bytes: Count::default() })
    }

    /// A put was acknowledged: so many requests with so many messages, in so many bytes.
    pub(crate) fn settled(&self, requests: usize, messages: u64, bytes: usize) {
        if requests == 0 {
            return;
        }
        let log = &self.server.log;
        log.batch_requests.observe(requests as f64);
        log.batch_messages.observe(messages as f64);
        log.batch_bytes.observe(bytes as f64);
        self.messages.add(messages);
        self.bytes.add(bytes as u64);
    }

    /// A request that was stored before was answered again.
    pub(crate) fn repeated(&self) {
        self.server.log.repeated.add(1);
    }

    /// A put was stored, so long after it was first sent.
    pub(crate) fn put_stored(&self, took: Duration) {
        self.server.log.commit_seconds.observe(took.as_secs_f64());
    }

    /// So many bytes beyond the tail were set aside.
    pub(crate) fn set_aside(&self, bytes: usize) {
        self.server.log.set_aside_bytes.add(bytes as u64);
    }

    /// A segment was deleted in which so many bytes were stored.
    pub(crate) fn segment_deleted(&self, bytes: u64) {
        self.server.log.deleted_segments.add(1);
        self.server.log.deleted_bytes.add(bytes);
    }

    /// What was written beyond the tail was cleared.
    pub(crate) fn cleared(&self) {
        self.server.log.tail_clears.add(1);
    }
}

/// Where readers found what they wanted.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// Among the newest puts.
    pub(crate) recent: Count,
    pub(crate) cache: Count,
    pub(crate) storage: Count,
}

/// A read that goes on, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Reading(Arc<Count>);

impl Reading {
    pub(crate) fn begin(metrics: &Metrics) -> Self {
        metrics.log.readers.add(1);
        Self(Arc::clone(&metrics.log.readers))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.take_away(1);
    }
}
