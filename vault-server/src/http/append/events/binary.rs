//! One event in binary mode: its attributes are headers of the request, its data is the body.

use std::borrow::Cow;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use vault_format::record::Message;

use super::attributes::{Attributes, Value, Wrong};
use crate::http::append::run::{Rules, Run};
use crate::http::problem::{Code, Problem};

/// What the names of the headers begin with.
pub(in crate::http::append) const PREFIX: &str = "ce-";

/// The record of the event.
pub(in crate::http::append) fn encode(
    headers: &HeaderMap,
    body: &[u8],
    rules: Rules<'_>,
) -> Result<(Bytes, u32), Problem> {
    let attributes = attributes(headers).map_err(|wrong| Problem::message(Code::InvalidMessage, 0, wrong))?;
    let mut run = Run::new(body.len(), rules);
    let (key, headers) = (attributes.key(), attributes.headers());
    run.push(&Message { attributes: 0, key, headers: &headers, value: body })?;
    run.finish()
}

fn attributes(headers: &HeaderMap) -> Result<Attributes<'_>, Wrong> {
    let mut attributes = Attributes::default();
    // A header that is given twice is met twice here.
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
        if matches!(name, "datacontenttype" | "data") {
            return Err(format!("`{header}` must not be given: Content-Type and body say it"));
        }
        let value = decoded(value).ok_or_else(|| {
            format!("`{header}` must be printable ASCII, other characters percent-encoded as UTF-8")
        })?;
        attributes.add(name, Value::Text(value))?;
    }
    if let Some(value) = headers.get(CONTENT_TYPE) {
        let value = value.to_str().map_err(|_| "Content-Type must be printable ASCII")?;
        attributes.add("datacontenttype", Value::Text(value.into()))?;
    }
    attributes.check_whole()?;
    Ok(attributes)
}

/// Undoes quotes, as senders of earlier versions have them, and then, once, percent-encoding.
fn decoded(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    match text.strip_prefix('"') {
        None => percent_decode_str(text).decode_utf8().ok(),
        Some(quoted) => {
            let unquoted = unquoted(quoted)?;
            Some(percent_decode_str(&unquoted).decode_utf8().ok()?.into_owned().into())
        }
    }
}

/// What stands before the closing quote, which must be the last character.
fn unquoted(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(text),
            '\\' => text.push(rest.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once_as_the_binding_says() {
        for (value, text) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%e2%82%ac%41", "€A"),
            ("%2520", "%20"),
            ("100%", "100%"),
            (r#""a \"b\" \\ c%20d""#, r#"a "b" \ c d"#),
            (r#"a"b""#, r#"a"b""#),
            ("", ""),
        ] {
            assert_eq!(decoded(&HeaderValue::from_str(value).unwrap()).unwrap(), text, "{value}");
        }
        for wrong in [&b"%C0%A0"[..], b"\xc3\xa4", b"\"open", b"\"a\"b", b"\"a\\"] {
            assert_eq!(decoded(&HeaderValue::from_bytes(wrong).unwrap()), None, "{wrong:?}");
        }
    }
}
