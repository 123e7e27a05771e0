//! Grants: who may do what with which streams.

use std::fmt;

use vault_format::names::Prefix;

/// What a grant allows, the less before the more: who may write may read, an admin may both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Right {
    /// Reading messages and descriptions.
    Read,
    /// Appending messages.
    Write,
    /// Creating, changing and deleting streams.
    Admin,
}

impl Right {
    /// As grants spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Streams {
    All,
    /// Those whose names begin so.
    Beginning(String),
    One(String),
}

/// `<stream, prefix* or all>:<read, write or admin>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    streams: Streams,
    right: Right,
}

/// Why a text is not a grant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidGrant {
    /// It has not both parts.
    #[error("a grant is `<stream, prefix* or all>:<read, write or admin>`")]
    Form,
    /// The part behind the colon.
    #[error("what is granted is `read`, `write` or `admin`")]
    Right,
    /// The part before the colon.
    #[error("a grant names a stream, the beginning of names with a * behind it, or all: {0}")]
    Streams(String),
}

impl TryFrom<String> for Grant {
    type Error = InvalidGrant;

    fn try_from(text: String) -> Result<Self, InvalidGrant> {
        let (streams, right) = text.rsplit_once(':').ok_or(InvalidGrant::Form)?;
        let right = match right {
            "read" => Right::Read,
            "write" => Right::Write,
            "admin" => Right::Admin,
            _ => return Err(InvalidGrant::Right),
        };
        let checked = |name: &str| {
            // What may stand in a prefix of containers may stand in a name.
            let name = Prefix::new(name).map_err(|error| InvalidGrant::Streams(error.to_string()))?;
            Ok(name.as_str().to_owned())
        };
        let streams = match streams.strip_suffix('*') {
            Some("") => Streams::All,
            Some(beginning) => Streams::Beginning(checked(beginning)?),
            None if streams == "all" => Streams::All,
            None if streams.is_empty() => return Err(InvalidGrant::Form),
            None => Streams::One(checked(streams)?),
        };
        Ok(Self { streams, right })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = self.right.as_str();
        match &self.streams {
            Streams::All => write!(f, "all:{right}"),
            Streams::Beginning(beginning) => write!(f, "{beginning}*:{right}"),
            Streams::One(name) => write!(f, "{name}:{right}"),
        }
    }
}

impl Grant {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { streams: Streams::All, right: Right::Admin }
    }

    /// Whether it allows this with the stream of this name. A name that is none is treated like any other.
    #[must_use]
    pub fn allows(&self, stream: &str, right: Right) -> bool {
        let covered = match &self.streams {
            Streams::All => true,
            Streams::Beginning(beginning) => stream.starts_with(beginning),
            Streams::One(name) => name == stream,
        };
        covered && right <= self.right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(text: &str) -> Grant {
        Grant::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn the_more_includes_the_less() {
        for (given, allowed) in [("read", 1), ("write", 2), ("admin", 3)] {
            let grant = grant(&format!("orders:{given}"));
            for (index, right) in [Right::Read, Right::Write, Right::Admin].into_iter().enumerate() {
                assert_eq!(grant.allows("orders", right), index < allowed, "{given} {right:?}");
                assert!(!grant.allows("orders2", right) && !grant.allows("order", right));
            }
        }
    }

    #[test]
    fn a_star_ends_a_beginning_and_all_is_all() {
        let beginning = grant("shop-*:read");
        assert!(beginning.allows("shop-1", Right::Read) && beginning.allows("shop-", Right::Read));
        assert!(!beginning.allows("shop", Right::Read) && !beginning.allows("xshop-1", Right::Read));
        for all in ["all:admin", "*:admin"] {
            assert_eq!(grant(all), Grant::everything());
        }
        assert!(Grant::everything().allows("NOT A NAME", Right::Admin));
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for wrong in [
            "",
            "orders",
            ":read",
            "orders:",
            "orders:Read",
            "orders:execute",
            "a*b:read",
            "**:read",
            "Orders:read",
            "a--b:read",
            "all :read",
            "orders:read:",
            "-a*:read",
            "a/b:read",
        ] {
            assert!(Grant::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_shows_itself_as_it_is_read(name in "[a-z][a-z0-9]{0,20}", star in any::<bool>(), right in 0..3_usize) {
            let right = [Right::Read, Right::Write, Right::Admin][right];
            let text = format!("{name}{}:{}", if star { "*" } else { "" }, right.as_str());
            prop_assert_eq!(grant(&text).to_string(), text);
        }
    }
}
