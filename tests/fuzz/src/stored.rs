//! Stored bytes: those of a segment, whatever they are, and a log to which something happened.
//!
//! The first byte says which. 0: what is behind it stands in the first segment of a stream, with checksums made right, so
//! that what lies behind them is reached. Anything else: steps of four bytes, each of which does something to a log of two
//! segments that disks and networks do: bits flip, pages are lost, or turn up in another place.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};
use vault_format::header::{Header, MAGIC};
use vault_format::ids::{Position, Term};
use vault_format::limits::PAGE_BYTES;
use vault_format::names::{ContainerName, Prefix};
use vault_server::env::Env;
use vault_server::log::inspect::{Step, StoredStream};
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::{BlobName, Metadata, Storage};

use crate::common::set_checksums;
use crate::server::{PREFIX, Server, in_a_runtime};

const STREAM: &str = "s";
const PAGE: usize = 512;
const _: () = assert!(PAGE as u64 == PAGE_BYTES);

/// As many steps as are worth the time.
const MOST_STEPS: usize = 8;

/// The most of a segment that is made up.
const MOST_BYTES: usize = 64 << 10;

/// How many batches are looked at, where offsets and lengths are made up.
const MOST_BATCHES: usize = 1_000;

/// A stream as it stands in storage, and what it holds.
struct Log {
    metadata: Metadata,
    segments: Vec<Stored>,
    values: Vec<String>,
}

struct Stored {
    name: String,
    length: u64,
    term: Term,
    /// From its beginning up to the last page that is written.
    bytes: Vec<u8>,
}

/// Lets a server find what the bytes say.
pub fn stored(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        0 => made_up(rest),
        _ => befallen(rest),
    }
}

/// A log of two segments, with batches of each kind. Its end has been on record for a while.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| in_a_runtime(build()))
}

async fn build() -> Log {
    let env = Env::controlled(1);
    let storage = Arc::new(MemoryStorage::new(env.clone()));
    let server = Server::start(&storage, &env, "one").await;
    let settings = json!({"segment_bytes": 8 << 20, "retention_seconds": 3_600, "codec": "lz4"}).to_string();
    let made = server.send("PUT", "/streams/s", "application/json", &settings).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    let mut values = Vec::new();
    for number in 0..24 {
        if number == 12 {
            // The first segment is sealed for its age.
            env.clock.sleep(Duration::from_secs(600)).await;
        }
        let value = format!("message {number} {}", "x".repeat(number * 40));
        let stored = server.send("POST", "/streams/s/messages", "text/plain", &value).await;
        assert_eq!(stored.status, StatusCode::OK, "{:?}", stored.body);
        values.push(value);
    }
    env.clock.sleep(Duration::from_secs(5)).await;
    drop(server);
    let container = container();
    let metadata = storage.container_metadata(&container).await.expect("it is there");
    let mut segments = Vec::new();
    for entry in storage.list_blobs(&container, "").await.expect("it is there") {
        let blob = BlobName { container: container.clone(), name: entry.name };
        let found = storage.properties(&blob).await.expect("it is there");
        let pages = storage.page_ranges(&blob, 0..found.bytes).await.expect("it is there");
        let end = pages.last().map_or(0, |range| range.end);
        let bytes = storage.read(&blob, 0..end).await.expect("it is there").bytes.to_vec();
        segments.push(Stored { name: blob.name, length: found.bytes, term: found.sequence_number, bytes });
    }
    assert_eq!(segments.len(), 2, "the first segment was sealed");
    Log { metadata, segments, values }
}

fn container() -> ContainerName {
    let prefix = Prefix::new(PREFIX).expect("it is one");
    prefix.container(&prefix.stream(STREAM).expect("it is one"))
}

/// Storage that holds the stream with these bytes.
async fn put(env: &Env, log: &Log, contents: &[Vec<u8>]) -> Arc<MemoryStorage> {
    const WELL: &str = "storage in memory is well";
    let storage = Arc::new(MemoryStorage::new(env.clone()));
    let container = container();
    storage.create_container(&container, &log.metadata).await.expect(WELL);
    for (segment, bytes) in log.segments.iter().zip(contents) {
        let blob = BlobName { container: container.clone(), name: segment.name.clone() };
        storage.create_page_blob(&blob, segment.length, segment.term).await.expect(WELL);
        if !bytes.is_empty() {
            let pages = Bytes::from(bytes.clone());
            storage.put_pages(&blob, Position::ZERO, pages, segment.term, None).await.expect(WELL);
        }
    }
    storage
}

/// What a reader gets, and whether it ends with an error and not with the end of the log.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    values: Vec<String>,
    refused: Option<String>,
}

async fn read(server: &Server) -> Read {
    let mut read = Read { values: Vec::new(), refused: None };
    let mut from = "earliest".to_owned();
    for _ in 0..MOST_BATCHES {
        let answer = server.get(&format!("/streams/{STREAM}/messages?consistency=strong&from={from}")).await;
        if answer.status != StatusCode::OK {
            assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.body);
            read.refused = Some(answer.json()["code"].as_str().expect("a code").to_owned());
            return read;
        }
        let Ok(page) = serde_json::from_slice::<Value>(&answer.body) else {
            // It breaks off where the damage is.
            read.refused = Some("broken off".to_owned());
            return read;
        };
        let messages = page["messages"].as_array().expect("a list");
        let value = |message: &Value| match &message["value"] {
            Value::String(text) => text.clone(),
            _ => message["value_base64"].to_string(),
        };
        read.values.extend(messages.iter().map(value));
        if messages.is_empty() {
            return read;
        }
        from = page["next_offset"].to_string();
    }
    read
}

/// Walks through the stream as copies and checks do. Whether it comes to the end.
async fn walk(storage: &Arc<MemoryStorage>, env: &Env) -> bool {
    let prefix = Prefix::new(PREFIX).expect("it is one");
    let name = prefix.stream(STREAM).expect("it is one");
    let Ok(stream) = StoredStream::open(Arc::clone(storage) as _, env.clone(), &prefix, &name).await else {
        return false;
    };
    let mut walk = stream.walk();
    for _ in 0..MOST_BATCHES {
        match walk.next().await {
            Ok(Step::Batch(_)) => {}
            Ok(Step::End) => return true,
            Ok(Step::Damaged(_)) | Err(_) => return false,
        }
    }
    false
}

fn made_up(bytes: &[u8]) {
    let log = log();
    let mut bytes = bytes[..bytes.len().min(MOST_BYTES)].to_vec();
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    for at in (0..bytes.len()).step_by(PAGE) {
        if bytes[at..].starts_with(&MAGIC) {
            set_checksums(&mut bytes[at..]);
        }
    }
    in_a_runtime(async {
        let env = Env::controlled(2);
        let storage = put(&env, log, &[bytes]).await;
        let _comes_to_the_end = walk(&storage, &env).await;
        let leader = Server::start(&storage, &env, "one").await;
        let found = read(&leader).await;
        let follower = Server::start(&storage, &env, "two").await;
        let followed = read(&follower).await;
        if found.refused.is_none() {
            assert_eq!(found, followed, "a follower shows what the leader shows");
        }
        goes_on(&leader, &found).await;
    });
}

fn befallen(script: &[u8]) {
    let log = log();
    let mut contents: Vec<_> = log.segments.iter().map(|segment| segment.bytes.clone()).collect();
    for step in script.chunks_exact(4).take(MOST_STEPS) {
        befall(&mut contents, step);
    }
    let last = end_on_record(&log.segments[1].bytes);
    let on_record = contents[1][last.clone()] == log.segments[1].bytes[last];
    let is_whole = contents.iter().zip(&log.segments).all(|(bytes, segment)| *bytes == segment.bytes);
    in_a_runtime(async {
        let env = Env::controlled(2);
        let storage = put(&env, log, &contents).await;
        let walked = walk(&storage, &env).await;
        let leader = Server::start(&storage, &env, "one").await;
        let found = read(&leader).await;
        assert!(log.values.starts_with(&found.values), "what is shown was written: {found:?}");
        let all = found.values.len() == log.values.len();
        assert!(all || found.refused.is_some() || !on_record, "what is missing is reported: {found:?}");
        assert!(!is_whole || (all && walked && found.refused.is_none()), "nothing befell it: {found:?}");
        let follower = Server::start(&storage, &env, "two").await;
        let followed = read(&follower).await;
        assert!(log.values.starts_with(&followed.values), "what a follower shows was written: {followed:?}");
        let all = followed.values.len() == log.values.len();
        assert!(all || followed.refused.is_some() || !on_record, "a follower reports it: {followed:?}");
        goes_on(&leader, &found).await;
    });
}

/// Where a leader takes another message, it stands behind those that were there.
async fn goes_on(leader: &Server, found: &Read) {
    let appended = leader.send("POST", "/streams/s/messages", "text/plain", "one more").await;
    if appended.status != StatusCode::OK {
        let code = appended.json()["code"].as_str().expect("a code").to_owned();
        let known = ["corrupt", "data_missing", "format_too_new", "offsets_exhausted"];
        assert!(known.contains(&code.as_str()), "{code}");
        return;
    }
    if found.refused.is_none() {
        let now = read(leader).await;
        let (last, before) = now.values.split_last().expect("one at least");
        assert!(before == found.values && last == "one more", "{now:?} is {found:?} and one more");
    }
}

/// The pages of the last batch, which has on record where the log ends.
fn end_on_record(bytes: &[u8]) -> Range<usize> {
    let mut last = 0..0;
    while let Ok(header) = Header::decode(&bytes[last.end..]) {
        let written = usize::try_from(header.written_bytes()).expect("it is in memory");
        last = last.end..last.end + written;
        if last.end >= bytes.len() {
            break;
        }
    }
    last
}

/// `[what and in which segment, which page, which other page or byte, how many pages or which bit]`.
fn befall(contents: &mut [Vec<u8>], step: &[u8]) {
    let [what, page, other, extent] = *step else { return };
    let bytes = &mut contents[usize::from(what >> 7)];
    let pages = bytes.len() / PAGE;
    let at = |page: u8| usize::from(page) % pages * PAGE;
    let (to, from) = (at(page), at(other));
    let length = (usize::from(extent) % 16 + 1) * PAGE;
    match what % 3 {
        0 => bytes[to + usize::from(other) * 2 % PAGE] ^= 1 << (extent % 8),
        1 => {
            let end = (to + length).min(bytes.len());
            bytes[to..end].fill(0);
        }
        _ => {
            let length = length.min(bytes.len() - to.max(from));
            bytes.copy_within(from..from + length, to);
        }
    }
}
