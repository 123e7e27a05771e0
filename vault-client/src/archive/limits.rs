//! Sizes and times of copies.

use std::time::Duration;

/// For how long the container that is written to is locked, counted again from each renewal.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// How often that is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(15);

/// How often storage is looked at for what comes next, where a copy follows.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Messages in the place of lost ones that are put into one batch.
pub(super) const LOST_AT_ONCE: u64 = 50_000;

/// The longest put of pages.
pub(super) const MAX_PUT_BYTES: usize = 4 << 20;

/// A put may take as long as the log tries it.
const _: () = assert!(RENEW_EVERY.as_secs() * 3 < LEASE.as_secs());
