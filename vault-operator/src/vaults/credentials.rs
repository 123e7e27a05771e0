//! The way into a vault's storage account.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};
use thiserror::Error;
use vault_server::storage::azure::{AssertionSource, AzureSettings};

use crate::api::MessageVault;
use crate::api::storage::SecretKey;
use crate::conditions::Reason;
use crate::desired::{TOKEN_AUDIENCE, emulator};
use crate::limits::ASSERTION_SECONDS;

/// Why storage cannot be opened.
#[derive(Debug, Error)]
pub enum CannotOpen {
    /// Somebody must change something.
    #[error("{0}")]
    User(Reason),
    /// The API server does not answer.
    #[error("the API server does not say what is in the Secret: {0}")]
    Api(#[from] kube::Error),
}

/// How requests to the storage account are let in. Its debug form shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum WayIn {
    /// By tokens for the vault's own ServiceAccount.
    Identity {
        /// The tenant of the identity.
        tenant: String,
        /// The identity.
        client: String,
    },
    /// By what a connection string says.
    ConnectionString(String),
}

impl fmt::Debug for WayIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { tenant, client } => {
                f.debug_struct("Identity").field("tenant", tenant).field("client", client).finish()
            }
            Self::ConnectionString(_) => f.debug_struct("ConnectionString").finish_non_exhaustive(),
        }
    }
}

fn user(word: &'static str, sentence: String) -> CannotOpen {
    CannotOpen::User(Reason::new(word, sentence))
}

impl WayIn {
    /// What a vault's resource says, with its Secret read.
    pub async fn find(
        client: &Client,
        vault: &MessageVault,
        tenant: Option<&str>,
    ) -> Result<Self, CannotOpen> {
        let storage = &vault.spec.storage;
        if let Some(identity) = &storage.workload_identity {
            return match identity.tenant_id.as_deref().or(tenant) {
                Some(tenant) => {
                    Ok(Self::Identity { tenant: tenant.to_owned(), client: identity.client_id.clone() })
                }
                None => Err(user(
                    "NoTenant",
                    "storage.workloadIdentity needs a tenantId: the operator has none of its own (AZURE_TENANT_ID)"
                        .to_owned(),
                )),
            };
        }
        if let Some(reference) = &storage.secret_ref {
            return read_secret(client, &vault.namespace().unwrap_or_default(), reference)
                .await
                .map(Self::ConnectionString);
        }
        Ok(Self::ConnectionString(emulator(storage)))
    }

    /// The settings with which the account is opened, and those of the further ones.
    pub fn settings(&self, client: &Client, vault: &MessageVault) -> Result<Vec<AzureSettings>, CannotOpen> {
        let storage = &vault.spec.storage;
        let wrong = |why: String| user("InvalidStorage", why);
        match self {
            Self::ConnectionString(text) => {
                let settings = AzureSettings::from_connection_string(text).map_err(|why| {
                    wrong(match &storage.secret_ref {
                        Some(SecretKey { name, key }) => {
                            format!("the key {key} of the Secret {name} is no connection string: it {why}")
                        }
                        None => format!("storage.endpoint cannot be used: the connection string {why}"),
                    })
                })?;
                let found = &settings.account().name;
                if let Some(account) = storage.account.as_ref().filter(|account| *account != found) {
                    return Err(wrong(format!(
                        "storage.account is {account}, and the connection string is for {found}: they must be the same"
                    )));
                }
                Ok(vec![settings])
            }
            Self::Identity { tenant, client: id } => {
                let source: Arc<dyn AssertionSource> = Arc::new(VaultToken {
                    accounts: Api::namespaced(client.clone(), &vault.namespace().unwrap_or_default()),
                    name: vault.name_any(),
                });
                let main =
                    storage.endpoint.as_ref().or(storage.account.as_ref()).cloned().unwrap_or_default();
                let all = std::iter::once(&main).chain(&storage.accounts);
                all.map(|account| {
                    AzureSettings::with_assertion(account, tenant.clone(), id.clone(), Arc::clone(&source))
                        .map_err(|why| wrong(format!("`{account}` {why}")))
                })
                .collect()
            }
        }
    }

    /// Who was refused, for whoever has to let them in.
    #[must_use]
    pub fn refused(&self, vault: &MessageVault, why: &str) -> String {
        match self {
            Self::Identity { client, .. } => format!(
                "{why}; the identity is {client}, with a federated credential for the subject \
                 system:serviceaccount:{}:{}",
                vault.namespace().unwrap_or_default(),
                vault.name_any()
            ),
            Self::ConnectionString(_) => why.to_owned(),
        }
    }

    /// What changes when pods must be replaced to get in. It tells nothing of the secret.
    #[must_use]
    pub fn credential_hash(&self) -> Option<String> {
        match self {
            Self::Identity { .. } => None,
            Self::ConnectionString(text) => {
                let hash = Sha256::digest(text.as_bytes());
                Some(hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
            }
        }
    }

    /// The tenant of the identity.
    #[must_use]
    pub fn tenant(&self) -> Option<String> {
        match self {
            Self::Identity { tenant, .. } => Some(tenant.clone()),
            Self::ConnectionString(_) => None,
        }
    }
}

async fn read_secret(client: &Client, namespace: &str, reference: &SecretKey) -> Result<String, CannotOpen> {
    let SecretKey { name, key } = reference;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match secrets.get_opt(name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Err(user(
                "SecretMissing",
                format!(
                    "there is no Secret {name} in the namespace {namespace}: make it, with the key {key}"
                ),
            ));
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(user(
                "SecretForbidden",
                format!(
                    "the operator may not read Secrets in the namespace {namespace}: name it at installation \
                     (secretNamespaces of the chart), or use workloadIdentity"
                ),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let value = secret.data.unwrap_or_default().remove(key).ok_or_else(|| {
        user("SecretMissing", format!("the Secret {name} in the namespace {namespace} has no key {key}"))
    })?;
    let text = String::from_utf8(value.0)
        .map_err(|_| user("InvalidStorage", format!("the key {key} of the Secret {name} is no text")))?;
    Ok(text.trim().to_owned())
}

/// Tokens for a vault's ServiceAccount, each asked of the API server: so one federated identity a vault is enough, for
/// its servers and for the operator.
#[derive(Debug)]
struct VaultToken {
    accounts: Api<ServiceAccount>,
    name: String,
}

#[async_trait]
impl AssertionSource for VaultToken {
    async fn assertion(&self) -> Result<String, String> {
        let spec = TokenRequestSpec {
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            expiration_seconds: Some(ASSERTION_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let granted = self.accounts.create_token_request(&self.name, &PostParams::default(), &request).await;
        let granted = granted.map_err(|error| {
            format!("the API server gives no token for the ServiceAccount {}: {error}", self.name)
        })?;
        granted
            .status
            .and_then(|status| status.token)
            .ok_or_else(|| "the API server's answer has no token".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_and_each_has_its_hash() {
        let ways = ["AccountName=a;AccountKey=U0VDUkVU", "AccountName=a;AccountKey=T1RIRVI="]
            .map(|text| WayIn::ConnectionString(text.to_owned()));
        assert!(!format!("{ways:?}").contains("U0VDUkVU"));
        assert_ne!(ways[0].credential_hash(), ways[1].credential_hash());
        assert_eq!(ways[0].credential_hash().map(|hash| hash.len()), Some(16));
    }

    #[test]
    fn an_emulator_is_reached_by_its_endpoint() {
        let storage = crate::api::storage::Storage {
            endpoint: Some("http://azurite:10000/another".to_owned()),
            ..Default::default()
        };
        let settings = AzureSettings::from_connection_string(&emulator(&storage)).unwrap();
        assert_eq!(settings.account().endpoint.as_str(), "http://azurite:10000/another");
        assert_eq!(settings.account().name, "another");
    }
}
