//! Where messages come from: a file or stdin, in blocks, cut into lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// So much is read at once, and so many such blocks wait.
const BLOCK_BYTES: usize = 256 << 10;
const BLOCKS_WAITING: usize = 4;

/// A file or stdin, read by a thread of its own: waiting for it must hold nobody up.
pub(super) struct Input {
    blocks: mpsc::Receiver<io::Result<Bytes>>,
    /// How long it is, where that is known.
    pub(super) bytes: Option<u64>,
    /// Whether somebody types it in.
    pub(super) is_typed: bool,
}

impl Input {
    /// Opens a file, or stdin where there is none or `-`.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let (mut file, bytes, is_typed): (Box<dyn Read + Send>, _, _) = match path {
            Some(path) if path.as_os_str() != "-" => {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                (Box::new(file), metadata.is_file().then_some(metadata.len()), false)
            }
            _ => (Box::new(io::stdin()), None, io::stdin().is_terminal()),
        };
        let (sender, blocks) = mpsc::channel(BLOCKS_WAITING);
        std::thread::spawn(move || {
            let mut block = vec![0; BLOCK_BYTES];
            loop {
                let read = match file.read(&mut block) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(&block[..length])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self { blocks, bytes, is_typed })
    }

    /// The next block; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.blocks.recv().await
    }
}

/// A piece of the input that becomes a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// The line it stands in, counted from 1.
    pub(super) line: u64,
    /// Without the line feed at its end.
    pub(super) bytes: Bytes,
}

/// Cuts blocks into lines, or gathers all of them.
pub(super) struct Cutter {
    whole: bool,
    most_bytes: usize,
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
    /// What has not been looked at.
    blocks: VecDeque<Bytes>,
    lines: u64,
}

/// A line, or the whole input, is longer than a message may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLong {
    pub(super) line: u64,
}

impl Cutter {
    /// For lines, or for the whole input as one piece, of at most so many bytes.
    pub(super) fn new(whole: bool, most_bytes: usize) -> Self {
        Self { whole, most_bytes, begun: BytesMut::new(), blocks: VecDeque::new(), lines: 0 }
    }

    pub(super) fn feed(&mut self, block: Bytes) {
        self.blocks.push_back(block);
    }

    /// The next line that is complete.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, TooLong> {
        while let Some(mut block) = self.blocks.pop_front() {
            let end = if self.whole { None } else { memchr::memchr(b'\n', &block) };
            let here = block.split_to(end.unwrap_or(block.len()));
            if self.begun.len() + here.len() > self.most_bytes {
                return Err(TooLong { line: self.lines + 1 });
            }
            if end.is_none() {
                self.begun.extend_from_slice(&here);
                continue;
            }
            let _ = block.split_to(1);
            if !block.is_empty() {
                self.blocks.push_front(block);
            }
            let bytes = if self.begun.is_empty() {
                here
            } else {
                self.begun.extend_from_slice(&here);
                self.begun.split().freeze()
            };
            self.lines += 1;
            return Ok(Some(Piece { line: self.lines, bytes }));
        }
        Ok(None)
    }

    /// What is left at the end of the input: a last line without a line feed, or the whole.
    pub(super) fn rest(&mut self) -> Option<Piece> {
        if self.begun.is_empty() && !self.whole {
            return None;
        }
        self.lines += 1;
        Some(Piece { line: self.lines, bytes: self.begun.split().freeze() })
    }

    /// The line that comes after all that were cut off.
    pub(super) fn next_line(&self) -> u64 {
        self.lines + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(blocks: &[&'static [u8]], whole: bool) -> Vec<(u64, Vec<u8>)> {
        let mut cutter = Cutter::new(whole, 10);
        let mut pieces = Vec::new();
        for block in blocks {
            cutter.feed(Bytes::from_static(block));
            while let Some(piece) = cutter.next().unwrap() {
                pieces.push(piece);
            }
        }
        pieces.extend(cutter.rest());
        pieces.into_iter().map(|piece| (piece.line, piece.bytes.to_vec())).collect()
    }

    #[test]
    fn lines_come_out_however_the_blocks_fall() {
        let wanted: Vec<(u64, Vec<u8>)> =
            [&b"a"[..], b"", b"bc\r", b"d"].iter().zip(1..).map(|(line, n)| (n, line.to_vec())).collect();
        assert_eq!(cut(&[b"a\n\nbc\r\nd"], false), wanted);
        assert_eq!(cut(&[b"a", b"\n", b"\nb", b"c", b"\r\nd"], false), wanted);
        assert_eq!(cut(&[b"a\n\nbc\r\nd\n"], false), wanted);
        assert_eq!(cut(&[], false), []);
        assert_eq!(cut(&[b"a\n", b"b"], true), [(1, b"a\nb".to_vec())]);
        assert_eq!(cut(&[], true), [(1, Vec::new())]);
    }

    #[test]
    fn what_is_too_long_is_named() {
        let mut cutter = Cutter::new(false, 3);
        cutter.feed(Bytes::from_static(b"abc\nde"));
        cutter.feed(Bytes::from_static(b"fg"));
        assert!(cutter.next().unwrap().is_some());
        assert_eq!(cutter.next(), Err(TooLong { line: 2 }));
    }
}
