//! The one page of the blob `leader`: who leads the vault, and that it is alive.
//!
//! ```text
//!  0  4  magic "MVLD"            16  8  beat
//!  4  1  version 1               24  8  changes
//!  5  1  flags                   32  .  endpoint, then zeros
//!  6  2  endpoint length        508  4  crc32c of the 508 bytes before
//!  8  8  term
//! ```
//!
//! It carries no state that anything rests on: the blob's sequence number gives out the terms, and the streams' own
//! blobs are fenced with them. Numbers are little-endian.

use thiserror::Error;

use crate::ids::Term;
use crate::limits::{LEADER_PAGE_BYTES, MAX_ENDPOINT_BYTES};

const MAGIC: &[u8; 4] = b"MVLD";
const VERSION: u8 = 1;
const LEADING: u8 = 1;
const DELETING: u8 = 2;
const ENDPOINT_AT: usize = 32;
const CHECKSUM_AT: usize = LEADER_PAGE_BYTES - 4;

const _: () = assert!(ENDPOINT_AT + MAX_ENDPOINT_BYTES <= CHECKSUM_AT);

/// Whether somebody leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaderState {
    /// The last leader has ended in order: whoever comes may take its place at once.
    Free,
    /// The endpoint leads, or has died without saying so.
    Leading,
}

/// What stands in the page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderPage {
    /// Whether somebody leads.
    pub state: LeaderState,
    /// The term under which the endpoint leads or has led.
    pub term: Term,
    /// Counts the times that the page was written in this term, so that no two look alike.
    pub beat: u64,
    /// Rises whenever a stream is created, changed or deleted, in all terms together: whoever keeps a list of the streams
    /// sees that it is out of date.
    pub changes: u64,
    /// Whether a stream may be about to be deleted: one that is missing then was not lost.
    pub deleting: bool,
    /// The URL at which other servers reach the leader, at most [`MAX_ENDPOINT_BYTES`] long.
    pub endpoint: String,
}

/// Why a page says nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidLeaderPage {
    /// Nobody has written it yet.
    #[error("nobody has led yet")]
    Blank,
    /// Its bytes are not what somebody wrote.
    #[error("the leader's page is damaged")]
    Damaged,
    /// A later version of the format.
    #[error("the leader's page has version {0}, later than this server's")]
    TooNew(u8),
}

impl LeaderPage {
    /// The page's bytes. An endpoint that is too long is the caller's mistake.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.endpoint.len() <= MAX_ENDPOINT_BYTES, "endpoints are checked where they are set");
        let mut page = vec![0; LEADER_PAGE_BYTES];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        let leading = if self.state == LeaderState::Leading { LEADING } else { 0 };
        put(4, &[VERSION, leading | if self.deleting { DELETING } else { 0 }]);
        put(6, &u16::try_from(self.endpoint.len()).expect("at most 400").to_le_bytes());
        put(8, &self.term.0.to_le_bytes());
        put(16, &self.beat.to_le_bytes());
        put(24, &self.changes.to_le_bytes());
        put(ENDPOINT_AT, self.endpoint.as_bytes());
        let checksum = crc32c::crc32c(&page[..CHECKSUM_AT]);
        page[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    /// Reads a page.
    pub fn decode(page: &[u8]) -> Result<Self, InvalidLeaderPage> {
        let page: &[u8; LEADER_PAGE_BYTES] = page.try_into().map_err(|_| InvalidLeaderPage::Damaged)?;
        if page.iter().all(|byte| *byte == 0) {
            return Err(InvalidLeaderPage::Blank);
        }
        let number = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"));
        let checksum = crc32c::crc32c(&page[..CHECKSUM_AT]).to_le_bytes();
        if page[..4] != *MAGIC || page[CHECKSUM_AT..] != checksum {
            return Err(InvalidLeaderPage::Damaged);
        }
        if page[4] != VERSION {
            return Err(InvalidLeaderPage::TooNew(page[4]));
        }
        let term = Term(number(8));
        if page[5] & !(LEADING | DELETING) != 0 || term >= Term::UNUSED {
            return Err(InvalidLeaderPage::Damaged);
        }
        let state = if page[5] & LEADING != 0 { LeaderState::Leading } else { LeaderState::Free };
        let deleting = page[5] & DELETING != 0;
        let length = usize::from(u16::from_le_bytes([page[6], page[7]]));
        if length > MAX_ENDPOINT_BYTES {
            return Err(InvalidLeaderPage::Damaged);
        }
        let endpoint = str::from_utf8(&page[ENDPOINT_AT..ENDPOINT_AT + length])
            .map_err(|_| InvalidLeaderPage::Damaged)?
            .to_owned();
        Ok(Self { state, term, beat: number(16), changes: number(24), deleting, endpoint })
    }
}
