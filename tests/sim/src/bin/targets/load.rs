//! Who sends what.

use std::fmt;

use bytes::Bytes;
use vault_format::record;

/// The size of every message's value.
pub(crate) const VALUE_BYTES: usize = 1 << 10;

/// What each stream gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// So many producers, each of which sends its next request when the last one is answered.
    Closed {
        /// How many they are.
        producers: usize,
        /// How many messages a request has.
        messages: usize,
    },
    /// A message at a time, so many a second.
    Paced(u32),
    /// No vault: so many writers put each message by a request of its own.
    OneRequestEach {
        /// How many they are.
        writers: usize,
    },
}

impl Load {
    /// Those that go as fast as they are let.
    pub(crate) fn closed() -> [Self; 6] {
        [
            Self::Closed { producers: 16, messages: 1 },
            Self::OneRequestEach { writers: 16 },
            Self::Closed { producers: 500, messages: 1 },
            Self::OneRequestEach { writers: 500 },
            Self::Closed { producers: 16, messages: 100 },
            Self::Closed { producers: 16, messages: 800 },
        ]
    }

    /// Those that show what messages cost where they come slowly.
    pub(crate) fn paced() -> [Self; 4] {
        [Self::Paced(1), Self::Paced(100), Self::Paced(1_000), Self::Paced(10_000)]
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { producers, messages: 1 } => write!(f, "{producers} producers, single messages"),
            Self::Closed { producers, messages } => {
                write!(f, "{producers} producers, {messages} messages a request")
            }
            Self::Paced(1) => f.write_str("1 message a second"),
            Self::Paced(rate) => write!(f, "{rate} messages a second, one by one"),
            Self::OneRequestEach { writers } => {
                write!(f, "no vault: {writers} writers, a Put Page each message")
            }
        }
    }
}

/// The body of an append of so many messages, as records.
pub(crate) fn body(messages: usize) -> Bytes {
    let value = [b'v'; VALUE_BYTES];
    let mut out = Vec::new();
    for _ in 0..messages {
        record::Message { attributes: 0, key: b"", headers: &[], value: &value }.encode(0, &mut out);
    }
    out.into()
}
