//! One JSON value a line, stored as it stands.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use vault_format::record::Message;

use crate::http::append::json::is_json;
use crate::http::append::run::{Rules, Run};
use crate::http::append::text::Text;
use crate::http::problem::{Code, Problem};
use crate::limits::MAX_POINTER_STEPS;

/// The records in lines of JSON, and how many. `key` is a JSON pointer to each message's key.
pub(super) fn encode(body: &[u8], key: Option<&str>, rules: Rules<'_>) -> Result<(Bytes, u32), Problem> {
    let pointer = key.map(Pointer::parse).transpose()?;
    let mut run = Run::new(body.len(), rules);
    let mut rest = body;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        run.check_value(line)?;
        let index = run.count();
        let invalid = |reason: &dyn fmt::Display| Problem::message(Code::InvalidMessage, index, reason);
        let text = str::from_utf8(line).map_err(|error| invalid(&error))?;
        is_json(text).map_err(|error| invalid(&error))?;
        let key = match &pointer {
            None => None,
            Some(pointer) => {
                let found = pointer.key(text).map_err(|error| invalid(&error))?;
                let missing =
                    || invalid(&format_args!("there is no string, number or boolean at `{pointer}`"));
                Some(found.ok_or_else(missing)?)
            }
        };
        let key = key.as_ref().map_or(&[][..], |Text(key)| key.as_bytes());
        run.push(&Message { key, value: line, ..Message::default() })?;
    }
    run.finish()
}

/// A JSON pointer (RFC 6901).
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            let detail = format!("query parameters: key: `{text}` is not a JSON pointer such as `/user/id`");
            Problem::new(Code::InvalidParameter, detail)
        };
        let steps = text.strip_prefix('/').ok_or_else(wrong)?;
        if steps.split('/').count() > MAX_POINTER_STEPS {
            let detail = format!("query parameters: key: at most {MAX_POINTER_STEPS} steps are allowed");
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        Ok(Self(steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// The text of the string, number or boolean that the pointer names.
    fn key<'j>(&self, json: &'j str) -> Result<Option<Text<'j>>, serde_json::Error> {
        let mut json = json;
        for step in &self.0 {
            let mut deserializer = serde_json::Deserializer::from_str(json);
            match Step(step).deserialize(&mut deserializer)? {
                Some(found) => json = found.get(),
                None => return Ok(None),
            }
        }
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Some),
            None | Some(b'{' | b'[' | b'n') => Ok(None),
            Some(_) => Ok(Some(Text(json.into()))),
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{step}"))
    }
}

/// One step of a pointer: the member or element of that name, if the value has one.
struct Step<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.parse::<usize>().ok();
        let (mut found, mut index) = (None, 0);
        while let Some(element) = list.next_element::<&'de RawValue>()? {
            if Some(index) == wanted {
                found = Some(element);
            }
            index += 1;
        }
        Ok(found)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
