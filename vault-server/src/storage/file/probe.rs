//! Whether the file system can keep a sparse file: what a segment costs, and where it ends, rests on that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::super::StorageError;
use super::disk::{self, Layout, Temporary};
use crate::env::Env;

/// Large enough for the coarsest holes in use, 2 MiB.
const FILE_BYTES: u64 = 16 << 20;
const WRITTEN_AT: u64 = 8 << 20;

pub(super) fn check(layout: &Layout, env: &Env) -> Result<(), StorageError> {
    let probe = Temporary::new(layout, env);
    let file = probe.file().map_err(|error| match error {
        StorageError::Unavailable(why) => StorageError::Refused(why),
        other => other,
    })?;
    // Another process may sweep the name away at any moment; the open file is all that is needed.
    let _ = fs::remove_file(probe.path());
    match has_holes(&file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StorageError::Refused(format!(
            "the file system of `{}` does not keep sparse files; use a directory on ext4, XFS, Btrfs or tmpfs",
            layout.root.display()
        ))),
        Err(error) => Err(disk::refused("trying out", &layout.root, &error)),
    }
}

fn has_holes(file: &File) -> io::Result<bool> {
    file.set_len(FILE_BYTES)?;
    file.write_all_at(&[1; 512], WRITTEN_AT)?;
    file.sync_data()?;
    let data_at = match seek(file, SeekFrom::Data(0)) {
        Ok(at) => at,
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if data_at == 0 {
        return Ok(false);
    }
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, FILE_BYTES) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
        punched => punched?,
    }
    Ok(seek(file, SeekFrom::Data(0)) == Err(Errno::NXIO))
}
