//! Segments of what is written: found, claimed, made; and the puts to them.
//!
//! Two writers can never harm each other. Each claims a segment under a number of its own before it looks at it, and then
//! makes sure that the container is still locked by it. So whoever comes later claims a higher number and sees all that
//! was written before; and whoever wakes up after that is refused by the segment, or learns that the lock is another's.

use vault_format::ids::{Position, Term};
use vault_server::log::retry::until_definite;
use vault_server::storage::{BlobName, StorageError};

use super::{LogWriter, Segment};
use crate::archive::{ArchiveError, Place};

impl LogWriter {
    /// Finds the end of what is there.
    pub(super) async fn resume(&mut self) -> Result<(), ArchiveError> {
        let Some((base, _)) = self.stream.end().await?.segment else { return Ok(()) };
        // First no put of an earlier attempt can land any more, then it counts what is there.
        let blob = self.stream.blob(base);
        let Place { storage, env, .. } = self.target.place.clone();
        let before = until_definite(&env, || storage.properties(&blob)).await?.sequence_number;
        // Nobody has written to one that was made and not claimed, under any number.
        let number = if before == Term::UNUSED { Term(1) } else { Term(before.0 + 1) };
        self.claim(&blob, number).await?;
        let end = self.stream.end().await?;
        let Some((same, bytes)) = end.segment.filter(|(same, _)| *same == base) else {
            return Err(ArchiveError::InUse(self.target.name.clone()));
        };
        let tail = end.chain.position;
        if !end.sealed && tail.0 < bytes {
            let torn = until_definite(&env, || storage.page_ranges(&blob, tail.0..bytes)).await?;
            if let Some(last) = torn.last() {
                // Once and never again: a clear that arrives late would wipe out what was written since.
                let cleared = storage.clear_pages(&blob, tail.0..last.end, number).await;
                cleared.map_err(|error| self.target.or_in_use(error))?;
            }
        }
        if tail == Position::ZERO && end.first_offset == Some(base) {
            // Nothing was written yet: the stream may begin elsewhere by now.
            return self.delete_blank(&blob).await;
        }
        (self.chain, self.producers) = (Some(end.chain), end.producers);
        (self.sealed, self.out_at) = (end.sealed, tail);
        (self.recorded, self.messages_end) = (end.recorded, end.messages_end);
        self.segment = Some(Segment { base: same, bytes, number });
        self.target.before_first_segment(end.first_offset.unwrap_or(base)).await?;
        self.target.after_first_segment().await
    }

    /// Deletes a segment in the state in which it is: a deletion that arrives late must not hit the one that is made in its
    /// place.
    async fn delete_blank(&mut self, blob: &BlobName) -> Result<(), ArchiveError> {
        self.target.before_no_segment().await?;
        let Place { storage, env, .. } = &self.target.place;
        let etag = until_definite(env, || storage.properties(blob)).await?.etag;
        match until_definite(env, || storage.delete_blob(blob, Some(&etag))).await {
            Ok(()) | Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(self.target.or_in_use(error)),
        }
    }

    /// From here on only this writer writes to the segment, and under `number` nobody else ever has.
    async fn claim(&mut self, blob: &BlobName, number: Term) -> Result<(), ArchiveError> {
        let raised = self.raise(blob, number).await;
        let mut in_force = raised.map_err(|error| self.target.or_in_use(error))?;
        if in_force == Term::UNUSED {
            // Its number is above all others, so that it is set; then it is looked at again.
            let taken = self.take_unused(blob, number).await;
            taken.map_err(|error| self.target.or_in_use(error))?;
            let raised = self.raise(blob, number).await;
            in_force = raised.map_err(|error| self.target.or_in_use(error))?;
        }
        if in_force != number {
            return Err(ArchiveError::InUse(self.target.name.clone()));
        }
        self.target.prove().await
    }

    async fn raise(&self, blob: &BlobName, number: Term) -> Result<Term, StorageError> {
        let Place { storage, env, .. } = &self.target.place;
        until_definite(env, || storage.raise_sequence_number(blob, number)).await
    }

    /// Sets the number of a segment that nobody has used, where it is still in the state in which it is found now.
    async fn take_unused(&self, blob: &BlobName, number: Term) -> Result<(), StorageError> {
        let Place { storage, env, .. } = &self.target.place;
        let found = until_definite(env, || storage.properties(blob)).await?;
        if found.sequence_number != Term::UNUSED {
            return Ok(());
        }
        let set = || storage.set_sequence_number(blob, number, &found.etag, None);
        match until_definite(env, set).await {
            // Another writer, or this request when it was sent first.
            Err(StorageError::PreconditionFailed) => Ok(()),
            set => set,
        }
    }

    /// Stores what was built.
    pub async fn flush(&mut self) -> Result<(), ArchiveError> {
        self.target.keep().await?;
        self.send().await?;
        if !self.out.is_empty() {
            let room = self.out.len();
            self.sending = Some(std::mem::replace(&mut self.out, Vec::with_capacity(room)).into());
        }
        self.send().await
    }

    /// Sends what is on its way until it is stored: the same bytes to the same place, so that it may be given up and begun
    /// again.
    pub(super) async fn send(&mut self) -> Result<(), ArchiveError> {
        let (Some(bytes), Some(segment), Some(chain)) = (self.sending.clone(), self.segment, self.chain)
        else {
            return Ok(());
        };
        let blob = self.stream.blob(segment.base);
        let number = chain.fence.max(segment.number);
        // A batch whose term is above the blob's number would be no evidence of anything.
        if number > segment.number {
            self.claim(&blob, number).await?;
            self.segment = Some(Segment { number, ..segment });
        }
        let Place { storage, env, .. } = &self.target.place;
        let put = || storage.put_pages(&blob, self.out_at, bytes.clone(), number, None);
        until_definite(env, put).await.map_err(|error| self.target.or_in_use(error))?;
        self.recorded = self.recorded.max(self.out_at);
        (self.sending, self.out_at) = (None, chain.position);
        Ok(())
    }

    /// The segment in which the next batch goes, made where that is a new one.
    pub(super) async fn open_segment(&mut self) -> Result<Segment, ArchiveError> {
        if let Some(segment) = self.segment.filter(|_| !self.sealed) {
            return Ok(segment);
        }
        let Some(chain) = self.chain else { unreachable!("a segment is made where the stream has begun") };
        let (chain, first) = (chain.in_next_segment(), self.segment.is_none());
        let (base, bytes) = (chain.next_offset, self.target.meta.settings.segment_bytes);
        if first {
            self.target.before_first_segment(base).await?;
        }
        let blob = self.stream.blob(base);
        let number = self.segment.map_or(Term::ZERO, |before| before.number).max(chain.fence);
        let Place { storage, env, .. } = self.target.place.clone();
        // Until it is claimed it counts for nobody: this request may arrive when the segment is long deleted.
        match until_definite(&env, || storage.create_page_blob(&blob, bytes, Term::UNUSED)).await {
            // An attempt before this one may have made it.
            Ok(_) | Err(StorageError::AlreadyExists) => self.claim(&blob, number).await?,
            Err(error) => return Err(self.target.or_in_use(error)),
        }
        let bytes = until_definite(&env, || storage.properties(&blob)).await?.bytes;
        if !until_definite(&env, || storage.page_ranges(&blob, 0..bytes)).await?.is_empty() {
            return Err(ArchiveError::InUse(self.target.name.clone()));
        }
        let segment = Segment { base, bytes, number };
        if first {
            self.target.after_first_segment().await?;
        }
        (self.segment, self.sealed, self.chain) = (Some(segment), false, Some(chain));
        (self.out_at, self.recorded, self.messages_end) = (Position::ZERO, Position::ZERO, Position::ZERO);
        self.expanded = (0, 0);
        Ok(segment)
    }
}
