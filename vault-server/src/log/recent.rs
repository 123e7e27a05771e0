//! The newest puts of a stream, kept in memory on the leader: any number of tailing consumers costs no storage reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position};

/// How many bytes all streams together may keep. When it is used up, streams keep nothing.
#[derive(Debug)]
pub(crate) struct RecentBudget {
    used: AtomicUsize,
    limit: usize,
}

impl RecentBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Acknowledged batches that follow each other in one block.
#[derive(Clone, Debug)]
pub(crate) struct RecentPut {
    pub(crate) segment: Offset,
    pub(crate) bytes: Bytes,
    /// The state in front of it.
    pub(crate) before: Chain,
    /// The state behind it.
    pub(crate) after: Chain,
    /// Whether it ends its segment.
    pub(crate) seals: bool,
}

/// The newest puts, oldest first, each one following the one before it.
#[derive(Debug)]
pub(crate) struct Recent {
    kept: Mutex<Kept>,
    budget: Arc<RecentBudget>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Kept {
    puts: VecDeque<RecentPut>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn new(budget: Arc<RecentBudget>, limit: usize) -> Self {
        Self { kept: Mutex::default(), budget, limit }
    }

    /// Adds a put that was acknowledged, and forgets the oldest until the limits hold.
    pub(crate) fn push(&self, put: RecentPut) {
        let mut kept = self.lock();
        let bytes = put.bytes.len();
        while !kept.puts.is_empty() && kept.bytes + bytes > self.limit {
            self.forget_oldest(&mut kept);
        }
        while !self.budget.take(bytes) {
            if kept.puts.is_empty() {
                return;
            }
            self.forget_oldest(&mut kept);
        }
        kept.bytes += bytes;
        kept.puts.push_back(put);
    }

    /// Forgets everything: the stream is idle, and others want the memory.
    pub(crate) fn clear(&self) {
        let mut kept = self.lock();
        while !kept.puts.is_empty() {
            self.forget_oldest(&mut kept);
        }
    }

    /// The put that holds the batch at a position.
    pub(crate) fn at(&self, segment: Offset, position: Position) -> Option<RecentPut> {
        let kept = self.lock();
        let index = kept.puts.partition_point(|put| (put.segment, put.after.position) <= (segment, position));
        let put = kept.puts.get(index)?;
        (put.segment == segment && put.before.position <= position).then(|| put.clone())
    }

    /// The state in front of the batch that holds the message at `offset`.
    pub(crate) fn find(&self, offset: Offset) -> Option<(Offset, Chain)> {
        let put = {
            let kept = self.lock();
            let index = kept.puts.partition_point(|put| put.after.next_offset <= offset);
            kept.puts.get(index).filter(|put| put.before.next_offset <= offset)?.clone()
        };
        let mut chain = put.before;
        loop {
            let at = usize::try_from(chain.position.0 - put.before.position.0).ok()?;
            let header = Header::decode(put.bytes.get(at..)?).ok()?;
            if header.kind == Kind::Messages && offset < header.next_offset() {
                return Some((put.segment, chain));
            }
            chain.advance(&header);
        }
    }

    fn forget_oldest(&self, kept: &mut Kept) {
        if let Some(put) = kept.puts.pop_front() {
            kept.bytes -= put.bytes.len();
            self.budget.give_back(put.bytes.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.clear();
    }
}
