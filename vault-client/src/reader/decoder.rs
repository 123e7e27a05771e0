//! Takes stored batches out of bytes as they come along, and verifies each. Pure.

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use vault_format::batch::{Batch, BatchError};
use vault_format::codec::InvalidPayload;
use vault_format::header::{Codec, Header, HeaderError, Kind};
use vault_format::limits::HEADER_BYTES;
use vault_format::record::InvalidRecord;

use crate::message::Received;

/// A batch as it is stored, its checksums verified.
#[derive(Clone, Debug)]
pub struct RawBatch {
    /// What its header says.
    pub header: Header,
    /// All of its bytes; of a filler the first 512.
    pub bytes: Bytes,
}

/// A batch whose checksums are right and whose contents are not: a writer's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum MalformedBatch {
    /// It cannot be uncompressed.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// A record in it is not one.
    #[error(transparent)]
    Record(#[from] InvalidRecord),
}

impl RawBatch {
    /// The records, uncompressed: one behind the other. Empty in a batch without messages.
    pub fn records(&self) -> Result<Bytes, InvalidPayload> {
        if self.header.kind != Kind::Messages {
            return Ok(Bytes::new());
        }
        let payload = self.bytes.slice(HEADER_BYTES..HEADER_BYTES + self.header.payload_bytes as usize);
        if self.header.codec == Codec::None {
            return Ok(payload);
        }
        let batch = Batch { header: self.header, payload: &payload };
        Ok(batch.uncompressed()?.into_bytes().into_owned().into())
    }

    /// Its messages.
    pub fn messages(&self) -> Result<Messages, InvalidPayload> {
        Ok(Messages { header: self.header, records: self.records()?, at: 0, taken: 0 })
    }
}

/// Iterates over the messages of a batch. Nothing follows an error.
#[derive(Clone, Debug)]
pub struct Messages {
    header: Header,
    records: Bytes,
    at: usize,
    taken: u32,
}

impl Iterator for Messages {
    type Item = Result<Received, InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken == self.header.record_count {
            // More bytes than the header counts records.
            let over = self.at < self.records.len();
            self.at = self.records.len();
            return over.then_some(Err(InvalidRecord::Truncated));
        }
        let offset = vault_format::ids::Offset(self.header.base_offset.0 + u64::from(self.taken));
        let taken = Received::take(
            &self.records,
            &mut self.at,
            self.header.stream,
            offset,
            self.header.first_timestamp,
        )
        .and_then(|message| {
            let on_time = message.timestamp() <= self.header.last_timestamp;
            on_time.then_some(message).ok_or(InvalidRecord::Timestamp)
        });
        self.taken += 1;
        if taken.is_err() {
            (self.taken, self.at) = (self.header.record_count, self.records.len());
        }
        Some(taken)
    }
}

/// How the bytes come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// As a server sends them: of fillers what is written alone.
    Sent,
    /// As a segment holds them: behind a filler's first page comes the rest of its block.
    Stored,
}

/// Takes batches out of bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    layout: Layout,
    buffer: BytesMut,
    /// Bytes to be passed over.
    skip: u64,
    header: Option<Header>,
}

impl Decoder {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, buffer: BytesMut::new(), skip: 0, header: None }
    }

    /// Takes the next bytes in.
    pub(crate) fn feed(&mut self, mut piece: Bytes) {
        if self.skip > 0 {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
            let _ = piece.split_to(skipped);
            self.skip -= skipped as u64;
        }
        self.buffer.extend_from_slice(&piece);
    }

    /// The next batch, if all of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<RawBatch>, BatchError> {
        let header = match self.header {
            Some(header) => header,
            None => match Header::decode(&self.buffer) {
                Ok(header) => *self.header.insert(header),
                Err(HeaderError::Absent) if self.buffer.len() < HEADER_BYTES => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let written = usize::try_from(header.written_bytes()).expect("a batch fits in memory");
        if self.buffer.len() < written {
            self.buffer.reserve(written - self.buffer.len());
            return Ok(None);
        }
        self.header = None;
        let bytes = self.buffer.split_to(written).freeze();
        Batch::with_header(header, &bytes)?;
        if self.layout == Layout::Stored {
            let rest = u64::from(header.total_bytes) - header.written_bytes();
            let here = usize::try_from(rest).unwrap_or(usize::MAX).min(self.buffer.len());
            let _ = self.buffer.split_to(here);
            self.skip = rest - here as u64;
        }
        Ok(Some(RawBatch { header, bytes }))
    }

    /// Whether bytes of a batch are left that has not come whole.
    pub(crate) fn is_in_the_middle(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{ID, batches, segment, text};
    use super::*;

    /// What comes of bytes in pieces of these lengths, and whether something is left over.
    fn decoded(layout: Layout, bytes: &[u8], cuts: &[usize]) -> Result<(Vec<RawBatch>, bool), BatchError> {
        let (mut decoder, mut found, mut rest) = (Decoder::new(layout), Vec::new(), bytes);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(cuts.next().map_or(rest.len(), |cut| *cut.min(&rest.len())));
            rest = behind;
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(batch) = decoder.next()? {
                found.push(batch);
            }
        }
        Ok((found, decoder.is_in_the_middle()))
    }

    fn sent(segment: &[u8]) -> Vec<u8> {
        batches(segment).into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    fn layouts(codec: Codec) -> [(Layout, Vec<u8>); 2] {
        let stored = segment(ID, &[&[3, 1, 50], &[2, 9], &[40]], codec);
        [(Layout::Sent, sent(&stored)), (Layout::Stored, stored)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn any_cut_gives_the_same_batches(
            cuts in proptest::collection::vec(1_usize..3_000, 1..20),
            codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
        ) {
            for (layout, bytes) in layouts(codec) {
                let expected = batches(&layouts(codec)[1].1);
                let (found, in_the_middle) = decoded(layout, &bytes, &cuts).unwrap();
                assert!(!in_the_middle);
                assert!(found.iter().any(|batch| batch.header.kind == Kind::Filler));
                let compressed = found.iter().any(|batch| batch.header.codec != Codec::None);
                assert_eq!(compressed, codec != Codec::None);
                let pairs: Vec<_> = found.iter().map(|batch| (batch.header, batch.bytes.clone())).collect();
                assert!(pairs == expected);
                let messages = found.iter().flat_map(|batch| batch.messages().unwrap()).map(Result::unwrap);
                for (message, offset) in messages.zip(0..) {
                    assert_eq!((message.offset().0, message.value()), (offset, text(offset).as_bytes()));
                }
            }
        }

        #[test]
        fn whatever_is_missing_at_the_end_is_noticed(missing in 1_usize..6_000) {
            let bytes = &layouts(Codec::None)[0].1;
            let cut = bytes.len() - missing.min(bytes.len());
            let (found, in_the_middle) = decoded(Layout::Sent, &bytes[..cut], &[700]).unwrap();
            let whole: usize = found.iter().map(|batch| batch.bytes.len()).sum();
            assert_eq!(in_the_middle, whole < cut);
        }
    }

    #[test]
    fn damage_of_any_byte_is_found() {
        let bytes = sent(&segment(ID, &[&[3, 30]], Codec::None));
        let (whole, _) = decoded(Layout::Sent, &bytes, &[]).unwrap();
        let mut start = 0;
        for batch in &whole {
            let means_something = HEADER_BYTES + batch.header.payload_bytes as usize;
            for at in start..start + means_something {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                assert!(decoded(Layout::Sent, &damaged, &[]).is_err(), "byte {at}");
            }
            start += batch.bytes.len();
        }
        assert_eq!(start, bytes.len());
    }
}
