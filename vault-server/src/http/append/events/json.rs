//! Events in JSON, one (structured mode) or a list (batched mode), encoded while they are read.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use vault_format::record::Message;

use super::attributes::{Attributes, Value};
use crate::http::append::json::{compact, decode};
use crate::http::append::run::{Rules, Run};
use crate::http::append::text::Text;
use crate::http::problem::{Code, Problem};

/// What data is where an event says nothing of it. Where it is stored there is no such rule, so that it is said there.
const IMPLIED: &str = "application/json";

#[derive(Default)]
struct Event<'a> {
    attributes: Attributes<'a>,
    data: Option<&'a RawValue>,
    data_base64: Option<Text<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;
        impl<'de> Visitor<'de> for EventVisitor {
            type Value = Event<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut event = Event::default();
                while let Some(Text(name)) = map.next_key()? {
                    let repeated = match &*name {
                        "data" => event.data.replace(map.next_value()?).is_some(),
                        "data_base64" => event.data_base64.replace(map.next_value()?).is_some(),
                        _ => {
                            let value = map.next_value()?;
                            event.attributes.add(&name, value).map_err(A::Error::custom)?;
                            false
                        }
                    };
                    if repeated {
                        return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                    }
                }
                event.attributes.check_whole().map_err(A::Error::custom)?;
                Ok(event)
            }
        }
        deserializer.deserialize_map(EventVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute: a string, a boolean or a whole number of 32 bits")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Value::Unset)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(value), &self);
                value.try_into().map(Value::Integer).map_err(wrong)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self);
                value.try_into().map(Value::Integer).map_err(wrong)
            }

            fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// The record of one event.
pub(in crate::http::append) fn one(body: &[u8], rules: Rules<'_>) -> Result<(Bytes, u32), Problem> {
    let event = serde_json::from_slice::<Event<'_>>(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::message(Code::InvalidMessage, 0, error),
        _ => Problem::new(Code::InvalidBody, error.to_string()),
    })?;
    let mut run = Run::new(body.len(), rules);
    push(&mut run, &mut Vec::new(), &event)?;
    run.finish()
}

/// The records of a list of events, and how many.
pub(in crate::http::append) fn batch(body: &[u8], rules: Rules<'_>) -> Result<(Bytes, u32), Problem> {
    let run = Run::new(body.len(), rules);
    let mut reading = Reading { run, scratch: Vec::new(), in_events: false, refused: None };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = Events(&mut reading).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (read, reading.refused) {
        (_, Some(problem)) => Err(problem),
        (Ok(()), None) => reading.run.finish(),
        (Err(error), None) if reading.in_events => {
            Err(Problem::message(Code::InvalidMessage, reading.run.count(), error))
        }
        (Err(error), None) => Err(Problem::new(Code::InvalidBody, error.to_string())),
    }
}

struct Reading<'t> {
    run: Run<'t>,
    scratch: Vec<u8>,
    /// Whether the reader is inside the list, so that a mistake is one event's.
    in_events: bool,
    /// What refused the request, where that was not the JSON.
    refused: Option<Problem>,
}

struct Events<'r, 't>(&'r mut Reading<'t>);

impl<'de> DeserializeSeed<'de> for Events<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of CloudEvents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let reading = self.0;
        reading.in_events = true;
        while let Some(event) = list.next_element::<Event<'de>>()? {
            if let Err(problem) = push(&mut reading.run, &mut reading.scratch, &event) {
                reading.refused = Some(problem);
                return Err(A::Error::custom("refused"));
            }
        }
        reading.in_events = false;
        Ok(())
    }
}

fn push(run: &mut Run<'_>, scratch: &mut Vec<u8>, event: &Event<'_>) -> Result<(), Problem> {
    let index = run.count();
    let invalid = |reason: &str| Problem::message(Code::InvalidMessage, index, reason);
    let Event { attributes, data, data_base64 } = event;
    let mut headers = attributes.headers();
    let text;
    let value = match (data, data_base64) {
        (None, None) => &[],
        (None, Some(Text(data))) => {
            decode(data, scratch).ok_or_else(|| invalid("`data_base64` is not base64"))?
        }
        (Some(data), None) if attributes.say_json() => {
            if attributes.content_type().is_none() {
                headers.push(("content-type", IMPLIED));
            }
            compact(data.get(), scratch)
        }
        (Some(data), None) => {
            let found = serde_json::from_str::<Text<'_>>(data.get());
            text = found.map_err(|_| invalid("`data` must be a string, as `datacontenttype` is not JSON"))?;
            text.0.as_bytes()
        }
        (Some(_), Some(_)) => return Err(invalid("give `data` or `data_base64`, not both")),
    };
    run.push(&Message { attributes: 0, key: attributes.key(), headers: &headers, value })
}
