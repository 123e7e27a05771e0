//! Volumes, and where the server finds its files. Directories are mounted, never single files (`subPath`), so that what
//! changes in a Secret or ConfigMap reaches the server without a new pod.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, KeyToPath, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use kube::ResourceExt;

use super::labels::access_config_map;
use super::{Options, access_file};
use crate::api::MessageVault;

/// The access file, as key and as file name.
pub(super) const ACCESS_FILE: &str = "access.yaml";

/// Where the pod's own token and the cluster's authority are, as in pods that have them mounted by Kubernetes.
pub(super) const KUBERNETES: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the access file is that the operator writes.
pub(super) const ACCESS: &str = "/etc/message-vault/access";

/// Where the access file of the users' Secret is.
pub(super) const USERS: &str = "/etc/message-vault/users";

/// Where certificate, key and authority are.
pub(super) const TLS: &str = "/etc/message-vault/tls";

/// How long tokens are good for; the kubelet renews them long before.
const TOKEN_SECONDS: i64 = 3600;

/// Owner and group may read: pods run under group 65532, which owns the files (`fsGroup`).
const PRIVATE: i32 = 0o440;

/// A volume and where it is mounted.
pub(super) struct Mounted {
    pub(super) volume: Volume,
    pub(super) path: &'static str,
}

impl Mounted {
    pub(super) fn mount(&self) -> VolumeMount {
        VolumeMount {
            name: self.volume.name.clone(),
            mount_path: self.path.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }
    }
}

/// All files but those of the way into storage.
pub(super) fn files(vault: &MessageVault, options: &Options) -> Vec<Mounted> {
    let spec = &vault.spec;
    let mut mounted = Vec::new();
    if !spec.access.anonymous {
        let volume = Volume {
            name: "access".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: access_config_map(&vault.name_any()),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        };
        mounted.push(Mounted { volume, path: ACCESS });
    }
    if let Some(users) = &spec.access.users_secret_ref {
        mounted.push(Mounted { volume: secret("users", &users.name, Some(&users.key)), path: USERS });
    }
    if let Some(tls) = &spec.tls {
        mounted.push(Mounted { volume: secret("tls", &tls.secret_name, None), path: TLS });
    }
    if access_file::asks_the_api_server(&spec.access, options) {
        mounted.push(Mounted { volume: kubernetes(), path: KUBERNETES });
    }
    mounted
}

/// A Secret; with a `key`, that alone, under the name of the access file.
fn secret(name: &str, secret: &str, key: Option<&str>) -> Volume {
    let items = key.map(|key| {
        vec![KeyToPath { key: key.to_owned(), path: ACCESS_FILE.to_owned(), ..KeyToPath::default() }]
    });
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items,
            default_mode: Some(PRIVATE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A token that the API server takes, and its authority. The token may do what every ServiceAccount may: ask for the
/// keys with which tokens are signed.
fn kubernetes() -> Volume {
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath {
            key: "ca.crt".to_owned(),
            path: "ca.crt".to_owned(),
            ..KeyToPath::default()
        }]),
        ..ConfigMapProjection::default()
    };
    let sources = vec![
        token("token", None),
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
    ];
    projected("kubernetes", sources)
}

/// A token of the pod's ServiceAccount: for the API server, or for another audience.
pub(super) fn token(path: &str, audience: Option<&str>) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(ToOwned::to_owned),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: path.to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

/// A volume that is put together of several sources.
pub(super) fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    let source = ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() };
    Volume { name: name.to_owned(), projected: Some(source), ..Volume::default() }
}
