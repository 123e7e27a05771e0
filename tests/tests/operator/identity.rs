//! Workload identity, over two storage accounts: tokens of the vault's own ServiceAccount for the operator and the servers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use k8s_openapi::api::authentication::v1::TokenReview;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use vault_tests::azurite::Setup;
use vault_tests::certificates::Certificates;
use vault_tests::curl::curl;
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, VAULT};
use vault_tests::token_endpoint::{Exchange, TokenEndpoint, Verdict};
use vault_tests::way::tunnel;

use crate::common::{any, append, objects_of, texts};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";

/// A key like an account's: 64 bytes in base64. Nobody uses it.
const KEY: &str = "c2Vjb25kLXNlY29uZC1zZWNvbmQtc2Vjb25kLXNlY29uZC1zZWNvbmQtc2Vjb25kLXNlY29uZC1zZWNvbmQtcw==";

/// Whose token it is, if it is a good one for Entra, as the cluster itself says.
fn subject(cluster: &Weak<Cluster>, exchange: &Exchange) -> Option<String> {
    let (token, audience) = (exchange.get("client_assertion"), "api://AzureADTokenExchange");
    let review = json!({"metadata": {}, "spec": {"token": token, "audiences": [audience]}});
    let review: TokenReview = serde_json::from_value(review).unwrap();
    let cluster = cluster.upgrade()?;
    let reviews: Api<TokenReview> = Api::all(cluster.admin());
    let status = cluster.block_on(reviews.create(&PostParams::default(), &review)).unwrap().status?;
    status.user?.username.filter(|_| status.authenticated == Some(true))
}

#[test]
fn operator_and_servers_get_in_as_the_vaults_own_service_account() {
    let certificates = Certificates::of(&["localhost", "*.blob.core.windows.net"]);
    let setup = Setup::in_memory().https(&certificates.path("leaf"), &certificates.path("key"));
    let azurite = Arc::new(setup.and_account("second", KEY).start());
    let cluster = Cluster::shared();
    let mut field = Field::with(cluster.clone(), azurite.clone());
    let expected = format!("system:serviceaccount:{}:events", field.namespace);
    let (trusted, wanted, cluster) =
        (Arc::new(AtomicBool::new(false)), expected.clone(), Arc::downgrade(&cluster));
    let entra = TokenEndpoint::start(certificates.server(), {
        let trusted = trusted.clone();
        move |exchange| {
            let ours =
                exchange.path.starts_with(&format!("/{TENANT}/")) && exchange.get("client_id") == CLIENT;
            let known =
                trusted.load(Ordering::Relaxed) && subject(&cluster, exchange).as_ref() == Some(&wanted);
            if ours && known { Verdict::Token(3_600) } else { Verdict::Refused(70_021) }
        }
    });
    // The operator has them from its installation, the pods from the webhook of azure-workload-identity.
    let ca = certificates.path("ca").display().to_string();
    // Not HTTPS_PROXY, by which the operator would have to reach the API server as well.
    let proxy = format!("http://127.0.0.1:{}", tunnel(".blob.core.windows.net", azurite.port()));
    for (name, value) in
        [("SSL_CERT_FILE", &ca), ("AZURE_AUTHORITY_HOST", &entra.url()), ("ALL_PROXY", &proxy)]
    {
        field.kubelet.inject(name, value);
        field = field.environment(name, value);
    }
    let field = field.environment("AZURE_TENANT_ID", TENANT).start();
    let spec = json!({
        "storage": {
            "account": "devstoreaccount1", "accounts": ["second"], "prefix": field.prefix(),
            "workloadIdentity": {"clientId": CLIENT},
        },
        "streams": [{"name": "near"}, {"name": "far", "settings": {"account": "second"}}],
        "access": {"anonymous": true},
    });
    field.apply(VAULT, "events", &spec);
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert_eq!(reason, "StorageRefused", "{message}");
    for part in ["AADSTS70021", "federated credential", &expected, CLIENT] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("SECRET") && field.get("Deployment", "events").is_none(), "{message}");

    let _ = entra.of(TENANT);
    trusted.store(true, Ordering::Relaxed);
    field.annotate(VAULT, "events", "look", Some("now"));
    field.until_ready(VAULT, "events");
    let account = field.get("ServiceAccount", "events").unwrap();
    assert_eq!(account["metadata"]["annotations"]["azure.workload.identity/client-id"], CLIENT);
    for pod in objects_of(&field, "Pod", "events") {
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["azure.workload.identity/use"], "true");
        let variables = pod.data["spec"]["containers"][0]["env"].as_array().unwrap();
        let value = |name: &str| variables.iter().find(|it| it["name"] == name).map(|it| &it["value"]);
        assert_eq!(
            (value("AZURE_CLIENT_ID"), value("AZURE_TENANT_ID")),
            (Some(&json!(CLIENT)), Some(&json!(TENANT)))
        );
        let file = json!("/var/run/secrets/azure/tokens/azure-identity-token");
        assert_eq!(value("AZURE_FEDERATED_TOKEN_FILE"), Some(&file));
    }
    for stream in ["near", "far"] {
        append(&field, "events", stream, stream);
        assert_eq!(texts(&field, "events", stream), [stream]);
    }
    let exchanges = entra.of(TENANT);
    let shown: BTreeSet<_> = exchanges.iter().map(|exchange| exchange.get("client_assertion")).collect();
    assert!(shown.len() >= 3, "the operator and two servers, each with a token of its own: {}", shown.len());

    // Each stream's messages are in its own account.
    for (stream, account) in [("near", "devstoreaccount1"), ("far", "second")] {
        let plan =
            any(&field, "events").get(&format!("/streams/{stream}/access?live=true")).expect(200).json();
        let host = format!("{account}.blob.core.windows.net");
        assert_eq!(plan["container_url"], format!("https://{host}/{}{stream}", field.prefix()));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let url = format!("{}?{}", text(&plan["segments"][0]["url"]), text(&plan["sas"]));
        let way = format!("{host}:443:127.0.0.1:{}", azurite.port());
        let answer = curl(["--cacert", &ca, "--connect-to", &way, "--output", "/dev/null", &url]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
