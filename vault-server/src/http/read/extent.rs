//! What an answer says besides its messages.

use axum::http::{HeaderMap, HeaderName};
use vault_format::ids::Offset;

use crate::http::read::messages::write_number;

const NEXT_OFFSET: HeaderName = HeaderName::from_static("message-vault-next-offset");
const END_OFFSET: HeaderName = HeaderName::from_static("message-vault-end-offset");
const FIRST_OFFSET: HeaderName = HeaderName::from_static("message-vault-first-offset");

/// How an answer in one document begins.
pub(crate) const DOCUMENT_START: &[u8] = b"{\"messages\":[";

/// Where to go on, and where the stream begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Behind the last message that was looked at. `None` of an answer without an end.
    pub(crate) next: Option<Offset>,
    /// Of the stream: its first offset, and the one behind its last. `None` of an answer that never changes.
    pub(crate) bounds: Option<(Offset, Offset)>,
}

impl Extent {
    /// The same as headers.
    pub(crate) fn insert(&self, headers: &mut HeaderMap) {
        let (first, end) = self.bounds.unzip();
        for (name, offset) in [(NEXT_OFFSET, self.next), (END_OFFSET, end), (FIRST_OFFSET, first)] {
            headers.extend(offset.map(|offset| (name, offset.0.into())));
        }
    }

    /// How an answer in one document ends.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (first, end) = self.bounds.unzip();
        let members: [(&[u8], Option<Offset>); 3] =
            [(b",\"next_offset\":", self.next), (b",\"end_offset\":", end), (b",\"first_offset\":", first)];
        out.push(b']');
        for (name, offset) in members {
            if let Some(offset) = offset {
                out.extend_from_slice(name);
                write_number(offset.0, out);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}
