//! Where a sparse file holds bytes: the pages that are not all zeros, found without reading holes; and making holes.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use vault_format::limits::PAGE_BYTES;

use super::super::{StorageError, written};
use crate::limits::FILE_SCAN_BYTES;

#[derive(Debug)]
pub(super) enum Failure {
    Seek(io::Error),
    Read(StorageError),
}

/// The pages of `range` that are not all zeros, merged. `read` reads a part of the file, of bounded length. The file's
/// own position is moved; nothing else uses it.
pub(super) fn page_ranges(
    file: &File,
    range: &Range<u64>,
    mut read: impl FnMut(&Range<u64>) -> Result<Vec<u8>, StorageError>,
) -> Result<Vec<Range<u64>>, Failure> {
    let mut found = Vec::new();
    let mut at = range.start;
    while let Some(extent) = next_extent(file, at..range.end).map_err(Failure::Seek)? {
        at = extent.start;
        while at < extent.end {
            let part = at..extent.end.min(at + FILE_SCAN_BYTES);
            written::add(&mut found, at, &read(&part).map_err(Failure::Read)?);
            at = part.end;
        }
    }
    Ok(found)
}

/// The end of the last part of `range` that may hold data; its beginning where none does.
pub(super) fn end_of_data(file: &File, range: Range<u64>) -> io::Result<u64> {
    let mut end = range.start;
    while let Some(extent) = next_extent(file, end..range.end)? {
        end = extent.end;
    }
    Ok(end)
}

/// Makes a hole of what `range` holds.
pub(super) fn punch(file: &File, range: &Range<u64>) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, how, range.start, range.end - range.start)?)
}

/// The first part of `range` that may hold data, in whole pages.
fn next_extent(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let data = match seek(file, SeekFrom::Data(range.start)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if data >= range.end {
        return Ok(None);
    }
    let hole = seek(file, SeekFrom::Hole(data))?;
    // File systems keep holes in larger units than pages, but none promises to.
    let start = data - data % PAGE_BYTES;
    Ok(Some(start..hole.next_multiple_of(PAGE_BYTES).min(range.end)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn scan(file: &File, range: Range<u64>) -> (Vec<Range<u64>>, u64) {
        let mut bytes_read = 0;
        let found = page_ranges(file, &range, |part| {
            let mut bytes = vec![0; usize::try_from(part.end - part.start).unwrap()];
            assert!(bytes.len() as u64 <= FILE_SCAN_BYTES);
            file.read_exact_at(&mut bytes, part.start).unwrap();
            bytes_read += bytes.len() as u64;
            Ok(bytes)
        });
        (found.unwrap(), bytes_read)
    }

    #[test]
    fn holes_are_not_read_and_zeros_in_data_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * GIB).unwrap();
        assert_eq!(scan(&file, 0..64 * GIB), (vec![], 0));
        file.write_all_at(&[1; 1024], 8 * GIB + 512).unwrap();
        file.write_all_at(&[0; 8192], 16 * GIB).unwrap();
        file.write_all_at(&[2; 512], 16 * GIB + 4096).unwrap();
        file.write_all_at(&[3; 512], 64 * GIB - 512).unwrap();
        let (found, bytes_read) = scan(&file, 0..64 * GIB);
        let wanted =
            [8 * GIB + 512..8 * GIB + 1536, 16 * GIB + 4096..16 * GIB + 4608, 64 * GIB - 512..64 * GIB];
        assert_eq!(found, wanted);
        assert!(bytes_read < 1 << 20, "{bytes_read}");
        let (found, _) = scan(&file, 8 * GIB + 1024..16 * GIB + 4096);
        assert_eq!(found, vec![8 * GIB + 1024..8 * GIB + 1536]);
        assert_eq!(scan(&file, 9 * GIB..16 * GIB).0, []);
        assert_eq!(scan(&file, 512..512).0, []);
    }

    #[test]
    fn a_run_of_pages_is_one_range_also_across_chunks() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(GIB).unwrap();
        let long = 3 * FILE_SCAN_BYTES + 1024;
        file.write_all_at(&vec![7; usize::try_from(long).unwrap()], 512).unwrap();
        assert_eq!(scan(&file, 0..GIB).0, vec![512..512 + long]);
    }
}
