//! Reading sealed segments from Blob storage, with the leave that the servers give, so that a long replay does not go
//! through them.
//!
//! The plan names segments and their URLs; a place in a segment is found by looking at the heads of its blocks, as the
//! servers do it. Whatever fails is begun anew with a new plan: that also renews the leave.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::StatusCode;
use http::header::RANGE;
use serde::Deserialize;
use tokio::time::Instant;
use vault_format::batch::BatchError;
use vault_format::header::Header;
use vault_format::ids::Offset;
use vault_format::limits::{BLOCK_BYTES, HEADER_BYTES};

use super::decoder::{Decoder, Layout, RawBatch};
use super::error::{ReadError, refused};
use crate::client::Client;
use crate::clock;
use crate::error::{Error, SideEffects};
use crate::http_transport::cause;
use crate::limits::{
    DIRECT_READ_BYTES, DIRECT_READS_AT_ONCE, LEAVE_MARGIN, SHORTEST_LEAVE, STORAGE_FAILURES, STORAGE_TIMEOUT,
};

/// The version of Azure's interface that the signature is made for.
const VERSION: (&str, &str) = ("x-ms-version", "2022-11-02");

#[derive(Deserialize)]
struct Plan {
    segments: Vec<Segment>,
    sas: String,
    expires: jiff::Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
struct Segment {
    url: String,
    first_offset: u64,
    next_offset: u64,
    end: u64,
}

/// Leave to read.
#[derive(Clone)]
struct Leave {
    storage: reqwest::Client,
    sas: String,
    renewal: Instant,
}

struct Open {
    leave: Leave,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
    decoder: Decoder,
    /// Batches that end before this offset are passed over.
    from: Offset,
    /// The first offset behind the segment.
    end: Offset,
}

/// Why nothing came.
enum Failed {
    /// What reading through the servers would meet as well.
    Reading(ReadError),
    /// The storage did not give what it was asked for.
    Storage(Error),
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Reading(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}

/// Reads the sealed segments of a stream.
pub(crate) struct Direct {
    client: Client,
    stream: String,
    open: Option<Open>,
    /// How often in a row the storage has failed.
    failures: u32,
}

impl Direct {
    pub(crate) fn new(client: Client, stream: &str) -> Self {
        Self { client, stream: stream.to_owned(), open: None, failures: 0 }
    }

    /// The next batch, the first time the one that holds `next`. `None` where the rest comes through the servers: it is not
    /// sealed yet, or the storage cannot be read directly.
    pub(crate) async fn next(&mut self, next: Offset) -> Result<Option<RawBatch>, ReadError> {
        match self.read(next).await {
            Ok(batch) => {
                self.failures = 0;
                Ok(batch)
            }
            Err(Failed::Reading(error)) => {
                self.open = None;
                Err(error)
            }
            Err(Failed::Storage(error)) => {
                self.open = None;
                self.failures += 1;
                if self.failures < STORAGE_FAILURES {
                    return Err(error.into());
                }
                tracing::warn!(%error, "the storage cannot be read directly: reading through the servers");
                Ok(None)
            }
        }
    }

    async fn read(&mut self, next: Offset) -> Result<Option<RawBatch>, Failed> {
        loop {
            if self.open.as_ref().is_some_and(|open| Instant::now() >= open.leave.renewal) {
                self.open = None;
            }
            let open = match &mut self.open {
                Some(open) => open,
                none => match find(&self.client, &self.stream, next).await? {
                    Some(open) => none.insert(open),
                    None => return Ok(None),
                },
            };
            let offset = next;
            let batch =
                open.decoder.next().map_err(|error| ReadError::Damaged { offset, reason: error.into() })?;
            match batch {
                Some(batch)
                    if batch.header.next_offset() <= open.from && batch.header.base_offset < open.from => {}
                Some(batch) => return Ok(Some(batch)),
                None => match open.pieces.next().await {
                    Some(piece) => open.decoder.feed(piece?),
                    None if next < open.end => {
                        return Err(
                            ReadError::Damaged { offset, reason: BatchError::Truncated.into() }.into()
                        );
                    }
                    // The segment is over; a new plan says whether another one follows.
                    None => self.open = None,
                },
            }
        }
    }
}

/// The place of an offset in the sealed segments, ready to be read from.
async fn find(client: &Client, stream: &str, next: Offset) -> Result<Option<Open>, Failed> {
    let Some(storage) = client.storage() else { return Ok(None) };
    let path = client.path(stream, &format!("/access?from={next}&limit=1"))?;
    let plan: Plan = match client.try_get(&path).await {
        Ok(plan) => plan,
        Err(error) if error.code() == Some("no_direct_access") => {
            tracing::info!(%error, "the storage cannot be read directly: reading through the servers");
            return Ok(None);
        }
        Err(error) => return Err(Failed::Reading(refused(error, Some(next)))),
    };
    let leave = Leave { storage, sas: plan.sas, renewal: renewal(plan.expires) };
    let Some(segment) = plan.segments.into_iter().find(|segment| segment.next_offset > next.0) else {
        return Ok(None);
    };
    let start = if next.0 <= segment.first_offset { 0 } else { block_of(&leave, &segment, next).await? };
    let (end, url, reading) = (segment.end, segment.url, leave.clone());
    let end_offset = Offset(segment.next_offset);
    let starts = (start..end).step_by(usize::try_from(DIRECT_READ_BYTES).expect("a few MiB"));
    let pieces = futures::stream::iter(starts)
        .map(move |from| {
            let (leave, url) = (reading.clone(), url.clone());
            async move { leave.read(&url, from, end.min(from + DIRECT_READ_BYTES)).await }
        })
        .buffered(DIRECT_READS_AT_ONCE)
        .boxed();
    Ok(Some(Open { leave, pieces, decoder: Decoder::new(Layout::Stored), from: next, end: end_offset }))
}

/// Where the last block begins that an offset can stand in.
async fn block_of(leave: &Leave, segment: &Segment, offset: Offset) -> Result<u64, Error> {
    let (mut low, mut high) = (0, segment.end.div_ceil(BLOCK_BYTES));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let at = middle * BLOCK_BYTES;
        let bytes = leave.read(&segment.url, at, at + HEADER_BYTES as u64).await?;
        // Where a head is damaged, reading goes on from further ahead and comes upon it.
        match Header::decode(&bytes) {
            Ok(header) if header.base_offset <= offset => low = middle,
            _ => high = middle,
        }
    }
    Ok(low * BLOCK_BYTES)
}

/// When a leave that ends then is renewed. The clock here may be wrong.
fn renewal(expires: jiff::Timestamp) -> Instant {
    let expires = u64::try_from(expires.as_millisecond()).unwrap_or_default();
    let left = Duration::from_millis(expires.saturating_sub(clock::now().0));
    let begun = Instant::now();
    begun.checked_add(left.saturating_sub(LEAVE_MARGIN).max(SHORTEST_LEAVE)).unwrap_or(begun + SHORTEST_LEAVE)
}

impl Leave {
    /// Reads a range of a blob.
    async fn read(&self, url: &str, from: u64, to: u64) -> Result<Bytes, Error> {
        let unreachable = |reason: String| Error::Unreachable {
            endpoint: url.to_owned(),
            reason,
            side_effects: SideEffects::None,
        };
        let request = self.storage.get(format!("{url}?{}", self.sas)).header(VERSION.0, VERSION.1);
        let read = async {
            let response = request.header(RANGE, format!("bytes={from}-{}", to - 1)).send().await?;
            let status = response.status();
            response.bytes().await.map(|bytes| (status, bytes))
        };
        let limit: Duration = STORAGE_TIMEOUT;
        let (status, bytes) = match tokio::time::timeout(limit, read).await {
            // The address holds the signature.
            Ok(read) => read.map_err(|error| unreachable(cause(&error.without_url())))?,
            Err(_) => return Err(Error::TimedOut { endpoint: url.to_owned(), limit }),
        };
        // Whatever it is, a new plan tells: the leave is over, the segment was deleted, storage is busy.
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(unreachable(format!("the storage answers {status}")));
        }
        if bytes.len() as u64 != to - from {
            return Err(unreachable(format!("{} bytes came of {}", bytes.len(), to - from)));
        }
        Ok(bytes)
    }
}
