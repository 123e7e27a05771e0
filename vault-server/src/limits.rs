//! Every limit and time-out of the server, in one place and related to each other.

use std::ops::RangeInclusive;
use std::time::Duration;

use vault_format::ids::Term;
use vault_format::limits::{BLOCK_BYTES, MAX_RUN_BYTES, MAX_SEGMENT_BYTES};

// --- storage ---

/// The largest write of pages: what Put Page takes.
pub const MAX_PUT_BYTES: u64 = 4 << 20;

/// The largest page blob.
pub const MAX_PAGE_BLOB_BYTES: u64 = MAX_SEGMENT_BYTES;

/// The highest sequence number: Azure keeps it as a signed number.
pub const MAX_SEQUENCE_NUMBER: u64 = i64::MAX as u64;

const _: () = assert!(Term::UNUSED.0 <= MAX_SEQUENCE_NUMBER);

/// The longest name of a blob inside its container: Azure's rule.
pub const MAX_BLOB_NAME_BYTES: usize = 1024;

/// The longest part of a blob's name between two `/`: a file of that name gets a state file, with a longer name,
/// beside it, and file systems allow 255 bytes.
pub const MAX_BLOB_NAME_PART_BYTES: usize = 200;

/// How long a lease may be taken for: Azure's rule.
pub const LEASE_DURATION: RangeInclusive<Duration> = Duration::from_secs(15)..=Duration::from_secs(60);

/// How many blobs the file backend keeps open. A blob in use stays open, so that there may be more for a moment.
pub const FILE_OPEN_BLOBS: usize = 512;

/// How much the file backend writes at once. Linux keeps a long write in folios of up to 2 MiB, and a virtual machine
/// that hands its free memory back to its host (free page reporting) then gets all of it anew from there: a gigabyte in
/// writes of 4 MiB takes ten times the CPU time of one in writes of up to 1 MiB.
pub const FILE_WRITE_BYTES: usize = 256 << 10;

/// The longest write to a file behind which zeros make room for those that follow.
pub const FILE_AHEAD_OF_BYTES: u64 = 64 << 10;

/// How many zeros that is at most. What they make room for is written twice.
pub const FILE_AHEAD_BYTES: u64 = 256 << 10;

/// How much of a file the file backend reads at once where it looks for pages that are not zeros.
pub const FILE_SCAN_BYTES: u64 = 1 << 20;

/// The shortest time from one write to a page blob in Azure to the next: 250 a second leave half of the 500 requests a
/// second that a page blob takes to everything else.
pub const AZURE_PUT_INTERVAL: Duration = Duration::from_millis(4);

/// How long connecting to Azure may take: a server that answers at all does so in a fraction of it.
pub const AZURE_CONNECT_TIME: Duration = Duration::from_secs(3);

/// How long a request to Azure may take, its answer included, that moves next to nothing.
pub const AZURE_SMALL_REQUEST_TIME: Duration = Duration::from_secs(5);

/// Up to how many bytes are next to nothing. The leader's page is among them: who looks at it must soon know that
/// storage does not answer.
pub const AZURE_SMALL_BYTES: usize = 64 << 10;

/// How long a request to Azure may take, its answer included, that moves up to 4 MiB or goes through a whole blob. Four
/// writes of 4 MiB come through within it at 600 KB/s, half of which goes to what is sent a second time meanwhile.
pub const AZURE_LARGE_REQUEST_TIME: Duration = Duration::from_secs(60);

/// How long a request to Azure that may be carried out twice and moves next to nothing goes without an answer until it is
/// sent a second time, beside the first and on a new connection: ten times as long as all but a few answers take. A follower
/// takes storage for slow by how long its looks take, so that it is not longer.
pub const AZURE_SMALL_SECOND_AFTER: Duration = Duration::from_secs(1);

/// The same for one that moves up to 4 MiB, which takes a tenth of a second. A server whose connections have fallen silent
/// stores again soon enough for appends to go on within 6 s.
pub const AZURE_LARGE_SECOND_AFTER: Duration = Duration::from_secs(3);

/// How long such a second request may take: it is for finding out whether a new connection is any better. The first one
/// is left to go on, and comes through where storage is slow.
pub const AZURE_SECOND_TIME: Duration = Duration::from_secs(4);

/// How soon after it the next one is sent.
pub const AZURE_SECOND_PAUSE: Duration = Duration::from_millis(500);

/// How long a connection to Azure is kept that nothing uses.
pub const AZURE_IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// Under how many ids at most one lease is asked for that may be held without anybody knowing. More than a few come only
/// of changes of such ids that are not answered again and again; the oldest is forgotten then, and the lease runs out.
pub const AZURE_UNSURE_LEASES: usize = 8;

/// How long getting a token may take. It is a part of the request that wants the token.
pub const AZURE_TOKEN_TIME: Duration = Duration::from_secs(4);

/// How long nobody asks for a token again after it was not to be had. Tokens are renewed five minutes before they end,
/// and requests must not wait for that again and again meanwhile.
pub const AZURE_TOKEN_PAUSE: Duration = Duration::from_secs(5);

/// A batch goes out in one write.
const _: () = assert!(BLOCK_BYTES <= MAX_PUT_BYTES);
const _: () = assert!(FILE_SCAN_BYTES.is_multiple_of(vault_format::limits::PAGE_BYTES));
const _: () = assert!(AZURE_CONNECT_TIME.as_secs() < AZURE_SMALL_REQUEST_TIME.as_secs());
/// Even a small request is sent a second time, and who connects in vain tries again.
const _: () = assert!(AZURE_SMALL_SECOND_AFTER.as_secs() < AZURE_SMALL_REQUEST_TIME.as_secs());
const _: () = assert!(AZURE_CONNECT_TIME.as_secs() < AZURE_SECOND_TIME.as_secs());
const _: () = assert!(LEADER_BYTES <= AZURE_SMALL_BYTES as u64);
const _: () = assert!(AZURE_TOKEN_TIME.as_secs() < AZURE_SMALL_REQUEST_TIME.as_secs());

// --- the log ---

/// How many Put Pages of one stream may be on their way at once.
pub const MAX_PUTS_IN_FLIGHT: usize = 4;

/// The same where they go to a file.
pub const FILE_PUTS_IN_FLIGHT: usize = 2;

/// How many bytes must wait for one to be written to a file beside another.
pub const FILE_BESIDE_BYTES: usize = 64 << 10;

/// No more blocks than this, the tail's included, can hold what was not acknowledged.
pub const WINDOW_BLOCKS: u64 = 4;

/// A stream without appends for this long puts on record that its last messages are committed.
pub const COMMIT_AFTER_IDLE: Duration = Duration::from_secs(1);

/// How long a request of an idempotent producer waits for those before it, if it has overtaken them.
pub const EARLY_WAIT: Duration = Duration::from_millis(500);

/// How many copies of what recovery cleared are kept for each stream.
pub const ASIDES_KEPT: usize = 8;

/// What one stream may have waiting to be stored, where so much is left for all others.
pub const QUEUE_BYTES_PER_STREAM: usize = 16 << 20;

/// What all streams together may have waiting to be stored.
pub const QUEUE_BYTES: usize = 64 << 20;

/// What a request counts at least against the limits on queued bytes, so that small ones are bounded in number.
pub const MIN_REQUEST_COST: usize = 1 << 10;

/// The newest puts that one stream keeps in memory for tailing consumers.
pub const RECENT_BYTES_PER_STREAM: usize = 8 << 20;

/// The newest puts that all streams together keep in memory.
pub const RECENT_BYTES: usize = 32 << 20;

/// The cache of whole blocks.
pub const BLOCK_CACHE_BYTES: u64 = 32 << 20;

/// What readers and the block cache hold together; a reader that gets none is refused.
pub const READ_MEMORY_BYTES: usize = 128 << 20;

/// How long a reader waits for its share of that memory.
pub const READ_MEMORY_WAIT: Duration = Duration::from_secs(5);

/// How many heads of blocks are remembered, of all streams.
pub const HEADS_CACHED: usize = 65_536;

/// The most streams of a vault.
pub const MAX_STREAMS: usize = 1_000;

/// How many deleted streams a leader keeps in mind, in case that somebody brings one back; then it takes a new term.
pub const STREAMS_LET_GO: usize = 65_536;

/// How many streams a new leader opens at a time when nobody asks for them.
pub const STREAMS_OPENED_AT_ONCE: usize = 8;

/// How often the leader looks which containers there are.
pub const LIST_EVERY: Duration = Duration::from_secs(60);

/// How soon after a listing began the next one does that somebody asks for.
pub const ASKED_LISTINGS_APART: Duration = Duration::from_secs(1);

/// How long a lease lasts without renewal, where storage lets leases run out.
pub const LEASE: Duration = Duration::from_secs(15);

/// How long what was accepted may take to be stored when the server ends; what is not stored by then was not
/// acknowledged.
pub const FINISH_PATIENCE: Duration = Duration::from_secs(10);

/// How often a lease is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How soon a renewal that failed is tried again.
pub const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// How long before its lease can have run out a leader stops: timers are not exact.
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// The longest uid of a vault.
pub const MAX_VAULT_UID_BYTES: usize = 128;

/// How often a leader shows that it lives.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How soon it does so again where storage did not answer in time, or has refused.
pub const BEAT_AGAIN: Duration = Duration::from_millis(100);

/// How often a follower looks whether the leader lives.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How soon it looks at the earliest where the leader has turned away, or not answered, what was handed on to it.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a leader may show no life before a follower takes its place, unless storage is slow.
pub const STALE_AFTER: Duration = Duration::from_secs(4);

/// How long a follower may go without an answer from storage and still count the time against the leader.
pub const LOOK_GAP: Duration = Duration::from_millis(2_500);

/// How many looks tell how slow storage is; those within [`LOOK_EVERY`] count as one.
pub const RECENT_LOOKS: usize = 8;

/// How long a follower that storage does not answer still counts as one that can serve reads.
pub const BLIND_AFTER: Duration = Duration::from_secs(3);

/// The size of the blob that says who leads.
pub const LEADER_BYTES: u64 = vault_format::limits::LEADER_PAGE_BYTES as u64;

/// How old a follower's knowledge of a tail may be when it answers a read that does not ask for more.
pub const FOLLOWED_MAY_BE_OLD: Duration = Duration::from_millis(100);

/// How often a follower looks for new messages while somebody waits for them.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// How much a follower reads at first when it looks for new messages.
pub const FOLLOW_READ_BYTES: u64 = 64 << 10;

/// The first wait before a storage request is sent again; each further one is twice as long.
pub const RETRY_FIRST_MS: u64 = 20;

/// The longest wait before a storage request is sent again.
pub const RETRY_LONGEST_MS: u64 = 1_000;

/// How long a storage request is sent again and again before the failure is passed on.
pub const STORAGE_PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(LEASE.as_millis() >= 3 * RENEW_EVERY.as_millis());
const _: () = assert!(RENEW_AGAIN.as_millis() < RENEW_EVERY.as_millis());
/// A beat or two may be late without harm, and looks come often enough to see every one.
const _: () = assert!(STALE_AFTER.as_millis() >= 3 * BEAT_EVERY.as_millis());
const _: () =
    assert!(LOOK_EVERY.as_millis() < BEAT_EVERY.as_millis() && LOOK_GAP.as_millis() > LOOK_EVERY.as_millis());
/// A beat whose connection has fallen silent comes in time when it is sent a second time, with half a second for a new
/// connection.
const _: () =
    assert!(BEAT_EVERY.as_millis() + AZURE_SMALL_SECOND_AFTER.as_millis() + 500 < STALE_AFTER.as_millis());
/// A renewal that takes as long as a request may keeps the lease, also when the one before it has failed at once.
const _: () = assert!(
    RENEW_EVERY.as_millis() + RENEW_AGAIN.as_millis() + AZURE_SMALL_REQUEST_TIME.as_millis()
        < LEASE.as_millis() - LEASE_MARGIN.as_millis()
);
const _: () = assert!(LOOK_AGAIN.as_millis() < LOOK_EVERY.as_millis());
/// A follower takes over before the lease would run out.
const _: () = assert!(STALE_AFTER.as_millis() + LOOK_EVERY.as_millis() < LEASE.as_millis());
const _: () = assert!(RETRY_FIRST_MS < RETRY_LONGEST_MS);
/// One stream can fill its window, and its queue holds the next puts meanwhile.
const _: () = assert!(QUEUE_BYTES_PER_STREAM >= 2 * MAX_RUN_BYTES && QUEUE_BYTES >= QUEUE_BYTES_PER_STREAM);
/// The cache leaves room for readers, each of which holds a block and a batch of it uncompressed, and loads the next block.
const _: () = assert!(BLOCK_CACHE_BYTES + 8 * 3 * BLOCK_BYTES <= READ_MEMORY_BYTES as u64);
const _: () = assert!(MAX_PUTS_IN_FLIGHT as u64 <= WINDOW_BLOCKS);
const _: () = assert!(LEASE.as_secs() >= LEASE_DURATION.start().as_secs());

// --- http ---

/// How often files that may change while the server runs are looked at. A change counts when two looks in a row have
/// seen it, so that a file that is being written is not taken for a whole one: it comes into force within twice this time.
pub const LOOK_AT_FILES_EVERY: Duration = Duration::from_secs(2);

/// The largest file that is looked at so: a certificate chain, or who may do what.
pub const MAX_WATCHED_FILE_BYTES: usize = 1 << 20;

/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// How long nothing may come from a client before the system asks whether it still lives.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How often it asks then.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// How often it asks in vain before the connection is over.
pub const KEEPALIVE_TIMES: u32 = 4;

/// What a client of HTTP/2 must take of an answer within [`WRITE_STALL`].
pub const PROGRESS_BYTES: usize = 16 << 10;

/// How many requests one connection of HTTP/2 carries at once.
pub const MAX_REQUESTS_PER_CONNECTION: u32 = 128;

/// How many connections the internal listener serves at once: probes and whoever collects metrics.
pub const MAX_INTERNAL_CONNECTIONS: usize = 256;

/// How many connections are served at once unless the settings say otherwise.
pub const MAX_CONNECTIONS: usize = 16_384;

/// What a connection buffers of what it reads; the head of a request must fit.
pub const CONNECTION_BUFFER_BYTES: usize = 64 << 10;

/// The most headers of a request.
pub const MAX_REQUEST_HEADERS: usize = 100;

/// How long a follower tries to connect to the leader.
pub const FORWARD_CONNECT: Duration = Duration::from_secs(1);

/// How long a follower waits for the next bytes of the leader's answer: longer than a read may wait for messages.
pub const FORWARD_IDLE: Duration = Duration::from_secs(75);

/// How long a follower waits for the answer to a request that it has handed on once somebody else leads.
pub const FORWARD_GRACE: Duration = Duration::from_secs(1);

/// How many connections to the leader a follower keeps open for later.
pub const FORWARD_IDLE_CONNECTIONS: usize = 256;

/// How long a client may take nothing of an answer that it has coming before its connection is cut.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// How long the body of a request may take from its first byte to its last.
pub const BODY_TIME: Duration = Duration::from_secs(30);

/// The most steps of a JSON pointer: each goes through the line once more.
pub const MAX_POINTER_STEPS: usize = 32;

/// The largest body that is JSON: escapes and base64 make it longer than the records in it.
pub const MAX_JSON_BODY_BYTES: usize = 8 << 20;

/// The largest body that holds a stream's settings.
pub const MAX_SETTINGS_BODY_BYTES: usize = 64 << 10;

/// What all request bodies together may hold while they arrive and until their records are queued.
pub const REQUEST_BODIES_BYTES: usize = 64 << 20;

/// How much of a refused body is read and thrown away, so that the client gets to read why it was refused.
pub const MAX_DRAINED_BYTES: usize = 16 << 20;

/// How long that may take.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A message's longest value unless the settings say otherwise.
pub const DEFAULT_MESSAGE_BYTES: usize = 1 << 20;

/// How long an append waits until it is stored unless the settings say otherwise.
pub const DEFAULT_APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be idle unless the settings say otherwise.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How many messages a read answers unless it says otherwise.
pub const DEFAULT_READ_MESSAGES: u64 = 1_000;

/// How many stored bytes a read looks at unless it says otherwise.
pub const DEFAULT_READ_BYTES: u64 = 4 << 20;

/// The most messages of a JSON answer, which clients hold in memory as a whole.
pub const MAX_JSON_READ_MESSAGES: u64 = 100_000;

/// The most stored bytes that a JSON answer looks at.
pub const MAX_JSON_READ_BYTES: u64 = 16 << 20;

/// The longest wait of a read at the tail.
pub const MAX_READ_WAIT: Duration = Duration::from_secs(60);

/// Answers go out in pieces of about this size.
pub const ANSWER_PIECE_BYTES: usize = 512 << 10;

/// A piece of at least this length counts against the memory of readers; shorter ones are not worth the counting.
pub const COUNTED_PIECE_BYTES: usize = 16 << 10;

/// A page of streams unless the request says otherwise.
pub const DEFAULT_LIST_STREAMS: usize = 100;

/// The most streams that the status names as being in trouble.
pub const MAX_TROUBLED_LISTED: usize = 100;

/// How long requests in flight may go on once the server is told to end.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long the program waits at its start until it can serve before it says all the same where it listens.
pub const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long requests in flight may hold up the leader's hand-over once it is told to end.
pub const HANDOVER_GRACE: Duration = Duration::from_millis(250);

const _: () =
    assert!(MAX_JSON_BODY_BYTES >= 2 * MAX_RUN_BYTES && REQUEST_BODIES_BYTES >= 4 * MAX_JSON_BODY_BYTES);
const _: () = assert!(DEFAULT_MESSAGE_BYTES <= vault_format::limits::MAX_VALUE_BYTES);
const _: () = assert!(DEFAULT_READ_BYTES <= MAX_JSON_READ_BYTES);
const _: () = assert!(DEFAULT_LIST_STREAMS <= MAX_STREAMS);
const _: () = assert!(FORWARD_IDLE.as_secs() > MAX_READ_WAIT.as_secs());

// --- appending: events, digests, rates ---

/// What `append_bytes_per_second` of a stream may be: below the least, one full request would wait for an hour.
pub const APPEND_BYTES_PER_SECOND: RangeInclusive<u64> = 1 << 10..=1 << 30;

/// What `retention_seconds` of a stream may be: 10 s to 100 years of 365 days.
pub const RETENTION_SECONDS: RangeInclusive<u64> = 10..=100 * 365 * 24 * 3_600;

/// What `retention_bytes` of a stream may be: segments are a tenth of it, and none should be shorter than a block.
pub const RETENTION_BYTES: RangeInclusive<u64> = 64 << 20..=1 << 50;

/// What `max_bytes` of a stream may be.
pub const MAX_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// A stream with a limit may take this much at once after a pause: whatever one request may hold, so that none is
/// refused for ever, or more where one second's worth is more.
pub const MIN_APPEND_BURST_BYTES: u64 = MAX_RUN_BYTES as u64;

/// The longest `tracestate` that is kept: what W3C Trace Context asks everybody to pass on.
pub const MAX_TRACE_STATE_BYTES: usize = 512;

/// The most entries of a `tracestate`: W3C Trace Context's rule.
pub const MAX_TRACE_STATE_MEMBERS: usize = 32;

const _: () = assert!(*APPEND_BYTES_PER_SECOND.start() * 3_600 >= MIN_APPEND_BURST_BYTES);
const _: () = assert!(*RETENTION_BYTES.start() / 10 >= BLOCK_BYTES);

// --- direct reads ---

/// How long somebody may read a stream's blobs directly before he has to ask again.
pub const DIRECT_READ_TIME: Duration = Duration::from_secs(15 * 60);

/// How far the clocks of this server and of storage may differ: grants begin so long before they are made.
pub const DIRECT_READ_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// How long a key lasts with which an identity signs grants; Azure gives them for a week at most.
pub const DELEGATION_KEY_TIME: Duration = Duration::from_secs(4 * 3_600);

/// The most segments that one plan of direct reads names.
pub const MAX_DIRECT_SEGMENTS: usize = 1_000;

/// A key signs more than one grant before it is renewed.
const _: () = assert!(
    DELEGATION_KEY_TIME.as_secs() > 2 * (DIRECT_READ_TIME.as_secs() + DIRECT_READ_CLOCK_SKEW.as_secs())
);
// --- access ---

/// The most users of an access file, and the most tokens.
pub const MAX_ACCESS_NAMES: usize = 1_000;

/// The longest name of a user or token, and the longest subject that the audit log shows.
pub const MAX_ACCESS_NAME_CHARS: usize = 256;

/// The most issuers of an access file.
pub const MAX_ISSUERS: usize = 16;

/// The most rules of an issuer.
pub const MAX_ISSUER_RULES: usize = 1_000;

/// The most grants of one user, token or rule, and the most claims that a rule asks for.
pub const MAX_GRANTS: usize = 100;

/// The most grants that one caller can have of several rules together: each request may look at all of them.
pub const MAX_CALLER_GRANTS: usize = 1_000;

/// The memory that verifying one password may take, in KiB.
pub const MAX_ARGON2_KIB: u32 = 128 << 10;

/// How many KiB verifying one password may go through, over all passes: some seconds of a core.
pub const MAX_ARGON2_WORK_KIB: u64 = 1 << 20;

/// The longest `Authorization: Basic`: a name and a password as base64.
pub const MAX_BASIC_BYTES: usize = 2 << 10;

/// How many passwords are verified at once at most. On small machines it is half of the cores.
pub const PASSWORDS_AT_ONCE: usize = 2;

/// How many different passwords for one user may wait to be verified; as many wait for all unknown names together. One
/// that is guessed at so holds up nobody else.
pub const PASSWORDS_WAITING: usize = 8;

/// How long a password waits to be verified.
pub const PASSWORD_PATIENCE: Duration = Duration::from_secs(5);

/// How many passwords and tokens that were accepted are remembered, and how many wrong passwords.
pub const CREDENTIALS_CACHED: usize = 10_000;

/// The longest bearer token.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// How far the clocks of issuers may be off, in seconds.
pub const TOKEN_LEEWAY_S: u64 = 30;

/// How long connecting to an issuer may take.
pub const ISSUER_CONNECT: Duration = Duration::from_secs(3);

/// How long fetching the keys of an issuer may take, discovery included.
pub const ISSUER_TIME: Duration = Duration::from_secs(8);

/// How long a request waits for the keys of an issuer.
pub const ISSUER_PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer of an issuer.
pub const MAX_ISSUER_ANSWER_BYTES: usize = 256 << 10;

/// The most keys of an issuer that are looked at.
pub const MAX_ISSUER_KEYS: usize = 100;

/// How often the keys of an issuer are fetched.
pub const ISSUER_KEYS_EVERY: Duration = Duration::from_secs(300);

/// How soon they are fetched again after a failure, or when a token is signed with a key that is not among them.
pub const ISSUER_PAUSE: Duration = Duration::from_secs(10);

/// How long the keys of an issuer that is down are good for.
pub const ISSUER_KEYS_KEPT: Duration = Duration::from_secs(12 * 3_600);

/// How many refusals the audit log tells of in [`AUDIT_WINDOW`]; the others are counted.
pub const AUDIT_REFUSALS: u32 = 20;

/// The time for which refusals are counted.
pub const AUDIT_WINDOW: Duration = Duration::from_secs(10);

/// A change of a file is in force within ten seconds.
const _: () = assert!(2 * LOOK_AT_FILES_EVERY.as_secs() < 10);
const _: () = assert!(ISSUER_CONNECT.as_secs() < ISSUER_TIME.as_secs());
const _: () = assert!(ISSUER_TIME.as_secs() < ISSUER_PATIENCE.as_secs());
/// Every header that can be accepted fits into what a connection reads.
const _: () = assert!(MAX_TOKEN_BYTES < CONNECTION_BUFFER_BYTES && MAX_BASIC_BYTES < CONNECTION_BUFFER_BYTES);
const _: () = assert!(MAX_GRANTS <= MAX_CALLER_GRANTS);

/// How long an answer that breaks off waits before it does, so that what was written before is sent: the connection
/// drops what it holds back.
pub const BREAK_OFF_PAUSE: Duration = Duration::from_millis(250);

// --- reads that follow or filter ---

/// How often an event stream shows that it lives, and how far the stream goes.
pub const PING_EVERY: Duration = Duration::from_secs(15);

/// How long a client of an event stream waits before it comes again, in ms.
pub const EVENTS_RETRY_MS: u64 = 1_000;

/// Who follows and is behind is sent pieces of about this size.
pub const FOLLOW_PIECE_BYTES: usize = 128 << 10;

/// What is written once for all who follow a stream at its tail is cut into pieces of about this size.
pub const FEED_PIECE_BYTES: usize = 64 << 10;

/// How much of that is published at once.
pub const FEED_BURST_BYTES: usize = 1 << 20;

/// The newest pieces that are kept for the followers of one stream in one format.
pub const FEED_BYTES_PER_STREAM: usize = 4 << 20;

/// What the pieces of all streams take, those included that wait in a connection to be sent.
pub const FEED_BYTES: usize = 32 << 20;

/// Every follower makes the next piece wait for so long: sending it costs a write and a wake-up for each.
pub const FEED_PACE_PER_FOLLOWER: Duration = Duration::from_micros(20);

/// The longest wait from one piece to the next.
pub const FEED_PACE_LONGEST: Duration = Duration::from_millis(50);

/// By how much timers may be late: they count in milliseconds.
pub const TIMER_TICK: Duration = Duration::from_millis(1);

/// How soon storage is asked again on behalf of those who follow, after it did not answer.
pub const FEED_AGAIN: Duration = Duration::from_secs(1);

/// How long a read of an offset beyond the tail waits for what is being stored: it may have been seen in storage.
pub const BEYOND_TAIL_WAIT: Duration = Duration::from_secs(1);

/// How many stored bytes a filtered read looks at.
pub const FILTERED_LOOK_BYTES: u64 = 64 << 20;

/// How long a filtered read looks for messages.
pub const FILTERED_LOOK_TIME: Duration = Duration::from_secs(5);

/// How long an event stream that is handed on may be silent before it is ended.
pub const FORWARD_EVENTS_SILENCE: Duration = Duration::from_secs(40);

/// How often the system asks whether the other end of a connection to the leader still lives.
pub const FORWARD_KEEPALIVE: Duration = Duration::from_secs(15);

/// How many times in a row it may be impossible to tell whether who follows still may, as where too many passwords wait
/// to be verified. It is asked every [`PING_EVERY`].
pub const FOLLOW_UNJUDGED: u32 = 3;

/// A filtered read may look for messages and wait for them, each for as long as it may.
const _: () = assert!(FORWARD_IDLE.as_secs() > MAX_READ_WAIT.as_secs() + FILTERED_LOOK_TIME.as_secs());
const _: () = assert!(FEED_PIECE_BYTES < FEED_BURST_BYTES && FEED_BURST_BYTES < FEED_BYTES_PER_STREAM);
const _: () = assert!(FEED_BYTES_PER_STREAM <= FEED_BYTES);
const _: () = assert!(FORWARD_EVENTS_SILENCE.as_secs() > 2 * PING_EVERY.as_secs());

// --- traces ---

/// How many other requests the span of a put names: as many as OpenTelemetry keeps unless it is told otherwise.
pub const MAX_TRACE_LINKS: usize = 128;

/// How long the last traces may take to be sent at the end.
pub const TRACES_FLUSH: Duration = Duration::from_secs(3);
// --- retention ---

/// A segment is sealed early when its first message is older than this part of the retention age, or when it is longer
/// than this part of the retention bytes: so much is kept beyond what was asked for.
pub const RETENTION_PARTS: u64 = 10;

/// How often a writer looks whether a segment is to be sealed or deleted: after a hundredth of the retention age, but
/// not more often and not more seldom than this.
pub const RETENTION_LOOK_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// The part of the retention age after which a writer looks.
pub const RETENTION_LOOK_PARTS: u32 = 100;

/// How soon the deletion of a segment that storage refused is tried again.
pub const RETENTION_DELETE_AGAIN: Duration = Duration::from_secs(30);

/// A wall clock that is ahead of the monotonic one by more than this has jumped, as far as retention goes by it.
pub const CLOCK_JUMP: Duration = Duration::from_secs(60);

/// The same for the timestamps of messages: a machine that slept overnight is believed at once. Well below the time after
/// which producers are forgotten, so that no such jump makes a stream forget who was just there.
pub const STAMPING_CLOCK_JUMP: Duration = Duration::from_secs(12 * 3_600);

/// How long a wall clock must have stood ahead before anything goes by it.
pub const CLOCK_JUMP_STANDS: Duration = Duration::from_secs(3_600);

/// How old a follower's list of segments may be, of a stream with retention that is read.
pub const FOLLOWED_LIST_MAY_BE_OLD: Duration = Duration::from_secs(10);

/// How many times a look at a stream begins anew because retention has deleted what it was looking at.
pub const OVERTAKEN_TRIES: usize = 3;

/// How many sealed segments of a stream are looked at in parallel to find out where they end.
pub const ENDS_FOUND_AT_ONCE: usize = 8;

/// How long a description of a stream waits for the sizes of its segments; unknown ones count as full.
pub const SIZE_PATIENCE: Duration = Duration::from_secs(2);

/// How many batches are looked at to find a segment's first message: no more than a few come before it.
pub const FIRST_MESSAGE_HOPS: usize = 64;

const _: () = assert!(CLOCK_JUMP.as_secs() < CLOCK_JUMP_STANDS.as_secs());
const _: () = assert!(STAMPING_CLOCK_JUMP.as_millis() <= vault_format::limits::PRODUCER_KEPT_MS as u128 / 2);
/// A segment is sealed early while it is still young.
const _: () = assert!(RETENTION_LOOK_PARTS as u64 > RETENTION_PARTS);
const _: () = assert!(RETENTION_LOOK_EVERY.start().as_secs() * RETENTION_PARTS <= *RETENTION_SECONDS.start());
