//! The records of one request, encoded one behind the other into one buffer.

use bytes::Bytes;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::{InvalidRun, Message};

use crate::http::problem::{Code, Problem};

/// What a record takes besides a short key and its value.
const RECORD_OVERHEAD: usize = 64;

pub(crate) struct Run {
    records: Vec<u8>,
    count: u32,
    max_value_bytes: usize,
}

impl Run {
    /// `expected_bytes` is how much room is made at first.
    pub(crate) fn new(expected_bytes: usize, max_value_bytes: usize) -> Self {
        let room = expected_bytes.min(MAX_RUN_BYTES) + RECORD_OVERHEAD;
        Self { records: Vec::with_capacity(room), count: 0, max_value_bytes }
    }

    /// The index of the next message.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Refuses a next message that is too long before anything else is done with it.
    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), Problem> {
        let index = self.count;
        let message = Message { value, ..Message::default() };
        message.check(self.max_value_bytes).map_err(|reason| Problem::from(InvalidRun { index, reason }))
    }

    /// Checks and encodes the next message; stops as soon as all are too large together.
    pub(crate) fn push(&mut self, message: &Message<'_>) -> Result<(), Problem> {
        let index = self.count;
        message.check(self.max_value_bytes).map_err(|reason| Problem::from(InvalidRun { index, reason }))?;
        message.encode(0, &mut self.records);
        if self.records.len() > MAX_RUN_BYTES {
            return Err(too_large());
        }
        self.count += 1;
        Ok(())
    }

    /// The records and how many they are: at least one.
    pub(crate) fn finish(self) -> Result<(Bytes, u32), Problem> {
        if self.count == 0 {
            return Err(no_messages());
        }
        Ok((self.records.into(), self.count))
    }
}

fn too_large() -> Problem {
    let detail =
        format!("the messages take more than {MAX_RUN_BYTES} bytes as records; send fewer in a request");
    Problem::new(Code::RequestTooLarge, detail)
}

pub(crate) fn no_messages() -> Problem {
    Problem::new(Code::InvalidBody, "the request holds no message; send at least one")
}
