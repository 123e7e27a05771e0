//! Ways in that need no identity: account keys and shared access signatures.

use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_server::storage::azure::AzureStorage;
use vault_server::storage::{Metadata, Storage, StorageError};
use vault_tests::azurite::{ACCOUNT, Azurite};

use super::{blob, connect, container, refusal};

/// Azurite's code where Azure has `AuthenticationFailed`.
const WRONG: &str = "AuthorizationFailure";

const FAR: &str = "2100-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";

fn account_sas(expiry: &str, permissions: &str) -> String {
    vault_tests::shared_access::account_sas(ACCOUNT, expiry, permissions)
}

fn with_sas(azurite: &Azurite, sas: &str) -> AzureStorage {
    connect(&format!("BlobEndpoint={};SharedAccessSignature={sas}", azurite.endpoint()))
}

#[tokio::test]
async fn azurites_account_can_hold_a_vault() {
    let azurite = Azurite::shared();
    let storage = connect(&azurite.connection_string());
    assert_eq!(storage.account_name(), ACCOUNT.0);
    assert_eq!(storage.why_unfit().await, Ok(None));
}

#[tokio::test]
async fn an_account_sas_lets_in_for_everything() {
    let azurite = Azurite::shared();
    let storage = with_sas(&azurite, &account_sas(FAR, "rwdlacup"));
    assert_eq!(storage.why_unfit().await, Ok(None));
    storage.create_container(&container("with-sas"), &Metadata::new()).await.unwrap();
    let name = blob("with-sas");
    storage.create_page_blob(&name, 1024, Term(3)).await.unwrap();
    let page = Bytes::from(vec![7; 512]);
    storage.put_pages(&name, Position(512), page.clone(), Term(3), None).await.unwrap();
    assert_eq!(storage.raise_sequence_number(&name, Term(4)).await.unwrap(), Term(4));
    assert_eq!(storage.read(&name, 512..1024).await.unwrap().bytes, page);
    assert_eq!(storage.page_ranges(&name, 0..1024).await.unwrap(), vec![512..1024; 1]);
    assert_eq!(storage.list_blobs(&name.container, "folder/").await.unwrap().len(), 1);
    assert_eq!(storage.list_containers("with-sas").await.unwrap().len(), 1);
    storage.delete_blob(&name, None).await.unwrap();
}

#[tokio::test]
async fn a_sas_that_has_expired_or_grants_too_little_is_refused_by_its_code_and_not_shown() {
    let azurite = Azurite::shared();
    for (sas, code) in
        [(account_sas(PAST, "rwdlacup"), WRONG), (account_sas(FAR, "rl"), "AuthorizationPermissionMismatch")]
    {
        let storage = with_sas(&azurite, &sas);
        let why = refusal(storage.create_container(&container("no-sas"), &Metadata::new()).await);
        assert!(why.contains("403") && why.contains(code), "{why}");
        assert!(!why.contains("sig") && !format!("{storage:?}").contains("sig"), "{why}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_its_code_and_not_shown() {
    let azurite = Azurite::shared();
    let (name, wrong) = (ACCOUNT.0, "d3Jvbmc=");
    let text = format!("AccountName={name};AccountKey={wrong};BlobEndpoint={}", azurite.endpoint());
    let storage = connect(&text);
    for why in [
        refusal(storage.why_unfit().await),
        refusal(storage.list_containers("").await),
        refusal(storage.properties(&blob("any")).await),
    ] {
        assert!(why.contains(WRONG) && why.contains("the key or SAS is wrong"), "{why}");
        assert!(!why.contains(wrong) && !why.contains("SharedKey"), "{why}");
    }
    assert!(!format!("{storage:?}").contains(wrong));
}

#[tokio::test]
async fn an_account_that_is_not_there_is_not_taken_for_an_empty_one() {
    let azurite = Azurite::shared();
    let text = azurite.connection_string().replace(ACCOUNT.0, "another");
    let listed = connect(&text).list_containers("").await;
    assert!(matches!(listed, Err(StorageError::NotFound | StorageError::Refused(_))), "{listed:?}");
}
