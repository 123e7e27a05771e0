//! The records of one request, encoded one behind the other into one buffer.

use bytes::Bytes;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::{InvalidRun, Message};

use crate::http::append::trace::Trace;
use crate::http::problem::{Code, Problem};

/// What a record takes besides a short key and its value.
const RECORD_OVERHEAD: usize = 64;

/// What holds for every message of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'t> {
    /// The longest value.
    pub(crate) max_value_bytes: usize,
    /// What the request belongs to, kept with each message that does not say so itself.
    pub(crate) trace: Option<&'t Trace>,
}

pub(crate) struct Run<'t> {
    records: Vec<u8>,
    count: u32,
    rules: Rules<'t>,
}

impl<'t> Run<'t> {
    /// `expected_bytes` is how much room is made at first.
    pub(crate) fn new(expected_bytes: usize, rules: Rules<'t>) -> Self {
        let room = expected_bytes.min(MAX_RUN_BYTES) + RECORD_OVERHEAD;
        Self { records: Vec::with_capacity(room), count: 0, rules }
    }

    /// The index of the next message.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Refuses a next message that is too long before anything else is done with it.
    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), Problem> {
        let index = self.count;
        let message = Message { value, ..Message::default() };
        let checked = message.check(self.rules.max_value_bytes);
        checked.map_err(|reason| Problem::from(InvalidRun { index, reason }))
    }

    /// Checks and encodes the next message; stops as soon as all are too large together.
    pub(crate) fn push(&mut self, message: &Message<'_>) -> Result<(), Problem> {
        let (index, limit) = (self.count, self.rules.max_value_bytes);
        message.check(limit).map_err(|reason| Problem::from(InvalidRun { index, reason }))?;
        let traced = self.rules.trace.and_then(|trace| trace.added_to(message.headers));
        let traced = traced.as_deref().map(|headers| Message { headers, ..*message });
        // Somebody on the way may have added the trace: a message that has no room for it is stored without.
        let message = traced.as_ref().filter(|traced| traced.check(limit).is_ok()).unwrap_or(message);
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

pub(super) fn too_large() -> Problem {
    let detail =
        format!("the messages take more than {MAX_RUN_BYTES} bytes as records; send fewer in a request");
    Problem::new(Code::RequestTooLarge, detail)
}

pub(crate) fn no_messages() -> Problem {
    Problem::new(Code::InvalidBody, "the request holds no message; send at least one")
}
