//! One server of a vault without what it listens on: storage, the log, its part in the election, and what answers
//! requests. The program puts listeners in front of it; who embeds a vault calls its routes in the same process.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_format::names::Prefix;

use crate::election::{Candidacy, Conflict, Election};
use crate::env::Env;
use crate::http::app::{App, HttpSettings};
use crate::http::{internal_router, router};
use crate::log::Options;
use crate::log::vault::Vault;
use crate::storage::Storage;
use crate::storage::counted::Counted;

/// A server that takes part in its vault until it is told to hand over, or dropped: then it hands over behind the caller's
/// back, as far as the runtime lives on.
pub struct Node {
    app: Arc<App>,
    elected: JoinHandle<Result<(), Conflict>>,
    hand_over: CancellationToken,
}

/// Why a server does not take part any more.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It must never work for this vault.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// An invariant of the election is broken.
    #[error("the election broke down: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Node {
    /// Takes part in the vault that `storage` holds under `prefix`, in the runtime that this is called in. `vault_uid` is
    /// the vault that it is for; `None`: whichever is there.
    #[must_use]
    pub fn start(
        storage: Arc<dyn Storage>,
        env: Env,
        prefix: Prefix,
        vault_uid: Option<String>,
        options: Options,
        settings: HttpSettings,
    ) -> Self {
        let storage: Arc<Counted<dyn Storage>> = Arc::new(Counted::new(storage, &env));
        let (vault, reign_over) =
            Vault::new(Arc::clone(&storage) as Arc<dyn Storage>, env.clone(), prefix, options);
        let candidacy = Candidacy { endpoint: settings.advertise.clone(), vault_uid };
        let mut election = Election::new(vault.clone(), reign_over, candidacy);
        let app = App::new(vault, env, storage, settings, election.standing());
        let hand_over = CancellationToken::new();
        let stop = hand_over.clone();
        let elected = tokio::spawn(async move { election.run(&stop).await });
        Self { app, elected, hand_over }
    }

    /// What every request has at hand.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    /// Every route for clients.
    pub fn router(&self) -> Router {
        router(self.app())
    }

    /// Routes for whoever watches over the server.
    pub fn internal_router(&self) -> Router {
        internal_router(self.app())
    }

    /// Ends when the server's part is over before it was told so: only a conflict, or a broken invariant, does that.
    pub async fn ended(&mut self) -> Result<(), NodeError> {
        Ok((&mut self.elected).await??)
    }

    /// Stores what was accepted, and hands the lead over.
    pub async fn hand_over(mut self) -> Result<(), NodeError> {
        self.hand_over.cancel();
        self.ended().await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.hand_over.cancel();
    }
}
