//! How a segment is divided: blocks of 4 MiB, pages of 512 bytes.

use crate::ids::Position;
use crate::limits::{BLOCK_BYTES, PAGE_BYTES, SEAL_BYTES};

/// The number of the block that holds `position`, counted from 0.
#[must_use]
pub fn block_of(position: Position) -> u64 {
    position.0 / BLOCK_BYTES
}

/// Where a block begins.
#[must_use]
pub fn block_start(block: u64) -> Position {
    Position(block * BLOCK_BYTES)
}

/// The end of the block in which `position` stands. A position at a border belongs to the block that begins there.
#[must_use]
pub fn block_end(position: Position) -> Position {
    block_start(block_of(position) + 1)
}

/// Whether a block begins at `position`: a snapshot stands there and nowhere else.
#[must_use]
pub fn is_block_start(position: Position) -> bool {
    position.0.is_multiple_of(BLOCK_BYTES)
}

/// `bytes` rounded up to whole pages.
#[must_use]
pub fn to_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// How many bytes batches other than the seal may still take from `position` to the end of its block. The last block
/// of a segment keeps room for the seal.
#[must_use]
pub fn room_in_block(position: Position, segment_bytes: u64) -> u64 {
    if position.0 >= segment_bytes {
        return 0;
    }
    let end = block_end(position).0;
    let kept = if end == segment_bytes { SEAL_BYTES } else { 0 };
    (end - kept).saturating_sub(position.0)
}

/// Where the in-flight window ends that begins at the tail: the end of the third block after the tail's, or of the
/// segment. Nothing beyond it can have been written before the tail moved.
#[must_use]
pub fn window_end(tail: Position, segment_bytes: u64) -> Position {
    Position(block_start(block_of(tail) + 4).0.min(segment_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 8 * BLOCK_BYTES;

    #[test]
    fn borders_belong_to_the_block_that_begins_there() {
        let border = Position(BLOCK_BYTES);
        assert_eq!(block_of(border), 1);
        assert_eq!(block_end(border), Position(2 * BLOCK_BYTES));
        assert!(is_block_start(border) && !is_block_start(border + PAGE_BYTES));
    }

    #[test]
    fn the_last_block_keeps_room_for_the_seal() {
        assert_eq!(room_in_block(Position(0), SEGMENT), BLOCK_BYTES);
        assert_eq!(room_in_block(Position(SEGMENT - BLOCK_BYTES), SEGMENT), BLOCK_BYTES - SEAL_BYTES);
        assert_eq!(room_in_block(Position(SEGMENT - SEAL_BYTES), SEGMENT), 0);
        assert_eq!(room_in_block(Position(SEGMENT), SEGMENT), 0);
    }

    #[test]
    fn the_window_ends_three_blocks_on_or_with_the_segment() {
        assert_eq!(window_end(Position(512), SEGMENT), Position(4 * BLOCK_BYTES));
        assert_eq!(window_end(Position(BLOCK_BYTES), SEGMENT), Position(5 * BLOCK_BYTES));
        assert_eq!(window_end(Position(6 * BLOCK_BYTES), SEGMENT), Position(SEGMENT));
    }
}
