//! Names of streams, of the containers that hold them, and of segments. This is the only parser of names.
//!
//! ```text
//! container <prefix>sys                                        the vault's own
//! container <prefix><stream>                                   one for each stream
//!   page blob  <stream id>/<base offset, 20 digits>.log          a segment
//!   block blob <stream id>/aside/<base>-<position>-<term>        bytes that recovery cleared
//! ```

use std::fmt;

use thiserror::Error;

use crate::ids::{Offset, Position, StreamId, Term};
use crate::limits::MAX_OFFSET;

/// The shortest and the longest name of a container, prefix included: Azure's rule for containers.
pub const CONTAINER_NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=63;

/// What follows the prefix in the name of the vault's own container; no stream may have this name.
pub const SYSTEM: &str = "sys";

/// The page blob in the system container whose lease elects the leader.
pub const LEADER_BLOB: &str = "leader";

/// Why a text is not a name.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum InvalidName {
    /// A character outside the allowed ones.
    #[error("`{0}` may hold only lower-case letters, digits and single hyphens")]
    Characters(String),
    /// A hyphen in the wrong place.
    #[error("`{0}` must start and end with a letter or digit, and may not hold two hyphens in a row")]
    Hyphens(String),
    /// Too short or too long.
    #[error("`{name}` is {chars} characters long with its prefix; 3 to 63 are allowed")]
    Length {
        /// The name with its prefix.
        name: String,
        /// Its length.
        chars: usize,
    },
    /// The name of the system container.
    #[error("`sys` is reserved for the vault itself")]
    Reserved,
}

fn check(text: &str, hyphen_may_end: bool) -> Result<(), InvalidName> {
    // The text comes from a URL or a flag: what an error repeats of it is bounded.
    let shown = || text.chars().take(*CONTAINER_NAME_CHARS.end() + 1).collect::<String>();
    if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Err(InvalidName::Characters(shown()));
    }
    if text.starts_with('-') || text.contains("--") || (text.ends_with('-') && !hyphen_may_end) {
        return Err(InvalidName::Hyphens(shown()));
    }
    Ok(())
}

fn check_length(name: &str) -> Result<(), InvalidName> {
    let chars = name.len();
    if CONTAINER_NAME_CHARS.contains(&chars) {
        return Ok(());
    }
    let shown = name.chars().take(*CONTAINER_NAME_CHARS.end() + 1).collect();
    Err(InvalidName::Length { name: shown, chars })
}

/// What stands in front of every container name of one vault, such as `mv-`. It may be empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix(String);

impl Prefix {
    /// Checks a prefix: the system container's name must be a container name.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        check(text, true)?;
        check_length(&format!("{text}{SYSTEM}"))?;
        Ok(Self(text.to_owned()))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the vault's own container.
    #[must_use]
    pub fn system_container(&self) -> ContainerName {
        ContainerName(format!("{}{SYSTEM}", self.0))
    }

    /// The name of a stream's container.
    #[must_use]
    pub fn container(&self, stream: &StreamName) -> ContainerName {
        ContainerName(format!("{}{}", self.0, stream.0))
    }

    /// Checks a stream's name as it would stand under this prefix.
    pub fn stream(&self, name: &str) -> Result<StreamName, InvalidName> {
        check(name, false)?;
        check_length(&format!("{}{name}", self.0))?;
        match name {
            "" => Err(InvalidName::Hyphens(String::new())),
            SYSTEM => Err(InvalidName::Reserved),
            _ => Ok(StreamName(name.to_owned())),
        }
    }

    /// The stream whose container this is, if it is one of this vault's.
    #[must_use]
    pub fn stream_of(&self, container: &ContainerName) -> Option<StreamName> {
        self.stream(container.0.strip_prefix(&self.0)?).ok()
    }

    /// Whether one of two prefixes begins the other, so that names of the two vaults could meet.
    #[must_use]
    pub fn overlaps(&self, other: &str) -> bool {
        self.0 != other && (self.0.starts_with(other) || other.starts_with(&self.0))
    }
}

/// A stream's name: lower-case letters, digits and single hyphens. Made by [`Prefix::stream`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamName(String);

impl StreamName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A container's name, prefix included.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContainerName(String);

impl ContainerName {
    /// A name that storage listed. `None` where no vault could have given it.
    #[must_use]
    pub fn listed(name: &str) -> Option<Self> {
        (check(name, false).is_ok() && check_length(name).is_ok()).then(|| Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a segment inside its stream's container.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentName {
    /// The stream that the segment belongs to.
    pub stream: StreamId,
    /// The offset of the first message that the segment can hold.
    pub base: Offset,
}

impl SegmentName {
    /// Reads a blob's name. `None` where it is not a segment's.
    #[must_use]
    pub fn parse(blob: &str) -> Option<Self> {
        let (stream, file) = blob.split_once('/')?;
        let digits = file.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
        let base = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        (base <= MAX_OFFSET).then_some(Self { stream: stream.parse().ok()?, base: Offset(base) })
    }

    /// The block blob that keeps what recovery in `term` found and cleared from `position` on.
    #[must_use]
    pub fn aside(&self, position: Position, term: Term) -> String {
        format!("{}{:020}-{:020}-{:020}", aside_prefix(&self.stream), self.base.0, position.0, term.0)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:020}.log", self.stream, self.base.0)
    }
}

/// What the names of all copies begin with that recovery set aside for a stream.
#[must_use]
pub fn aside_prefix(stream: &StreamId) -> String {
    format!("{stream}/aside/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> Prefix {
        Prefix::new("mv-").unwrap()
    }

    #[test]
    fn good_names_pass() {
        for name in ["a", "orders", "orders-2", "0", "a-b-c", &"x".repeat(60)] {
            let stream = prefix().stream(name).unwrap();
            let container = prefix().container(&stream);
            assert_eq!(container.as_str(), format!("mv-{name}"));
            assert_eq!(prefix().stream_of(&container), Some(stream));
            assert_eq!(ContainerName::listed(container.as_str()), Some(container));
        }
    }

    #[test]
    fn bad_names_say_why() {
        let fails = |name: &str| prefix().stream(name).unwrap_err().to_string();
        assert!(fails("../etc").contains("only lower-case letters"));
        assert!(fails("a_b").contains("only lower-case letters"));
        assert!(fails("Orders").contains("only lower-case letters"));
        assert!(fails("-a").contains("start and end"));
        assert!(fails("a-").contains("start and end"));
        assert!(fails("a--b").contains("two hyphens"));
        assert!(fails("").contains("start and end"));
        assert!(fails(&"x".repeat(61)).contains("64 characters long"));
        assert!(fails(&"x".repeat(100_000)).len() < 300);
        assert_eq!(prefix().stream("sys"), Err(InvalidName::Reserved));
        assert!(
            Prefix::new("").unwrap().stream("ab").is_err(),
            "two characters are too few without a prefix"
        );
    }

    #[test]
    fn prefixes_are_checked_and_compared() {
        assert!(Prefix::new(&"x".repeat(60)).is_ok());
        for wrong in ["-", "Mv", "a--b-", &"x".repeat(61)] {
            assert!(Prefix::new(wrong).is_err(), "{wrong}");
        }
        assert!(prefix().overlaps("mv-a-") && prefix().overlaps("m") && prefix().overlaps(""));
        assert!(!prefix().overlaps("mv-") && !prefix().overlaps("other-"));
        assert_eq!(prefix().stream_of(&ContainerName::listed("mv-sys").unwrap()), None);
        assert_eq!(prefix().stream_of(&ContainerName::listed("else").unwrap()), None);
    }

    #[test]
    fn segment_names_are_read_strictly() {
        let name = SegmentName { stream: StreamId([0xab; 16]), base: Offset(42) };
        let text = "abababababababababababababababab/00000000000000000042.log";
        assert_eq!(name.to_string(), text);
        assert_eq!(SegmentName::parse(text), Some(name));
        let id = "abababababababababababababababab";
        for wrong in [
            format!("{id}/42.log"),
            format!("{id}/+0000000000000000042.log"),
            format!("{id}/00000000000000000042.txt"),
            format!("{id}/99999999999999999999.log"),
            format!("{id}/aside/00000000000000000042.log"),
            "00000000000000000042.log".to_owned(),
        ] {
            assert_eq!(SegmentName::parse(&wrong), None, "{wrong}");
        }
        assert!(name.aside(Position(512), Term(7)).starts_with(&aside_prefix(&name.stream)));
        assert_eq!(SegmentName::parse(&name.aside(Position(512), Term(7))), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_refused(text in ".{0,80}") {
            if let Ok(stream) = prefix().stream(&text) {
                prop_assert_eq!(stream.as_str(), text.as_str());
                prop_assert!(ContainerName::listed(prefix().container(&stream).as_str()).is_some());
            }
        }
    }
}
