//! One Azure storage account: page blobs, whose sequence number is the fence.
//!
//! Each request ends within its time limit, its answer's body included; whoever wants it sent again then sends it again.
//! One that may be carried out twice is sent again here as well, beside the first and on new connections, while no answer
//! comes ([`twice`](super::twice)). Nothing is remembered between requests but connections, tokens, and
//! under which ids leases may be held that nobody knows of.
//!
//! | module | subject |
//! |---|---|
//! | `requests` | the contract, request by request |
//! | `leases` | leases on containers and blobs |
//! | `unsure` | leases that may be held without anybody knowing |
//! | `listings` | answers that come in pages |
//! | `account` | whether the account can hold a vault at all |
//! | `errors` | what an answer means |
//! | `client` | the SDK's clients |
//! | `connections` | what requests go out on, and when that is left behind |
//! | `shared_key` | signing with an account key |
//! | `sas` | leave to read one container directly |
//! | `settings` | which account and which way in, from the environment |
//! | `connection_string` | the form in which Azure's portal gives an account and its key |
//! | `credentials` | tokens for an identity |

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use azure_storage_blob::{BlobClient, BlobContainerClient, BlobServiceClient};
use vault_format::names::ContainerName;

use self::connections::Connections;
use self::errors::Asked;
use self::sas::Signer;
use self::unsure::UnsureLeases;
use super::twice::twice;
use super::{BlobName, ETag, StorageError};
use crate::env::Env;

mod account;
mod client;
mod connection_string;
mod connections;
mod credentials;
mod errors;
mod leases;
mod listings;
mod requests;
mod sas;
mod settings;
mod shared_key;
mod unsure;

pub use credentials::AssertionSource;
pub use errors::BEING_DELETED;
pub use settings::{AccountAddress, AzureSettings, from_environment, from_environment_named};

/// A storage account.
pub struct AzureStorage {
    account: AccountAddress,
    service: BlobServiceClient,
    connections: Arc<Connections>,
    unsure: UnsureLeases,
    signer: Signer,
    env: Env,
}

impl fmt::Debug for AzureStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureStorage").field("account", &self.account.name).finish_non_exhaustive()
    }
}

impl AzureStorage {
    /// Makes a client for the account. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// `Refused` where the system's certificates or the identity's settings cannot be used.
    pub fn connect(settings: AzureSettings, env: &Env) -> Result<Self, StorageError> {
        let connections = Arc::new(Connections::new()?);
        let service = client::service(&settings, Arc::clone(&connections), env)?;
        let signer = Signer::of(&settings.credential);
        let (unsure, env) = (UnsureLeases::default(), env.clone());
        Ok(Self { account: settings.account, service, connections, unsure, signer, env })
    }

    /// The account's name.
    #[must_use]
    pub fn account_name(&self) -> &str {
        &self.account.name
    }

    fn container(&self, name: &ContainerName) -> BlobContainerClient {
        self.service.blob_container_client(name.as_str())
    }

    fn blob(&self, blob: &BlobName) -> BlobClient {
        self.service.blob_client(blob.container.as_str(), &blob.name)
    }

    /// Waits for a request, the one place that does.
    async fn ask<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = azure_core::Result<T>>,
    ) -> Result<T, StorageError> {
        self.ask_as(Asked::Other, limit, request).await
    }

    async fn ask_as<T>(
        &self,
        asked: Asked,
        limit: Duration,
        request: impl Future<Output = azure_core::Result<T>>,
    ) -> Result<T, StorageError> {
        let age = self.connections.age();
        // The SDK's futures are large.
        match self.env.timeout(limit, Box::pin(request)).await {
            Ok(answer) => answer.map_err(|error| errors::meaning(&error, asked)),
            Err(_) => {
                self.connections.leave(age);
                Err(StorageError::Unavailable(format!("no answer within {} s", limit.as_secs())))
            }
        }
    }

    /// Waits for a request that may be carried out twice and moves so many bytes: while there is no answer it is sent again,
    /// on new connections.
    async fn ask_again<T, F>(&self, bytes: usize, request: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let mut age = self.connections.age();
        let anew = || {
            tracing::debug!("there is no answer yet: the request is sent again");
            self.connections.leave(age);
            age = self.connections.age();
        };
        twice(&self.env, bytes, anew, request).await
    }
}

/// A header that Azure always sends.
fn present<T>(header: azure_core::Result<Option<T>>, name: &str) -> Result<T, StorageError> {
    header.ok().flatten().ok_or_else(|| StorageError::Unavailable(format!("the answer has no {name}")))
}

/// Answers carry an ETag in quotes, listings of real accounts without.
fn etag(text: &str) -> ETag {
    ETag(text.trim_matches('"').to_owned())
}

fn quoted(etag: &ETag) -> azure_core::http::Etag {
    format!("\"{}\"", etag.0).into()
}
