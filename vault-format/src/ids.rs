//! The numbers and ids that stand in stored structures, each with a type of its own.

use std::fmt;

use thiserror::Error;

use crate::limits::{MAX_OFFSET, MAX_TIMESTAMP_MS};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The number zero.
            pub const ZERO: Self = Self(0);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of a message in its stream, counted from 0 without gaps.
    Offset
}
number! {
    /// A byte position inside a segment.
    Position
}
number! {
    /// The reign of one leader. Every term is higher than all before it. Batches carry their writer's term as fence.
    Term
}
number! {
    /// Milliseconds since the Unix epoch, UTC.
    Timestamp
}

impl Term {
    /// The sequence number of a segment that was made and that nobody has claimed yet. It is above every term, so that
    /// raising the number to a term changes nothing; and the highest number that every JSON parser reads exactly.
    pub const UNUSED: Self = Self((1 << 53) - 1);
}

impl Offset {
    /// The offset `count` messages further on, or `None` where no message id could name it.
    #[must_use]
    pub fn checked_add(self, count: u64) -> Option<Self> {
        self.0.checked_add(count).filter(|n| *n <= MAX_OFFSET).map(Self)
    }
}

impl Timestamp {
    /// The highest timestamp that a message id can carry.
    pub const MAX: Self = Self(MAX_TIMESTAMP_MS);
}

impl std::ops::Add<u64> for Position {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// 16 random bytes that name a stream for ever: one that is deleted and created again gets another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an id in hex.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an id of 32 hexadecimal digits in lower case")]
pub struct InvalidId(String);

impl std::str::FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse_hex16(text).map(Self).ok_or_else(|| InvalidId(text.to_owned()))
    }
}

/// What a message is known by across streams: its bytes sort by time, then by offset.
///
/// Timestamp (6 bytes), offset (6 bytes), the first 4 bytes of the stream id; big-endian, shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// Puts an id together. Timestamp and offset are within their limits wherever a valid batch named them.
    #[must_use]
    pub fn new(stream: &StreamId, offset: Offset, timestamp: Timestamp) -> Self {
        assert!(offset.0 <= MAX_OFFSET && timestamp.0 <= MAX_TIMESTAMP_MS);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&timestamp.0.to_be_bytes()[2..]);
        id[6..12].copy_from_slice(&offset.0.to_be_bytes()[2..]);
        id[12..].copy_from_slice(&stream.0[..4]);
        Self(id)
    }

    /// When the message was appended.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp(self.six_bytes(0))
    }

    /// The message's offset in its stream.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.six_bytes(6))
    }

    fn six_bytes(&self, at: usize) -> u64 {
        self.0[at..at + 6].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse_hex16(text).map(Self).ok_or_else(|| InvalidId(text.to_owned()))
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8; 16]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn message_ids_round_trip(
            stream in any::<[u8; 16]>(), offset in 0..=MAX_OFFSET, time in 0..=MAX_TIMESTAMP_MS,
        ) {
            let id = MessageId::new(&StreamId(stream), Offset(offset), Timestamp(time));
            prop_assert_eq!((id.offset().0, id.timestamp().0), (offset, time));
            prop_assert_eq!(&id.0[12..], &stream[..4]);
            prop_assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        }

        #[test]
        fn message_ids_sort_by_time_then_offset(a in any::<(u32, u32)>(), b in any::<(u32, u32)>()) {
            let id = |(time, offset): (u32, u32)| {
                MessageId::new(&StreamId([7; 16]), Offset(offset.into()), Timestamp(time.into()))
            };
            prop_assert_eq!(id(a).cmp(&id(b)), a.cmp(&b));
            prop_assert_eq!(id(a).to_string().cmp(&id(b).to_string()), a.cmp(&b));
        }
    }

    #[test]
    fn ids_are_read_strictly() {
        let id = StreamId(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "30", "3031323334353637383961626364656G", "30313233343536373839616263646566 "] {
            assert!(wrong.parse::<StreamId>().is_err(), "{wrong}");
        }
        assert!(id.to_string().to_uppercase().replace('6', "F").parse::<StreamId>().is_err());
    }
}
