//! Small changes of the resources themselves: finalizers, and annotations that were carried out.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::serde_json::json;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Operator;
use crate::api::MessageVault;
use crate::api::names::FINALIZER;
use crate::desired::Options;

impl Operator {
    /// Puts the operator's finalizer on a resource, or takes it off.
    pub async fn set_finalizer<K>(&self, resource: &K, wanted: bool) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let mut finalizers = resource.finalizers().to_vec();
        if finalizers.iter().any(|name| name == FINALIZER) == wanted {
            return Ok(());
        }
        finalizers.retain(|name| name != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        // Somebody else may have changed the list since: then it is looked at again.
        let metadata = json!({"finalizers": finalizers, "resourceVersion": resource.resource_version()});
        self.patch_metadata(resource, metadata).await
    }

    /// Takes an annotation off that was carried out, or leaves what of it is still to be done. One that somebody has
    /// changed meanwhile says something new, and stays.
    pub async fn set_annotation<K>(
        &self,
        resource: &K,
        name: &str,
        rest: Option<String>,
    ) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let known = resource.annotations().get(name);
        if known.is_none() || known == rest.as_ref() {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        let Some(now) = api.get_opt(&resource.name_any()).await? else { return Ok(()) };
        if now.annotations().get(name) != known {
            return Ok(());
        }
        let version = now.resource_version();
        self.patch_metadata(resource, json!({"annotations": {name: rest}, "resourceVersion": version})).await
    }

    async fn patch_metadata<K>(&self, resource: &K, metadata: serde_json::Value) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch(&resource.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What holds for all vaults, with what the API server knows now of kinds that this vault asks for.
    pub async fn options_for(&self, vault: &MessageVault) -> Result<Options, kube::Error> {
        let wants = &vault.spec.monitoring;
        let monitoring = (wants.service_monitor || wants.rules) && self.monitoring().await?;
        Ok(Options { monitoring, ..self.options() })
    }
}
