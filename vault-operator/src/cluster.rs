//! What is asked of the API server about the cluster itself: what tells it from others, and who signs the tokens of its
//! ServiceAccounts.
//!
//! An answer that is missing because the API server was busy is not taken for one: without the cluster's uid a vault of
//! another cluster could be taken for this one's, and without the issuer vaults cannot let ServiceAccounts in.

use http::Uri;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use tokio::sync::watch;
use vault_server::env::Env;

use crate::config::{Config, IssuerKeys};
use crate::connection::explained;
use crate::desired::{ClusterIssuer, Options};

/// What is known of the cluster. `None` is an answer too: the operator may not know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The uid of `kube-system`.
    pub uid: Option<String>,
    /// Who signs the tokens of ServiceAccounts.
    pub issuer: Option<ClusterIssuer>,
}

/// Who asks, and what was said on the command line.
#[derive(Clone)]
pub struct Asking {
    client: Client,
    /// Where the API server is.
    api_server: Uri,
    issuer: Option<String>,
    keys: IssuerKeys,
}

impl Asking {
    /// Asks one API server.
    #[must_use]
    pub fn new(client: Client, api_server: Uri, config: &Config) -> Self {
        Self { client, api_server, issuer: config.cluster_issuer.clone(), keys: config.cluster_issuer_keys }
    }

    /// Asks for everything, or says in a sentence why there is no answer yet.
    pub async fn facts(&self) -> Result<Facts, String> {
        let uid = self.uid().await.map_err(|error| {
            let why = explained(&error);
            format!("the API server does not say which cluster this is (the uid of kube-system): {why}")
        })?;
        if uid.is_none() {
            tracing::warn!(
                "the operator may not read the namespace kube-system, by which clusters are told apart: nothing keeps it \
                 from a vault of another cluster"
            );
        }
        let issuer = self.issuer().await.map_err(|error| {
            let why = explained(&error);
            format!("the API server does not say who signs the tokens of ServiceAccounts: {why}")
        })?;
        match &issuer {
            Some(issuer) => tracing::info!(
                issuer = issuer.url,
                in_cluster = issuer.in_cluster,
                "who signs the tokens of ServiceAccounts"
            ),
            None => tracing::warn!(
                "the API server keeps to itself who signs the tokens of ServiceAccounts: start the operator with \
                 --cluster-issuer where vaults let ServiceAccounts in"
            ),
        }
        Ok(Facts { uid, issuer })
    }

    async fn uid(&self) -> Result<Option<String>, kube::Error> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        Ok(answered(namespaces.get("kube-system").await)?.and_then(|namespace| namespace.uid()))
    }

    async fn issuer(&self) -> Result<Option<ClusterIssuer>, kube::Error> {
        let found = match &self.issuer {
            Some(url) => Some(Discovery { issuer: url.clone(), jwks_uri: None }),
            None => {
                let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new());
                let request = request.map_err(kube::Error::HttpError)?;
                answered(self.client.request::<Discovery>(request).await)?
            }
        };
        Ok(found.map(|found| {
            let in_cluster = match self.keys {
                IssuerKeys::Auto => is_in_cluster(&found, &self.api_server),
                IssuerKeys::InCluster => true,
                IssuerKeys::Public => false,
            };
            ClusterIssuer { url: found.issuer, in_cluster }
        }))
    }

    /// Asks again and again for the issuer, which changes when somebody has the cluster get a public one. It is not asked
    /// for where it was said on the command line.
    pub async fn follow_issuer(
        &self,
        env: &Env,
        every: std::time::Duration,
        options: &watch::Sender<Options>,
    ) {
        if self.issuer.is_some() {
            return std::future::pending().await;
        }
        loop {
            match self.issuer().await {
                // What is known stays where the API server keeps it to itself now.
                Ok(found) => {
                    options.send_if_modified(|options| {
                        let changed = found.is_some() && found != options.cluster_issuer;
                        if changed {
                            tracing::info!(
                                before = options.cluster_issuer.as_ref().map(|issuer| &*issuer.url),
                                now = found.as_ref().map(|issuer| &*issuer.url),
                                "another one signs the tokens of ServiceAccounts"
                            );
                            options.cluster_issuer = found;
                        }
                        changed
                    });
                }
                Err(error) => tracing::debug!(%error, "the issuer was not asked for with success"),
            }
            env.clock.sleep(every).await;
        }
    }
}

/// What was answered; `None` where the answer is that it is not for the operator to know.
fn answered<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the API server says of its issuer.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    #[serde(default)]
    jwks_uri: Option<String>,
}

/// The path at which the API server has its keys.
const KEYS: &str = "/openid/v1/jwks";

/// Whether an issuer's keys are at the API server, which must be asked with the cluster's own authority and a token.
///
/// | cluster | issuer | keys |
/// |---|---|---|
/// | AKS with the OIDC issuer, EKS, GKE, an issuer in a bucket | has a path | public: the API server answers at its root alone |
/// | AKS without | `https://<name>.hcp.<region>.azmk8s.io` | in the cluster: it is the API server |
/// | kind, k3s, kubeadm | `https://kubernetes.default.svc...` | in the cluster: no public name |
/// | others, at the API server's own name | its host, or that of `jwks_uri`, which has the API server's path | in the cluster |
/// | others | any other name | public |
///
/// `jwks_uri` alone says nothing: managed clusters name the API server there although the keys are public as well.
fn is_in_cluster(found: &Discovery, api_server: &Uri) -> bool {
    let Ok(issuer) = found.issuer.parse::<Uri>() else { return false };
    let Some(host) = issuer.host() else { return false };
    if !matches!(issuer.path(), "" | "/") {
        return false;
    }
    let keys = found.jwks_uri.as_ref().and_then(|uri| uri.parse::<Uri>().ok());
    let keys = keys.as_ref().filter(|uri| uri.path() == KEYS).and_then(Uri::host);
    host.starts_with('[')
        || host.parse::<std::net::IpAddr>().is_ok()
        || !host.contains('.')
        || host.starts_with("kubernetes.default")
        || host.ends_with(".local")
        || host.ends_with(".azmk8s.io")
        || api_server.host() == Some(host)
        || keys == Some(host)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn in_cluster(issuer: &str, jwks_uri: Option<&str>) -> bool {
        let found = Discovery { issuer: issuer.to_owned(), jwks_uri: jwks_uri.map(str::to_owned) };
        is_in_cluster(&found, &"https://10.0.0.1:443".parse().unwrap())
    }

    #[test]
    fn keys_at_the_api_server_are_told_from_public_ones() {
        for (issuer, keys) in [
            // kind, k3s, kubeadm.
            ("https://kubernetes.default.svc.cluster.local", "https://172.18.0.2:6443/openid/v1/jwks"),
            ("https://kubernetes.default.svc", "https://10.0.0.1:6443/openid/v1/jwks"),
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443/openid/v1/jwks"),
            ("https://[::1]:1", "https://[::1]:1/openid/v1/jwks"),
            // AKS without the OIDC issuer, public and private.
            (
                "https://a-1.hcp.westeurope.azmk8s.io",
                "https://a-1.hcp.westeurope.azmk8s.io:443/openid/v1/jwks",
            ),
            ("https://a-1.hcp.westeurope.azmk8s.io", "https://172.31.0.5:443/openid/v1/jwks"),
            ("https://a-1.2.privatelink.westeurope.azmk8s.io/", "https://10.224.0.4:443/openid/v1/jwks"),
            // The API server under a name of its own, as with kops.
            ("https://api.k8s.example:6443", "https://api.k8s.example:6443/openid/v1/jwks"),
        ] {
            assert!(in_cluster(issuer, Some(keys)), "{issuer}");
        }
        assert!(in_cluster("https://kubernetes.default.svc", None));
        for (issuer, keys) in [
            // AKS with the OIDC issuer, EKS, GKE. They name the API server's keys, but not to the public.
            (
                "https://westeurope.oic.prod-aks.azure.com/t/i/",
                "https://a-1.hcp.westeurope.azmk8s.io:443/openid/v1/jwks",
            ),
            (
                "https://westeurope.oic.prod-aks.azure.com/t/i/",
                "https://westeurope.oic.prod-aks.azure.com/t/i/openid/v1/jwks",
            ),
            (
                "https://oidc.eks.eu-west-1.amazonaws.com/id/A",
                "https://ip-10-0-5-1.compute.internal:443/openid/v1/jwks",
            ),
            ("https://container.googleapis.com/v1/projects/p", "https://10.0.0.1:443/openid/v1/jwks"),
            ("https://a.blob.core.windows.net/keys/", "https://a.blob.core.windows.net/keys/openid/v1/jwks"),
            ("https://bucket.s3.amazonaws.com", "https://bucket.s3.amazonaws.com/keys.json"),
            ("https://keys.example/clusters/a", "https://keys.example/openid/v1/jwks"),
            ("https://issuer.example", "https://10.0.0.1:443/openid/v1/jwks"),
            ("no URL", "https://10.0.0.1:443/openid/v1/jwks"),
        ] {
            assert!(!in_cluster(issuer, Some(keys)), "{issuer}");
        }
        assert!(!in_cluster("https://issuer.example", None));
    }

    #[test]
    fn the_api_servers_own_name_is_known_by_the_way_there() {
        let found = Discovery { issuer: "https://api.k8s.example".to_owned(), jwks_uri: None };
        assert!(is_in_cluster(&found, &"https://api.k8s.example:6443".parse().unwrap()));
        assert!(!is_in_cluster(&found, &"https://10.0.0.1".parse().unwrap()));
    }

    /// An API server that gives these answers, the last one again and again.
    fn answering(answers: &[(u16, &str)]) -> Asking {
        let answers: Vec<_> = answers.iter().map(|(code, text)| (*code, (*text).to_owned())).collect();
        let asked = AtomicUsize::new(0);
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let next = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (code, text) = answers[next].clone();
            let answer = http::Response::builder().status(code).body(axum::body::Body::from(text)).unwrap();
            std::future::ready(Ok::<_, tower::BoxError>(answer))
        });
        Asking {
            client: Client::new(service, "default"),
            api_server: "https://10.0.0.1".parse().unwrap(),
            issuer: None,
            keys: IssuerKeys::Auto,
        }
    }

    const KUBE_SYSTEM: (u16, &str) = (200, r#"{"metadata":{"name":"kube-system","uid":"cluster-1"}}"#);
    const KIND: (u16, &str) = (200, r#"{"issuer":"https://kubernetes.default.svc"}"#);
    const AKS: (u16, &str) = (200, r#"{"issuer":"https://westeurope.oic.prod-aks.azure.com/t/i/"}"#);
    const REFUSED: (u16, &str) = (403, r#"{"kind":"Status","code":403}"#);
    const BUSY: (u16, &str) = (503, r#"{"kind":"Status","code":503}"#);

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_a_failure_is_none() {
        let facts = answering(&[KUBE_SYSTEM, KIND]).facts().await.unwrap();
        assert_eq!(facts.uid.as_deref(), Some("cluster-1"));
        assert!(facts.issuer.is_some_and(|issuer| issuer.in_cluster));
        let facts = answering(&[REFUSED]).facts().await.unwrap();
        assert_eq!(facts, Facts { uid: None, issuer: None });
        for answers in [[BUSY, KIND], [KUBE_SYSTEM, BUSY], [KUBE_SYSTEM, (500, "")], [(429, ""), KIND]] {
            let why = answering(&answers).facts().await.unwrap_err();
            assert!(why.starts_with("the API server does not say "), "{answers:?}: {why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_issuer_is_noticed_and_what_is_known_stays() {
        let (env, asking) = (Env::controlled(1), answering(&[KIND, BUSY, REFUSED, AKS]));
        let options = watch::Sender::new(Options {
            server_image: String::new(),
            cluster_issuer: None,
            monitoring: false,
        });
        let issuer = || options.borrow().cluster_issuer.clone().map(|issuer| (issuer.url, issuer.in_cluster));
        let every = std::time::Duration::from_secs(300);
        let looks = async {
            for look in 0..5 {
                env.clock.sleep(every / 2).await;
                let (url, in_cluster) = issuer().unwrap();
                assert_eq!(url.contains("aks"), look > 2, "look {look}: {url}");
                assert_eq!(in_cluster, look < 3);
                env.clock.sleep(every / 2).await;
            }
        };
        tokio::select! {
            () = asking.follow_issuer(&env, every, &options) => panic!("it goes on"),
            () = looks => {}
        }
    }
}
