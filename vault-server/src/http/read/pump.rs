//! The body of an answer. It is made while it is sent, so that it takes the same memory however long it is: a block
//! that is being sent, and the next one.

use axum::body::Body;
use bytes::Bytes;
use vault_format::ids::Offset;

use crate::http::breaking;
use crate::http::read::extent::{DOCUMENT_START, Extent};
use crate::http::read::messages::{Messages, Room, Separator, Wanted, clip};
use crate::http::read::parameters::Format;
use crate::http::read::plan::Plan;
use crate::limits::{ANSWER_PIECE_BYTES, COUNTED_PIECE_BYTES};
use crate::log::blocks::Batches;
use crate::log::error::{ReadError, Unusable};
use crate::log::reading::{ReadAhead, StreamReader};

/// What an answer takes besides its messages.
const ENVELOPE_BYTES: usize = 256;

/// The body of an answer; a short one in one piece.
pub(crate) async fn body(
    reader: StreamReader,
    plan: Plan,
    format: Format,
    extent: Extent,
) -> Result<Body, ReadError> {
    let short = plan.is_loaded() && plan.loaded_bytes() <= ANSWER_PIECE_BYTES / 2;
    let mut pump = Pump::new(reader, plan, format, extent);
    if short {
        let first = pump.piece().await?;
        if pump.ended() {
            return Ok(first.map_or_else(Body::empty, Body::from));
        }
        pump.first = first;
    }
    let env = pump.reader.stream().env().clone();
    let pieces = futures::stream::unfold(pump, |mut pump| async move {
        match pump.piece().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), pump)),
            Err(error) => {
                tracing::warn!(%error, stream = %pump.reader.stream().name(), "an answer breaks off");
                pump.state = State::Ended;
                Some((Err(std::io::Error::other(error)), pump))
            }
        }
    });
    Ok(breaking::body(&env, pieces))
}

struct Pump {
    reader: StreamReader,
    plan: Plan,
    format: Format,
    extent: Extent,
    state: State,
    /// A piece that was made in advance.
    first: Option<Bytes>,
    /// What comes after the messages that were written before it.
    failed: Option<ReadError>,
    /// Up to where batches have been taken up.
    reached: Offset,
    /// Loads the next block while this one is sent.
    ahead: Option<ReadAhead>,
}

enum State {
    Beginning,
    Between,
    Messages(Box<Messages>),
    Batches(Bytes),
    Ended,
}

impl Pump {
    fn new(reader: StreamReader, plan: Plan, format: Format, extent: Extent) -> Self {
        let reached = plan.start;
        let (first, failed, ahead) = (None, None, None);
        Self { reader, plan, format, extent, state: State::Beginning, first, failed, reached, ahead }
    }

    fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The next piece of the body. `None` at its end.
    async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(piece) = self.first.take() {
            return Ok(Some(piece));
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        match self.format {
            Format::Batches => self.stored_piece().await,
            Format::Json => self.text_piece(Separator::Comma).await,
            // Event streams are not planned.
            Format::Lines | Format::Events => self.text_piece(Separator::LineEnd).await,
        }
    }

    async fn stored_piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Batches(rest) if !rest.is_empty() => {
                    let piece = rest.split_to(rest.len().min(ANSWER_PIECE_BYTES));
                    if rest.is_empty() && self.reached >= self.plan.end && self.plan.loaded.is_empty() {
                        self.state = State::Ended;
                    }
                    return Ok(Some(piece));
                }
                _ => {
                    self.state = match self.next_batches().await? {
                        Some(batches) => State::Batches(clip(&batches, self.plan.end)),
                        None => State::Ended,
                    };
                }
            }
        }
    }

    async fn text_piece(&mut self, separator: Separator) -> Result<Option<Bytes>, ReadError> {
        if self.ended() {
            return Ok(None);
        }
        let room = if self.plan.is_loaded() { self.plan.loaded_bytes() } else { ANSWER_PIECE_BYTES };
        let mut out = Vec::with_capacity(room.min(ANSWER_PIECE_BYTES) + ENVELOPE_BYTES);
        if matches!(self.state, State::Beginning) {
            if separator == Separator::Comma {
                out.extend_from_slice(DOCUMENT_START);
            }
            self.state = State::Between;
        }
        let before = out.len();
        match self.write_messages(separator, &mut out).await {
            Ok(()) => {}
            Err(error) if out.len() > before => self.failed = Some(error),
            Err(error) => return Err(error),
        }
        match out.len() {
            0 => Ok(None),
            short if short < COUNTED_PIECE_BYTES => Ok(Some(out.into())),
            _ => self.reader.counted(out).await.map(Some),
        }
    }

    /// Writes messages until there is a piece of them, and the end behind the last one.
    async fn write_messages(&mut self, separator: Separator, out: &mut Vec<u8>) -> Result<(), ReadError> {
        while out.len() < ANSWER_PIECE_BYTES && !self.ended() {
            match &mut self.state {
                State::Messages(messages) => {
                    let (start, end) = (self.plan.start, self.plan.end);
                    let wanted = Wanted { start, end, filter: None, separator };
                    let mut room = Room { bytes: ANSWER_PIECE_BYTES, messages: u64::MAX };
                    if !messages.write(&self.reader, &wanted, &mut room, out).await? {
                        self.state = State::Between;
                    }
                }
                _ => match self.next_batches().await? {
                    Some(batches) => self.state = State::Messages(Box::new(Messages::new(batches))),
                    None => {
                        if separator == Separator::Comma {
                            self.extent.write(out);
                        }
                        self.state = State::Ended;
                    }
                },
            }
        }
        Ok(())
    }

    async fn next_batches(&mut self) -> Result<Option<Batches>, ReadError> {
        let batches = match self.plan.loaded.pop_front() {
            Some(batches) => batches,
            None if self.reached >= self.plan.end => return Ok(None),
            None => {
                let Some(cursor) = &mut self.plan.cursor else { return Ok(None) };
                // The end was in front of the tail, and a tail does not move back while this server leads.
                self.reader.next(cursor).await?.ok_or(Unusable::NoLeader)?
            }
        };
        self.reached = batches.after.next_offset;
        self.ahead = match &self.plan.cursor {
            Some(cursor) if self.plan.loaded.is_empty() && self.reached < self.plan.end => {
                Some(self.reader.read_ahead(cursor))
            }
            _ => None,
        };
        Ok(Some(batches))
    }
}
