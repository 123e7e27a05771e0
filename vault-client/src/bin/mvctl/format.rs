//! Messages as text for people, as JSON for programs, as bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vault_client::Received;

use crate::units;

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// A line a message: offset, time, key and value with tabs between, control characters escaped.
    Text,
    /// A JSON object a line, with the members that the server's `application/x-ndjson` has.
    Json,
    /// The values, and nothing between them.
    Raw,
}

impl Format {
    /// Writes a message; `stream` says where it is from, where there are several.
    pub(crate) fn write(self, message: &Received, stream: Option<&str>, out: &mut Vec<u8>) {
        match self {
            Self::Text => text(message, stream, out),
            Self::Json => json(message, stream, out),
            Self::Raw => out.extend_from_slice(message.value()),
        }
    }
}

fn text(message: &Received, stream: Option<&str>, out: &mut Vec<u8>) {
    if let Some(stream) = stream {
        out.extend_from_slice(stream.as_bytes());
        out.push(b'\t');
    }
    let mut start = format!("{}\t", message.offset());
    units::write_time(message.timestamp().0, &mut start);
    out.extend_from_slice(start.as_bytes());
    out.push(b'\t');
    escape(message.key(), out);
    out.push(b'\t');
    escape(message.value(), out);
    out.push(b'\n');
}

/// Text as it is, but for what would move a terminal's cursor or end a column: that is written as in source code, and
/// bytes that are not text as `\xFF`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.extend_from_slice(b"\\\\"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                control if control.is_control() || is_hidden(control) => {
                    out.extend_from_slice(format!("\\u{{{:x}}}", u32::from(control)).as_bytes());
                }
                plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02X}").as_bytes());
        }
    }
}

/// Characters that end a line or turn the direction of writing, and are no control characters to Unicode.
fn is_hidden(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn json(message: &Received, stream: Option<&str>, out: &mut Vec<u8>) {
    out.reserve(message.value().len() + message.key().len() + 160);
    out.push(b'{');
    if let Some(stream) = stream {
        out.extend_from_slice(b"\"stream\":");
        quoted(stream, out);
        out.push(b',');
    }
    out.extend_from_slice(
        format!(
            "\"offset\":{},\"timestamp\":{},\"id\":\"{}\"",
            message.offset(),
            message.timestamp(),
            message.id()
        )
        .as_bytes(),
    );
    if !message.key().is_empty() {
        member("key", message.key(), out);
    }
    member("value", message.value(), out);
    let mut separator: &[u8] = b",\"headers\":{";
    for (name, value) in message.headers() {
        out.extend_from_slice(separator);
        quoted(name, out);
        out.push(b':');
        quoted(value, out);
        separator = b",";
    }
    if separator == b"," {
        out.push(b'}');
    }
    if message.attributes() != 0 {
        out.extend_from_slice(format!(",\"attributes\":{}", message.attributes()).as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

/// Text where the bytes are text, else base64 under a name that says so.
fn member(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            quoted(text, out);
        }
        Err(_) => {
            out.extend_from_slice(b"_base64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is written to memory as JSON");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        let escaped = |bytes: &[u8]| {
            let mut out = Vec::new();
            escape(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(escaped("plain ä 漢 🦀".as_bytes()), "plain ä 漢 🦀");
        assert_eq!(escaped(b"a\tb\nc\r\\\x1b[31m\x7f\0"), r"a\tb\nc\r\\\u{1b}[31m\u{7f}\u{0}");
        assert_eq!(escaped(b"\xff\xe2\x28"), r"\xFF\xE2(");
        assert_eq!(escaped("\u{202e}\u{85}".as_bytes()), r"\u{202e}\u{85}");
    }
}
