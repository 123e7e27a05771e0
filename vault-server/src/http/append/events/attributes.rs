//! The rules of CloudEvents 1.0 for context attributes, and the message headers that attributes become.

use std::borrow::Cow;
use std::fmt;

use iri_string::types::{UriReferenceStr, UriStr};
use vault_format::limits::MAX_HEADERS;

use crate::http::request::media_type;

/// What a value has to be besides a text of allowed characters.
#[derive(Clone, Copy)]
enum Rule {
    Any,
    /// Not empty.
    Text,
    Version,
    Uri,
    UriReference,
    Timestamp,
    MediaType,
}

/// The attributes that have rules of their own: name, message header, rule, and whether every event has it.
const KNOWN: [(&str, &str, Rule, bool); 9] = [
    ("specversion", "ce_specversion", Rule::Version, true),
    ("id", "ce_id", Rule::Text, true),
    ("source", "ce_source", Rule::UriReference, true),
    ("type", "ce_type", Rule::Text, true),
    ("subject", "ce_subject", Rule::Text, false),
    ("time", "ce_time", Rule::Timestamp, false),
    ("dataschema", "ce_dataschema", Rule::Uri, false),
    (CONTENT_TYPE, "content-type", Rule::MediaType, false),
    // An extension that every SDK knows.
    (PARTITION_KEY, "ce_partitionkey", Rule::Text, false),
];

const CONTENT_TYPE: &str = "datacontenttype";
const PARTITION_KEY: &str = "partitionkey";

/// Why something is not an event, in a sentence.
pub(super) type Wrong = String;

/// The value of an attribute as an event format gives it.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// As good as no attribute.
    Unset,
    Text(Cow<'a, str>),
    Bool(bool),
    Integer(i32),
}

struct Attribute<'a> {
    /// The name of the message header.
    header: Cow<'static, str>,
    value: Cow<'a, str>,
}

/// The attributes of one event, checked one by one.
#[derive(Default)]
pub(super) struct Attributes<'a>(Vec<Attribute<'a>>);

impl<'a> Attributes<'a> {
    /// Takes another attribute.
    pub(super) fn add(&mut self, name: &str, value: Value<'a>) -> Result<(), Wrong> {
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')) {
            return Err(format!(
                "`{}` is not an attribute's name: lower-case letters and digits",
                name.escape_debug()
            ));
        }
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        let value = match value {
            Value::Unset => return Ok(()),
            Value::Text(text) => text,
            _ if known.is_some() => return Err(format!("`{name}` must be a string")),
            Value::Bool(value) => value.to_string().into(),
            Value::Integer(value) => value.to_string().into(),
        };
        let (header, rule) = match known {
            Some((_, header, rule, _)) => (Cow::Borrowed(*header), *rule),
            None => (format!("ce_{name}").into(), Rule::Any),
        };
        if self.get(&header).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
        if self.0.len() == MAX_HEADERS {
            return Err(format!("there are more than {MAX_HEADERS} attributes"));
        }
        check(name, rule, &value)?;
        self.0.push(Attribute { header, value });
        Ok(())
    }

    /// That nothing is missing that every event has.
    pub(super) fn check_whole(&self) -> Result<(), Wrong> {
        let missing = KNOWN.iter().find(|(_, header, _, required)| *required && self.get(header).is_none());
        missing.map_or(Ok(()), |(name, ..)| Err(format!("the attribute `{name}` is missing")))
    }

    fn get(&self, header: &str) -> Option<&str> {
        self.0.iter().find(|attribute| attribute.header == header).map(|attribute| &*attribute.value)
    }

    /// Whether the data is JSON; so it is where nothing is said.
    pub(super) fn say_json(&self) -> bool {
        self.content_type().is_none_or(|name| {
            let subtype = media_type(name).rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
            subtype == "json" || subtype.ends_with("+json")
        })
    }

    /// The attribute `datacontenttype`.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.get("content-type")
    }

    /// The message's key.
    pub(super) fn key(&self) -> &[u8] {
        self.get("ce_partitionkey").unwrap_or_default().as_bytes()
    }

    /// The message's headers.
    pub(super) fn headers(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|attribute| (&*attribute.header, &*attribute.value)).collect()
    }
}

fn check(name: &str, rule: Rule, value: &str) -> Result<(), Wrong> {
    if let Some(character) = value.chars().find(|character| !is_allowed(*character)) {
        return Err(format!("`{name}` holds the character {character:?}, which no attribute may hold"));
    }
    let wrong =
        |must: &dyn fmt::Display| Err(format!("`{name}` is `{}`; it must be {must}", shortened(value)));
    match rule {
        Rule::Any => Ok(()),
        _ if value.is_empty() => Err(format!("`{name}` is empty")),
        Rule::Version if value != "1.0" => wrong(&"`1.0`, the version of CloudEvents that this server takes"),
        Rule::UriReference if UriReferenceStr::new(value).is_err() => wrong(&"a URI reference (RFC 3986)"),
        Rule::Uri if UriStr::new(value).is_err() => wrong(&"an absolute URI (RFC 3986)"),
        Rule::Timestamp if !is_timestamp(value) => wrong(&"a time as in RFC 3339"),
        Rule::MediaType if !is_media_type(value) => wrong(&"a media type (RFC 2046)"),
        _ => Ok(()),
    }
}

/// Values may be as long as a body.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 100;
    value.chars().take(SHOWN).chain("...".chars().filter(|_| value.chars().nth(SHOWN).is_some())).collect()
}

/// Neither a control character nor what Unicode calls a noncharacter.
fn is_allowed(character: char) -> bool {
    let code = u32::from(character);
    !character.is_control() && !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
}

/// `2026-01-31T12:00:00.5+01:00`. The reader of times takes more than RFC 3339 has: the form is looked at first.
fn is_timestamp(text: &str) -> bool {
    let Some((fixed, rest)) = text.split_at_checked(19) else { return false };
    let fits = fixed.bytes().zip("0000-00-00T00:00:00".bytes()).all(|(found, form)| match form {
        b'0' => found.is_ascii_digit(),
        form => found.eq_ignore_ascii_case(&form),
    });
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let has_empty_fraction = rest.starts_with('.') && zone.len() + 1 == rest.len();
    let is_zone = zone.eq_ignore_ascii_case("z")
        || (zone.len() == 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':');
    fits && is_zone && !has_empty_fraction && text.parse::<jiff::Timestamp>().is_ok()
}

/// `type/subtype`, perhaps with parameters, which are not looked at.
fn is_media_type(text: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    media_type(text).split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(name: &str, value: &str) -> Result<(), Wrong> {
        Attributes::default().add(name, Value::Text(value.to_owned().into()))
    }

    #[test]
    fn values_keep_to_their_types() {
        for (name, right) in [
            ("source", "/sensors/tn-1234567/alerts"),
            ("source", "1-555-123-4567"),
            ("source", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"),
            ("source", "mailto:somebody@example.org"),
            ("dataschema", "https://example.org/schema?v=1#a"),
            ("time", "2018-04-05T17:31:00Z"),
            ("time", "2018-04-05t17:31:00.123456789z"),
            ("time", "1985-04-12T23:20:50.52-07:30"),
            ("time", "1990-12-31T23:59:60Z"),
            ("datacontenttype", "application/json; charset=utf-8"),
            ("datacontenttype", "application/vnd.x+xml"),
            ("subject", "ä 😀"),
            ("anything", ""),
            ("traceparent", "00-x"),
        ] {
            added(name, right).unwrap_or_else(|wrong| panic!("{name} {right}: {wrong}"));
        }
        for (name, wrong) in [
            ("specversion", "0.3"),
            ("specversion", "1.0.2"),
            ("id", ""),
            ("type", ""),
            ("subject", ""),
            ("partitionkey", ""),
            ("source", ""),
            ("source", "a b"),
            ("source", "http://[::1"),
            ("source", "%zz"),
            ("dataschema", "/relative"),
            ("time", "2018-04-05"),
            ("time", "2018-04-05 17:31:00Z"),
            ("time", "2018-04-05T17:31:00"),
            ("time", "2018-04-05T17:31:00.Z"),
            ("time", "2018-04-05T17:31Z"),
            ("time", "2018-02-30T17:31:00Z"),
            ("time", "2018-04-05T17:31:00+0100"),
            ("time", "2018-04-05T17:31:00Z[UTC]"),
            ("time", "yesterday"),
            ("datacontenttype", "json"),
            ("datacontenttype", "a b/c"),
            ("datacontenttype", "text/"),
            ("id", "a\nb"),
            ("extension", "\u{7f}"),
            ("extension", "\u{85}"),
            ("extension", "\u{fdd0}"),
            ("extension", "\u{1fffe}"),
        ] {
            let says = added(name, wrong).unwrap_err();
            assert!(says.contains(name), "{name} {wrong}: {says}");
        }
        assert!(added("id", &"x".repeat(1_000_000)).is_ok());
        assert!(added("time", &"x".repeat(1_000_000)).unwrap_err().len() < 300);
    }

    #[test]
    fn names_are_lower_case_letters_and_digits() {
        for wrong in ["", "Id", "a-b", "a_b", "ä", "a.b", "data_base64", " id"] {
            assert!(added(wrong, "x").unwrap_err().contains("name"), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_json_is_not_taken_for_it() {
        let said = |name: &str| {
            let mut attributes = Attributes::default();
            attributes.add(CONTENT_TYPE, Value::Text(name.to_owned().into())).unwrap();
            attributes.say_json()
        };
        assert!(Attributes::default().say_json());
        for json in ["application/json", "text/JSON;charset=utf-8", "application/vnd.x+json"] {
            assert!(said(json), "{json}");
        }
        for other in ["text/plain", "application/jsonl", "application/xml+jsonish"] {
            assert!(!said(other), "{other}");
        }
    }
}
