//! Segment files, as the server leaves them: reading and damaging them. The server must not run meanwhile.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::Offset;
use vault_format::limits::HEADER_BYTES;
use vault_format::names::SegmentName;

use crate::message::{Stored, push_messages};

/// The directory that holds a stream, under the default prefix.
#[must_use]
pub fn container(root: &Path, stream: &str) -> PathBuf {
    root.join(format!("mv-{stream}"))
}

/// One segment's file.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    /// Where it is.
    pub path: PathBuf,
    /// The offset in its name.
    pub base: Offset,
}

/// The segments of a stream, oldest first.
#[must_use]
pub fn segments(root: &Path, stream: &str) -> Vec<SegmentFile> {
    let container = container(root, stream);
    let mut found = Vec::new();
    for folder in fs::read_dir(&container).expect("the stream has a directory").map_while(Result::ok) {
        if !folder.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path()).expect("it can be listed").map_while(Result::ok) {
            let path = file.path();
            let name = path.strip_prefix(&container).expect("it lies below").to_string_lossy().into_owned();
            if let Some(SegmentName { base, .. }) = SegmentName::parse(&name) {
                found.push(SegmentFile { path, base });
            }
        }
    }
    found.sort_by_key(|segment| segment.base);
    found
}

impl SegmentFile {
    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).expect("the segment can be read")
    }

    /// The headers of its batches, up to the first place that holds none.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = Vec::new();
        self.walk(|batch| headers.push(batch.header));
        headers
    }

    /// The messages in it.
    #[must_use]
    pub fn messages(&self) -> Vec<Stored> {
        let mut messages = Vec::new();
        self.walk(|batch| push_messages(batch, &mut messages));
        messages
    }

    /// The batches that hold messages.
    #[must_use]
    pub fn message_batches(&self) -> Vec<Header> {
        self.headers().into_iter().filter(|header| header.kind == Kind::Messages).collect()
    }

    fn walk(&self, mut visit: impl FnMut(&Batch<'_>)) {
        let bytes = self.bytes();
        let Ok(first) = Header::decode(&bytes) else { return };
        let mut chain = Chain::before(&first);
        while let Some(rest) = bytes.get(usize::try_from(chain.position.0).expect("it fits in memory")..) {
            let Ok(batch) = chain.accept(rest) else { return };
            visit(&batch);
            if batch.header.kind == Kind::Seal {
                return;
            }
        }
    }

    /// Turns one bit over.
    pub fn flip(&self, position: u64, bit: u8) {
        let mut byte = [0];
        self.file().read_exact_at(&mut byte, position).expect("the position lies in the file");
        byte[0] ^= 1 << bit;
        self.write(position, &byte);
    }

    /// Turns one bit in a batch's payload over.
    pub fn flip_payload(&self, header: &Header) {
        let middle = u64::from(header.payload_bytes) / 2;
        self.flip(header.position.0 + HEADER_BYTES as u64 + middle, 3);
    }

    /// Turns one bit in a batch's header over.
    pub fn flip_header(&self, header: &Header) {
        self.flip(header.position.0 + 57, 6);
    }

    /// Puts other bytes in.
    pub fn write(&self, position: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, position).expect("the segment can be written");
    }

    /// Cuts the file off.
    pub fn truncate(&self, bytes: u64) {
        self.file().set_len(bytes).expect("the segment can be cut off");
    }

    fn file(&self) -> fs::File {
        OpenOptions::new().read(true).write(true).open(&self.path).expect("the segment can be opened")
    }
}

/// The header, sealed with a right checksum, of a batch that a later version of the format could have written.
#[must_use]
pub fn header_of_version_2(like: &Header) -> [u8; HEADER_BYTES] {
    let mut bytes = like.encode();
    bytes[4] = 2;
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
