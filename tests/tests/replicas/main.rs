//! Two servers of one vault, as real processes, on Azurite and on one directory: one leads, the other takes its place.
//! Run `tests/install-azurite` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod conflicts;
mod directory;
mod failover;
mod frozen;
mod missing;
mod mistakes;
mod outage;
mod package_index;
mod way_in;

use vault_format::names::ContainerName;
use vault_server::env::Env;
use vault_server::storage::azure::{AzureStorage, from_environment};
use vault_server::storage::{BlobName, Storage};
use vault_tests::azurite::Azurite;

/// A way to the stored data that goes round the servers, to damage it.
fn connect(azurite: &Azurite) -> AzureStorage {
    let text = azurite.connection_string();
    let lookup = |name: &str| (name == "AZURE_STORAGE_CONNECTION_STRING").then(|| text.clone());
    AzureStorage::connect(from_environment("", lookup).unwrap(), &Env::real()).unwrap()
}

fn container(name: &str) -> ContainerName {
    ContainerName::listed(name).unwrap()
}

/// Deletes a container, as a person would in Azure's portal.
fn delete_container(azurite: &Azurite, name: &str) {
    let storage = connect(azurite);
    run(async {
        let target = vault_server::storage::LeaseTarget::Container(container(name));
        let lease = storage.acquire_lease(&target, vault_server::limits::LEASE).await.unwrap();
        storage.delete_container(&container(name), &lease).await.unwrap();
    });
}

/// Deletes a blob although somebody holds its lease, as a person would in Azure's portal.
fn delete_leased_blob(azurite: &Azurite, in_container: &str, name: &str) {
    let storage = connect(azurite);
    let blob = BlobName { container: container(in_container), name: name.to_owned() };
    run(async {
        loop {
            let etag = storage.properties(&blob).await.unwrap().etag;
            // Its holder may have changed it meanwhile, or have taken the lease again.
            if storage.break_lease(&blob, &etag).await.is_ok()
                && storage.delete_blob(&blob, None).await.is_ok()
            {
                return;
            }
        }
    });
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
