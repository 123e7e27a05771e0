//! The messages of one request, encoded as they will be stored: an atomic run of consecutive offsets.

use bytes::Bytes;
use vault_format::limits::{MAX_RUN_BYTES, MAX_VALUE_BYTES};
use vault_format::record::{self, InvalidRecord, InvalidRun};

use crate::message::Message;
use crate::parts::PART_BITS;

/// Messages that are appended together or not at all, at most 3 MiB of records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Run {
    records: Vec<u8>,
    count: u32,
}

impl Run {
    /// Without messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One with these messages.
    pub fn of<M: Into<Message>>(messages: impl IntoIterator<Item = M>) -> Result<Self, InvalidRun> {
        let mut run = Self::new();
        messages.into_iter().try_for_each(|message| run.push(&message.into()))?;
        Ok(run)
    }

    /// Adds a message. Whether it fits in the run with the others is seen by [`Run::bytes`], and by the server.
    pub fn push(&mut self, message: &Message) -> Result<(), InvalidRun> {
        let added = message.with_format(&message.value, message.attributes, None, |message| {
            if message.attributes & PART_BITS != 0 {
                return Err(InvalidRecord::Reserved);
            }
            self.push_format(message)
        });
        added.map_err(|reason| InvalidRun { index: self.count, reason })
    }

    /// Adds a message whatever its attributes say.
    pub(crate) fn push_format(&mut self, message: &record::Message<'_>) -> Result<(), InvalidRecord> {
        message.check(MAX_VALUE_BYTES)?;
        message.encode(0, &mut self.records);
        self.count += 1;
        Ok(())
    }

    /// How many messages it has.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How long its records are; a server refuses more than [`MAX_RUN_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Whether `more` bytes of records still have room.
    #[must_use]
    pub fn has_room_for(&self, more: usize) -> bool {
        self.records.len() + more <= MAX_RUN_BYTES
    }

    /// The records, one behind the other.
    pub(crate) fn into_records(self) -> Bytes {
        self.records.into()
    }

    /// The records, taken out: nothing is added any more.
    pub(crate) fn take_records(&mut self) -> Bytes {
        std::mem::take(&mut self.records).into()
    }
}
