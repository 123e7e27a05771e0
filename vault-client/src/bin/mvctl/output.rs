//! Stdout: bytes are gathered and written at once, and whoever reads them may leave.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// So much is gathered before it is written.
const GATHERED_BYTES: usize = 256 << 10;

/// What is written to stdout. Not through Rust's own handle, which would look for the last line end in all of it.
pub(crate) struct Output {
    stdout: File,
    pub(crate) buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn open() -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { stdout, buffer: Vec::with_capacity(GATHERED_BYTES + (64 << 10)) })
    }

    /// Writes what was gathered, where that is much.
    pub(crate) fn flush_if_much(&mut self) -> io::Result<()> {
        if self.buffer.len() >= GATHERED_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.stdout.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// Waits until nobody reads it any more, which is seen of pipes alone. Who has nothing to write would not notice.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let is_pipe = self.stdout.metadata().is_ok_and(|of| of.file_type().is_fifo());
        let watched = self.stdout.try_clone().ok().filter(|_| is_pipe);
        // It is watched and not written through, so that it stays one that blocks.
        let watched = watched.and_then(|pipe| Sender::from_file_unchecked(pipe).ok());
        async move {
            match watched {
                Some(pipe) => drop(pipe.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        }
    }

    /// A line of JSON.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, document)?;
        self.buffer.push(b'\n');
        self.flush()
    }

    /// A text, as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.flush()
    }
}

/// Lines whose columns stand below each other, two spaces apart. Columns of numbers are set flush right.
pub(crate) fn table(numbers: &[bool], rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; numbers.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), number) in row.iter().zip(&widths).zip(numbers) {
            let gap = " ".repeat(width - cell.chars().count());
            line.push_str(&if *number { format!("{gap}{cell}  ") } else { format!("{cell}{gap}  ") });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = [row(&["NAME", "SIZE", ""]), row(&["ä", "1", "x"]), row(&["longer", "100000", ""])];
        assert_eq!(
            table(&[false, true, false], &rows),
            "NAME      SIZE\nä            1  x\nlonger  100000\n"
        );
    }
}
