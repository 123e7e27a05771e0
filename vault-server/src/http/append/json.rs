//! Messages in one JSON document, encoded while they are read: there is no list of them in between.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use vault_format::record::Message;

use crate::http::append::run::{Rules, Run};
use crate::http::append::text::Text;
use crate::http::object::Object;
use crate::http::problem::{Code, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonMessage<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    key_base64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value_base64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Headers<'a>,
    #[serde(default)]
    attributes: u8,
}

/// A field that is there, also where it says `null`: a `json` of `null` is a value, any other is a mistake.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Default)]
struct Headers<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = map.next_entry()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(HeadersVisitor)
    }
}

/// Buffers that every message uses again.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Reading<'t> {
    run: Run<'t>,
    scratch: Scratch,
    /// Whether the reader is inside the list of messages, so that a mistake is one message's.
    in_messages: bool,
    /// What refused the request, where that was not the JSON.
    refused: Option<Problem>,
}

/// The records in a JSON body, and how many.
pub(super) fn encode(body: &[u8], rules: Rules<'_>) -> Result<(Bytes, u32), Problem> {
    let run = Run::new(body.len(), rules);
    let mut reading = Reading { run, scratch: Scratch::default(), in_messages: false, refused: None };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = Document(&mut reading).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (read, reading.refused) {
        (_, Some(problem)) => Err(problem),
        (Ok(()), None) => reading.run.finish(),
        (Err(error), None) if reading.in_messages => {
            Err(Problem::message(Code::InvalidMessage, reading.run.count(), error))
        }
        (Err(error), None) => Err(Problem::new(Code::InvalidBody, error.to_string())),
    }
}

struct Document<'r, 't>(&'r mut Reading<'t>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `messages`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(Text(field)) = map.next_key::<Text<'de>>()? {
            if field != "messages" {
                return Err(A::Error::custom(format_args!("unknown field `{field}`, expected `messages`")));
            }
            if std::mem::replace(&mut seen, true) {
                return Err(A::Error::duplicate_field("messages"));
            }
            map.next_value_seed(Messages(self.0))?;
        }
        if seen { Ok(()) } else { Err(A::Error::missing_field("messages")) }
    }
}

struct Messages<'r, 't>(&'r mut Reading<'t>);

impl<'de> DeserializeSeed<'de> for Messages<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let reading = self.0;
        reading.in_messages = true;
        while let Some(Object(message)) = list.next_element::<Object<JsonMessage<'de>>>()? {
            if let Err(problem) = push(&mut reading.run, &mut reading.scratch, &message) {
                reading.refused = Some(problem);
                return Err(A::Error::custom("refused"));
            }
        }
        reading.in_messages = false;
        Ok(())
    }
}

fn push(run: &mut Run<'_>, scratch: &mut Scratch, message: &JsonMessage<'_>) -> Result<(), Problem> {
    let index = run.count();
    let invalid = |reason: &str| Problem::message(Code::InvalidMessage, index, reason);
    let key = match (&message.key, &message.key_base64) {
        (None, None) => &[],
        (Some(Text(key)), None) => key.as_bytes(),
        (None, Some(Text(text))) => {
            decode(text, &mut scratch.key).ok_or_else(|| invalid("`key_base64` is not base64"))?
        }
        (Some(_), Some(_)) => return Err(invalid("give `key` or `key_base64`, not both")),
    };
    let value = match (&message.value, &message.value_base64, message.json) {
        (Some(Text(value)), None, None) => value.as_bytes(),
        (None, Some(Text(text)), None) => {
            decode(text, &mut scratch.value).ok_or_else(|| invalid("`value_base64` is not base64"))?
        }
        (None, None, Some(json)) => compact(json.get(), &mut scratch.value),
        _ => return Err(invalid("give one of `value`, `value_base64` and `json`")),
    };
    let headers: Vec<_> = message.headers.0.iter().map(|(name, value)| (&*name.0, &*value.0)).collect();
    run.push(&Message { attributes: message.attributes, key, headers: &headers, value })
}

/// The bytes behind base64.
pub(super) fn decode<'s>(text: &str, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]> {
    scratch.clear();
    STANDARD.decode_vec(text, scratch).ok()?;
    Some(scratch)
}

/// Valid JSON without the white space outside its strings, otherwise letter by letter: numbers keep their digits.
pub(super) fn compact<'s>(json: &str, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    scratch.clear();
    let mut rest = json.as_bytes();
    while !rest.is_empty() {
        let string = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let (outside, inside) = rest.split_at(string);
        scratch.extend(outside.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let end = string_end(inside);
        scratch.extend_from_slice(&inside[..end]);
        rest = &inside[end..];
    }
    scratch
}

/// The length of the string, quotes included, that stands at the front of `json`; 0 at the end of the text.
fn string_end(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// Whether a text is JSON, without keeping any of it.
pub(super) fn is_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}
