//! Name, type and meaning of every family of metrics. `docs/metrics.md` has the same table, and a test compares them.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, `_total` behind what only rises. What every
//! process is asked for has the names that Prometheus' own libraries give it.

use prometheus::proto::MetricType;

/// One family: all series of one name.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: MetricType,
    pub(crate) help: &'static str,
}

/// Upper bounds of durations, in seconds: from a sync of a fast disk to a request that storage answers late.
pub(crate) const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the requests in one batch.
pub(crate) const REQUESTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// Upper bounds of the messages in one batch.
pub(crate) const MESSAGES: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// Upper bounds of the bytes of one batch: from one page to one block.
pub(crate) const BYTES: &[f64] = &[512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0];

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $constant: Family =
                Family { name: $name, kind: MetricType::$kind, help: $help };
        )*
    };
}

families! {
    BUILD_INFO = GAUGE "messagevault_build_info", "Always 1; the version of the server.";
    READY = GAUGE "messagevault_ready", "1 while this server can serve reads, else 0.";
    LEADING = GAUGE "messagevault_leading", "1 while this server leads the vault, else 0.";
    TERM = GAUGE "messagevault_term",
        "The term of the leader that this server knows of, itself perhaps; missing while it knows of none.";
    TERMS = COUNTER "messagevault_terms_total", "Terms that this server has obtained.";
    LEASE_AGE = GAUGE "messagevault_lease_age_seconds",
        "Time since the request was sent that last took or renewed the lease; missing while this server does not hold it.";
    LEASE_RENEWALS = COUNTER "messagevault_lease_renewals_total",
        "Renewals of the lease: renewed, failed without a word on whether it is still held, or lost.";

    APPENDS = COUNTER "messagevault_appends_total", "Append requests that this server has stored.";
    APPENDED_MESSAGES = COUNTER "messagevault_appended_messages_total", "Messages that this server has stored.";
    APPENDED_BYTES = COUNTER "messagevault_appended_bytes_total",
        "Bytes written for these messages, with the headers of batches and what fills their pages.";
    APPENDS_REFUSED = COUNTER "messagevault_appends_refused_total",
        "Append requests that this server itself answered with a problem, by its code. What a leader refuses counts there.";
    APPENDS_REPEATED = COUNTER "messagevault_appends_repeated_total",
        "Append requests of idempotent producers that were stored before, and were answered as the first time.";
    BATCH_REQUESTS = HISTOGRAM "messagevault_batch_requests", "Append requests in a batch of messages.";
    BATCH_MESSAGES = HISTOGRAM "messagevault_batch_messages", "Messages in a batch.";
    BATCH_BYTES = HISTOGRAM "messagevault_batch_bytes", "Bytes of the write that stored a batch of messages.";
    COMMIT_SECONDS = HISTOGRAM "messagevault_commit_duration_seconds",
        "From sending a write of a stream until it was stored, with all attempts that failed before.";
    QUEUED_BYTES = GAUGE "messagevault_queued_bytes", "Bytes of append requests that wait to be stored, of all streams.";
    TAIL_CLEARS = COUNTER "messagevault_tail_clears_total",
        "How often taking over a stream has cleared what was written beyond its tail and never acknowledged.";
    SET_ASIDE_BYTES = COUNTER "messagevault_set_aside_bytes_total", "Bytes that were set aside before they were cleared.";
    DELETED_SEGMENTS = COUNTER "messagevault_deleted_segments_total", "Segments that retention has deleted.";
    DELETED_BYTES = COUNTER "messagevault_deleted_bytes_total", "Bytes that were stored in these segments.";

    READERS = GAUGE "messagevault_readers", "Reads of streams that go on now; those that wait and those that follow too.";
    LOOKUPS = COUNTER "messagevault_read_lookups_total",
        "Pieces of the log, a block at most, that readers wanted: found among the newest writes (recent), in the block cache (cache), or read from storage (storage).";
    CACHE_BYTES = GAUGE "messagevault_block_cache_bytes", "Bytes in the block cache.";

    STREAMS = GAUGE "messagevault_streams", "Streams of the vault that this server knows of.";
    STREAM_CONDITION = GAUGE "messagevault_stream_condition",
        "Always 1; the condition that the stream is in, as GET /streams/{stream} names it.";
    STREAM_FIRST_OFFSET = GAUGE "messagevault_stream_first_offset",
        "The first offset that is kept; missing while this server does not have the stream open.";
    STREAM_NEXT_OFFSET = GAUGE "messagevault_stream_next_offset",
        "The offset that the next message gets, as far as this server knows; missing while it does not have the stream open.";
    STREAM_STORED_BYTES = GAUGE "messagevault_stream_stored_bytes",
        "Bytes from the first segment to the end of the stream; missing while this server does not have it open.";
    STREAM_APPENDED_MESSAGES = COUNTER "messagevault_stream_appended_messages_total",
        "Messages of the stream that this server has stored.";
    STREAM_APPENDED_BYTES = COUNTER "messagevault_stream_appended_bytes_total",
        "Bytes written for these messages, with the headers of batches and what fills their pages.";
    STREAM_TAIL_AGE = GAUGE "messagevault_stream_tail_age_seconds",
        "On a follower: time since the last look at storage began that showed it where the stream ends. Nobody looks while nobody reads there; missing until somebody has.";

    STORAGE_REQUESTS = COUNTER "messagevault_storage_requests_total",
        "Requests to storage that have ended, by operation and by what was answered; abandoned where nobody waited for it.";
    STORAGE_SECONDS = HISTOGRAM "messagevault_storage_request_duration_seconds",
        "From sending a request to storage until its answer.";
    STORAGE_RETRIES = COUNTER "messagevault_storage_retries_total",
        "How often the server has waited to try something on storage again after a failure.";
    STORAGE_SENT_AGAIN = COUNTER "messagevault_storage_sent_again_total",
        "How often a request to storage was sent once more, beside the first, because no answer had come.";

    CONNECTIONS = GAUGE "messagevault_connections", "Connections of clients and other servers open now.";
    HTTP_REQUESTS = COUNTER "messagevault_http_requests_total",
        "Requests by route, none where no route fits, method and class of the answer's status, aborted where the client went away before it.";
    HTTP_SECONDS = HISTOGRAM "messagevault_http_request_duration_seconds",
        "From the head of a request until the answer begins. Reads that wait for messages count with their wait.";

    PROCESS_START = GAUGE "process_start_time_seconds", "When the server was started, since the Unix epoch.";
    PROCESS_CPU = COUNTER "process_cpu_seconds_total", "Time of all cores that the process has used.";
    PROCESS_RESIDENT = GAUGE "process_resident_memory_bytes", "Memory that the process has in use.";
    PROCESS_FDS = GAUGE "process_open_fds", "Files and connections that the process has open.";
    PROCESS_MAX_FDS = GAUGE "process_max_fds", "How many it may have open.";
}
