//! Requests as text: a target or query, header fields, an empty line, the body.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use bytes::Bytes;

pub(crate) struct Request {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    /// `None` where a connection would not have let it through.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let empty_line = bytes.windows(2).position(|two| two == b"\n\n")?;
        let (head, body) = (&bytes[..empty_line], &bytes[empty_line + 2..]);
        let mut lines = head.split(|byte| *byte == b'\n');
        let uri = Uri::try_from(lines.next()?).ok()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
        }
        Some(Self { uri, headers, body: Bytes::copy_from_slice(body) })
    }
}
