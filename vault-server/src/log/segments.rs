//! Where the messages of each segment stand, for those who read storage by themselves.

use vault_format::ids::{Offset, Position};

use crate::log::store::Segment;
use crate::log::tail::Tail;

/// Where the messages of one segment stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentExtent {
    /// The blob's name in its container.
    pub blob: String,
    /// The offset of its first message.
    pub first_offset: Offset,
    /// The offset behind its last message, as far as it goes by now.
    pub next_offset: Offset,
    /// All its batches stand before this position.
    pub end: Position,
    /// Whether it is followed by another one: nothing will ever be added to it.
    pub sealed: bool,
}

/// The segments from the one that holds `from` on, oldest first, up to the tail; the last one only where `live` is set,
/// as it still grows. `name` names the blob of the segment with a base offset.
pub(crate) fn extents(
    segments: &[Segment],
    tail: &Tail,
    from: Offset,
    live: bool,
    name: impl Fn(Offset) -> String,
) -> impl Iterator<Item = SegmentExtent> {
    // A segment that was made since the tail was looked at holds nothing yet.
    let known = segments.partition_point(|segment| segment.base <= tail.segment);
    let segments = &segments[..known];
    let next_bases = segments.iter().skip(1).map(|next| next.base).chain([tail.segment]);
    segments
        .iter()
        .zip(next_bases)
        .map(move |(segment, next_base)| {
            let open = segment.base == tail.segment;
            SegmentExtent {
                blob: name(segment.base),
                first_offset: segment.base,
                next_offset: if open { tail.next_offset() } else { next_base },
                end: if open { tail.chain.position } else { Position(segment.bytes) },
                sealed: !open,
            }
        })
        .filter(move |extent| (live || extent.sealed) && extent.end.0 > 0 && extent.next_offset > from)
}

#[cfg(test)]
mod tests {
    use vault_format::chain::Chain;
    use vault_format::ids::StreamId;

    use super::*;

    fn tail(segment: u64, position: u64, next: u64) -> Tail {
        let mut chain = Chain::at_segment_start(StreamId([1; 16]), Offset(segment));
        (chain.position, chain.next_offset) = (Position(position), Offset(next));
        Tail { segment: Offset(segment), chain }
    }

    fn shown(bases: &[u64], tail: &Tail, from: u64, live: bool) -> Vec<(u64, u64, u64, bool)> {
        let segments: Vec<_> =
            bases.iter().map(|base| Segment { base: Offset(*base), bytes: 4096 }).collect();
        extents(&segments, tail, Offset(from), live, |base| base.to_string())
            .map(|it| (it.first_offset.0, it.next_offset.0, it.end.0, it.sealed))
            .collect()
    }

    #[test]
    fn sealed_segments_are_shown_whole_and_the_open_one_up_to_the_tail() {
        let tail = tail(30, 512, 35);
        let sealed = [(10, 20, 4096, true), (20, 30, 4096, true)];
        assert_eq!(shown(&[10, 20, 30], &tail, 10, false), sealed);
        assert_eq!(shown(&[10, 20, 30], &tail, 10, true)[2], (30, 35, 512, false));
        assert_eq!(shown(&[10, 20, 30], &tail, 25, true).len(), 2);
        assert_eq!(shown(&[10, 20, 30], &tail, 30, false), []);
        assert_eq!(shown(&[10, 20, 30], &tail, 35, true), []);
    }

    #[test]
    fn a_tail_that_has_moved_on_before_or_after_the_list_is_no_trouble() {
        // The next segment is made, but the tail was still in the one before it.
        assert_eq!(shown(&[10, 20], &tail(10, 1024, 20), 10, true), [(10, 20, 1024, false)]);
        // The tail is in a segment that is not made yet.
        assert_eq!(shown(&[10], &tail(20, 0, 20), 10, false), [(10, 20, 4096, true)]);
        // The next segment is made and empty.
        assert_eq!(shown(&[10, 20], &tail(20, 0, 20), 10, true), [(10, 20, 4096, true)]);
        assert_eq!(shown(&[], &tail(0, 0, 0), 0, true), []);
    }
}
