//! One sync for many writes to a file, and what a failed one means.
//!
//! Linux reports a failed write-back to one sync of an open file, and then takes the pages for clean: the next sync
//! succeeds although the bytes never reached the disk. So a failure counts for every write that began before it was
//! reported, whichever of them asked. For that to be known in time **one sync of a file runs at a time**: were two to
//! run at once, the one that is told nothing could end before the other has counted its failure.
//!
//! So that writes do not queue up one sync each, a sync that begins after several writes serves all of them: with four
//! in flight that is less than one sync for two writes.
//!
//! ```text
//! write A  |--pwrite--|======= sync 1 =======|
//! write B      |--pwrite--|   waits          |======= sync 2 =======|
//! write C            |--pwrite--|  waits     |======= the same =====|
//! ```

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a write takes before it begins, to be told of failures since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    failures: u64,
}

/// Lets the writes to one file share syncs.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    progress: Mutex<Progress>,
    ended: Condvar,
}

impl GroupSync {
    pub(super) fn ticket(&self) -> Ticket {
        self.progress().ticket()
    }

    /// Returns once a sync that began after this call has succeeded, or one that concerns the ticket has failed.
    /// `sync` is called by one of those who wait.
    pub(super) fn sync(&self, ticket: Ticket, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut progress = self.progress();
        let needed = progress.next();
        loop {
            match progress.step(ticket, needed) {
                Step::Done => return Ok(()),
                Step::Failed(code) => return Err(io::Error::from_raw_os_error(code)),
                Step::Wait => progress = self.ended.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Step::Sync => {
                    progress.begin();
                    drop(progress);
                    let result = sync();
                    progress = self.progress();
                    progress.end(result.as_ref().err());
                    self.ended.notify_all();
                    // This sync began after the call, so that its outcome is the caller's.
                    return match progress.step(ticket, needed) {
                        Step::Failed(code) => Err(io::Error::from_raw_os_error(code)),
                        Step::Done | Step::Wait | Step::Sync => result,
                    };
                }
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a write has to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Done,
    /// A sync failed since the ticket was taken, with this error number.
    Failed(i32),
    Wait,
    Sync,
}

/// The syncs of a file so far, numbered from 1.
#[derive(Debug, Default)]
struct Progress {
    begun: u64,
    ended: u64,
    failures: u64,
    last_failure: i32,
}

/// The number of the input/output error, for a failure that brings none along.
const EIO: i32 = 5;

impl Progress {
    fn ticket(&self) -> Ticket {
        Ticket { failures: self.failures }
    }

    /// The first sync that begins from now on.
    fn next(&self) -> u64 {
        self.begun + 1
    }

    fn step(&self, ticket: Ticket, needed: u64) -> Step {
        if self.failures != ticket.failures {
            Step::Failed(self.last_failure)
        } else if self.ended >= needed {
            Step::Done
        } else if self.begun > self.ended {
            Step::Wait
        } else {
            Step::Sync
        }
    }

    fn begin(&mut self) {
        assert_eq!(self.begun, self.ended, "one sync of a file runs at a time");
        self.begun += 1;
    }

    fn end(&mut self, failure: Option<&io::Error>) {
        self.ended = self.begun;
        if let Some(error) = failure {
            self.failures += 1;
            self.last_failure = error.raw_os_error().unwrap_or(EIO);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn failure() -> io::Error {
        io::Error::from_raw_os_error(EIO)
    }

    #[test]
    fn a_sync_that_ran_when_the_write_ended_does_not_count() {
        let mut progress = Progress::default();
        progress.begin();
        let (ticket, needed) = (progress.ticket(), progress.next());
        assert_eq!(progress.step(ticket, needed), Step::Wait);
        progress.end(None);
        assert_eq!(progress.step(ticket, needed), Step::Sync);
        progress.begin();
        progress.end(None);
        assert_eq!(progress.step(ticket, needed), Step::Done);
    }

    #[test]
    fn a_failure_counts_for_every_write_that_began_before_it_was_reported() {
        let mut progress = Progress::default();
        let early = progress.ticket();
        progress.begin();
        let during = progress.ticket();
        progress.end(Some(&failure()));
        let (late, needed) = (progress.ticket(), progress.next());
        // The next sync succeeds, and says nothing of the pages that were lost.
        progress.begin();
        progress.end(None);
        assert_eq!(progress.step(early, needed), Step::Failed(EIO));
        assert_eq!(progress.step(during, needed), Step::Failed(EIO));
        assert_eq!(progress.step(late, needed), Step::Done);
    }

    #[test]
    fn writes_that_wait_share_one_sync_and_its_failure() {
        for fails in [false, true] {
            let group = Arc::new(GroupSync::default());
            let (arrived, syncs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let tickets: Vec<_> = (0..8).map(|_| group.ticket()).collect();
            let first = tickets[0];
            let sync = {
                let syncs = syncs.clone();
                move |ticket| {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    group.sync(ticket, || {
                        // The first sync lasts until all others have written.
                        if syncs.fetch_add(1, Ordering::SeqCst) == 0 {
                            while arrived.load(Ordering::SeqCst) < 8 {
                                thread::yield_now();
                            }
                        }
                        if fails { Err(failure()) } else { Ok(()) }
                    })
                }
            };
            let threads: Vec<_> = tickets
                .into_iter()
                .map(|ticket| {
                    let sync = sync.clone();
                    thread::spawn(move || sync(ticket))
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap().is_err(), fails);
            }
            assert!(syncs.load(Ordering::SeqCst) < 8, "each write synced for itself");
            assert_eq!(sync(first).is_err(), fails, "the ticket is from before the failure");
        }
    }
}
