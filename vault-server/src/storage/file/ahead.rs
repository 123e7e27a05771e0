//! Zeros ahead of small writes, so that their syncs have nothing but bytes to write.
//!
//! A write to a part of a file for which the file system has no room yet changes what it knows of the file, and the
//! sync then writes that too: another write to the disk, or a commit of the journal, for each acknowledgement. Where
//! small writes follow each other, room is made for many of them at once, by zeros behind one of them. To whoever reads
//! they are what was there before, since a page that was never written is read as zeros.
//!
//! ```text
//! |  written  | this write | zeros |  never written  ->
//!                                  ^ reached
//! ```
//!
//! **Zeros must never come upon anything else.** They go only to where nobody has written or may be writing: behind
//! `reached`, under a lock that every write takes which ends behind `reached`, and which moves it there. What the file
//! held when this process got it, or got the directory's lock again, counts as reached.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use super::extents;
use super::lock::Hold;
use crate::limits::{FILE_AHEAD_BYTES, FILE_AHEAD_OF_BYTES};

/// What file systems give room in, or a multiple of it.
const UNIT: u64 = 4096;

/// How far one open file was written.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Option<Written>>);

#[derive(Clone, Copy, Debug)]
struct Written {
    hold: Hold,
    /// Where the first write of this hold began.
    begun: u64,
    /// Behind this, nobody wrote.
    reached: u64,
}

impl Ahead {
    /// Makes room for a write to `range`, which may begin when this returns, and perhaps for those behind it: for as
    /// many bytes as were written in this hold, so that a few small writes cost no more room than twice their own.
    /// Where that does not work there is no more of it in this hold, and whatever is wrong is for the write to find.
    pub(super) fn make_room(&self, file: &File, range: &Range<u64>, file_bytes: u64, hold: Hold) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = match *known {
            Some(written) if written.hold == hold => written,
            _ => {
                let reached = extents::end_of_data(file, range.start..file_bytes).unwrap_or(file_bytes);
                Written { hold, begun: range.start, reached }
            }
        };
        if written.reached < range.end {
            written.reached = range.end;
            if range.end - range.start <= FILE_AHEAD_OF_BYTES {
                let more = (range.end - written.begun.min(range.start)).min(FILE_AHEAD_BYTES);
                let end = (range.end + more).next_multiple_of(UNIT).min(file_bytes);
                written.reached = match write_zeros(file, range.end..end) {
                    Ok(()) => end,
                    Err(_) => {
                        // What is left of a full disk is for messages. What cannot be given back stays zeros.
                        let _ = extents::punch(file, &(range.end..end));
                        file_bytes
                    }
                };
            }
        }
        *known = Some(written);
    }
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let bytes = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    file.write_all_at(&vec![0; bytes], range.start)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::storage::file::lock::DirectoryLock;

    const FILE_BYTES: u64 = 64 << 20;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(FILE_BYTES).unwrap();
        file
    }

    /// Two holds of a directory's lock, one after the other.
    fn holds() -> (Hold, Hold) {
        let root = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::new(root.path().join("lock"));
        let hold = || lock.take().unwrap().hold();
        (hold(), hold())
    }

    fn put(ahead: &Ahead, file: &File, at: u64, bytes: &[u8], hold: Hold) {
        ahead.make_room(file, &(at..at + bytes.len() as u64), FILE_BYTES, hold);
        file.write_all_at(bytes, at).unwrap();
    }

    /// How many of these writes found no room in the file.
    fn without_room(file: &File, writes: impl Iterator<Item = (u64, usize)>) -> usize {
        let (ahead, (hold, _)) = (Ahead::default(), holds());
        let blocks = || file.metadata().unwrap().blocks();
        writes
            .filter(|&(at, bytes)| {
                let range = at..at + bytes as u64;
                let before = blocks();
                ahead.make_room(file, &range, FILE_BYTES, hold);
                file.write_all_at(&vec![7; bytes], at).unwrap();
                file.sync_data().unwrap();
                blocks() != before
            })
            .count()
    }

    #[test]
    fn small_writes_that_follow_each_other_find_room() {
        let file = file();
        let changed = without_room(&file, (0..4096).map(|n| (n * 1024, 1024)));
        // Twice as much each time until it is 256 KiB, 16 times for the rest of the 4 MiB.
        assert!(changed <= 24, "{changed} of 4096 writes changed what the file system knows of the file");
        let room = file.metadata().unwrap().blocks() * 512;
        assert!((4 << 20..=(4 << 20) + FILE_AHEAD_BYTES + UNIT).contains(&room), "{room}");
    }

    #[test]
    fn a_few_small_writes_take_little_room_and_long_ones_none_ahead() {
        let few = file();
        without_room(&few, (0..4).map(|n| (n * 1024, 1024)));
        assert!(few.metadata().unwrap().blocks() * 512 <= 4 * UNIT);
        let long = file();
        without_room(&long, (0..8).map(|n| (n << 20, 1 << 20)));
        assert_eq!(long.metadata().unwrap().blocks() * 512, 8 << 20);
    }

    /// A disk without room behaves as a file that cannot be written to: zeros fail, and the write itself says why.
    #[test]
    fn where_zeros_fail_there_are_no_more_of_them() {
        let (file, ahead) = (tempfile::NamedTempFile::new().unwrap(), Ahead::default());
        file.as_file().set_len(FILE_BYTES).unwrap();
        let (hold, _) = holds();
        ahead.make_room(&File::open(file.path()).unwrap(), &(0..1024), FILE_BYTES, hold);
        ahead.make_room(file.as_file(), &(1024..2048), FILE_BYTES, hold);
        assert_eq!(file.as_file().metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn zeros_end_with_the_file() {
        let file = file();
        let (ahead, (hold, _)) = (Ahead::default(), holds());
        put(&ahead, &file, 0, &[1; 64 << 10], hold);
        put(&ahead, &file, FILE_BYTES - 1024, &[2; 512], hold);
        put(&ahead, &file, FILE_BYTES - 512, &[3; 512], hold);
        assert_eq!(file.metadata().unwrap().len(), FILE_BYTES);
    }

    #[test]
    fn zeros_come_upon_no_long_write_that_is_further_on() {
        let (file, ahead, (hold, _)) = (file(), Ahead::default(), holds());
        put(&ahead, &file, 0, &[2; 512], hold);
        put(&ahead, &file, 2 * UNIT, &[1; 128 << 10], hold);
        put(&ahead, &file, UNIT, &[3; 512], hold);
        let mut found = vec![0; 128 << 10];
        file.read_exact_at(&mut found, 2 * UNIT).unwrap();
        assert!(found.iter().all(|byte| *byte == 1));
    }

    /// Writes at once from several threads, short and long, and each a second time.
    #[test]
    fn zeros_come_upon_no_other_write() {
        let (file, ahead, (hold, _)) = (file(), Ahead::default(), holds());
        const THREADS: u64 = 8;
        const PLACES: u64 = 256;
        let place = |n: u64| n * (FILE_BYTES / PLACES);
        let bytes_of = |n: u64| if n.is_multiple_of(3) { 128 << 10 } else { 512 << (n % 7) };
        let written_by = |n: u64| vec![u8::try_from(n % 255).unwrap() + 1; bytes_of(n)];
        let damaged = AtomicU64::new(0);
        let check = |n| {
            let mut found = written_by(n);
            file.read_exact_at(&mut found, place(n)).unwrap();
            // A thread that panics would leave the others waiting.
            damaged.fetch_add(u64::from(found != written_by(n)), Ordering::Relaxed);
        };
        let together = Barrier::new(usize::try_from(THREADS).unwrap());
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (file, ahead, together, check) = (&file, &ahead, &together, &check);
                scope.spawn(move || {
                    for n in (thread..PLACES).step_by(usize::try_from(THREADS).unwrap()) {
                        together.wait();
                        put(ahead, file, place(n), &written_by(n), hold);
                        together.wait();
                        check(n);
                        put(ahead, file, place(n), &written_by(n), hold);
                    }
                });
            }
        });
        (0..PLACES).for_each(check);
        assert_eq!(damaged.into_inner(), 0, "what was read is not what was written");
    }

    #[test]
    fn what_was_written_before_the_file_was_opened_or_in_a_hold_of_another_process_stays() {
        let (file, ahead, (first, second)) = (file(), Ahead::default(), holds());
        file.write_all_at(&[9; 512], UNIT + 2048).unwrap();
        put(&ahead, &file, 0, &[1; 4096], first);
        // Another process has the lock, writes, and ends.
        file.write_all_at(&[8; 512], 5 * UNIT).unwrap();
        put(&ahead, &file, 2 * UNIT, &[1; 4096], second);
        for (at, byte) in [(UNIT + 2048, 9), (5 * UNIT, 8)] {
            let mut found = [0; 512];
            file.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, [byte; 512], "at {at}");
        }
    }
}
