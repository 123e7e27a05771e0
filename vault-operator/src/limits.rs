//! Every limit and wait of the operator.

use std::time::Duration;

/// How much of `--look-every` is up to chance, so that many resources are not looked at in the same second.
pub const LOOK_JITTER: f64 = 0.2;

/// How old what is known of a vault's containers and servers may be when nothing tells of a change, as a part of
/// `--look-every`: so that one listing serves many streams.
pub const VIEW_MAY_BE_OLD: f64 = 0.4;

/// How soon something is looked at again that is on its way and of which no watch tells.
pub const PROGRESS_LOOK: Duration = Duration::from_secs(3);

/// The first wait after a failure that may pass by itself.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);

/// The longest wait after failures that may pass by themselves.
pub const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// How long all that one reconciliation does may take.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(120);

/// How many vaults are worked on at once.
pub const VAULTS_AT_ONCE: u16 = 4;

/// How many VaultStreams are worked on at once. Most of the time they wait for servers, which list the containers once a
/// second for all who ask.
pub const STREAMS_AT_ONCE: u16 = 64;

/// Changes of one resource within this time are worked on together.
pub const DEBOUNCE: Duration = Duration::from_millis(200);

/// How long a server may take to answer about itself.
pub const SERVER_ANSWER: Duration = Duration::from_secs(5);

/// How long a server may take to list the containers when it is told to.
pub const SERVER_REFRESH: Duration = Duration::from_secs(20);

/// The longest answer of a server that is read: 1,000 streams of less than 4 KiB, a page of 1,000 at a time.
pub const MAX_SERVER_ANSWER_BYTES: usize = 8 << 20;

/// For how long the container's lease is asked for when metadata are changed.
pub const CONTAINER_LEASE: Duration = Duration::from_secs(15);

/// How long a MessageVault that is deleted waits for VaultStreams that want to be deleted with all their messages and
/// may be about to be deleted themselves, as when a whole namespace goes.
pub const WAIT_FOR_STREAMS_TO_GO: Duration = Duration::from_secs(10);

/// How long a token for the storage account lives that the operator asks the API server for, in seconds. Ten minutes is
/// the least that it gives.
pub const ASSERTION_SECONDS: i64 = 600;

/// How long the program waits for reconciliations under way when it is told to end.
pub const END_PATIENCE: Duration = Duration::from_secs(20);

/// How often files of vaults to be applied are looked at, and CRDs that are missing.
pub const LOOK_AT_FILES_EVERY: Duration = Duration::from_secs(5);

/// The largest such file.
pub const MAX_BOOTSTRAP_BYTES: u64 = 1 << 20;

/// How long the lease of the leading operator lasts, in seconds.
pub const LEASE_SECONDS: i32 = 15;

/// How long before its end it is renewed, in seconds.
pub const LEASE_GRACE_SECONDS: u64 = 5;

/// How long an operator that never held the lease waits until it takes no part in it any more.
pub const LEASE_LET_GO: Duration = Duration::from_secs(2);

const _: () = assert!(RETRY_FIRST.as_secs() < RETRY_LONGEST.as_secs());
const _: () = assert!(VIEW_MAY_BE_OLD < 1.0 - LOOK_JITTER);
const _: () = assert!(SERVER_REFRESH.as_secs() < RECONCILE_PATIENCE.as_secs());
const _: () = assert!((LEASE_GRACE_SECONDS as i64) < LEASE_SECONDS as i64);
