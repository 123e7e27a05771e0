//! Reconciling: reading what resources say, making it so, and saying in their status how it is.
//!
//! ```text
//!  watches --> queue --> reconcile one resource --> outcome --> status, events, metrics
//!                           |        |        |         \--> when to look again
//!                        objects  containers  servers
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`vaults`] | MessageVaults |
//! | [`streams`] | VaultStreams |
//! | [`owned`] | a stream's container, for both |
//! | [`objects`] | what a vault consists of in Kubernetes: applying and pruning |
//! | [`rollout`] | what Deployment and pods say. Pure |
//! | [`report`] | status, events |
//! | [`resources`] | finalizers, annotations |
//! | [`run`] | what is watched |
//! | [`pace`] | when to look again. Pure but for the dice |

pub mod objects;
pub mod owned;
pub mod pace;
pub mod report;
pub mod resources;
pub mod rollout;
pub mod run;
pub mod streams;
pub mod vaults;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::sync::watch;
use vault_server::env::Env;
use vault_server::storage::StorageError;
use vault_server::storage::azure::BEING_DELETED;

use self::pace::Paces;
use crate::api::names::{PAUSED, VAULT_LABEL};
use crate::api::{MessageVault, VaultStream};
use crate::conditions::{Reason, State};
use crate::desired::Options;
use crate::metrics::Metrics;
use crate::servers::{Server, Servers};
use crate::vaults::Vaults;
use crate::vaults::credentials::CannotOpen;

/// What every reconciliation has at hand.
pub struct Operator {
    /// The API server.
    pub client: Client,
    /// What holds for all vaults. It changes when the cluster's issuer does.
    pub options: watch::Receiver<Options>,
    /// The uid of `kube-system`, where it could be read.
    pub cluster: Option<String>,
    /// Clock and randomness.
    pub env: Env,
    /// The vaults' storage.
    pub vaults: Vaults,
    /// The vaults' servers.
    pub servers: Servers,
    /// Every MessageVault that is watched.
    pub known_vaults: Store<MessageVault>,
    /// Every VaultStream that is watched.
    pub known_streams: Store<VaultStream>,
    /// Events for people.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When to look again.
    pub paces: Paces,
}

/// Why a reconciliation ended before everything was as it should be.
#[derive(Debug, Error)]
pub enum Interrupted {
    /// It waits for something or somebody.
    #[error("{}", .0.reason())]
    State(State),
    /// The API server refuses or does not answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The storage account refuses or does not answer.
    #[error("the storage account: {0}")]
    Storage(#[from] StorageError),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
}

impl From<CannotOpen> for Interrupted {
    fn from(error: CannotOpen) -> Self {
        match error {
            CannotOpen::User(reason) => Self::State(State::Stalled(reason)),
            CannotOpen::Api(error) => Self::Api(error),
        }
    }
}

impl Interrupted {
    /// What it means for the resource.
    #[must_use]
    pub fn into_state(self) -> State {
        match self {
            Self::State(state) => state,
            // Whoever may not do something will not be allowed to by trying again; somebody must mend it.
            Self::Api(kube::Error::Api(status)) if status.code == 403 => State::Stalled(Reason::new(
                "Forbidden",
                format!("the API server forbids it to the operator: {}", status.message),
            )),
            Self::Api(kube::Error::Api(status)) if status.code == 422 => State::Stalled(Reason::new(
                "Invalid",
                format!("the API server does not take what the resource asks for: {}", status.message),
            )),
            Self::Api(kube::Error::Api(status)) if status.code == 409 => State::Reconciling(Reason::new(
                "WaitingForOthers",
                format!("somebody else changed something at the same moment: {}", status.message),
            )),
            Self::Storage(StorageError::Refused(why)) => State::Stalled(Reason::new(
                "StorageRefused",
                format!("the storage account refuses the operator: {why}"),
            )),
            Self::Storage(error) if is_being_deleted(&error) => State::Reconciling(Reason::new(
                "StillDeleting",
                "the storage account is deleting a container of that name still: it is made once the name is free, which \
                 takes half a minute or more",
            )),
            Self::Storage(error) => State::Reconciling(Reason::new(
                "StorageUnreachable",
                format!("the storage account cannot be used: {error}"),
            )),
            error @ (Self::Api(_) | Self::TimedOut) => {
                State::Reconciling(Reason::new("Interrupted", format!("{error}; it is tried again")))
            }
        }
    }
}

/// Whether the storage account has answered that a name is not free yet, after a deletion.
#[must_use]
pub fn is_being_deleted(error: &StorageError) -> bool {
    matches!(error, StorageError::Unavailable(why) if why == BEING_DELETED)
}

/// Whether a resource is paused.
#[must_use]
pub fn is_paused(resource: &impl kube::Resource) -> bool {
    resource.meta().annotations.as_ref().and_then(|all| all.get(PAUSED)).is_some_and(|value| value == "true")
}

impl Operator {
    /// What holds for all vaults now.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options.borrow().clone()
    }

    /// A vault is gone.
    pub fn forget_vault(&self, vault: &MessageVault) {
        self.vaults.close(vault);
        self.forget(&vault.uid().unwrap_or_default());
    }

    /// A VaultStream is gone.
    pub fn forget_stream(&self, stream: &VaultStream) {
        self.forget(&stream.uid().unwrap_or_default());
    }

    fn forget(&self, uid: &str) {
        self.paces.forget(uid);
        self.metrics.gone(uid);
    }

    /// The servers of a vault, by its pods.
    pub async fn servers_of(&self, vault: &MessageVault) -> Result<(Vec<Pod>, Vec<Server>), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &vault.namespace().unwrap_or_default());
        let selector = format!("{VAULT_LABEL}={}", vault.name_any());
        let pods = pods.list(&ListParams::default().labels(&selector)).await?.items;
        let servers = pods.iter().filter_map(Server::of).collect();
        Ok((pods, servers))
    }
}
