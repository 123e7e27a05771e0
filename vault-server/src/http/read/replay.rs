//! Reading forward from an offset, a group of batches at a time, for answers whose end is not known before they begin.

use vault_format::ids::Offset;
use vault_format::layout::block_of;

use crate::http::read::filter::Filter;
use crate::http::read::messages::{Messages, Room, Separator, Wanted};
use crate::log::Cursor;
use crate::log::error::ReadError;
use crate::log::reading::{ReadAhead, StreamReader};

/// Goes forward through a stream.
pub(crate) struct Replay {
    reader: StreamReader,
    cursor: Cursor,
    messages: Option<Box<Messages>>,
    /// The offset behind the batches in hand.
    after: Offset,
    place: Offset,
    end: Offset,
    separator: Separator,
    looked_at_bytes: u64,
    /// Loads the next block while this one is sent.
    ahead: Option<ReadAhead>,
}

impl Replay {
    /// From `start` on, before `end`.
    pub(crate) async fn new(
        reader: &StreamReader,
        start: Offset,
        end: Offset,
        separator: Separator,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            cursor: reader.seek(start).await?,
            reader: reader.clone(),
            messages: None,
            after: start,
            place: start,
            end,
            separator,
            looked_at_bytes: 0,
            ahead: None,
        })
    }

    /// Everything before this offset was written or passed over.
    pub(crate) fn place(&self) -> Offset {
        self.place
    }

    /// How many bytes have been taken up: stored ones, and those that were made of compressed ones.
    pub(crate) fn looked_at_bytes(&self) -> u64 {
        self.looked_at_bytes
    }

    /// Writes messages of one group of batches until the room is used up. `false` at the end, and at the tail for now.
    pub(crate) async fn step(
        &mut self,
        filter: Option<&Filter>,
        room: &mut Room,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        if self.place >= self.end {
            return Ok(false);
        }
        let messages = match &mut self.messages {
            Some(messages) => messages,
            none => {
                let Some(batches) = self.reader.next(&mut self.cursor).await? else { return Ok(false) };
                self.looked_at_bytes += batches.bytes.len() as u64;
                self.after = batches.after.next_offset;
                let left_block = block_of(batches.before.position) != block_of(batches.after.position);
                let goes_on = left_block && self.after < self.end;
                self.ahead = goes_on.then(|| self.reader.read_ahead(&self.cursor));
                none.insert(Box::new(Messages::new(batches)))
            }
        };
        let wanted = Wanted { start: self.place, end: self.end, filter, separator: self.separator };
        let uncompressed_before = messages.uncompressed_bytes();
        let more = messages.write(&self.reader, &wanted, room, out).await;
        self.looked_at_bytes += messages.uncompressed_bytes() - uncompressed_before;
        // Also where it failed: what it wrote before is sent.
        self.place = self.place.max(messages.reached());
        if !more? {
            self.messages = None;
            self.place = self.place.max(self.after.min(self.end));
        }
        Ok(true)
    }
}
