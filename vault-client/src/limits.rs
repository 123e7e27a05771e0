//! Every size, count and time of the client, in one place.

use std::time::Duration;

use vault_format::limits::{MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_RUN_BYTES};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take to begin. Longer than a server waits for its storage by default, so that its own answer is the
/// one that counts.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// How long an answer that has begun may pause.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that are kept for later requests. Less than servers keep idle ones by default, so that it is the client who
/// closes them: what is sent on a connection that a server is closing has an unknown outcome.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(45);

/// The longest answer that is taken as a whole: JSON and problems.
pub const MAX_DOCUMENT_BYTES: usize = 32 << 20;

/// The first pause before a request is sent again. It doubles each time.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause that a server may ask for. What asks for more is not one of ours.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// For how long a request is sent again by default: longer than a leader's death holds appends up.
pub const DEFAULT_RETRY_TIME: Duration = Duration::from_secs(60);

/// How often the file with a token is looked at, which Kubernetes replaces before it runs out.
pub const TOKEN_AGE: Duration = Duration::from_secs(30);

/// The value of one message, at most, unless the client is told otherwise: what servers take by default. Longer values
/// travel as several messages.
pub const DEFAULT_MESSAGE_BYTES: usize = 1 << 20;

/// The longest value that a producer sends and a reader puts together, unless told otherwise.
pub const DEFAULT_VALUE_BYTES: usize = 64 << 20;

/// How long a producer waits for more messages before it sends what it has.
pub const DEFAULT_LINGER: Duration = Duration::from_millis(5);

/// At how many bytes of records a producer's request is sent at once. Five of them on their way fill a page blob that
/// takes 40 ms for a write; longer ones would leave more of each 4 MiB block unused, since a request is not divided.
pub const DEFAULT_REQUEST_BYTES: usize = 512 << 10;

/// What a producer holds at most that is not acknowledged, in bytes of records, unless told otherwise.
pub const DEFAULT_BUFFER_BYTES: usize = 32 << 20;

/// What each buffered message counts besides its own bytes, so that many small ones are bounded too.
pub const MESSAGE_OVERHEAD_BYTES: usize = 32;

/// The most requests of one producer that are on their way: servers know the outcomes of as many.
pub const MAX_REQUESTS_IN_FLIGHT: usize = vault_format::limits::MAX_OUTCOMES;

/// Stored bytes that a reader asks for at once.
pub const READ_BYTES: u64 = 64 << 20;

/// How long a reader at the tail lets the server wait for the next message. A server that stands still is noticed after that.
pub const TAIL_WAIT: Duration = Duration::from_secs(15);

/// How much later than that the answer may begin.
pub const WAIT_MARGIN: Duration = Duration::from_secs(10);

/// How long a reader waits by itself where a server that was asked to wait did not.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Messages that a reader takes out of a batch at a time.
pub const MESSAGES_AT_ONCE: usize = 512;

/// Streams that are listed at once: as many as a vault has at most.
pub const STREAMS_AT_ONCE: usize = 1_000;

/// A request holds the largest message in one piece, whatever key and headers it has.
const _: () = assert!(DEFAULT_MESSAGE_BYTES + MAX_KEY_BYTES + 2 * MAX_HEADERS_BYTES + 256 <= MAX_RUN_BYTES);
const _: () = assert!(DEFAULT_REQUEST_BYTES <= MAX_RUN_BYTES && MAX_RUN_BYTES <= DEFAULT_BUFFER_BYTES);

/// What is read of a blob in one request, where segments are read from storage.
pub const DIRECT_READ_BYTES: u64 = 4 << 20;

/// How many such requests are on their way at once.
pub const DIRECT_READS_AT_ONCE: usize = 4;

/// How long such a request may take.
pub const STORAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often in a row the storage may fail before a reader turns to the servers for good.
pub const STORAGE_FAILURES: u32 = 3;

/// How long before its end a leave to read is renewed.
pub const LEAVE_MARGIN: Duration = Duration::from_secs(90);
const _: () = assert!(STORAGE_TIMEOUT.as_secs() < LEAVE_MARGIN.as_secs());

/// How long a message that is merged is held back for streams that wait at their ends.
pub const MERGE_PATIENCE: Duration = Duration::from_millis(250);

/// How long a vault in this process may take until it can be appended to.
pub const EMBEDDED_START: Duration = Duration::from_secs(5);

/// For how long a leave is used at least, whatever the clock here says of its end: the storage refuses one that is over.
pub const SHORTEST_LEAVE: Duration = Duration::from_secs(60);
