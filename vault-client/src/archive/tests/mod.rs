//! Copies of streams that a real log wrote, held against the source message by message, and opened by a real log again.

mod copying;
mod cuts;
mod damage;
mod restoring;
mod splitting;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_format::codec::Codec;
use vault_format::header::Kind;
use vault_format::ids::{Offset, Position, StreamId, Timestamp};
use vault_format::limits::BLOCK_BYTES;
use vault_format::names::{Prefix, StreamName};
use vault_format::record::{Message, Stamp, stamped};
use vault_server::election::{Candidacy, Conflict, Election};
use vault_server::log::inspect::{Step, StoredBatch};
use vault_server::log::settings::SettingsPatch;
use vault_server::log::stream::{Append, Condition, Stream};
use vault_server::log::vault::Vault;
use vault_server::log::{Appended, Options};
use vault_server::storage::file::FileStorage;
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::{BlobName, LeaseTarget};

use super::copy::Copied;
use super::restore::Restored;
use super::verify::Report;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A place in memory.
fn memory(env: &Env) -> Place {
    over(Arc::new(MemoryStorage::new(env.clone())), env)
}

fn over(storage: Arc<dyn Storage>, env: &Env) -> Place {
    Place { storage, env: env.clone(), prefix: Prefix::new("mv-").unwrap(), account: None }
}

fn directory(path: &std::path::Path, env: &Env) -> Place {
    over(Arc::new(FileStorage::open(path, env.clone()).unwrap()), env)
}

fn orders(place: &Place) -> StreamName {
    place.prefix.stream("orders").unwrap()
}

/// A server that leads.
struct Server {
    vault: Vault,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Conflict>>,
}

impl Server {
    async fn start(place: &Place) -> Self {
        let (storage, env, prefix) = (Arc::clone(&place.storage), place.env.clone(), place.prefix.clone());
        let (vault, reign_over) = Vault::new(storage, env, prefix, Options::new(PATIENCE));
        let candidacy = Candidacy { endpoint: "http://one".to_owned(), vault_uid: None };
        let mut election = Election::new(vault.clone(), reign_over, candidacy);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let running = tokio::spawn(async move { election.run(&stopping).await });
        vault.until_led(PATIENCE).await;
        Self { vault, stop, running }
    }

    async fn create(&self, codec: Codec) -> Arc<Stream> {
        self.create_with(SettingsPatch { codec: Some(codec), ..SettingsPatch::default() }).await
    }

    async fn create_with(&self, settings: SettingsPatch) -> Arc<Stream> {
        let settings = SettingsPatch { segment_bytes: Some(BLOCK_BYTES), ..settings };
        self.vault.create(&self.vault.name("orders").unwrap(), settings).await.unwrap().1
    }

    fn stream(&self) -> Arc<Stream> {
        self.vault.stream(&self.vault.name("orders").unwrap()).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// A request of a producer: one message with a value of so many bytes that do not compress well.
fn request(producer: &str, sequence: u64, bytes: usize) -> Append {
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let value: Vec<u8> = (0..bytes)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Half of it compresses.
            if at < bytes / 2 { b'x' } else { (state & 0xff) as u8 }
        })
        .collect();
    let (mut run, key) = (Vec::new(), format!("{producer}-{sequence}"));
    let headers = [("n", producer)];
    Message { key: key.as_bytes(), value: &value, headers: &headers, attributes: 2 }.encode(0, &mut run);
    let stamp = Stamp { producer: producer.as_bytes(), epoch: 3, sequence, record_count: 1 };
    Append { records: stamped(&run, &stamp).into(), record_count: 1, expected_offset: None }
}

async fn send(stream: &Arc<Stream>, producer: &str, sequence: u64, bytes: usize) -> Appended {
    stream.append(request(producer, sequence, bytes), PATIENCE).await.unwrap()
}

/// A stream of `count` requests of two producers, 300 kB each, written by a server that has ended in order.
async fn written(place: &Place, codec: Codec, count: u64) -> Vec<Appended> {
    let server = Server::start(place).await;
    let stream = server.create(codec).await;
    let appended = more(place, &stream, 0..count).await;
    server.end().await;
    appended
}

async fn more(place: &Place, stream: &Arc<Stream>, numbers: std::ops::Range<u64>) -> Vec<Appended> {
    let mut appended = Vec::new();
    for number in numbers {
        appended.push(send(stream, ["a", "b"][(number % 2) as usize], number / 2, 300_000).await);
        place.env.clock.sleep(Duration::from_millis(7)).await;
    }
    appended
}

/// A message as it is compared.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    offset: u64,
    timestamp: Timestamp,
    lost: bool,
    record: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.offset, if self.lost { " lost" } else { "" })
    }
}

fn messages_of(batch: &StoredBatch) -> Vec<Seen> {
    if batch.header.kind != Kind::Messages {
        return Vec::new();
    }
    let batch = batch.batch().unwrap();
    let records = batch.uncompressed().unwrap();
    let mut rest = &records.clone().into_bytes().into_owned()[..];
    let mut seen = Vec::new();
    for offset in batch.header.base_offset.0..batch.header.next_offset().0 {
        let before = rest;
        let record = vault_format::record::Record::take(&mut rest).unwrap();
        seen.push(Seen {
            offset,
            timestamp: batch.header.first_timestamp,
            lost: record.headers().any(|header| header == writer::LOST_HEADER),
            record: before[..before.len() - rest.len()].to_vec(),
        });
    }
    seen
}

/// All messages of a stream that is whole.
async fn messages(place: &Place) -> Vec<Seen> {
    let mut walk = place.stream(&orders(place)).await.unwrap().walk();
    let mut seen = Vec::new();
    loop {
        match walk.next().await.unwrap() {
            Step::Batch(batch) => seen.extend(messages_of(&batch)),
            Step::Damaged(damage) => panic!("{damage}"),
            Step::End => return seen,
        }
    }
}

async fn copy_now(from: &Place, to: &Place) -> Result<Copied, ArchiveError> {
    let mut source = StorageSource::open(from, &orders(from)).await?;
    copy(&mut source, to, &orders(to), false, &mut |_| {}).await
}

async fn restore_now(from: &Place, to: &Place, repair: bool) -> Result<Restored, ArchiveError> {
    restore(from, to, &orders(to), repair, &mut |_| {}).await
}

async fn report(place: &Place) -> Report {
    verify(&place.stream(&orders(place)).await.unwrap(), &mut |_| {}).await.unwrap()
}

/// A server that is started on the copy opens it, knows the producers, and appends on.
async fn assert_serves(place: &Place, appended: &[Appended]) {
    let server = Server::start(place).await;
    let stream = server.stream();
    let count = appended.len() as u64;
    for number in count - 4..count {
        let known = send(&stream, ["a", "b"][(number % 2) as usize], number / 2, 300_000).await;
        let at = usize::try_from(number).unwrap();
        assert_eq!(known, appended[at], "a request that was stored before is known");
    }
    let next = send(&stream, ["a", "b"][(count % 2) as usize], count / 2, 10).await;
    assert_eq!(next.first_offset, appended.last().unwrap().next_offset);
    assert_eq!(stream.status().condition, Condition::Open);
    server.end().await;
}

/// What whoever goes on with the stream knows of producers.
async fn producers(place: &Place) -> Vec<u8> {
    place.stream(&orders(place)).await.unwrap().end().await.unwrap().producers.encode()
}

/// The segments of the stream, by base offset.
async fn segments(place: &Place) -> Vec<(u64, BlobName)> {
    let container = place.prefix.container(&orders(place));
    let blobs = place.storage.list_blobs(&container, "").await.unwrap();
    let names = blobs.into_iter().filter_map(|blob| {
        let base = vault_format::names::SegmentName::parse(&blob.name)?.base.0;
        Some((base, BlobName { container: container.clone(), name: blob.name }))
    });
    names.collect()
}

/// Does to a stream what retention does: the first segment is gone, and that is on record.
async fn trim(place: &Place) {
    let container = place.prefix.container(&orders(place));
    let target = LeaseTarget::Container(container.clone());
    let lease = place.storage.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
    let mut metadata = place.storage.container_metadata(&container).await.unwrap();
    metadata.insert("trimmed".to_owned(), "true".to_owned());
    place.storage.set_container_metadata(&container, &metadata, &lease).await.unwrap();
    place.storage.release_lease(&target, &lease).await.unwrap();
    let (_, first) = segments(place).await.remove(0);
    place.storage.delete_blob(&first, None).await.unwrap();
}

/// Changes stored bytes behind everybody's back.
async fn spoil(place: &Place, blob: &BlobName, at: u64) {
    let page = at / 512 * 512;
    let number = place.storage.properties(blob).await.unwrap().sequence_number;
    let mut bytes = place.storage.read(blob, page..page + 512).await.unwrap().bytes.to_vec();
    bytes[usize::try_from(at - page).unwrap()] ^= 0x10;
    place.storage.put_pages(blob, Position(page), Bytes::from(bytes), number, None).await.unwrap();
}
