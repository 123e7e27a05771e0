//! Ways round the operator: to the servers, and to what is stored.

use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};
use vault_format::names::ContainerName;
use vault_server::env::Env;
use vault_server::log::settings::StreamMeta;
use vault_server::storage::azure::{AzureSettings, AzureStorage};
use vault_server::storage::{BlobName, LeaseTarget, Metadata, Storage, StorageError};
use vault_tests::client::Client;
use vault_tests::message::Message;
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

/// How long containers are leased to change them.
const LEASE: Duration = Duration::from_secs(15);

/// Everything that a vault consists of but its pods.
pub(crate) const KINDS: [&str; 6] =
    ["ServiceAccount", "ConfigMap", "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"];

/// A vault's servers that are ready.
pub(crate) fn ips(field: &Field, vault: &str) -> Vec<String> {
    field.cluster.pod_ips(&field.namespace, &format!("messagevault.io/vault={vault}"))
}

/// A client of the server at an address.
pub(crate) fn client(ip: &str) -> Client {
    Client::new(format!("{ip}:8480").parse().unwrap())
}

/// A client of any server of a vault that is ready.
pub(crate) fn any(field: &Field, vault: &str) -> Client {
    let ip = until("a server is ready", SETTLES, || ips(field, vault).pop());
    client(&ip)
}

/// What the server in a pod says of itself.
pub(crate) fn status_of(field: &Field, pod: &str) -> Option<Value> {
    let ip = field.get("Pod", pod)?["status"]["podIP"].as_str()?.to_owned();
    let internal = Client::new(format!("{ip}:8481").parse().unwrap());
    let answer = internal.send("GET", "/status", &[], None).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// Appends a text to a stream once there is a server that takes it; answers its offset.
pub(crate) fn append(field: &Field, vault: &str, stream: &str, text: &str) -> u64 {
    until("a message is taken", SETTLES, || {
        let client = client(ips(field, vault).first()?);
        let answer = client.try_append(stream, &[Message::value(text)]).ok()?;
        (answer.status == 200).then(|| answer.appended().first_offset)
    })
}

/// The texts in a stream, once they can be read.
pub(crate) fn texts(field: &Field, vault: &str, stream: &str) -> Vec<String> {
    until("the stream can be read", SETTLES, || {
        let client = client(ips(field, vault).first()?);
        let answer = client.send(
            "GET",
            &format!("/streams/{stream}/messages?from=0"),
            &[("Accept", "application/json")],
            None,
        );
        let answer = answer.ok().filter(|answer| answer.status == 200)?;
        Some(answer.messages().iter().map(|message| message.message.text().to_owned()).collect())
    })
}

/// Has a vault looked at anew, and not only for what is minutes old: its spec changes, and no pod does.
pub(crate) fn touch(field: &Field, vault: &str, value: &str) {
    field.patch(VAULT, vault, &json!({"spec": {"service": {"annotations": {"touched": value}}}}));
}

/// Field `name` of a status.
pub(crate) fn status<'a>(object: &'a Value, name: &str) -> &'a Value {
    &object["status"][name]
}

/// All objects of a kind that belong to a vault.
pub(crate) fn objects_of(field: &Field, kind: &str, vault: &str) -> Vec<DynamicObject> {
    let api: Api<DynamicObject> = field.api(kind, &field.namespace);
    let selector = ListParams::default().labels(&format!("messagevault.io/vault={vault}"));
    field.cluster.block_on(api.list(&selector)).unwrap().items
}

/// The names of a vault's pods that are not about to go, in order.
pub(crate) fn pods(field: &Field, vault: &str) -> Vec<String> {
    let pods = objects_of(field, "Pod", vault).into_iter();
    let pods = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut names: Vec<_> = pods.filter_map(|pod| pod.metadata.name).collect();
    names.sort();
    names
}

/// The notes of a resource's events with a reason.
pub(crate) fn events(field: &Field, name: &str, reason: &str) -> Vec<String> {
    let api: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(field.cluster.admin(), &field.namespace);
    let all = field.cluster.block_on(api.list(&ListParams::default())).unwrap().items.into_iter();
    let of = all.filter(|event| {
        event.reason.as_deref() == Some(reason)
            && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
    });
    of.filter_map(|event| event.note).collect()
}

/// A vault's containers, as somebody with the account's key sees them.
pub(crate) struct Containers<'a> {
    field: &'a Field,
    prefix: String,
    storage: AzureStorage,
}

impl<'a> Containers<'a> {
    pub(crate) fn of(field: &'a Field, prefix: &str) -> Self {
        let settings = AzureSettings::from_connection_string(&field.azurite.connection_string()).unwrap();
        let connecting = async { AzureStorage::connect(settings, &Env::real()).unwrap() };
        Self { field, prefix: prefix.to_owned(), storage: field.cluster.block_on(connecting) }
    }

    fn name(&self, stream: &str) -> ContainerName {
        ContainerName::listed(&format!("{}{stream}", self.prefix)).unwrap()
    }

    /// What a stream's container says; `None` where there is none.
    pub(crate) fn meta(&self, stream: &str) -> Option<StreamMeta> {
        match self.field.cluster.block_on(self.storage.container_metadata(&self.name(stream))) {
            Ok(metadata) => Some(StreamMeta::from_metadata(&metadata).unwrap()),
            Err(StorageError::NotFound) => None,
            Err(error) => panic!("{stream}: {error}"),
        }
    }

    /// Whether there is such a container, a stream's or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        let found =
            self.field.cluster.block_on(self.storage.list_containers(&format!("{}{name}", self.prefix)));
        found.unwrap().iter().any(|entry| entry.name == self.name(name))
    }

    /// Changes what a stream's container says.
    pub(crate) fn change(&self, stream: &str, change: impl FnOnce(&mut StreamMeta)) {
        self.change_metadata(stream, |metadata| {
            let mut meta = StreamMeta::from_metadata(metadata).unwrap();
            change(&mut meta);
            meta.write_to(metadata);
        });
    }

    /// Changes the metadata of any container of the vault.
    pub(crate) fn change_metadata(&self, name: &str, change: impl FnOnce(&mut Metadata)) {
        let target = LeaseTarget::Container(self.name(name));
        self.field.cluster.block_on(async {
            let lease = self.storage.acquire_lease(&target, LEASE).await.unwrap();
            let mut metadata = self.storage.container_metadata(&self.name(name)).await.unwrap();
            change(&mut metadata);
            self.storage.set_container_metadata(&self.name(name), &metadata, &lease).await.unwrap();
            self.storage.release_lease(&target, &lease).await.unwrap();
        });
    }

    /// Deletes what is in a stream's container.
    pub(crate) fn empty(&self, stream: &str) {
        let container = self.name(stream);
        self.field.cluster.block_on(async {
            for entry in self.storage.list_blobs(&container, "").await.unwrap() {
                let blob = BlobName { container: container.clone(), name: entry.name };
                self.storage.delete_blob(&blob, None).await.unwrap();
            }
        });
    }

    /// Deletes a stream's container.
    pub(crate) fn delete(&self, stream: &str) {
        let target = LeaseTarget::Container(self.name(stream));
        self.field.cluster.block_on(async {
            let lease = self.storage.acquire_lease(&target, LEASE).await.unwrap();
            self.storage.delete_container(&self.name(stream), &lease).await.unwrap();
        });
    }
}
