//! The bare disk: what a single writer gets that does nothing but write and sync.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::figures::{count, spread};
use crate::{Options, progress};

/// What the file storage writes at most at once.
const LARGE_BYTES: usize = 4 << 20;

/// Larger pieces are written one after the other before they are synced together, as the file storage does: some systems
/// take much longer over one long write.
const WRITE_BYTES: usize = 256 << 10;

/// A message of 1 KiB, its batch's header and padding fit.
const SMALL_BYTES: usize = 4 << 10;

/// Beyond what any disk writes in the time. It takes no room until it is written.
const FILE_BYTES: u64 = 256 << 30;

/// Where small writes go round.
const ROOM_BYTES: u64 = 64 << 20;

/// Writes and syncs a second, one after the other, from the beginning of a file to its end and over again.
fn synced_writes(
    file: &File,
    file_bytes: u64,
    piece_bytes: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    let piece: Vec<u8> = (0..=u8::MAX).cycle().take(piece_bytes).collect();
    let mut writes = 0;
    let started = Instant::now();
    while started.elapsed() < duration {
        let places = (writes * piece_bytes as u64 % file_bytes..).step_by(WRITE_BYTES);
        piece.chunks(WRITE_BYTES).zip(places).try_for_each(|(piece, at)| file.write_all_at(piece, at))?;
        file.sync_data()?;
        writes += 1;
    }
    Ok(count(writes) / started.elapsed().as_secs_f64())
}

/// MiB a second in writes of 4 MiB, into a sparse file as segments are.
pub(crate) fn large_mib(directory: &Path, duration: Duration) -> anyhow::Result<f64> {
    let file = tempfile::tempfile_in(directory)?;
    file.set_len(FILE_BYTES).context("a sparse file of 256 GiB")?;
    Ok(synced_writes(&file, FILE_BYTES, LARGE_BYTES, duration)? * 4.0)
}

/// Writes of 4 KiB a second, where the file system has room for them already: they find it made, as the server's do.
pub(crate) fn small_writes(directory: &Path, duration: Duration) -> anyhow::Result<f64> {
    let file = tempfile::tempfile_in(directory)?;
    let zeros = vec![0; WRITE_BYTES];
    (0..ROOM_BYTES).step_by(WRITE_BYTES).try_for_each(|at| file.write_all_at(&zeros, at))?;
    file.sync_all()?;
    synced_writes(&file, ROOM_BYTES, SMALL_BYTES, duration)
}

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        large.push(large_mib(directory.path(), options.duration())?);
        small.push(small_writes(directory.path(), options.duration())?);
        progress(format_args!(
            "disk, round {round}: {:.0} MiB/s, {:.0} writes/s",
            large.last().unwrap_or(&0.0),
            small.last().unwrap_or(&0.0)
        ));
    }
    Ok(json!({
        "of": "one writer, pwrite and fdatasync, sequential: 4 MiB into a sparse file, 4 KiB where it was written before",
        "mib_per_second_in_4_mib": spread(&large),
        "writes_per_second_of_4_kib": spread(&small),
    }))
}
