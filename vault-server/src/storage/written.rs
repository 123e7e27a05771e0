//! Which pages hold anything but zeros, for backends that look for themselves.

use std::ops::Range;

use vault_format::limits::PAGE_BYTES;

use super::arguments::PAGE;

/// Adds the pages of `bytes`, whole pages that stand at `at`, to ranges that end no later; merged where they adjoin.
pub(super) fn add(found: &mut Vec<Range<u64>>, mut at: u64, bytes: &[u8]) {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    for page in bytes.chunks_exact(PAGE) {
        let end = at + PAGE_BYTES;
        if *page != ZEROS {
            match found.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => found.push(at..end),
            }
        }
        at = end;
    }
}
