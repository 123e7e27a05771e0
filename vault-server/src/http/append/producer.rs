//! The headers of idempotent producers, which this server does not serve yet.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use vault_format::limits::MAX_PRODUCER_ID_BYTES;

use crate::http::problem::{Code, Problem};
use crate::http::request::single;

const ID: HeaderName = HeaderName::from_static("producer-id");
const EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const SEQUENCE: HeaderName = HeaderName::from_static("producer-seq");

/// Refuses them, so that nobody relies on what is not done: as unsupported where they are right, else as wrong.
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), Problem> {
    let given = (single(headers, &ID)?, single(headers, &EPOCH)?, single(headers, &SEQUENCE)?);
    let (id, epoch, sequence) = match given {
        (None, None, None) => return Ok(()),
        (Some(id), Some(epoch), Some(sequence)) => (id, epoch, sequence),
        _ => return Err(wrong(format!("give `{ID}`, `{EPOCH}` and `{SEQUENCE}` together, or none of them"))),
    };
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    if !(1..=MAX_PRODUCER_ID_BYTES).contains(&id.len()) || !id.as_bytes().iter().all(printable) {
        return Err(wrong(format!(
            "`{ID}` must have 1 to {MAX_PRODUCER_ID_BYTES} printable ASCII characters"
        )));
    }
    for (name, value) in [(EPOCH, epoch), (SEQUENCE, sequence)] {
        if number(value).is_none() {
            return Err(wrong(format!("`{name}` must be a number from 0 to {}", u64::MAX)));
        }
    }
    let detail =
        format!("this server does not know idempotent producers; leave out `{ID}`, `{EPOCH}`, `{SEQUENCE}`");
    Err(Problem::new(Code::Unsupported, detail))
}

/// Both numbers are 64 bits long where they are stored.
fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn wrong(detail: String) -> Problem {
    Problem::new(Code::InvalidParameter, detail)
}
