//! Messages as they go in and come out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::Kind;
use vault_format::record;

/// A message to append.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    /// Empty means none.
    pub key: Vec<u8>,
    /// The message itself.
    pub value: Vec<u8>,
}

/// A message as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the stream.
    pub offset: u64,
    /// When it was appended, in ms since the Unix epoch.
    pub timestamp: u64,
    /// What was appended.
    pub message: Message,
}

impl Message {
    /// A message with a key.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// A message without a key.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self::new([], value)
    }

    /// The value as text.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.value).expect("the tests ask for texts only where they wrote texts")
    }
}

/// The body of an append as JSON.
#[must_use]
pub fn to_json(messages: &[Message]) -> Vec<u8> {
    let field = |fields: &mut Value, name: &str, bytes: &[u8]| match str::from_utf8(bytes) {
        Ok(text) => fields[name] = text.into(),
        Err(_) => fields[format!("{name}_base64")] = STANDARD.encode(bytes).into(),
    };
    let encode = |message: &Message| {
        let mut fields = json!({});
        if !message.key.is_empty() {
            field(&mut fields, "key", &message.key);
        }
        field(&mut fields, "value", &message.value);
        fields
    };
    json!({ "messages": messages.iter().map(encode).collect::<Vec<_>>() }).to_string().into_bytes()
}

/// The body of an append as binary records.
#[must_use]
pub fn to_records(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        let Message { key, value } = message;
        record::Message { attributes: 0, key, headers: &[], value }.encode(0, &mut out);
    }
    out
}

/// Reads a message out of the JSON that a read answers.
#[must_use]
pub fn from_json(fields: &Value) -> Stored {
    let number = |name: &str| fields[name].as_u64().unwrap_or_else(|| panic!("{name} in {fields}"));
    let bytes = |name: &str| match (&fields[name], &fields[format!("{name}_base64")]) {
        (Value::String(text), Value::Null) => Some(text.as_bytes().to_vec()),
        (Value::Null, Value::String(text)) => Some(STANDARD.decode(text).expect("the server writes base64")),
        (Value::Null, Value::Null) => None,
        other => panic!("{name} is there twice: {other:?}"),
    };
    let value = bytes("value").unwrap_or_else(|| panic!("no value in {fields}"));
    Stored {
        offset: number("offset"),
        timestamp: number("timestamp"),
        message: Message { key: bytes("key").unwrap_or_default(), value },
    }
}

/// Reads the messages of an answer in NDJSON.
#[must_use]
pub fn from_ndjson(body: &[u8]) -> Vec<Stored> {
    let line = |line: &[u8]| from_json(&serde_json::from_slice(line).expect("every line is JSON"));
    body.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()).map(line).collect()
}

/// Reads the messages of an answer in stored batches, of a filler only its first page. Every checksum and the chain
/// from batch to batch are checked.
#[must_use]
pub fn from_batches(mut body: &[u8]) -> Vec<Stored> {
    let mut out = Vec::new();
    let mut chain: Option<Chain> = None;
    while !body.is_empty() {
        let header = Batch::decode(body).expect("intact batches follow each other").header;
        let chain = chain.get_or_insert_with(|| Chain::before(&header));
        let batch = chain.accept(body).expect("each batch continues the one before it");
        push_messages(&batch, &mut out);
        if header.kind == Kind::Seal {
            *chain = chain.in_next_segment();
        }
        let written = usize::try_from(header.written_bytes()).expect("a batch fits in memory");
        body = &body[written..];
    }
    out
}

/// The messages of one batch.
pub fn push_messages(batch: &Batch<'_>, out: &mut Vec<Stored>) {
    let held = batch.uncompressed().expect("a batch with a right checksum holds what was compressed");
    for (offset, record) in (batch.header.base_offset.0..).zip(held.records()) {
        let record = record.expect("a batch with a right checksum holds valid records");
        let timestamp = batch.header.first_timestamp.0 + record.timestamp_delta;
        out.push(Stored { offset, timestamp, message: Message::new(record.key, record.value) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_survive_json() {
        let message = Message::new([0xff], *b"text");
        let body: Value = serde_json::from_slice(&to_json(std::slice::from_ref(&message))).unwrap();
        let mut fields = body["messages"][0].clone();
        fields["offset"] = 3.into();
        fields["timestamp"] = 4.into();
        assert_eq!(from_json(&fields), Stored { offset: 3, timestamp: 4, message });
    }

    #[test]
    fn records_are_what_the_format_takes() {
        let messages = [Message::new("k", "v"), Message::value("")];
        assert_eq!(record::check_run(&to_records(&messages), 1), Ok(2));
    }
}
