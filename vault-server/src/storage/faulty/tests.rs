use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use super::*;
use crate::storage::memory::MemoryStorage;
use crate::storage::{BlobName, Metadata};

const FENCE: Term = Term(5);
const PAGES: usize = 16;

type Wrapped = Faulty<MemoryStorage>;

async fn with_blob(seed: u64) -> (Arc<MemoryStorage>, Arc<Wrapped>, BlobName) {
    let memory = Arc::new(MemoryStorage::new(Env::real()));
    let container = ContainerName::listed("abc").unwrap();
    memory.create_container(&container, &Metadata::new()).await.unwrap();
    let blob = BlobName { container, name: "x.log".to_owned() };
    memory.create_page_blob(&blob, 1 << 20, FENCE).await.unwrap();
    (memory.clone(), Arc::new(Faulty::new(memory, Env::real(), seed)), blob)
}

async fn put(storage: &Wrapped, blob: &BlobName) -> Result<(), StorageError> {
    storage.put_pages(blob, Position(0), Bytes::from(vec![1; PAGES * 512]), FENCE, None).await
}

/// The numbers of the pages that hold something.
async fn stored(memory: &MemoryStorage, blob: &BlobName) -> Vec<usize> {
    let bytes = memory.read(blob, 0..1 << 20).await.unwrap().bytes;
    let written = bytes.chunks(512).enumerate().filter(|(_, page)| page[0] == 1);
    written.map(|(number, _)| number).collect()
}

fn is_unavailable<T>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Unavailable(_)))
}

#[tokio::test]
async fn rules_count_only_what_they_match() {
    let (memory, faulty, blob) = with_blob(0).await;
    faulty.on(Operation::PutPages).blob("x.log").nth(2).then(Fault::Fail(StorageError::NotFound));
    faulty.on(Operation::PutPages).blob("y.log").always().then(Fault::Crash);
    faulty.properties(&blob).await.unwrap();
    assert_eq!(put(&faulty, &blob).await, Ok(()));
    memory.clear_pages(&blob, 0..1 << 20, FENCE).await.unwrap();
    assert_eq!(put(&faulty, &blob).await, Err(StorageError::NotFound));
    assert_eq!(stored(&memory, &blob).await, [0; 0]);
    assert_eq!(put(&faulty, &blob).await, Ok(()));
}

#[tokio::test]
async fn a_lost_answer_is_of_a_request_that_was_carried_out() {
    let (memory, faulty, blob) = with_blob(0).await;
    faulty.on_any().then(Fault::AppliedButLost);
    assert!(is_unavailable(&put(&faulty, &blob).await));
    assert_eq!(stored(&memory, &blob).await.len(), PAGES);
}

#[tokio::test]
async fn a_held_request_lands_when_it_is_released_also_without_its_sender() {
    for sender_waits in [true, false] {
        let (memory, faulty, blob) = with_blob(0).await;
        let hold = Hold::new();
        faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
        let sender = tokio::spawn({
            let (faulty, blob) = (faulty.clone(), blob.clone());
            async move { put(&faulty, &blob).await }
        });
        hold.arrived(1).await;
        assert_eq!(stored(&memory, &blob).await, [0; 0]);
        if sender_waits {
            hold.release().await;
            assert_eq!(sender.await.unwrap(), Ok(()));
        } else {
            sender.abort();
            assert!(sender.await.unwrap_err().is_cancelled());
            hold.release().await;
        }
        assert_eq!(stored(&memory, &blob).await.len(), PAGES);
        assert_eq!(put(&faulty, &blob).await, Ok(()), "a released hold holds nothing");
    }
}

#[tokio::test]
async fn a_request_that_lands_late_meets_the_fence() {
    let (memory, faulty, blob) = with_blob(0).await;
    let hold = Hold::new();
    faulty.on(Operation::PutPages).then(Fault::LostAndHeld(hold.clone()));
    assert!(is_unavailable(&put(&faulty, &blob).await));
    memory.raise_sequence_number(&blob, Term(6)).await.unwrap();
    hold.release().await;
    assert_eq!(stored(&memory, &blob).await, [0; 0]);
}

#[tokio::test]
async fn what_a_hold_discards_never_lands() {
    let (memory, faulty, blob) = with_blob(0).await;
    let hold = Hold::new();
    faulty.on(Operation::PutPages).then(Fault::Hold(hold.clone()));
    let (answer, ()) = tokio::join!(put(&faulty, &blob), async {
        hold.arrived(1).await;
        hold.discard();
    });
    assert!(is_unavailable(&answer));
    hold.release().await;
    assert_eq!(stored(&memory, &blob).await, [0; 0]);
}

#[tokio::test]
async fn a_torn_write_stores_the_named_pages_and_nothing_follows() {
    let (memory, faulty, blob) = with_blob(0).await;
    faulty.on(Operation::PutPages).then(Fault::TearAndCrash(Pages::These(vec![1, 3, 99])));
    assert!(is_unavailable(&put(&faulty, &blob).await));
    assert_eq!(stored(&memory, &blob).await, [1, 3]);
    faulty.heal();
    assert!(is_unavailable(&put(&faulty, &blob).await) && is_unavailable(&faulty.properties(&blob).await));
    assert_eq!(stored(&memory, &blob).await, [1, 3]);
}

#[tokio::test]
async fn a_crash_comes_before_a_request_or_after_it() {
    for (fault, pages) in [(Fault::Crash, 0), (Fault::AppliedAndCrash, PAGES)] {
        let (memory, faulty, blob) = with_blob(0).await;
        faulty.on(Operation::PutPages).then(fault);
        assert!(is_unavailable(&put(&faulty, &blob).await) && faulty.has_crashed());
        assert_eq!(stored(&memory, &blob).await.len(), pages);
        faulty.heal();
        assert!(is_unavailable(&faulty.clear_pages(&blob, 0..1 << 20, FENCE).await));
        assert_eq!(stored(&memory, &blob).await.len(), pages);
    }
}

#[tokio::test]
async fn a_full_storage_takes_the_first_pages_only() {
    let (memory, faulty, blob) = with_blob(0).await;
    faulty.on(Operation::PutPages).then(Fault::Full(Pages::First(2)));
    assert!(matches!(put(&faulty, &blob).await, Err(StorageError::Full(_))));
    assert_eq!(stored(&memory, &blob).await, [0, 1]);
    assert_eq!(put(&faulty, &blob).await, Ok(()));
}

#[tokio::test]
async fn chance_is_determined_by_the_seed() {
    async fn history(seed: u64) -> (Vec<bool>, Vec<usize>) {
        let (memory, faulty, blob) = with_blob(seed).await;
        faulty.by_chance(Chances { fail: 200, applied_but_lost: 200, ..Chances::default() });
        let mut failed = Vec::new();
        for _ in 0..64 {
            failed.push(is_unavailable(&faulty.properties(&blob).await));
        }
        faulty.on(Operation::PutPages).then(Fault::TearAndCrash(Pages::Random));
        assert!(is_unavailable(&put(&faulty, &blob).await));
        (failed, stored(&memory, &blob).await)
    }
    let (failed, torn) = history(1).await;
    assert_eq!((failed.clone(), torn.clone()), history(1).await);
    assert_ne!((failed.clone(), torn.clone()), history(2).await);
    let failures = failed.iter().filter(|failed| **failed).count();
    assert!((10..45).contains(&failures), "{failures} of 64 failed, 40 % were to");
    assert!((1..PAGES).contains(&torn.len()), "{torn:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_is_carried_out_later() {
    let (memory, faulty, blob) = with_blob(0).await;
    faulty.on(Operation::PutPages).then(Fault::Delay(std::time::Duration::from_secs(5)));
    let mut sent = Box::pin(put(&faulty, &blob));
    assert!(futures::poll!(&mut sent).is_pending());
    assert_eq!(stored(&memory, &blob).await, [0; 0]);
    assert_eq!(sent.await, Ok(()));
    assert_eq!(stored(&memory, &blob).await.len(), PAGES);
}

#[tokio::test]
async fn without_faults_it_keeps_the_contract() {
    let env = Env::real();
    let storage = || {
        let memory = Arc::new(MemoryStorage::new(Env::real()));
        Arc::new(Faulty::new(memory, Env::real(), 0)) as Arc<dyn Storage>
    };
    crate::storage::conformance::run(&env, "faulty-", storage).await;
}
