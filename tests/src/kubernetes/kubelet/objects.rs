//! What pods take from other objects: ConfigMaps, Secrets, tokens, and their own fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::BoundObjectReference;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::runtime::Runtime;

use super::problem::Problem;
use crate::kubernetes::accounts;

/// Entries by their keys.
pub(super) type Entries = BTreeMap<String, Vec<u8>>;

/// The API server, asked from threads that may wait.
#[derive(Clone)]
pub(super) struct Objects {
    pub(super) runtime: Arc<Runtime>,
    pub(super) client: Client,
}

impl Objects {
    pub(super) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The entries of a ConfigMap; `None` where there is none.
    pub(super) fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<Entries>> {
        let map = self.runtime.block_on(self.api::<ConfigMap>(namespace).get_opt(name))?;
        Ok(map.map(|map| {
            let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
            let bytes = map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
            texts.chain(bytes).collect()
        }))
    }

    /// The entries of a Secret; `None` where there is none.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Entries>> {
        let secret = self.runtime.block_on(self.api::<Secret>(namespace).get_opt(name))?;
        Ok(secret.map(|secret| secret.data.into_iter().flatten().map(|(key, data)| (key, data.0)).collect()))
    }

    /// A token of the pod's ServiceAccount that is good while the pod is.
    pub(super) fn token(&self, pod: &Pod, audience: Option<&str>, seconds: i64) -> kube::Result<String> {
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        };
        let namespace = pod.namespace().unwrap_or_default();
        let account = account_of(pod);
        let token = accounts::token(&self.client, &namespace, &account, audience, seconds, Some(bound));
        self.runtime.block_on(token)
    }
}

/// The ServiceAccount that the pod is.
pub(super) fn account_of(pod: &Pod) -> String {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    account.unwrap_or_else(|| "default".to_owned())
}

/// A field of the pod, as environments and volumes name it. Its address is not in its status yet when it starts.
pub(super) fn field(pod: &Pod, ip: &str, path: &str) -> Result<String, Problem> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let entries = match map {
            "metadata.labels" => pod.labels(),
            "metadata.annotations" => pod.annotations(),
            _ => return Err(Problem::not_played(format!("the field {path}"))),
        };
        return Ok(entries.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => account_of(pod),
        "status.podIP" | "status.podIPs" => ip.to_owned(),
        "status.hostIP" => super::HOST_IP.to_owned(),
        _ => return Err(Problem::not_played(format!("the field {path}"))),
    })
}
