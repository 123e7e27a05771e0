//! What a vault consists of in Kubernetes: applying it, and pruning what is not wanted any more.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, ResourceExt, discovery};

use super::{Interrupted, Operator};
use crate::api::MessageVault;
use crate::api::names::{FIELD_MANAGER, VAULT_LABEL};
use crate::conditions::{Reason, State};
use crate::desired;

impl Operator {
    /// Applies objects under the operator's field manager: what others changed of their fields is put back.
    pub async fn apply(&self, vault: &MessageVault, objects: &[DynamicObject]) -> Result<(), Interrupted> {
        for object in objects {
            let (resource, name) = (resource_of(object), object.name_any());
            let api = self.dynamic(vault, &resource);
            if let Some(there) = api.get_metadata_opt(&name).await? {
                self.check_owner(vault, &resource, &there.metadata)?;
            }
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            api.patch(&name, &parameters, &Patch::Apply(object)).await?;
        }
        Ok(())
    }

    /// Somebody else's object of that name is not taken over.
    fn check_owner(
        &self,
        vault: &MessageVault,
        resource: &ApiResource,
        there: &kube::api::ObjectMeta,
    ) -> Result<(), Interrupted> {
        let name = there.name.clone().unwrap_or_default();
        let owners = there.owner_references.as_deref().unwrap_or_default();
        if owners.iter().any(|owner| Some(&owner.uid) == vault.metadata.uid.as_ref()) {
            return Ok(());
        }
        let of_predecessor =
            owners.iter().any(|owner| owner.kind == "MessageVault" && owner.name == vault.name_any());
        Err(Interrupted::State(if of_predecessor {
            State::Reconciling(Reason::new(
                "WaitingForCleanup",
                format!(
                    "the {} {name} of a MessageVault of the same name is still being removed",
                    resource.kind
                ),
            ))
        } else {
            State::Stalled(Reason::new(
                "ObjectExists",
                format!(
                    "there is a {} {name} that is not this vault's: delete it, or give the MessageVault another name",
                    resource.kind
                ),
            ))
        }))
    }

    /// Ends a vault's servers.
    pub async fn stop_servers(&self, vault: &MessageVault) -> Result<(), Interrupted> {
        let api: Api<Deployment> =
            Api::namespaced(self.client.clone(), &vault.namespace().unwrap_or_default());
        let Some(there) = api.get_metadata_opt(&vault.name_any()).await? else { return Ok(()) };
        self.check_owner(vault, &ApiResource::erase::<Deployment>(&()), &there.metadata)?;
        match api.delete(&vault.name_any(), &DeleteParams::background()).await {
            Ok(_) => {
                tracing::warn!(
                    vault = vault.name_any(),
                    "the servers are ended: the vault is not this one's"
                );
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Deletes what belongs to the vault and is not in `objects`.
    pub async fn prune(&self, vault: &MessageVault, objects: &[DynamicObject]) -> Result<(), Interrupted> {
        let monitoring = self.monitoring().await?;
        let selector =
            format!("{VAULT_LABEL}={},app.kubernetes.io/managed-by={FIELD_MANAGER}", vault.name_any());
        for resource in desired::kinds(monitoring) {
            let api = self.dynamic(vault, &resource);
            for there in api.list_metadata(&ListParams::default().labels(&selector)).await?.items {
                let name = there.name_any();
                let wanted = objects.iter().any(|object| {
                    resource_of(object).kind == resource.kind && object.metadata.name.as_ref() == Some(&name)
                });
                let owners = there.metadata.owner_references.as_deref().unwrap_or_default();
                let ours = owners.iter().any(|owner| Some(&owner.uid) == vault.metadata.uid.as_ref());
                if wanted || !ours {
                    continue;
                }
                let preconditions = Preconditions { uid: there.metadata.uid.clone(), resource_version: None };
                let parameters =
                    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
                match api.delete(&name, &parameters).await {
                    Ok(_) => tracing::info!(
                        kind = resource.kind,
                        name,
                        "deleted: the vault does not want it any more"
                    ),
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Whether the API server knows the Prometheus operator's kinds.
    pub async fn monitoring(&self) -> Result<bool, kube::Error> {
        let kind = kube::core::GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
        match discovery::pinned_kind(&self.client, &kind).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Discovery(_)) => Ok(false),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn dynamic(&self, vault: &MessageVault, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &vault.namespace().unwrap_or_default(), resource)
    }
}

/// The kind of an object, by its own types.
fn resource_of(object: &DynamicObject) -> ApiResource {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", types.api_version.as_str()));
    ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &types.kind))
}
