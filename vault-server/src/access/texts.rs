//! The texts of an access file, each checked where it is read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::access::grants::Grant;
use crate::access::password::Password;
use crate::limits::MAX_ACCESS_NAME_CHARS;

/// Whom a rule is about.
#[derive(Debug)]
pub(super) enum Subject {
    One(String),
    Beginning(String),
}

impl TryFrom<String> for Subject {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.strip_suffix('*') {
            Some(beginning) => Ok(Self::Beginning(beginning.to_owned())),
            None if text.is_empty() => Err("a subject must not be empty; * stands for all"),
            None => Ok(Self::One(text)),
        }
    }
}

impl Subject {
    pub(super) fn covers(&self, subject: &str) -> bool {
        match self {
            Self::One(one) => one == subject,
            Self::Beginning(beginning) => subject.starts_with(beginning),
        }
    }
}

/// The name of a user or token.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let chars = text.chars().count();
        // A colon ends the name in what Basic sends.
        if chars == 0 || chars > MAX_ACCESS_NAME_CHARS || text.contains(|c: char| c == ':' || c.is_control())
        {
            return Err(format!("a name has 1 to {MAX_ACCESS_NAME_CHARS} characters, none of them a colon"));
        }
        Ok(Self(text))
    }
}

/// A text that says something.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Err("it must not be empty") } else { Ok(Self(text)) }
    }
}

/// The SHA-256 of a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Sha256(pub(super) [u8; 32]);

impl TryFrom<String> for Sha256 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "the SHA-256 of a token is 64 hexadecimal digits";
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(WRONG)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(pair[0] << 4 | pair[1]).expect("two hexadecimal digits are a byte");
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256(..)")
    }
}

/// Where an issuer says which keys it signs with, exactly as its tokens have it as `iss`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct IssuerUrl(pub(super) String);

impl TryFrom<String> for IssuerUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str =
            "an issuer is an https URL without query, exactly as it stands in its tokens as `iss`";
        let url = reqwest::Url::parse(&text).map_err(|_| WRONG)?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !plain || url.password().is_some() || !may_be_asked(&url) {
            return Err(WRONG);
        }
        Ok(Self(text))
    }
}

/// Whether keys may come from there: over TLS, or from this very machine.
pub(super) fn may_be_asked(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https" || (url.scheme() == "http" && matches!(host, "localhost" | "127.0.0.1" | "[::1]"))
}

/// Reads a text and makes something of it while the reader still knows where it stands: the error then names line and
/// field, which it would not behind `try_from`.
struct Parsed<T>(PhantomData<T>);

impl<T: TryFrom<String, Error: fmt::Display>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::try_from(text.to_owned()).map_err(E::custom)
    }
}

macro_rules! parsed {
    ($($parsed:ty),*) => {
        $(impl<'de> Deserialize<'de> for $parsed {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parsed(PhantomData))
            }
        })*
    };
}

parsed!(Name, Subject, Text, Password, Sha256, IssuerUrl, Grant);
