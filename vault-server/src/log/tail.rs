//! Where a stream ends.

use vault_format::chain::Chain;
use vault_format::ids::{Offset, Position, Timestamp};

/// The end of what was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The base offset of the segment in which the next batch goes.
    pub segment: Offset,
    /// The state there.
    pub chain: Chain,
}

impl Tail {
    /// The offset that the next message gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.chain.next_offset
    }

    /// When the last message was appended. `None` while there was none.
    #[must_use]
    pub fn last_timestamp(&self) -> Option<Timestamp> {
        (self.next_offset() > Offset::ZERO).then_some(self.chain.last_timestamp)
    }

    /// Whether a place comes before the tail.
    pub(crate) fn is_beyond(&self, segment: Offset, position: Position) -> bool {
        (segment, position) < (self.segment, self.chain.position)
    }
}
