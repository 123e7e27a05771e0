use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;

use futures::future::BoxFuture;
use tempfile::TempDir;
use vault_format::ids::Timestamp;

use super::*;
use crate::env::Clock;

const LEASE: Duration = Duration::from_secs(15);
const FENCE: Term = Term(5);
const BYTES: u64 = 1 << 20;

fn open(root: &TempDir) -> FileStorage {
    FileStorage::open(root.path(), Env::real()).unwrap()
}

fn container() -> ContainerName {
    ContainerName::listed("mv-orders").unwrap()
}

fn blob() -> BlobName {
    BlobName { container: container(), name: "stream/x.log".to_owned() }
}

fn path(root: &TempDir, below: &str) -> PathBuf {
    root.path().join("mv-orders").join(below)
}

async fn with_blob() -> (TempDir, FileStorage) {
    let root = tempfile::tempdir().unwrap();
    let storage = open(&root);
    storage.create_container(&container(), &Metadata::from([("a".into(), "1".into())])).await.unwrap();
    storage.create_page_blob(&blob(), BYTES, FENCE).await.unwrap();
    (root, storage)
}

async fn put(storage: &FileStorage, at: u64, byte: u8, fence: Term) -> Result<(), StorageError> {
    storage.put_pages(&blob(), Position(at), vec![byte; 512].into(), fence, None).await
}

async fn byte(storage: &FileStorage, at: u64) -> Result<u8, StorageError> {
    Ok(storage.read(&blob(), at..at + 1).await?.bytes[0])
}

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>) -> String {
    match result {
        Err(StorageError::Refused(why)) => why,
        other => panic!("{other:?} is not refused"),
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let env = Env::real();
    let root = tempfile::tempdir().unwrap();
    let storage = || Arc::new(open(&root)) as Arc<dyn Storage>;
    crate::storage::conformance::run(&env, "file-", storage).await;
    assert_eq!(fs::read_dir(root.path().join(".tmp")).unwrap().count(), 0, "something stays in the making");
}

#[tokio::test]
async fn a_process_that_dies_leaves_everything_behind_but_its_leases() {
    let (root, storage) = with_blob().await;
    storage.acquire_lease(&LeaseTarget::Blob(blob()), LEASE).await.unwrap();
    storage.acquire_lease(&LeaseTarget::Container(container()), LEASE).await.unwrap();
    let other = BlobName { name: "other.log".to_owned(), ..blob() };
    let block = BlobName { name: "stream/aside/1".to_owned(), ..blob() };
    storage.create_page_blob(&other, 4096, Term(2)).await.unwrap();
    storage.raise_sequence_number(&other, Term(8)).await.unwrap();
    storage.put_pages(&other, Position(512), vec![3; 512].into(), Term(8), None).await.unwrap();
    storage.put_block_blob(&block, "aside".into()).await.unwrap();
    let listed = storage.list_blobs(&container(), "").await.unwrap();
    drop(storage);

    let storage = open(&root);
    assert_eq!(storage.container_metadata(&container()).await.unwrap()["a"], "1");
    assert_eq!(storage.list_blobs(&container(), "").await.unwrap(), listed);
    assert_eq!(storage.properties(&other).await.unwrap().sequence_number, Term(8));
    assert_eq!(storage.page_ranges(&other, 0..4096).await.unwrap(), vec![512..1024]);
    assert_eq!(storage.read(&block, 0..5).await.unwrap().bytes, "aside");
    storage.acquire_lease(&LeaseTarget::Blob(blob()), LEASE).await.unwrap();
    storage.acquire_lease(&LeaseTarget::Container(container()), LEASE).await.unwrap();
}

#[tokio::test]
async fn no_two_states_have_one_etag_within_a_tick_of_the_clock_and_after_a_restart() {
    let (root, mut storage) = with_blob().await;
    let block = BlobName { name: "stream/aside/1".to_owned(), ..blob() };
    let (mut pages, mut blocks) = (HashSet::new(), HashSet::new());
    for round in 1..=100 {
        pages.insert(storage.properties(&blob()).await.unwrap().etag);
        // The number stays the same every other time.
        storage.raise_sequence_number(&blob(), Term(FENCE.0 + round / 2)).await.unwrap();
        pages.insert(storage.properties(&blob()).await.unwrap().etag);
        if round % 10 == 0 {
            drop(storage);
            storage = open(&root);
        }
        storage.raise_sequence_number(&blob(), FENCE).await.unwrap();
        pages.insert(storage.properties(&blob()).await.unwrap().etag);
        storage.delete_blob(&blob(), None).await.unwrap();
        storage.create_page_blob(&blob(), BYTES, FENCE).await.unwrap();
        storage.put_block_blob(&block, "aside".into()).await.unwrap();
        blocks.insert(storage.properties(&block).await.unwrap().etag);
    }
    assert_eq!((pages.len(), blocks.len()), (300, 100));
}

#[tokio::test]
async fn of_two_processes_only_the_holder_of_a_lease_changes_anything() {
    let (root, first) = with_blob().await;
    let second = open(&root);
    put(&second, 0, 1, FENCE).await.unwrap();
    let target = LeaseTarget::Blob(BlobName { name: "leader".to_owned(), ..blob() });
    let LeaseTarget::Blob(leader) = &target else { unreachable!("made above") };
    second.create_page_blob(leader, 512, Term(1)).await.unwrap();
    let lease = first.acquire_lease(&target, LEASE).await.unwrap();

    let held = Err(StorageError::LeaseHeld);
    assert_eq!(second.acquire_lease(&target, LEASE).await.map(|_| ()), held);
    assert_eq!(second.acquire_lease(&LeaseTarget::Container(container()), LEASE).await.map(|_| ()), held);
    assert_eq!(put(&second, 0, 2, FENCE).await, held);
    assert_eq!(second.clear_pages(&blob(), 0..512, FENCE).await, held);
    assert_eq!(second.raise_sequence_number(&blob(), Term(9)).await.map(|_| ()), held);
    assert_eq!(second.put_block_blob(&BlobName { name: "y".into(), ..blob() }, "".into()).await, held);
    assert_eq!(second.delete_blob(&blob(), None).await, held);
    let other = ContainerName::listed("mv-other").unwrap();
    assert_eq!(second.create_container(&other, &Metadata::new()).await, held);
    assert_eq!(
        second.create_container(&container(), &Metadata::new()).await,
        Err(StorageError::AlreadyExists)
    );

    put(&first, 0, 3, FENCE).await.unwrap();
    assert_eq!(first.raise_sequence_number(&blob(), Term(6)).await, Ok(Term(6)));
    assert_eq!(byte(&second, 0).await, Ok(3));
    assert_eq!(second.read(&blob(), 0..1).await.unwrap().sequence_number, Term(6));
    first.release_lease(&target, &lease).await.unwrap();
    put(&second, 0, 4, Term(6)).await.unwrap();
}

#[tokio::test]
async fn what_another_process_did_between_two_holds_is_seen() {
    let (root, first) = with_blob().await;
    let second = open(&root);
    put(&first, 0, 1, FENCE).await.unwrap();
    let target = LeaseTarget::Blob(blob());
    let lease = second.acquire_lease(&target, LEASE).await.unwrap();
    second.release_lease(&target, &lease).await.unwrap();
    assert_eq!(second.raise_sequence_number(&blob(), Term(9)).await, Ok(Term(9)));
    assert_eq!(put(&first, 0, 2, FENCE).await, Err(StorageError::PreconditionFailed));
    assert_eq!(byte(&first, 0).await, Ok(1));

    second.delete_blob(&blob(), None).await.unwrap();
    second.create_page_blob(&blob(), BYTES, FENCE).await.unwrap();
    assert_eq!(byte(&first, 0).await, Ok(0));
    put(&first, 0, 3, FENCE).await.unwrap();
    assert_eq!(byte(&second, 0).await, Ok(3));
}

#[tokio::test]
async fn zeros_ahead_of_writes_come_upon_nothing_that_another_process_wrote_between_two_holds() {
    let (root, first) = with_blob().await;
    let second = open(&root);
    put(&first, 0, 1, FENCE).await.unwrap();
    put(&second, 5120, 2, FENCE).await.unwrap();
    // As far as the first one knows from its own writes, nothing stands behind this.
    put(&first, 4096, 3, FENCE).await.unwrap();
    for (at, wrote) in [(0, 1), (4096, 3), (5120, 2)] {
        assert_eq!(byte(&first, at).await, Ok(wrote), "at {at}");
    }
}

#[tokio::test]
async fn the_lock_stays_until_the_last_holder_in_the_process_ends() {
    let (root, storage) = with_blob().await;
    let second = open(&root);
    // As a write in flight holds it.
    let held = storage.0.lock.take().unwrap();
    let target = LeaseTarget::Blob(blob());
    let lease = storage.acquire_lease(&target, LEASE).await.unwrap();
    storage.release_lease(&target, &lease).await.unwrap();
    assert_eq!(put(&second, 0, 1, FENCE).await, Err(StorageError::LeaseHeld));
    drop(held);
    put(&second, 0, 1, FENCE).await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_or_moved_away_under_an_open_file_is_never_acknowledged() {
    for moved in [false, true] {
        for level in ["", "stream", "stream/x.log"] {
            let (root, storage) = with_blob().await;
            let _lease = storage.acquire_lease(&LeaseTarget::Container(container()), LEASE).await.unwrap();
            put(&storage, 0, 1, FENCE).await.unwrap();
            let gone = path(&root, level);
            match moved {
                true => fs::rename(&gone, root.path().join("backup")).unwrap(),
                false => fs::remove_dir_all(&gone).or_else(|_| fs::remove_file(&gone)).unwrap(),
            }
            let missing = StorageError::NotFound;
            assert_eq!(put(&storage, 512, 2, FENCE).await, Err(missing.clone()), "{level} {moved}");
            assert_eq!(storage.raise_sequence_number(&blob(), Term(9)).await, Err(missing.clone()));
            assert_eq!(byte(&storage, 0).await, Err(missing.clone()));
            assert_eq!(storage.page_ranges(&blob(), 0..BYTES).await, Err(missing));
        }
    }
}

#[tokio::test]
async fn a_write_whose_file_vanishes_meanwhile_is_not_acknowledged() {
    let (root, storage) = with_blob().await;
    let written = storage.0.change_pages(&blob(), &(0..512), FENCE, None, |_, _, _| {
        fs::remove_file(path(&root, "stream/x.log"))
    });
    assert_eq!(written, Err(StorageError::NotFound));
}

#[tokio::test]
async fn a_write_that_fails_leaves_its_outcome_open() {
    let (_root, storage) = with_blob().await;
    for (errno, wanted) in [(rustix::io::Errno::IO, "did not answer"), (rustix::io::Errno::NOSPC, "is full")]
    {
        let written = storage.0.change_pages(&blob(), &(0..512), FENCE, None, |_, _, _| Err(errno.into()));
        let why = written.unwrap_err().to_string();
        assert!(why.contains(wanted) && why.contains("mv-orders/stream/x.log"), "{why}");
    }
    put(&storage, 0, 1, FENCE).await.unwrap();
}

#[tokio::test]
async fn a_raise_waits_for_the_writes_in_flight() {
    let (_root, storage) = with_blob().await;
    let (answer, answered) = std::sync::mpsc::channel();
    let files = storage.0.clone();
    let written = storage.0.change_pages(&blob(), &(0..512), FENCE, None, |_, _, _| {
        std::thread::spawn(move || answer.send(files.raise_sequence_number(&blob(), Term(9))));
        // Were the fence only checked, and not held, the raise would be answered before the write lands.
        answered.recv_timeout(Duration::from_millis(300)).unwrap_err();
        Ok(())
    });
    assert_eq!(written, Ok(()));
    assert_eq!(answered.recv().unwrap(), Ok(Term(9)));
    assert_eq!(put(&storage, 0, 1, FENCE).await, Err(StorageError::PreconditionFailed));
}

#[tokio::test]
async fn a_truncated_file_is_named_and_not_written_on() {
    let (root, storage) = with_blob().await;
    // With the lock held all along the blob is known and not read anew; after a restart it is.
    storage.acquire_lease(&LeaseTarget::Container(container()), LEASE).await.unwrap();
    put(&storage, 0, 1, FENCE).await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(path(&root, "stream/x.log")).unwrap();
    file.set_len(4096).unwrap();
    check_truncated(&storage).await;
    drop(storage);
    // Found like this it is as long as it is: what is left of it can be read, and its length tells that some is missing.
    let storage = open(&root);
    assert_eq!(storage.properties(&blob()).await.unwrap().bytes, 4096);
    byte(&storage, 0).await.unwrap();
    refused(byte(&storage, 8192).await);
    refused(put(&storage, 8192, 1, FENCE).await);
    assert_eq!(storage.raise_sequence_number(&blob(), Term(9)).await.unwrap(), Term(9));
    assert_eq!(fs::metadata(path(&root, "stream/x.log")).unwrap().len(), 4096);
}

async fn check_truncated(storage: &FileStorage) {
    for why in [
        refused(put(storage, 8192, 1, FENCE).await),
        refused(byte(storage, 0).await),
        refused(byte(storage, 8192).await),
        refused(storage.properties(&blob()).await),
        refused(storage.page_ranges(&blob(), 0..BYTES).await),
        refused(storage.raise_sequence_number(&blob(), Term(9)).await),
    ] {
        assert!(why.contains("mv-orders/stream/x.log") && why.contains("is shorter than"), "{why}");
        assert!(why.contains("was it truncated?"), "{why}");
    }
}

#[tokio::test]
async fn left_overs_of_a_crash_are_swept_unless_somebody_is_at_work() {
    let (root, storage) = with_blob().await;
    let temporary = root.path().join(".tmp");
    fs::create_dir(temporary.join("half")).unwrap();
    fs::write(temporary.join("half/.metadata"), "{").unwrap();
    fs::write(temporary.join("data"), "x").unwrap();
    let left = || fs::read_dir(&temporary).unwrap().count();
    let held = storage.0.lock.take().unwrap();
    open(&root);
    assert_eq!(left(), 2);
    drop(held);
    open(&root);
    assert_eq!(left(), 0);
    assert_eq!(storage.list_containers("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_state_file_alone_is_no_blob() {
    let (root, storage) = with_blob().await;
    fs::remove_file(path(&root, "stream/x.log")).unwrap();
    assert!(path(&root, "stream/.x.log.state").exists());
    assert_eq!(storage.properties(&blob()).await, Err(StorageError::NotFound));
    assert_eq!(storage.list_blobs(&container(), "").await, Ok(vec![]));
    assert_eq!(storage.delete_blob(&blob(), None).await, Err(StorageError::NotFound));
    storage.put_block_blob(&blob(), "block".into()).await.unwrap();
    assert_eq!(storage.properties(&blob()).await.unwrap().sequence_number, Term::ZERO);
    storage.delete_blob(&blob(), None).await.unwrap();
    storage.create_page_blob(&blob(), 512, Term(1)).await.unwrap();
    assert_eq!(storage.properties(&blob()).await.unwrap().sequence_number, Term(1));
}

#[tokio::test]
async fn damaged_small_files_are_named() {
    let (root, storage) = with_blob().await;
    fs::write(path(&root, "stream/.x.log.state"), "{\"version\":1").unwrap();
    fs::write(path(&root, ".metadata"), "nonsense").unwrap();
    let storage_after = open(&root);
    assert!(refused(storage_after.properties(&blob()).await).contains(".x.log.state"));
    assert!(refused(put(&storage_after, 0, 1, FENCE).await).contains(".x.log.state"));
    assert!(refused(storage.container_metadata(&container()).await).contains("mv-orders/.metadata"));
    fs::write(
        path(&root, "stream/.x.log.state"),
        r#"{"version":2,"bytes":512,"sequence_number":1,"id":"x","changes":1}"#,
    )
    .unwrap();
    assert!(refused(storage_after.properties(&blob()).await).contains("use a newer server"));
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let why = refused(FileStorage::open(&path, Env::real()).map(|_| ()));
        assert!(why.contains("is not a directory"), "{why}");
    }
    FileStorage::open(&root.path().join("made/on/the/way"), Env::real()).unwrap();
}

#[tokio::test]
async fn a_page_blob_takes_the_room_of_what_is_written() {
    let (root, storage) = with_blob().await;
    let large = BlobName { name: "large.log".to_owned(), ..blob() };
    storage.create_page_blob(&large, 1 << 40, FENCE).await.unwrap();
    let middle = Position(1 << 39);
    storage.put_pages(&large, middle, vec![1; 8192].into(), FENCE, None).await.unwrap();
    let blocks = || fs::metadata(path(&root, "large.log")).unwrap().blocks() * 512;
    assert!((8192..1 << 20).contains(&blocks()), "{}", blocks());
    assert_eq!(storage.page_ranges(&large, 0..1 << 40).await.unwrap(), vec![1 << 39..(1 << 39) + 8192]);
    storage.clear_pages(&large, 0..1 << 40, FENCE).await.unwrap();
    assert!(blocks() < 8192, "{}", blocks());
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
struct SetClock(Mutex<Duration>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("the file backend does not sleep")
    }
}

#[tokio::test]
async fn leases_on_containers_run_out_and_leases_on_blobs_do_not() {
    let (root, storage) = with_blob().await;
    drop(storage);
    let clock = Arc::new(SetClock::default());
    let env = Env { clock: clock.clone(), ..Env::real() };
    let (storage, other) = (FileStorage::open(root.path(), env).unwrap(), open(&root));
    let (of_container, of_blob) = (LeaseTarget::Container(container()), LeaseTarget::Blob(blob()));
    let first = storage.acquire_lease(&of_container, LEASE).await.unwrap();
    let lease = storage.acquire_lease(&of_blob, LEASE).await.unwrap();
    *clock.0.lock().unwrap() += LEASE;
    let set = storage.set_container_metadata(&container(), &Metadata::new(), &first).await;
    assert_eq!(set, Err(StorageError::PreconditionFailed));
    storage.renew_lease(&of_blob, &lease).await.unwrap();
    storage.release_lease(&of_blob, &lease).await.unwrap();
    other.acquire_lease(&of_container, LEASE).await.unwrap();
}
