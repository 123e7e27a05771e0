//! The vaults' storage as the operator reaches it, kept open between reconciliations.
//!
//! | module | subject |
//! |---|---|
//! | [`credentials`] | the way in: tokens for the vault's own ServiceAccount, a Secret, an emulator |
//! | [`join`] | the system container: whose vault it is |
//! | [`open`] | a vault's storage, what was last seen of its containers and servers |

pub mod credentials;
pub mod join;
pub mod open;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::{Client, ResourceExt};
use vault_server::env::Env;

use self::credentials::{CannotOpen, WayIn};
use self::open::OpenVault;
use crate::api::MessageVault;
use crate::limits::VIEW_MAY_BE_OLD;

/// All vaults whose storage is open.
pub struct Vaults {
    client: Client,
    env: Env,
    /// The tenant of workload identities that name none.
    tenant: Option<String>,
    /// How old what was seen of a vault may be in a routine look.
    may_be_old: Duration,
    open: Mutex<HashMap<(String, String), Arc<OpenVault>>>,
}

impl Vaults {
    /// None is open yet. What is seen of a vault serves all of its streams that are looked at soon after.
    #[must_use]
    pub fn new(client: Client, env: Env, tenant: Option<String>, look_every: Duration) -> Self {
        let may_be_old = look_every.mul_f64(VIEW_MAY_BE_OLD);
        Self { client, env, tenant, may_be_old, open: Mutex::default() }
    }

    /// Opens a vault's storage, or gives what is open already. With `fresh` a Secret is read again, and a change of it
    /// opens the storage anew. Nothing is asked of the storage.
    pub async fn open(&self, vault: &MessageVault, fresh: bool) -> Result<Arc<OpenVault>, CannotOpen> {
        let key = key(vault);
        let known = self.map().get(&key).filter(|open| open.fits(vault)).cloned();
        if let Some(known) = known.as_ref().filter(|_| !fresh) {
            return Ok(Arc::clone(known));
        }
        let way_in = WayIn::find(&self.client, vault, self.tenant.as_deref()).await?;
        if let Some(known) = known.filter(|known| *known.way_in() == way_in) {
            return Ok(known);
        }
        let open = Arc::new(OpenVault::new(&self.client, &self.env, vault, way_in, self.may_be_old)?);
        self.map().insert(key, Arc::clone(&open));
        Ok(open)
    }

    /// Closes the storage of a vault that is gone.
    pub fn close(&self, vault: &MessageVault) {
        self.map().remove(&key(vault));
    }

    /// Every open vault.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<OpenVault>> {
        self.map().values().cloned().collect()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<OpenVault>>> {
        // The map is whole between any two of its operations.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(vault: &MessageVault) -> (String, String) {
    (vault.namespace().unwrap_or_default(), vault.name_any())
}
