//! Whether a batch continues the log at the place where it stands.
//!
//! The log is a chain: a batch is valid only after the state that all before it left. **The tail is the first place
//! that holds no valid batch.**

use thiserror::Error;

use crate::batch::{Batch, BatchError};
use crate::header::{Header, HeaderError};
use crate::ids::{Offset, Position, StreamId, Term, Timestamp};

/// What the batches up to a place in a segment amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The stream.
    pub stream: StreamId,
    /// Where the next batch must stand.
    pub position: Position,
    /// The offset that the next message gets.
    pub next_offset: Offset,
    /// The last message's timestamp; 0 before the first message.
    pub last_timestamp: Timestamp,
    /// The highest term that has written here.
    pub fence: Term,
}

/// Why the bytes at a place are not the next batch of the chain.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Broken {
    /// No batch of this version is there, or its payload is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An intact batch that belongs elsewhere.
    #[error("the batch that stands here belongs elsewhere: {0}")]
    Misplaced(&'static str),
}

impl From<HeaderError> for Broken {
    fn from(error: HeaderError) -> Self {
        Self::Batch(error.into())
    }
}

impl Broken {
    /// Whether a later version of the format was found, which is neither a tail nor damage.
    #[must_use]
    pub fn is_too_new(&self) -> bool {
        matches!(self, Self::Batch(BatchError::Header(HeaderError::TooNew { .. })))
    }
}

impl Chain {
    /// The beginning of a segment whose first message gets the offset `base`.
    #[must_use]
    pub fn at_segment_start(stream: StreamId, base: Offset) -> Self {
        Self {
            stream,
            position: Position::ZERO,
            next_offset: base,
            last_timestamp: Timestamp::ZERO,
            fence: Term::ZERO,
        }
    }

    /// The place in front of a batch that is known to be part of the log, such as the committed head of a block.
    #[must_use]
    pub fn before(header: &Header) -> Self {
        Self {
            stream: header.stream,
            position: header.position,
            next_offset: header.base_offset,
            last_timestamp: header.first_timestamp,
            fence: header.fence,
        }
    }

    /// The beginning of the segment that follows one which ends here with a seal.
    #[must_use]
    pub fn in_next_segment(self) -> Self {
        Self { position: Position::ZERO, ..self }
    }

    /// The timestamp of messages that are appended here at `now`: time never runs backwards along the log.
    #[must_use]
    pub fn timestamp(&self, now: Timestamp) -> Timestamp {
        now.clamp(self.last_timestamp, Timestamp::MAX)
    }

    /// Whether a header continues the chain. Says nothing about the payload.
    pub fn check(&self, header: &Header) -> Result<(), Broken> {
        let ensure =
            |holds: bool, rule: &'static str| if holds { Ok(()) } else { Err(Broken::Misplaced(rule)) };
        ensure(header.stream == self.stream, "another stream's id")?;
        ensure(header.position == self.position, "another position")?;
        ensure(header.base_offset == self.next_offset, "another base offset")?;
        ensure(header.fence >= self.fence, "a lower fence than before it")?;
        ensure(header.first_timestamp >= self.last_timestamp, "an earlier timestamp than before it")
    }

    /// Moves past a batch whose header was checked.
    pub fn advance(&mut self, header: &Header) {
        assert_eq!(self.check(header), Ok(()), "the chain goes on with the batch that was checked");
        self.position = header.end();
        self.next_offset = header.next_offset();
        self.last_timestamp = header.last_timestamp;
        self.fence = header.fence;
    }

    /// Decodes and checks the batch at the front of `bytes`, payload included, and moves past it.
    pub fn accept<'a>(&mut self, bytes: &'a [u8]) -> Result<Batch<'a>, Broken> {
        let header = Header::decode(bytes)?;
        self.check(&header)?;
        let batch = Batch::with_header(header, bytes)?;
        self.advance(&header);
        Ok(batch)
    }
}
