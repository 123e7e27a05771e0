//! Every limit and wait of the operator.

use std::time::Duration;

/// How much of `--look-every` is up to chance, so that many resources are not looked at in the same second.
pub const LOOK_JITTER: f64 = 0.2;

/// How old what is known of a vault's containers and servers may be when nothing tells of a change, as a part of
/// `--look-every`: so that one listing serves many streams.
pub const VIEW_MAY_BE_OLD: f64 = 0.4;

/// How old what is known of a vault's servers may be where something has changed: many streams that are made at once share
/// a look.
pub const FRESH_VIEW: Duration = Duration::from_secs(3);

/// How soon something is looked at again that is on its way and of which no watch tells.
pub const PROGRESS_LOOK: Duration = Duration::from_secs(3);

/// The first wait after a failure that may pass by itself.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);

/// The longest wait after failures that may pass by themselves.
pub const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// The longest such wait at first, while somebody who has just changed something may look on: roles that were granted
/// come into force within some minutes.
pub const RETRY_LONGEST_AT_FIRST: Duration = Duration::from_secs(30);

/// How long that holds.
pub const RETRY_OFTEN_FOR: Duration = Duration::from_secs(15 * 60);

/// How long all that one reconciliation does may take.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(120);

/// How long a resource that goes waits for storage where its streams stay.
pub const KEEP_PATIENCE: Duration = Duration::from_secs(30);

/// How many vaults are worked on at once. Those whose storage hangs take half a minute each and must not hold up the others.
pub const VAULTS_AT_ONCE: u16 = 16;

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

/// How long a connection to the API server may take to come about.
pub const API_CONNECT: Duration = Duration::from_secs(5);

/// How long the API server may take to answer a request in full, and to begin to answer a watch. What comes of a watch is
/// waited for by the watcher, for some seconds longer than the server lets it last.
pub const API_ANSWER: Duration = Duration::from_secs(30);

/// How long the Lease lasts without being renewed: so long a standby waits before it takes over from an operator that
/// fell silent. The value of most controllers.
pub const LEASE: Duration = Duration::from_secs(15);

/// How long before its Lease can be taken an operator has stopped working that could not renew it: what it has sent by
/// then has time to arrive, and timers need not be exact.
pub const LEASE_GRACE: Duration = Duration::from_secs(5);

/// How often the Lease is renewed.
pub const LEASE_RENEW_EVERY: Duration = Duration::from_secs(3);

/// How long one request about the Lease may take.
pub const LEASE_ANSWER: Duration = Duration::from_secs(3);

/// The wait after one that failed.
pub const LEASE_RETRY: Duration = Duration::from_secs(1);

/// How often a standby looks at the Lease: so soon it takes over after an orderly end.
pub const LEASE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long nobody works after a Lease was made where there was none: somebody may have deleted it while it was held, and
/// by then the holder has noticed or could not renew it.
pub const LEASE_ANEW: Duration = LEASE.saturating_sub(LEASE_GRACE);

/// How long reconciliations may take to be given up, and the rest of the program to end after them.
pub const LET_GO: Duration = Duration::from_secs(1);

const _: () = assert!(RETRY_FIRST.as_secs() < RETRY_LONGEST.as_secs());
const _: () = assert!(VIEW_MAY_BE_OLD < 1.0 - LOOK_JITTER);
const _: () = assert!(KEEP_PATIENCE.as_secs() < RECONCILE_PATIENCE.as_secs());
const _: () = assert!(SERVER_REFRESH.as_secs() < RECONCILE_PATIENCE.as_secs());
const _: () = assert!(API_ANSWER.as_secs() < RECONCILE_PATIENCE.as_secs());
/// One renewal may fail, and be tried again, before the holder has to stop.
const _: () = assert!(
    LEASE_RENEW_EVERY.as_millis() + 2 * LEASE_ANSWER.as_millis() + LEASE_RETRY.as_millis()
        <= LEASE.as_millis() - LEASE_GRACE.as_millis()
);
const _: () = assert!(2 * LET_GO.as_millis() < LEASE_GRACE.as_millis());
/// A holder that reaches the API server notices that its Lease was deleted.
const _: () = assert!(LEASE_RENEW_EVERY.as_millis() + LEASE_ANSWER.as_millis() < LEASE_ANEW.as_millis());
