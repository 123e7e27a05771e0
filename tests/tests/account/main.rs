//! What is assumed of Azure Storage, on a real account: `tests/on-azure` runs this. It is not among the tests that
//! `tests/run` runs, because it needs an account and leaves a few cents on its bill.
//!
//! `AZURE_STORAGE_CONNECTION_STRING` names the account and its key.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod failover;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core::http::StatusCode;
use bytes::Bytes;
use futures::{StreamExt, stream};
use vault_format::ids::{Position, Term};
use vault_format::limits::DEFAULT_SEGMENT_BYTES;
use vault_format::names::ContainerName;
use vault_server::env::Env;
use vault_server::storage::azure::{AzureStorage, from_environment};
use vault_server::storage::{BlobName, LeaseTarget, Metadata, Storage, StorageError, conformance};
use vault_tests::shared_access::account_sas;

const VARIABLE: &str = "AZURE_STORAGE_CONNECTION_STRING";
const LEASE: Duration = Duration::from_secs(15);

/// How long Azure may take to delete a container before its name is free again.
const DELETION_PATIENCE: Duration = Duration::from_secs(300);

/// Makes names that no earlier run has used.
fn now_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

struct Account {
    name: String,
    key: String,
    endpoint: String,
    storage: Arc<AzureStorage>,
}

impl Account {
    fn of_environment() -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!(
                "set {VARIABLE} to the connection string, with its key, of an account that may be written to"
            )
        });
        let settings = from_environment("", |name| std::env::var(name).ok()).unwrap();
        let parts: HashMap<_, _> = text.split(';').filter_map(|part| part.split_once('=')).collect();
        let key = parts.get("AccountKey").unwrap_or_else(|| panic!("{VARIABLE} must have an AccountKey"));
        Self {
            name: settings.account().name.clone(),
            key: (*key).to_owned(),
            endpoint: settings.account().endpoint.as_str().trim_end_matches('/').to_owned(),
            storage: Arc::new(AzureStorage::connect(settings, &Env::real()).unwrap()),
        }
    }

    /// A container of its own for one check.
    async fn container(&self, what: &str) -> ContainerName {
        let name = ContainerName::listed(&format!("mvcheck-{}-{what}", now_ms())).unwrap();
        self.storage.create_container(&name, &Metadata::new()).await.unwrap();
        name
    }

    async fn delete(&self, container: &ContainerName) {
        let target = LeaseTarget::Container(container.clone());
        let lease = self.storage.acquire_lease(&target, LEASE).await.unwrap();
        self.storage.delete_container(container, &lease).await.unwrap();
    }
}

#[tokio::test]
async fn the_account_can_hold_a_vault() {
    assert_eq!(Account::of_environment().storage.why_unfit().await, Ok(None));
}

#[tokio::test]
async fn the_contract_holds() {
    let account = Account::of_environment();
    // Azurite, for which this was written first, breaks one sentence.
    let known: &[&str] = if account.name == "devstoreaccount1" { &["pages-across-the-end"] } else { &[] };
    let storage = || account.storage.clone() as Arc<dyn Storage>;
    conformance::run_knowing(&Env::real(), &format!("mvcheck-{}-", now_ms()), known, storage).await;
}

/// The condition of a Put Page and its write are one step: a body that is still coming in when a successor claims the
/// blob must not land.
#[tokio::test]
async fn a_slow_put_that_crosses_a_claim_does_not_land() {
    let account = Account::of_environment();
    let container = account.container("slow-put").await;
    let blob = BlobName { container: container.clone(), name: "blob".to_owned() };
    account.storage.create_page_blob(&blob, 4 << 20, Term(1)).await.unwrap();

    let (claimed, crossing) = tokio::sync::oneshot::channel::<()>();
    let half = Bytes::from(vec![7; 1 << 20]);
    let first = stream::iter([Ok::<_, std::io::Error>(half.clone())]);
    let second = stream::once(async move {
        crossing.await.unwrap();
        Ok(half)
    });
    let sas = account_sas((&account.name, &account.key), "2100-01-01T00:00:00Z", "rwdlac");
    let put = reqwest::Client::new()
        .put(format!("{}/{blob}?comp=page&{sas}", account.endpoint))
        .header("x-ms-version", "2022-11-02")
        .header("x-ms-page-write", "update")
        .header("x-ms-range", "bytes=0-2097151")
        .header("x-ms-if-sequence-number-eq", "1")
        .header("content-length", 2 << 20)
        .body(reqwest::Body::wrap_stream(first.chain(second)));
    let putting = tokio::spawn(put.send());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(account.storage.raise_sequence_number(&blob, Term(2)).await.unwrap(), Term(2));
    claimed.send(()).unwrap();
    let status = putting.await.unwrap().unwrap().status().as_u16();
    assert_eq!(status, u16::from(StatusCode::PreconditionFailed));
    let read = account.storage.read(&blob, 0..2 << 20).await.unwrap();
    assert!(read.bytes.iter().all(|byte| *byte == 0), "nothing of it has landed");
    assert_eq!(read.sequence_number, Term(2), "a GET carries the sequence number");
    account.delete(&container).await;
}

/// A deletion that arrives late must not reach a container of the same name made since. Azure keeps a name for half a
/// minute or more, so that this takes a while.
#[tokio::test]
async fn a_late_deletion_does_not_reach_a_successor() {
    let account = Account::of_environment();
    let container = account.container("late-delete").await;
    let target = LeaseTarget::Container(container.clone());
    let lease = account.storage.acquire_lease(&target, LEASE).await.unwrap();
    account.storage.delete_container(&container, &lease).await.unwrap();
    let started = std::time::Instant::now();
    while let Err(error) = account.storage.create_container(&container, &Metadata::new()).await {
        assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
        assert!(started.elapsed() < DELETION_PATIENCE, "the name is not free yet");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let late = account.storage.delete_container(&container, &lease).await;
    assert_eq!(late, Err(StorageError::PreconditionFailed));
    account.storage.container_metadata(&container).await.unwrap();
    account.delete(&container).await;
}

/// What a segment costs is its written pages; the bill itself cannot be asked for, but which pages are written can.
#[tokio::test]
async fn a_new_segment_holds_no_page() {
    let account = Account::of_environment();
    let container = account.container("sparse").await;
    let blob = BlobName { container: container.clone(), name: "blob".to_owned() };
    account.storage.create_page_blob(&blob, DEFAULT_SEGMENT_BYTES, Term(1)).await.unwrap();
    let ranges = || account.storage.page_ranges(&blob, 0..DEFAULT_SEGMENT_BYTES);
    assert_eq!(ranges().await.unwrap(), []);
    account.storage.put_pages(&blob, Position(4 << 20), vec![1; 512].into(), Term(1), None).await.unwrap();
    assert_eq!(ranges().await.unwrap(), vec![4 << 20..(4 << 20) + 512; 1]);
    account.delete(&container).await;
}
