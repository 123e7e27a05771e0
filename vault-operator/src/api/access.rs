//! Who may use a vault.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may do what. Everybody must say who they are, unless `anonymous` says otherwise.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("(has(self.anonymous) && self.anonymous) || (has(self.serviceAccounts) && self.serviceAccounts.size() > 0) || (has(self.issuers) && self.issuers.size() > 0) || has(self.usersSecretRef)")
        .message("say who may use the vault: serviceAccounts, issuers or usersSecretRef; or anonymous: true, for everybody who reaches it"),
    validation = Rule::new("!(has(self.anonymous) && self.anonymous) || !((has(self.serviceAccounts) && self.serviceAccounts.size() > 0) || (has(self.issuers) && self.issuers.size() > 0) || has(self.usersSecretRef))")
        .message("anonymous: true lets everybody in: leave serviceAccounts, issuers and usersSecretRef out, or anonymous")
)]
pub struct Access {
    /// Nobody is asked who they are: whoever reaches the vault may do everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Pods of this cluster, by their ServiceAccounts: they send a token for the audience `messagevault`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub service_accounts: Vec<ServiceAccountGrant>,
    /// Other issuers of signed tokens (OIDC), such as Entra ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    pub issuers: Vec<Issuer>,
    /// A Secret in the vault's namespace with an access file that has users with passwords, and tokens. Only the vault's
    /// pods read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_secret_ref: Option<UsersSecret>,
}

/// What a ServiceAccount may do.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountGrant {
    /// Its namespace; the vault's own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Its name, or `*` for all of the namespace.
    #[schemars(length(max = 253), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$"))]
    pub name: String,
    /// What it may do.
    #[schemars(length(min = 1, max = 100))]
    pub grants: Vec<Grant>,
}

/// `<stream, beginning of names with *, or all>:<read, write or admin>`, such as `orders:write`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Grant(
    #[schemars(length(max = 80), regex(pattern = r"^[a-z0-9]*(-[a-z0-9]+)*-?\*?:(read|write|admin)$"))]
    pub  String,
);

/// Whose signed tokens are good.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// Exactly what its tokens have as `iss`.
    #[schemars(length(max = 1000), regex(pattern = "^https://[^?# ]+$"))]
    pub url: String,
    /// What their `aud` must be or hold.
    #[schemars(length(min = 1, max = 256))]
    pub audience: String,
    /// Whom of its subjects is granted what.
    #[schemars(length(min = 1, max = 500))]
    pub grants: Vec<IssuerGrant>,
}

/// What some of an issuer's subjects may do.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("has(self.subject) || (has(self.claims) && self.claims.size() > 0)")
        .message("name a subject (* for all), claims, or both")
)]
pub struct IssuerGrant {
    /// What `sub` must be; with a `*` at its end, what it must begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject: Option<String>,
    /// Claims and texts: each claim must be this text, or a list with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub claims: BTreeMap<String, String>,
    /// What they may do.
    #[schemars(length(min = 1, max = 100))]
    pub grants: Vec<Grant>,
}

/// An access file in a Secret.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsersSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "access.yaml".to_owned()
}
