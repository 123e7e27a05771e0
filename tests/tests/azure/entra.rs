//! Workload identity: the pod's token is exchanged for one of Entra's, and that is what Azure is shown.
//!
//! Certificates are trusted through `SSL_CERT_FILE`, which is a process's, so that the part that connects runs in a
//! process of its own: this test program again, with the one test that does nothing otherwise.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use vault_server::env::Env;
use vault_server::storage::azure::{AssertionSource, AzureSettings, AzureStorage, from_environment};
use vault_server::storage::{Metadata, Storage};
use vault_tests::azurite::{Azurite, Setup};
use vault_tests::certificates::Certificates;
use vault_tests::token_endpoint::{Exchange, TokenEndpoint, Verdict};

use super::{container, refusal};

const CHILD: &str = "MESSAGEVAULT_TEST_ENTRA";

/// Tenants differ in what they get: `short` tokens that end at once, or that the exchange is `refused`.
fn judge(exchange: &Exchange) -> Verdict {
    match exchange.path.split('/').nth(1) {
        Some("refused") => Verdict::Refused(70_021),
        Some("short") => Verdict::Token(1),
        _ => Verdict::Token(3_600),
    }
}

fn run_child(tenant: &str, azurite: &Azurite, entra: &TokenEndpoint, ca: &Path, token_file: &Path) -> Output {
    std::fs::write(token_file, "first").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AZURE_") {
            command.env_remove(name);
        }
    }
    command
        .args(["--exact", "entra::what_the_child_does", "--ignored", "--nocapture"])
        .env(CHILD, tenant)
        .env("SSL_CERT_FILE", ca)
        .env("AZURE_STORAGE_BLOB_ENDPOINT", azurite.endpoint())
        .env("AZURE_AUTHORITY_HOST", entra.url())
        .env("AZURE_TENANT_ID", tenant)
        .env("AZURE_CLIENT_ID", "client-of-the-test")
        .env("AZURE_FEDERATED_TOKEN_FILE", token_file)
        .output()
        .unwrap()
}

#[test]
fn a_pods_token_is_exchanged_and_the_newest_one_is_shown_each_time() {
    let certificates = Certificates::new();
    let azurite = Setup::in_memory().https(&certificates.path("leaf"), &certificates.path("key")).start();
    let entra = TokenEndpoint::start(certificates.server(), judge);
    let run = |tenant: &str| {
        let child =
            run_child(tenant, &azurite, &entra, &certificates.path("ca"), &certificates.path("token"));
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{tenant}: {said}");
        entra.of(tenant)
    };

    let short = run("short");
    let shown: Vec<_> = short.iter().map(|exchange| exchange.get("client_assertion")).collect();
    assert_eq!((shown.first(), shown.last()), (Some(&"first"), Some(&"second")), "{shown:?}");
    assert!(shown.is_sorted(), "the old one is not shown again: {shown:?}");
    let exchange = &short[0];
    assert_eq!(exchange.path, "/short/oauth2/v2.0/token");
    assert_eq!(exchange.get("client_id"), "client-of-the-test");
    assert_eq!(exchange.get("scope"), "https://storage.azure.com/.default");
    assert_eq!(
        exchange.get("client_assertion_type"),
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );

    assert_eq!(run("long").len(), 1, "a token that lasts is used again");
    assert_eq!(run("refused").len(), 1);

    let given = run("given");
    let shown: Vec<_> = given.iter().map(|exchange| exchange.get("client_assertion")).collect();
    assert_eq!(shown, ["from a program"], "a program's own source takes the place of the file");
    assert_eq!(given[0].get("client_id"), "client-of-the-program");
}

/// What a program has that asks somebody for its assertions.
struct Program;

#[async_trait]
impl AssertionSource for Program {
    async fn assertion(&self) -> Result<String, String> {
        Ok("from a program".to_owned())
    }
}

#[tokio::test]
#[ignore = "another test starts it in a process with certificates of its own"]
async fn what_the_child_does() {
    let Ok(tenant) = std::env::var(CHILD) else { return };
    let variable = |name: &str| std::env::var(name).ok();
    let settings = if tenant == "given" {
        let url = variable("AZURE_STORAGE_BLOB_ENDPOINT").unwrap();
        let client = "client-of-the-program".to_owned();
        AzureSettings::with_assertion(&url, tenant.clone(), client, Arc::new(Program)).unwrap()
    } else {
        from_environment("", variable).unwrap()
    };
    let storage = AzureStorage::connect(settings, &Env::real()).unwrap();
    if tenant == "refused" {
        let why = refusal(storage.list_containers("").await);
        assert!(why.contains("AADSTS70021") && why.contains("AZURE_CLIENT_ID"), "{why}");
        assert!(!why.contains("SECRET"), "{why}");
        return;
    }
    assert_eq!(storage.why_unfit().await, Ok(None));
    let name = container(&format!("entra-{tenant}"));
    storage.create_container(&name, &Metadata::new()).await.unwrap();
    std::fs::write(std::env::var("AZURE_FEDERATED_TOKEN_FILE").unwrap(), "second").unwrap();
    assert_eq!(storage.list_containers(name.as_str()).await.unwrap().len(), 1);
}
