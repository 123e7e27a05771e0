//! Workload identity: the pod's token is exchanged for one of Entra's, and that is what Azure is shown.
//!
//! Certificates are trusted through `SSL_CERT_FILE`, which is a process's, so that the part that connects runs in a
//! process of its own: this test program again, with the one test that does nothing otherwise.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::http::Url;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use vault_server::env::Env;
use vault_server::storage::azure::{AzureStorage, from_environment};
use vault_server::storage::{Metadata, Storage};
use vault_tests::azurite::{Azurite, Setup};
use vault_tests::certificates::Certificates;

use super::{container, refusal};

const CHILD: &str = "MESSAGEVAULT_TEST_ENTRA";

/// What Entra does in an exchange. Tenants differ in what they get: `short` tokens that end at once, `long` ones that
/// last an hour, or that the exchange is `refused`.
struct TokenEndpoint {
    port: u16,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

struct Exchange {
    path: String,
    form: Vec<(String, String)>,
}

impl Exchange {
    fn get(&self, name: &str) -> &str {
        self.form.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl TokenEndpoint {
    fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let recorded = exchanges.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let tls = ServerConnection::new(config.clone()).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(tls, client));
                // A client that goes away is no concern of the others.
                let Some(exchange) = read_exchange(&mut stream) else { continue };
                let (status, body) = answer(&exchange.path);
                recorded.lock().unwrap().push(exchange);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let tls = stream.get_mut();
                let _ = tls.write_all(format!("{head}{body}").as_bytes()).and_then(|()| tls.flush());
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        });
        Self { port, exchanges }
    }

    fn of(&self, tenant: &str) -> Vec<Exchange> {
        let mut all = self.exchanges.lock().unwrap();
        all.extract_if(.., |exchange| exchange.path.contains(tenant)).collect()
    }
}

fn read_exchange(stream: &mut impl BufRead) -> Option<Exchange> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let form = Url::parse(&format!("http://x/?{}", String::from_utf8(body).ok()?)).ok()?;
    let form = form.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    Some(Exchange { path, form })
}

fn answer(path: &str) -> (&'static str, String) {
    if path.contains("refused") {
        let body = r#"{"error":"invalid_client","error_description":"SECRET","error_codes":[70021]}"#;
        return ("400 Bad Request", body.to_owned());
    }
    let expires_in = if path.contains("short") { 1 } else { 3_600 };
    let body = format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{}"}}"#, token());
    ("200 OK", body)
}

/// A token with what Azurite looks at; it does not verify the signature.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!(
        r#"{{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/tenant/","iat":{now},"nbf":{now},"exp":{}}}"#,
        now + 3_600
    );
    let parts = [r#"{"alg":"RS256","typ":"JWT"}"#, &claims, "signature"];
    parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".")
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
        .env("AZURE_AUTHORITY_HOST", format!("https://localhost:{}", entra.port))
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
    let entra = TokenEndpoint::start(certificates.server());
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
}

#[tokio::test]
#[ignore = "another test starts it in a process with certificates of its own"]
async fn what_the_child_does() {
    let Ok(tenant) = std::env::var(CHILD) else { return };
    let settings = from_environment("", |name| std::env::var(name).ok()).unwrap();
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
