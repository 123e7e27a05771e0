//! The `azure` storage backend against Azurite. Run `tests/install-azurite` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

use vault_format::names::ContainerName;
use vault_server::env::Env;
use vault_server::storage::azure::{AzureStorage, from_environment};
use vault_server::storage::{BlobName, StorageError};

mod accounts;
mod conformance;
mod credentials;
mod entra;
mod failures;
mod silence;
mod slow;

fn connect(connection_string: &str) -> AzureStorage {
    let lookup =
        |name: &str| (name == "AZURE_STORAGE_CONNECTION_STRING").then(|| connection_string.to_owned());
    AzureStorage::connect(from_environment("", lookup).unwrap(), &Env::real()).unwrap()
}

fn container(name: &str) -> ContainerName {
    ContainerName::listed(name).unwrap()
}

fn blob(in_container: &str) -> BlobName {
    BlobName { container: container(in_container), name: "folder/blob".to_owned() }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, StorageError>) -> String {
    let Err(StorageError::Refused(why)) = outcome else { panic!("{outcome:?} is no refusal") };
    why
}
