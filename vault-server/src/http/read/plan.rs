//! Where an answer ends. It is decided before the body begins, because the headers say where to go on.
//!
//! The first block is loaded and the limits are held against what stands in it. If they do not cut there, the end by
//! bytes is a border between blocks further on, whose offset stands in the head behind it.
//!
//! What is read as one document is limited by what it will hold and not by what is stored: compressed batches count with
//! the length of their records. Heads of blocks do not say how long that is further on, so a document ends at the latest
//! at the end of the first block in which it has met a compressed batch.

use std::collections::VecDeque;

use vault_format::codec::Codec;
use vault_format::header::{Header, Kind};
use vault_format::ids::Offset;
use vault_format::layout::block_of;
use vault_format::record::Record;

use crate::http::read::parameters::{Format, Request};
use crate::limits::ANSWER_PIECE_BYTES;
use crate::log::Cursor;
use crate::log::blocks::Batches;
use crate::log::error::ReadError;
use crate::log::reading::StreamReader;

/// What is to be sent, and the part of it that has been loaded.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The offset of the first message to be sent.
    pub(crate) start: Offset,
    /// The offset behind the last; of stored batches, a border between two.
    pub(crate) end: Offset,
    pub(crate) loaded: VecDeque<Batches>,
    /// Behind what has been loaded. `None` where nothing is to be sent.
    pub(crate) cursor: Option<Cursor>,
    /// Whether it ends early because reading on failed, so that it may end elsewhere the next time.
    pub(crate) broken_off: bool,
}

impl Plan {
    /// An answer from `start` on, at most to the tail at `tail`.
    pub(crate) async fn new(
        reader: &StreamReader,
        request: &Request,
        start: Offset,
        tail: Offset,
    ) -> Result<Self, ReadError> {
        let by_limit = Offset(start.0.saturating_add(request.limit));
        let wanted = by_limit.min(request.to.unwrap_or(tail)).min(tail);
        if start >= tail {
            reader.check_end()?;
        }
        if wanted <= start {
            return Ok(Self { start, end: start, loaded: VecDeque::new(), cursor: None, broken_off: false });
        }
        let whole_batches = request.format == Format::Batches;
        let mut cursor =
            if whole_batches { reader.seek_stored(start).await? } else { reader.seek(start).await? };
        let mut cut = Cut {
            start,
            wanted,
            whole_batches,
            document: request.format == Format::Json,
            left: request.max_bytes,
            taken: false,
            uncompressed: false,
        };
        let mut loaded = VecDeque::new();
        let (mut covered, mut broken_off, mut loaded_bytes) = (start, false, 0);
        while covered < cut.wanted {
            let batches = match reader.next(&mut cursor).await {
                Ok(Some(batches)) => batches,
                Ok(None) => break,
                // What comes before it is served; who goes on from there is told.
                Err(_) if covered > start => {
                    (cut.wanted, broken_off) = (covered, true);
                    break;
                }
                Err(error) => return Err(error),
            };
            let end = match cut.inside(reader, &batches).await {
                Ok(end) => end,
                Err(_) if covered > start => {
                    (cut.wanted, broken_off) = (covered, true);
                    break;
                }
                Err(error) => return Err(error),
            };
            covered = batches.after.next_offset;
            let left_block = left_block(&batches);
            let sealed = batches.seals;
            loaded_bytes += batches.bytes.len();
            loaded.push_back(batches);
            if let Some(end) = end {
                cut.wanted = end;
                break;
            }
            if left_block && cut.uncompressed {
                cut.wanted = cut.wanted.min(covered);
                break;
            }
            // Segments that were sealed early may be short, and many.
            let enough = left_block || (sealed && loaded_bytes >= ANSWER_PIECE_BYTES);
            if enough && covered > start && covered < cut.wanted {
                (cut.wanted, broken_off) = match further_on(reader, &cursor, &cut, covered, tail).await {
                    Ok(Further::Ends(end)) => (end, false),
                    Ok(Further::BreaksOff(end)) => (end, true),
                    Err(_) if covered > start => (covered, true),
                    Err(error) => return Err(error),
                };
                break;
            }
        }
        Ok(Self { start, end: cut.wanted, loaded, cursor: Some(cursor), broken_off })
    }

    /// Whether everything that is to be sent has been loaded.
    pub(crate) fn is_loaded(&self) -> bool {
        self.end <= self.loaded.back().map_or(self.start, |last| last.after.next_offset)
    }

    /// How many stored bytes have been loaded.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.loaded.iter().map(|batches| batches.bytes.len()).sum()
    }
}

fn left_block(batches: &Batches) -> bool {
    block_of(batches.before.position) != block_of(batches.after.position)
}

/// Where an answer ends that goes on beyond the loaded block.
enum Further {
    Ends(Offset),
    /// What comes next cannot be read.
    BreaksOff(Offset),
}

/// The end beyond the loaded block, or right behind it where what follows that block cannot be read: a segment is gone,
/// the head of the next block is damaged. Damage further on is known once somebody has met it, and looked for from then
/// on; who meets it first breaks off.
async fn further_on(
    reader: &StreamReader,
    cursor: &Cursor,
    cut: &Cut,
    covered: Offset,
    tail: Offset,
) -> Result<Further, ReadError> {
    // What stands at the head of the next block is what comes next, unless it is not there.
    let (by_bytes, next) =
        futures::try_join!(reader.offset_within(cursor, cut.left), reader.offset_within(cursor, 0))?;
    if next > covered {
        return Ok(Further::BreaksOff(covered));
    }
    let end = by_limits(reader, cut, by_bytes.max(covered), tail).await?.max(covered);
    if reader.check_end().is_ok() {
        return Ok(Further::Ends(end));
    }
    let readable = readable(reader, covered, end).await;
    Ok(if readable < end { Further::BreaksOff(readable) } else { Further::Ends(end) })
}

/// How far it can be read from `covered` to `end`.
async fn readable(reader: &StreamReader, covered: Offset, end: Offset) -> Offset {
    let mut reached = covered;
    let Ok(mut cursor) = reader.seek(covered).await else { return covered };
    while reached < end {
        let Ok(Some(batches)) = reader.next(&mut cursor).await else { return reached };
        reached = batches.after.next_offset;
    }
    end
}

/// The end that the limits set.
async fn by_limits(
    reader: &StreamReader,
    cut: &Cut,
    by_bytes: Offset,
    tail: Offset,
) -> Result<Offset, ReadError> {
    if by_bytes <= cut.wanted || !cut.whole_batches || cut.wanted == tail {
        return Ok(by_bytes.min(cut.wanted));
    }
    // The batch that holds the end is not sent.
    Ok(reader.seek(cut.wanted).await?.next_offset())
}

/// Holds the limits against batches, one after the other.
struct Cut {
    start: Offset,
    wanted: Offset,
    whole_batches: bool,
    /// Whether compressed batches count as what they hold.
    document: bool,
    /// Bytes that may still be looked at.
    left: u64,
    /// Whether a message has been taken: at least one always is.
    taken: bool,
    /// Whether a compressed batch was met that counts as what it holds.
    uncompressed: bool,
}

impl Cut {
    /// Where the answer ends, if that is inside these batches and not simply at the wanted offset.
    async fn inside(
        &mut self,
        reader: &StreamReader,
        batches: &Batches,
    ) -> Result<Option<Offset>, ReadError> {
        for (at, header) in batches.headers() {
            if header.base_offset >= self.wanted {
                return Ok(None);
            }
            let mut bytes = header.written_bytes();
            if self.document && header.codec != Codec::None {
                bytes = header.uncompressed_bytes.into();
                self.uncompressed = true;
            }
            let may_look_at = self.left;
            let fits = bytes <= may_look_at;
            self.left = self.left.saturating_sub(bytes);
            if header.kind != Kind::Messages {
                if !fits && self.taken {
                    return Ok(Some(header.base_offset));
                }
                continue;
            }
            if self.whole_batches && (!fits || header.next_offset() > self.wanted) {
                return Ok(Some(if self.taken { header.base_offset } else { header.next_offset() }));
            }
            if !fits {
                let records = reader.records(batches, at, &header).await?;
                return Ok(Some(self.inside_batch(&records, &header, may_look_at)));
            }
            self.taken = true;
        }
        Ok(None)
    }

    /// Where the answer ends in a batch that is larger than what may still be looked at.
    fn inside_batch(&self, mut payload: &[u8], header: &Header, may_look_at: u64) -> Offset {
        let (mut end, mut taken, mut looked_at) = (header.base_offset.0, self.taken, 0);
        while end < self.wanted.0 && end < header.next_offset().0 {
            let before = payload.len();
            // Who sends the messages meets the same error and reports it.
            if Record::take(&mut payload).is_err() {
                break;
            }
            if end >= self.start.0 {
                looked_at += (before - payload.len()) as u64;
                if taken && looked_at > may_look_at {
                    break;
                }
                taken = true;
            }
            end += 1;
        }
        Offset(end)
    }
}
