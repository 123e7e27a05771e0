//! The way into the storage account: three of them, exactly one of which a vault has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};

use super::Facts;
use super::files::{Mounted, projected, token};
use super::labels::owned;
use crate::api::names::CREDENTIAL_HASH;
use crate::api::storage::{SecretKey, Storage, WorkloadIdentity};

/// What each emulator lets in; it is published, and no secret.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The names that the webhook of azure-workload-identity uses, on AKS and elsewhere. It adds only what a pod does not
/// have: variables by their names, the mount by the volume's name, the volume by its token's path. So pods that have all
/// of it are the same with and without the webhook, and the operator needs neither to know.
const TOKEN_NAME: &str = "azure-identity-token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/azure/tokens";

/// What Entra wants to be the audience of a token of Kubernetes.
pub const TOKEN_AUDIENCE: &str = "api://AzureADTokenExchange";

/// What pods and ServiceAccount need of a vault's way into storage.
#[derive(Default)]
pub(super) struct Credentials {
    /// What `--storage` is given.
    pub(super) storage: String,
    pub(super) variables: Vec<EnvVar>,
    pub(super) files: Vec<Mounted>,
    pub(super) pod_labels: BTreeMap<String, String>,
    pub(super) pod_annotations: BTreeMap<String, String>,
    pub(super) account_annotations: BTreeMap<String, String>,
}

/// What the vault's one way needs. With a connection string, `azure:` alone says that it names the account.
pub(super) fn credentials(storage: &Storage, facts: &Facts) -> Credentials {
    if let Some(identity) = &storage.workload_identity {
        workload_identity(storage, identity, facts)
    } else if let Some(secret) = &storage.secret_ref {
        connection_string(storage, secret, facts)
    } else {
        Credentials {
            storage: "azure:".to_owned(),
            variables: vec![variable("AZURE_STORAGE_CONNECTION_STRING", &emulator(storage))],
            ..Credentials::default()
        }
    }
}

fn workload_identity(storage: &Storage, identity: &WorkloadIdentity, facts: &Facts) -> Credentials {
    let account = storage.account.as_deref().or(storage.endpoint.as_deref()).unwrap_or_default();
    let mut variables = vec![
        variable("AZURE_CLIENT_ID", &identity.client_id),
        variable("AZURE_FEDERATED_TOKEN_FILE", &format!("{TOKEN_DIRECTORY}/{TOKEN_NAME}")),
    ];
    let mut account_annotations = owned([("azure.workload.identity/client-id", identity.client_id.as_str())]);
    if let Some(tenant) = identity.tenant_id.as_ref().or(facts.tenant_id.as_ref()) {
        variables.push(variable("AZURE_TENANT_ID", tenant));
    }
    if let Some(tenant) = &identity.tenant_id {
        account_annotations.insert("azure.workload.identity/tenant-id".to_owned(), tenant.clone());
    }
    // AZURE_AUTHORITY_HOST is left to the webhook, which knows the cloud; without it the public cloud is meant.
    Credentials {
        storage: format!("azure:{account}"),
        variables,
        files: vec![Mounted {
            volume: projected(TOKEN_NAME, vec![token(TOKEN_NAME, Some(TOKEN_AUDIENCE))]),
            path: TOKEN_DIRECTORY,
        }],
        pod_labels: owned([("azure.workload.identity/use", "true")]),
        account_annotations,
        ..Credentials::default()
    }
}

fn connection_string(storage: &Storage, secret: &SecretKey, facts: &Facts) -> Credentials {
    let from_secret = SecretKeySelector {
        name: secret.name.clone(),
        key: secret.key.clone(),
        ..SecretKeySelector::default()
    };
    let mut variables = vec![EnvVar {
        name: "AZURE_STORAGE_CONNECTION_STRING".to_owned(),
        value_from: Some(EnvVarSource { secret_key_ref: Some(from_secret), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }];
    // The servers end with a sentence where the connection string is for another account.
    variables.extend(storage.account.iter().map(|account| variable("AZURE_STORAGE_ACCOUNT", account)));
    let hash = facts.credential_hash.iter();
    Credentials {
        storage: "azure:".to_owned(),
        variables,
        pod_annotations: hash.map(|hash| (CREDENTIAL_HASH.to_owned(), hash.clone())).collect(),
        ..Credentials::default()
    }
}

/// The connection string for an emulator, with the key that is no secret.
#[must_use]
pub fn emulator(storage: &Storage) -> String {
    let endpoint = storage.endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    let account = emulated_account(endpoint);
    format!("AccountName={account};AccountKey={EMULATOR_KEY};BlobEndpoint={endpoint}")
}

/// The account behind an emulator's URL: the first part of its path.
fn emulated_account(endpoint: &str) -> &str {
    let host_and_path = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let path = host_and_path.split_once('/').map_or("", |(_, path)| path);
    path.split('/').next().filter(|account| !account.is_empty()).unwrap_or(EMULATOR_ACCOUNT)
}

/// A variable with a value.
pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulators_account_is_in_its_path() {
        for (endpoint, account) in [
            ("http://azurite:10000/devstoreaccount1", "devstoreaccount1"),
            ("http://azurite:10000/another/", "another"),
            ("http://azurite:10000", "devstoreaccount1"),
            ("http://azurite:10000/", "devstoreaccount1"),
        ] {
            assert_eq!(emulated_account(endpoint), account, "{endpoint}");
        }
    }
}
