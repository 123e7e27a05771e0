//! Who may ask the API server: clients and files with tokens of ServiceAccounts, or with the certificate of who may
//! do anything.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::cluster::{Cluster, url_of};
use crate::wait::{LONG, until};

/// What a file is called that names a server and who asks it.
const CONTEXT: &str = "test";

/// The text of such a file. It is JSON, which is YAML as well.
#[must_use]
pub fn kubeconfig(server: &str, ca: &Path, namespace: &str, user: &Value) -> String {
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": CONTEXT, "user": user}],
        "contexts": [{
            "name": CONTEXT,
            "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": namespace},
        }],
        "current-context": CONTEXT,
    });
    format!("{text:#}\n")
}

/// A client as such a file describes it. It repeats nothing by itself: tests look for refusals.
pub(super) async fn client_of(file: &Path) -> Client {
    let file = Kubeconfig::read_from(file).expect("these tests wrote the file");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.expect("the file is complete");
    config.default_retry = false;
    Client::try_from(config).expect("the certificates are good")
}

/// A token of a ServiceAccount from the API server, for an audience or else for the API server itself; bound to a pod
/// where one is given.
pub(super) async fn token(
    client: &Client,
    namespace: &str,
    account: &str,
    audience: Option<&str>,
    seconds: i64,
    pod: Option<BoundObjectReference>,
) -> kube::Result<String> {
    let spec = TokenRequestSpec {
        audiences: audience.map(|audience| vec![audience.to_owned()]),
        bound_object_ref: pod,
        expiration_seconds: Some(seconds),
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.and_then(|status| status.token).unwrap_or_default())
}

impl Cluster {
    /// A token of a ServiceAccount, for an audience or else for the API server. Waits until there is the account.
    #[must_use]
    pub fn token(&self, namespace: &str, account: &str, audience: Option<&str>) -> String {
        let admin = self.admin();
        until("there is the ServiceAccount", LONG, || {
            self.block_on(token(&admin, namespace, account, audience, 3_600, None)).ok()
        })
    }

    /// A client that is a ServiceAccount.
    #[must_use]
    pub fn client_as(&self, namespace: &str, account: &str) -> Client {
        self.block_on(client_of(&self.kubeconfig_for(namespace, account)))
    }

    /// A file for programs that are to be a ServiceAccount. It stays while the cluster does.
    #[must_use]
    pub fn kubeconfig_for(&self, namespace: &str, account: &str) -> PathBuf {
        self.kubeconfig_by(self.port(), namespace, account)
    }

    /// The same for programs that are to take another way, by a port of this machine that leads to the API server.
    #[must_use]
    pub fn kubeconfig_by(&self, port: u16, namespace: &str, account: &str) -> PathBuf {
        let token = self.token(namespace, account, None);
        let path = self.path(&format!("kubeconfig-{namespace}-{account}-{port}"));
        let text = kubeconfig(&url_of(port), &self.ca(), namespace, &json!({"token": token}));
        std::fs::write(&path, text).expect("there is room for a small file");
        path
    }
}
