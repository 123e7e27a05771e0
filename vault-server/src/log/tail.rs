//! Where a stream ends.

use vault_format::chain::Chain;
use vault_format::ids::{Offset, Position};

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

    /// Whether a place comes before the tail.
    pub(crate) fn is_beyond(&self, segment: Offset, position: Position) -> bool {
        (segment, position) < (self.segment, self.chain.position)
    }
}
