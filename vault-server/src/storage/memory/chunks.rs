//! The bytes of one page blob in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::written;

/// The written parts of a page blob, in chunks that are small enough for a sparse blob and large enough for a long
/// read to cost little more than its copy.
#[derive(Debug, Default)]
pub(super) struct Chunks(BTreeMap<u64, Box<[u8]>>);

const CHUNK: usize = 64 << 10;
const CHUNK_BYTES: u64 = CHUNK as u64;

/// The numbers of the chunks that `range` touches.
fn numbers(range: &Range<u64>) -> Range<u64> {
    range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES).max(range.start / CHUNK_BYTES)
}

/// The part of a chunk that lies in `range`.
fn part_of(chunk: u64, range: &Range<u64>) -> Range<usize> {
    let start = chunk * CHUNK_BYTES;
    let within = |at: u64| {
        usize::try_from(at.clamp(start, start + CHUNK_BYTES) - start).expect("a chunk fits in memory")
    };
    within(range.start)..within(range.end)
}

impl Chunks {
    pub(super) fn write(&mut self, at: u64, mut bytes: &[u8]) {
        let range = at..at + bytes.len() as u64;
        for chunk in numbers(&range) {
            let part = part_of(chunk, &range);
            let (now, rest) = bytes.split_at(part.len());
            let stored = self.0.entry(chunk).or_insert_with(|| vec![0; CHUNK].into());
            stored[part].copy_from_slice(now);
            bytes = rest;
        }
    }

    pub(super) fn clear(&mut self, range: &Range<u64>) {
        let mut emptied = Vec::new();
        for (chunk, stored) in self.0.range_mut(numbers(range)) {
            match part_of(*chunk, range) {
                part if part.len() == CHUNK => emptied.push(*chunk),
                part => stored[part].fill(0),
            }
        }
        for chunk in emptied {
            self.0.remove(&chunk);
        }
    }

    pub(super) fn read(&self, range: &Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
        for chunk in numbers(range) {
            let part = part_of(chunk, range);
            match self.0.get(&chunk) {
                Some(stored) => bytes.extend_from_slice(&stored[part]),
                None => bytes.resize(bytes.len() + part.len(), 0),
            }
        }
        bytes
    }

    pub(super) fn page_ranges(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        for (chunk, stored) in self.0.range(numbers(range)) {
            let part = part_of(*chunk, range);
            written::add(&mut found, chunk * CHUNK_BYTES + part.start as u64, &stored[part]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use vault_format::limits::PAGE_BYTES;

    use super::*;

    const PAGES: u64 = 3 * CHUNK_BYTES / PAGE_BYTES;

    proptest! {
        #[test]
        fn it_behaves_like_one_long_array(
            steps in proptest::collection::vec((0..PAGES, 1..PAGES, any::<u8>()), 1..12),
            looked in (0..PAGES, 0..PAGES),
        ) {
            let size = usize::try_from(PAGES * PAGE_BYTES).unwrap();
            let (mut plain, mut chunks) = (vec![0u8; size], Chunks::default());
            for (start, pages, byte) in steps {
                let range = start * PAGE_BYTES..(start + pages).min(PAGES) * PAGE_BYTES;
                let part = &mut plain[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                // Every fourth step or so clears.
                if byte < 64 {
                    part.fill(0);
                    chunks.clear(&range);
                } else {
                    part.fill(byte);
                    chunks.write(range.start, part);
                }
            }
            let range = looked.0.min(looked.1) * PAGE_BYTES..looked.0.max(looked.1) * PAGE_BYTES;
            let part = &plain[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            prop_assert!(chunks.read(&range) == part);
            let found = chunks.page_ranges(&range);
            for (at, page) in (range.start..).step_by(512).zip(part.chunks(512)) {
                let named = found.iter().any(|range| range.contains(&at));
                prop_assert_eq!(named, page.iter().any(|byte| *byte != 0));
            }
        }
    }
}
