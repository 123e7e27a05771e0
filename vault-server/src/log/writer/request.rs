//! A request to append, on its way through the writer.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry::{Context, KeyValue};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use vault_format::ids::Offset;

use crate::log::appender::{Appended, Put, Queued};
use crate::log::error::AppendError;
use crate::storage::BlobName;
use crate::traces;

/// What a caller wants appended, and where to answer.
#[derive(Debug)]
pub(crate) struct AppendRequest {
    pub(crate) records: Bytes,
    pub(crate) record_count: u32,
    pub(crate) expected_offset: Option<Offset>,
    /// The stream's limit on its bytes, where there is no room for this request unless it is stored already.
    pub(crate) no_room: Option<u64>,
    /// Until when it waits for its predecessors, once it has come before them; on the monotonic clock.
    pub(crate) early_until: Option<Duration>,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// The span that it belongs to, where that is sampled.
    pub(crate) span: Option<Context>,
    /// What the request takes of the limits on queued bytes, until it is answered.
    pub(crate) permits: [OwnedSemaphorePermit; 2],
}

impl Queued for AppendRequest {
    fn records(&self) -> &[u8] {
        &self.records
    }

    fn record_count(&self) -> u32 {
        self.record_count
    }

    fn expected_offset(&self) -> Option<Offset> {
        self.expected_offset
    }

    fn no_room(&self) -> Option<u64> {
        self.no_room
    }
}

impl AppendRequest {
    pub(super) fn answer(self, result: Result<Appended, AppendError>) {
        drop(self.permits);
        // A caller that has stopped waiting was told that the outcome is unknown.
        let _ = self.reply.send(result);
    }
}

/// The span of a put, where any request in it is sampled.
pub(super) fn put_span(put: &Put<AppendRequest>, blob: &BlobName) -> Option<Context> {
    let requests = put.requests.iter().filter_map(|(request, _)| request.span.as_ref());
    traces::shared("commit", requests, || {
        let number = |name, number: u64| KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX));
        vec![
            KeyValue::new("messagevault.container", blob.container.to_string()),
            KeyValue::new("messagevault.segment", blob.name.clone()),
            number("messagevault.position", put.position.0),
            number("messagevault.bytes", put.bytes.len() as u64),
            number("messagevault.requests", put.requests.len() as u64),
        ]
    })
}
