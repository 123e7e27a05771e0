//! Where a vault keeps its messages, and how it gets in.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The storage account of a vault, and the way in. What says where the messages are cannot be changed.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("[has(self.workloadIdentity), has(self.secretRef), has(self.emulator)].filter(x, x).size() == 1")
        .message("give exactly one of workloadIdentity, secretRef and emulator"),
    validation = Rule::new("!has(self.workloadIdentity) || has(self.account) != has(self.endpoint)")
        .message("with workloadIdentity give account or endpoint, one of them"),
    validation = Rule::new("!has(self.emulator) || (has(self.endpoint) && !has(self.account))")
        .message("with emulator give endpoint, such as http://azurite:10000/devstoreaccount1"),
    validation = Rule::new("!has(self.secretRef) || !has(self.endpoint)")
        .message("with secretRef the connection string says where the account is: leave endpoint out"),
    validation = Rule::new("!has(self.workloadIdentity) || !has(self.endpoint) || self.endpoint.startsWith('https://')")
        .message("with workloadIdentity the endpoint must begin with https://, because tokens go over TLS only"),
    validation = Rule::new("!has(self.accounts) || self.accounts.size() == 0 || has(self.workloadIdentity)")
        .message("further accounts go with workloadIdentity alone"),
    validation = Rule::new("!has(self.accounts) || self.accounts.all(it, it.startsWith('https://') == has(self.endpoint))")
        .message("further accounts are named as the main one is: by their names with account, by https URLs with endpoint"),
    validation = Rule::new("!has(oldSelf.accounts) || oldSelf.accounts.all(it, has(self.accounts) && it in self.accounts)")
        .message("accounts can be added and not taken out: streams live in them"),
    validation = Rule::new("!has(oldSelf.account) || (has(self.account) && self.account == oldSelf.account)")
        .message("account cannot be changed: the messages stay where they are; make another MessageVault and copy the streams with mvctl"),
    validation = Rule::new("has(self.endpoint) == has(oldSelf.endpoint) && (!has(self.endpoint) || self.endpoint == oldSelf.endpoint)")
        .message("endpoint cannot be changed: the messages stay where they are; make another MessageVault and copy the streams with mvctl"),
    validation = Rule::new("self.prefix == oldSelf.prefix")
        .message("prefix cannot be changed: the containers keep their names")
)]
pub struct Storage {
    /// The name of the storage account, for Azure's public cloud. It must be a general-purpose v2 account without
    /// hierarchical namespace. It can be added later, and not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]{3,24}$"))]
    pub account: Option<String>,
    /// The URL of the account's blob service, for other clouds, private endpoints and emulators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400), regex(pattern = "^https?://[^?#@ ]+$"))]
    pub endpoint: Option<String>,
    /// Further storage accounts in which streams may live (`settings.account` of a stream, by its name), each with limits
    /// of throughput of its own. With `account` they are named, with `endpoint` these are URLs as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 400), regex(pattern = "^([a-z0-9]{3,24}|https://[^?#@ ]+)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub accounts: Vec<String>,
    /// What the names of the vault's containers begin with. No two vaults of an account may have prefixes of which one
    /// begins the other.
    #[serde(default = "default_prefix")]
    #[schemars(length(max = 40), regex(pattern = "^([a-z0-9]+(-[a-z0-9]+)*-?)?$"))]
    pub prefix: String,
    /// An identity in Entra that trusts the vault's ServiceAccount. It needs the role Storage Blob Data Owner or Storage
    /// Blob Data Contributor on the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// A Secret in the vault's namespace that holds a connection string. The operator must be allowed to read it
    /// (`secretNamespaces` of the chart).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKey>,
    /// The well-known account and key of an emulator (Azurite), for trying things out: no secret at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<Emulator>,
}

/// An identity in Entra.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The identity's client id.
    #[schemars(regex(pattern = "^[0-9a-fA-F-]{36}$"))]
    pub client_id: String,
    /// The identity's tenant; the operator's own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-fA-F-]{36}$"))]
    pub tenant_id: Option<String>,
}

/// A value in a Secret.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Nothing more is to be said of an emulator.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
pub struct Emulator {}

fn default_prefix() -> String {
    "mv-".to_owned()
}

fn default_key() -> String {
    "connectionString".to_owned()
}
