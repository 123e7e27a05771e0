//! The headers of idempotent producers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use vault_format::limits::{MAX_PRODUCER_ID_BYTES, MAX_RUN_BYTES};
use vault_format::record::{Stamp, stamped};

use crate::http::append::run::too_large;
use crate::http::problem::{Code, Problem};
use crate::http::request::single;

const ID: HeaderName = HeaderName::from_static("producer-id");
const EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const SEQUENCE: HeaderName = HeaderName::from_static("producer-seq");

/// Who sends a request, and which one of his it is.
#[derive(Debug)]
pub(super) struct Producer<'h> {
    id: &'h [u8],
    epoch: u64,
    sequence: u64,
}

impl<'h> Producer<'h> {
    /// What the headers say; `None` where they say nothing.
    pub(super) fn of(headers: &'h HeaderMap) -> Result<Option<Self>, Problem> {
        let given = (single(headers, &ID)?, single(headers, &EPOCH)?, single(headers, &SEQUENCE)?);
        let (id, epoch, sequence) = match given {
            (None, None, None) => return Ok(None),
            (Some(id), Some(epoch), Some(sequence)) => (id.as_bytes(), epoch, sequence),
            _ => {
                return Err(wrong(format!(
                    "give `{ID}`, `{EPOCH}` and `{SEQUENCE}` together, or none of them"
                )));
            }
        };
        let printable = |byte: &u8| matches!(byte, b' '..=b'~');
        if !(1..=MAX_PRODUCER_ID_BYTES).contains(&id.len()) || !id.iter().all(printable) {
            let detail = format!("`{ID}` must have 1 to {MAX_PRODUCER_ID_BYTES} printable ASCII characters");
            return Err(wrong(detail));
        }
        Ok(Some(Self { id, epoch: number(&EPOCH, epoch)?, sequence: number(&SEQUENCE, sequence)? }))
    }

    /// The records with the producer's stamp on the first of them.
    pub(super) fn stamp(&self, records: &[u8], record_count: u32) -> Result<Bytes, Problem> {
        let Self { id: producer, epoch, sequence } = *self;
        let stamp = Stamp { producer, epoch, sequence, record_count: record_count.into() };
        let records = stamped(records, &stamp);
        if records.len() > MAX_RUN_BYTES { Err(too_large()) } else { Ok(records.into()) }
    }
}

/// Both numbers are 64 bits long where they are stored.
fn number(name: &HeaderName, value: &HeaderValue) -> Result<u64, Problem> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong(format!("`{name}` must be a number from 0 to {}", u64::MAX)))
}

fn wrong(detail: String) -> Problem {
    Problem::new(Code::InvalidParameter, detail)
}
