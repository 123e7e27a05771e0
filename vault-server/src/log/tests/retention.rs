//! Retention, as the writer carries it out.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::BoxFuture;
use vault_format::ids::Timestamp;

use super::*;
use crate::env::Clock;
use crate::limits::CLOCK_JUMP_STANDS;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold};
use crate::storage::operation::Operation;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn age(age: Duration) -> SettingsPatch {
    SettingsPatch { retention_seconds: Some(Some(age.as_secs())), ..SettingsPatch::default() }
}

pub(super) async fn create(server: &Server, settings: SettingsPatch) -> Arc<Stream> {
    server.vault.create(&server.name("orders"), settings).await.unwrap().1
}

pub(super) async fn patch(server: &Server, settings: SettingsPatch) {
    server.vault.change(&server.name("orders"), settings).await.unwrap();
}

/// The base offsets of the segments that are in storage.
pub(super) async fn stored(server: &Server, stream: &Stream) -> Vec<u64> {
    let container = server.vault.context.prefix.container(stream.name());
    let blobs = server.memory.list_blobs(&container, &format!("{}/", stream.meta().id)).await.unwrap();
    let bases = blobs.iter().filter_map(|blob| vault_format::names::SegmentName::parse(&blob.name));
    bases.map(|name| name.base.0).collect()
}

pub(super) async fn extent(stream: &Arc<Stream>) -> (u64, u64) {
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    (reader.first_offset().0, reader.tail().next_offset().0)
}

/// A message a minute, so that every one gets a segment of its own where messages are kept for ten minutes.
async fn a_message_a_minute(server: &Server, stream: &Arc<Stream>, count: u64) {
    for n in 0..count {
        append(stream, &format!("m{n}"), 10).await.unwrap();
        server.env.clock.sleep(70 * SECOND).await;
    }
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_year_of_a_slow_stream() {
    let mut server = Server::first(1).await;
    create(&server, age(30 * DAY)).await;
    for hour in 0..365 * 24_u64 {
        let stream = server.stream("orders");
        let appended = append(&stream, &format!("m{hour}"), 10).await.unwrap();
        assert_eq!(appended.first_offset, Offset(hour));
        server.env.clock.sleep(HOUR).await;
        // Now the oldest message that is kept is so many hours old.
        let (first, next) = extent(&stream).await;
        let kept = next - first;
        assert!(kept >= next.min(30 * 24), "hour {hour}: {kept} are kept");
        assert!(kept <= 33 * 24 + 2, "hour {hour}: {kept} are kept");
        let segments = stored(&server, &stream).await;
        assert!(segments.len() <= 13, "{segments:?}");
        assert_eq!(segments[0], first);
        if hour % 211 == 210 {
            server.stop(if hour % 2 == 0 { Command::Finish } else { Command::Halt }).await;
            server = server.successor().await;
        }
    }
    let (first, next) = extent(&server.stream("orders")).await;
    let expected: Vec<_> = (first..next).map(|n| (n, format!("m{n}"))).collect();
    assert_eq!(labels_from(&server.stream("orders"), first).await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_becomes_empty_and_goes_on_with_the_next_offset() {
    let server = Server::first(1).await;
    let stream = create(&server, age(TEN_MINUTES)).await;
    for n in 0..3 {
        append(&stream, &format!("m{n}"), 10).await.unwrap();
    }
    let last = stream.reader(Freshness::Recent).await.unwrap().tail().chain.last_timestamp;
    server.env.clock.sleep(TEN_MINUTES - SECOND).await;
    assert_eq!(extent(&stream).await, (0, 3));
    server.env.clock.sleep(30 * SECOND).await;
    assert_eq!(extent(&stream).await, (3, 3));
    assert_eq!(stored(&server, &stream).await, [3], "and it stays like this");
    server.env.clock.sleep(DAY).await;
    assert_eq!(stored(&server, &stream).await, [3]);
    assert!(labels_from(&stream, 3).await.unwrap().is_empty());
    assert_eq!(labels_from(&stream, 2).await, Err(ReadError::BelowFirst { first_offset: Offset(3) }));

    // What the next leader finds is all that it needs: offsets and timestamps go on.
    let next = server.successor().await;
    let stream = next.stream("orders");
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    assert_eq!((reader.first_offset(), reader.tail().chain.last_timestamp), (Offset(3), last));
    assert_eq!(reader.offset_at(Timestamp(0)).await, Ok(Offset(3)));
    assert_eq!(append(&stream, "m3", 10).await.unwrap().first_offset, Offset(3));
    assert_eq!(reader.offset_at(Timestamp(0)).await, Ok(Offset(3)), "before what is kept: the first that is");
    assert_eq!(labels_from(&stream, 3).await.unwrap(), [(3, "m3".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn so_many_bytes_are_kept_and_a_little_more() {
    let server = Server::first(1).await;
    let kept = 64 << 20;
    let stream =
        create(&server, SettingsPatch { retention_bytes: Some(Some(kept)), ..SettingsPatch::default() })
            .await;
    for n in 0..150_u64 {
        append(&stream, &format!("m{n}"), 1_000_000).await.unwrap();
        server.env.clock.sleep(2 * SECOND).await;
        let reader = stream.reader(Freshness::Recent).await.unwrap();
        let (segments, bytes) = reader.size().await;
        assert!(bytes >= kept.min(n * 1_000_000), "{n}: {bytes}");
        // A tenth in the oldest segment, which goes as a whole, and what its last put has brought too much.
        assert!(bytes <= kept + kept / 10 + 6_000_000, "{n}: {bytes}");
        assert!(segments <= 13);
    }
    server.env.clock.sleep(HOUR).await;
    let (first, next) = extent(&stream).await;
    assert!(first > 50 && next == 150);
    let read = labels_from(&stream, first).await.unwrap();
    assert_eq!(read.len() as u64, next - first);
    // A leader that has seen no seal written looks the sizes up, and finds the same.
    let before = stream.reader(Freshness::Recent).await.unwrap().size().await;
    let after = server.successor().await;
    let reader = after.stream("orders").reader(Freshness::Recent).await.unwrap();
    assert_eq!(reader.size().await.0, before.0);
    assert!(reader.size().await.1.abs_diff(before.1) <= 512, "{:?} {before:?}", reader.size().await);
    after.env.clock.sleep(HOUR).await;
    assert_eq!(extent(&after.stream("orders")).await, (first, next));
}

#[tokio::test(start_paused = true)]
async fn segments_without_messages_are_never_sealed_and_settings_reach_the_running_writer() {
    let server = Server::first(1).await;
    let stream = create(&server, age(TEN_MINUTES)).await;
    server.env.clock.sleep(HOUR).await;
    assert!(stored(&server, &stream).await.is_empty());
    a_message_a_minute(&server, &stream, 3).await;
    assert_eq!(stored(&server, &stream).await, [0, 1, 2, 3]);
    patch(&server, SettingsPatch { retention_seconds: Some(None), ..SettingsPatch::default() }).await;
    append(&stream, "m3", 10).await.unwrap();
    server.env.clock.sleep(DAY).await;
    assert_eq!(stored(&server, &stream).await, [0, 1, 2, 3], "kept for ever");
    patch(&server, age(DAY / 2)).await;
    server.env.clock.sleep(SECOND).await;
    assert_eq!(stored(&server, &stream).await, [4], "at once");
}

#[tokio::test(start_paused = true)]
async fn the_successor_holds_a_snapshot_and_a_commit_before_the_oldest_goes() {
    let server = Server::first(1).await;
    let stream = create(&server, age(TEN_MINUTES)).await;
    append(&stream, "m0", 10).await.unwrap();
    let hold = Hold::new();
    server.faulty.on(Operation::DeleteBlob).then(Fault::Hold(hold.clone()));
    hold.arrived(1).await;
    assert_eq!(extent(&stream).await, (1, 1), "it is off the list before it is deleted");
    let successor = server.segment(&stream, 1);
    let head = server.memory.read(&successor, 0..1024).await.unwrap().bytes;
    let kinds = [0, 512].map(|at| {
        let header = vault_format::header::Header::decode(&head[at..]).unwrap();
        (header.kind, header.committed.0)
    });
    assert_eq!(kinds, [(Kind::Snapshot, 0), (Kind::Commit, 512)]);
    // Appends go on meanwhile, and nobody waits for it at the end.
    append(&stream, "m1", 10).await.unwrap();
    server.stop(Command::Finish).await;
    assert_eq!(stored(&server, &stream).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_is_tried_until_storage_confirms_it() {
    let away = || StorageError::Unavailable("away".to_owned());
    let refused = || StorageError::Refused("a hold is on it".to_owned());
    for (fault, count) in [
        (Fault::AppliedButLost, 1),
        (Fault::Fail(away()), 5),
        (Fault::Fail(refused()), 3),
        (Fault::Fail(StorageError::PreconditionFailed), 3),
    ] {
        let mut server = Server::first(1).await;
        let stream = create(&server, age(TEN_MINUTES)).await;
        append(&stream, "m0", 10).await.unwrap();
        for _ in 0..count {
            server.faulty.on(Operation::DeleteBlob).then(fault.clone());
        }
        server.env.clock.sleep(TEN_MINUTES + 5 * SECOND).await;
        append(&stream, "m1", 10).await.unwrap();
        server.env.clock.sleep(4 * 60 * SECOND).await;
        assert_eq!(stored(&server, &stream).await[0], 1, "{fault:?}");
        assert_eq!(labels_from(&stream, 1).await.unwrap(), [(1, "m1".to_owned())]);
        assert!(server.reign_over.try_recv().is_err(), "the reign goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_deletes_nothing() {
    let old = Server::first(1).await;
    let stream = create(&old, age(TEN_MINUTES)).await;
    a_message_a_minute(&old, &stream, 6).await;
    let before = stored(&old, &stream).await;
    assert_eq!(before[0], 0);
    let new = old.successor().await;
    patch(&new, SettingsPatch { retention_seconds: Some(None), ..SettingsPatch::default() }).await;
    // The old one does not know, and neither do its settings.
    assert!(old.vault.term().is_some() && stream.meta().settings.retention_seconds.is_some());
    old.env.clock.sleep(HOUR).await;
    assert_eq!(stored(&new, &stream).await, before);
    assert_eq!(extent(&new.stream("orders")).await, (0, 6));
    assert_eq!(extent(&stream).await.0, 0, "nor does it hide what is there");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_arrives_late_is_refused_under_the_next_leader() {
    let old = Server::first(1).await;
    let stream = create(&old, age(TEN_MINUTES)).await;
    let hold = Hold::new();
    old.faulty.on(Operation::DeleteBlob).then(Fault::Hold(hold.clone()));
    a_message_a_minute(&old, &stream, 8).await;
    hold.arrived(1).await;
    let new = old.successor().await;
    patch(&new, SettingsPatch { retention_seconds: Some(None), ..SettingsPatch::default() }).await;
    let stream = new.stream("orders");
    assert_eq!(extent(&stream).await, (0, 8), "the next one lists it still");
    hold.release().await;
    new.env.clock.sleep(HOUR).await;
    assert_eq!((extent(&stream).await, stored(&new, &stream).await[0]), ((0, 8), 0));
    assert_eq!(labels(&stream).await.len(), 8);
    // With retention again the list goes on from there.
    patch(&new, age(TEN_MINUTES)).await;
    new.env.clock.sleep(HOUR).await;
    assert_eq!((extent(&stream).await, stored(&new, &stream).await), ((8, 8), vec![8]));
}

/// A clock whose wall time is off by as much as a test says.
#[derive(Debug)]
pub(super) struct Jumping {
    inner: Arc<dyn Clock>,
    pub(super) ahead_ms: AtomicI64,
}

/// The first server of a new vault, and its clock.
pub(super) async fn with_a_clock_that_jumps() -> (Server, Arc<Jumping>) {
    let real = Env::controlled(1);
    let clock = Arc::new(Jumping { inner: Arc::clone(&real.clock), ahead_ms: AtomicI64::new(0) });
    (Server::first_with(Env { clock: clock.clone(), ..real }, 1).await, clock)
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp(self.inner.now().0.checked_add_signed(self.ahead_ms.load(Ordering::Relaxed)).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_deletes_nothing() {
    let (server, clock) = with_a_clock_that_jumps().await;
    let stream = create(&server, age(2 * HOUR)).await;
    append(&stream, "m0", 10).await.unwrap();
    let year = i64::try_from((365 * DAY).as_millis()).unwrap();
    clock.ahead_ms.store(year, Ordering::Relaxed);
    server.env.clock.sleep(CLOCK_JUMP_STANDS - 60 * SECOND).await;
    assert_eq!(extent(&stream).await, (0, 1));
    // It is set right again; and then wrong the other way.
    clock.ahead_ms.store(0, Ordering::Relaxed);
    server.env.clock.sleep(HOUR / 2).await;
    assert_eq!(extent(&stream).await, (0, 1));
    clock.ahead_ms.store(-year, Ordering::Relaxed);
    append(&stream, "m1", 10).await.unwrap();
    server.env.clock.sleep(DAY).await;
    assert_eq!(extent(&stream).await, (0, 2), "messages from the future are kept");
    clock.ahead_ms.store(0, Ordering::Relaxed);
    server.env.clock.sleep(CLOCK_JUMP_STANDS - 60 * SECOND).await;
    assert_eq!(extent(&stream).await, (0, 2));
    server.env.clock.sleep(180 * SECOND).await;
    assert_eq!(extent(&stream).await, (2, 2), "by the right time they are old");
    // Messages of a time to come, which a server that starts then believes in: they are kept until that has come and they
    // are old by it.
    clock.ahead_ms.store(i64::try_from(DAY.as_millis()).unwrap(), Ordering::Relaxed);
    server.stop(Command::Finish).await;
    let server = server.successor().await;
    let stream = server.stream("orders");
    append(&stream, "m2", 10).await.unwrap();
    clock.ahead_ms.store(0, Ordering::Relaxed);
    server.env.clock.sleep(DAY).await;
    assert_eq!(extent(&stream).await, (2, 3));
    server.env.clock.sleep(2 * HOUR + 120 * SECOND).await;
    assert_eq!(extent(&stream).await, (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_so_many_bytes_until_there_is_room_again() {
    let server = Server::first(1).await;
    let quota = SettingsPatch { max_bytes: Some(Some(1 << 20)), ..age(TEN_MINUTES) };
    let stream = create(&server, quota).await;
    let full = Err(AppendError::StreamFull { max_bytes: 1 << 20 });
    append(&stream, "m0", 500_000).await.unwrap();
    assert_eq!(append(&stream, "m1", 600_000).await, full);
    // What waits to be stored counts.
    let hold = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let late = Arc::clone(&stream);
    let late = tokio::spawn(async move { append(&late, "m1", 400_000).await });
    hold.arrived(1).await;
    assert_eq!(append(&stream, "m2", 200_000).await, full);
    hold.release().await;
    late.await.unwrap().unwrap();
    assert_eq!(append(&stream, "m2", 200_000).await, full);
    assert_eq!(stream.status().queued_bytes, 0, "a refused append takes nothing");
    patch(&server, SettingsPatch { max_bytes: Some(Some(2 << 20)), ..SettingsPatch::default() }).await;
    append(&stream, "m2", 200_000).await.unwrap();
    patch(&server, SettingsPatch { max_bytes: Some(Some(1 << 20)), ..SettingsPatch::default() }).await;
    let full_already = append(&stream, "m3", 10).await;
    assert_eq!(full_already, full);
    // The next leader looks up how long the segments are that were sealed early.
    server.env.clock.sleep(120 * SECOND).await;
    assert_eq!(stored(&server, &stream).await, [0, 3]);
    let next = server.successor().await;
    let stream = next.stream("orders");
    assert_eq!(append(&stream, "m3", 10).await, full);
    patch(&next, SettingsPatch { max_bytes: Some(Some(1_200_000)), ..SettingsPatch::default() }).await;
    append(&stream, "m3", 10).await.unwrap();
    assert!(matches!(append(&stream, "m4", 500_000).await, Err(AppendError::StreamFull { .. })));
    next.env.clock.sleep(TEN_MINUTES).await;
    assert_eq!(append(&stream, "m4", 500_000).await.unwrap().first_offset, Offset(4));
}
