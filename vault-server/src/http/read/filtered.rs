//! A filtered answer with an end. Its headers say where to go on, which shows only once everything was looked at: it is
//! collected before it is sent.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use vault_format::ids::Offset;

use crate::http::app::App;
use crate::http::read::extent::{DOCUMENT_START, Extent};
use crate::http::read::messages::{Room, Separator};
use crate::http::read::parameters::{Format, Request};
use crate::http::read::replay::Replay;
use crate::limits::{ANSWER_PIECE_BYTES, COUNTED_PIECE_BYTES, FILTERED_LOOK_BYTES, FILTERED_LOOK_TIME};
use crate::log::error::ReadError;
use crate::log::reading::StreamReader;

/// What was found.
pub(crate) struct Filtered {
    pieces: Vec<Bytes>,
    /// What is found before this offset is in pieces.
    in_pieces: Offset,
    /// The piece in hand.
    out: Vec<u8>,
    sent_bytes: usize,
    format: Format,
    /// Everything before it was looked at.
    pub(crate) next: Offset,
    /// Whether it ends where it does for a reason that will be the same the next time.
    pub(crate) complete: bool,
}

/// Looks for messages from `start` on: until there are enough, until the end, until too much was looked at.
pub(crate) async fn collect(
    app: &App,
    reader: &StreamReader,
    request: &Request,
    start: Offset,
) -> Result<Filtered, ReadError> {
    let clock = &app.env.clock;
    let begun = clock.monotonic();
    let document = request.format == Format::Json;
    let separator = if document { Separator::Comma } else { Separator::LineEnd };
    let end = request.to.unwrap_or(Offset(u64::MAX));
    let most_bytes = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let mut found = Filtered {
        pieces: Vec::new(),
        in_pieces: start,
        out: if document { DOCUMENT_START.to_vec() } else { Vec::new() },
        sent_bytes: 0,
        format: request.format,
        next: start,
        complete: true,
    };
    if start >= end {
        return Ok(found);
    }
    let mut replay = Replay::new(reader, start, end, separator).await?;
    let (mut left, mut waited) = (request.limit, Duration::ZERO);
    loop {
        let before = found.out.len();
        let still = most_bytes.saturating_sub(found.sent_bytes);
        let mut room = Room { bytes: before + still.min(ANSWER_PIECE_BYTES), messages: left };
        let more = replay.step(Some(&request.filter), &mut room, &mut found.out).await;
        left = room.messages;
        found.sent_bytes += found.out.len() - before;
        found.next = replay.place();
        let more = match more {
            Ok(more) => more,
            // What comes before it is served; who goes on from there is told.
            Err(_) if found.next > start => {
                found.complete = false;
                break;
            }
            Err(error) => return Err(error),
        };
        if found.out.len() >= ANSWER_PIECE_BYTES && !found.keep(reader).await? {
            break;
        }
        if left == 0 || found.sent_bytes >= most_bytes || found.next >= end {
            break;
        }
        let looked_for = (clock.monotonic() - begun).saturating_sub(waited);
        if replay.looked_at_bytes() >= FILTERED_LOOK_BYTES || looked_for >= FILTERED_LOOK_TIME {
            found.complete = false;
            break;
        }
        if !more {
            let (since, patience) = (clock.monotonic(), request.wait.saturating_sub(waited));
            if left < request.limit || !wait(app, reader, found.next, patience).await? {
                break;
            }
            waited += clock.monotonic() - since;
        }
        tokio::task::consume_budget().await;
    }
    if found.out.len() >= COUNTED_PIECE_BYTES {
        found.keep(reader).await?;
    }
    Ok(found)
}

/// Waits for more at the tail, at most for `patience`. Whether to look on.
async fn wait(
    app: &App,
    reader: &StreamReader,
    place: Offset,
    patience: Duration,
) -> Result<bool, ReadError> {
    reader.check_end()?;
    if patience.is_zero() || app.stopping.is_cancelled() {
        return Ok(false);
    }
    tokio::select! {
        waited = reader.wait_beyond(place, patience) => waited?,
        () = app.stopping.cancelled() => {}
    }
    Ok(reader.tail().next_offset() > place)
}

impl Filtered {
    /// Makes the piece in hand count against the readers' memory. Where there is none left, the answer ends in front of
    /// the piece, and `false` is answered; an error where nothing is in front of it.
    async fn keep(&mut self, reader: &StreamReader) -> Result<bool, ReadError> {
        match reader.counted(std::mem::take(&mut self.out)).await {
            Ok(piece) => {
                self.pieces.push(piece);
                self.in_pieces = self.next;
                Ok(true)
            }
            Err(_) if !self.pieces.is_empty() => {
                (self.next, self.complete) = (self.in_pieces, false);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The answer's body.
    pub(crate) fn into_body(mut self, extent: &Extent) -> Body {
        if self.format == Format::Json {
            extent.write(&mut self.out);
        }
        if self.pieces.is_empty() {
            return self.out.into();
        }
        self.pieces.push(self.out.into());
        Body::from_stream(futures::stream::iter(
            self.pieces.into_iter().map(Ok::<_, std::convert::Infallible>),
        ))
    }
}
