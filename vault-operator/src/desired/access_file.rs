//! Who may use a vault, as the servers read it (docs/access.md).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::Serialize;

use super::labels::{access_config_map, metadata, owned};
use super::{AUDIENCE, Options, files};
use crate::api::MessageVault;
use crate::api::access::{Access, Grant, ServiceAccountGrant};

#[derive(Serialize)]
struct AccessFile<'a> {
    issuers: Vec<IssuerEntry<'a>>,
}

#[derive(Serialize)]
struct IssuerEntry<'a> {
    url: &'a str,
    audience: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
    grants: Vec<Rule<'a>>,
}

#[derive(Serialize)]
struct Rule<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    claims: &'a BTreeMap<String, String>,
    grants: &'a [Grant],
}

fn is_empty(claims: &&BTreeMap<String, String>) -> bool {
    claims.is_empty()
}

static NO_CLAIMS: BTreeMap<String, String> = BTreeMap::new();

/// The ConfigMap that holds the file. It is there unless the vault is anonymous, with no issuers where only the users'
/// Secret lets somebody in, so that pods stay as they are when the first issuer comes.
pub(super) fn config_map(vault: &MessageVault, options: &Options) -> ConfigMap {
    ConfigMap {
        metadata: metadata(vault, access_config_map(&vault.name_any())),
        data: Some(owned([(files::ACCESS_FILE, &text(vault, options))])),
        ..ConfigMap::default()
    }
}

/// The access file. Where the cluster's issuer is not known its ServiceAccounts are not let in.
pub(super) fn text(vault: &MessageVault, options: &Options) -> String {
    let access = &vault.spec.access;
    let mut issuers = Vec::new();
    if let Some(issuer) = options.cluster_issuer.as_ref().filter(|_| !access.service_accounts.is_empty()) {
        let namespace = vault.namespace().unwrap_or_default();
        issuers.push(IssuerEntry {
            url: &issuer.url,
            audience: AUDIENCE,
            ca_file: issuer.in_cluster.then(|| format!("{}/ca.crt", files::KUBERNETES)),
            token_file: issuer.in_cluster.then(|| format!("{}/token", files::KUBERNETES)),
            grants: access.service_accounts.iter().map(|account| rule(account, &namespace)).collect(),
        });
    }
    issuers.extend(access.issuers.iter().map(|issuer| {
        IssuerEntry {
            url: &issuer.url,
            audience: &issuer.audience,
            ca_file: None,
            token_file: None,
            grants: issuer
                .grants
                .iter()
                .map(|grant| Rule {
                    subject: grant.subject.clone(),
                    claims: &grant.claims,
                    grants: &grant.grants,
                })
                .collect(),
        }
    }));
    serde_yaml::to_string(&AccessFile { issuers }).expect("texts in lists and maps are YAML")
}

fn rule<'a>(account: &'a ServiceAccountGrant, own_namespace: &str) -> Rule<'a> {
    let namespace = account.namespace.as_deref().unwrap_or(own_namespace);
    // A `*` at the end means to the servers what it means in the spec.
    let subject = format!("system:serviceaccount:{namespace}:{}", account.name);
    Rule { subject: Some(subject), claims: &NO_CLAIMS, grants: &account.grants }
}

/// Whether the servers ask the API server for the keys of its ServiceAccounts' tokens.
pub(super) fn asks_the_api_server(access: &Access, options: &Options) -> bool {
    !access.service_accounts.is_empty()
        && options.cluster_issuer.as_ref().is_some_and(|issuer| issuer.in_cluster)
}
