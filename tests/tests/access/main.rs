//! Who may do what, tried on the real program: access files that change while it runs, an issuer of signed tokens that
//! works by the rules of kube-apiserver, floods, two servers, and every cell of the table in docs/access.md.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod audit;
mod changes;
mod flood;
mod issuers;
mod replicas;
mod routes;
mod secrets;
mod users;

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use vault_tests::access::AccessFile;
use vault_tests::client::{Answer, Client};
use vault_tests::server::{Server, Setup, temporary_directory};

/// What argon2 goes through where its cost does not matter, in KiB.
const CHEAP: u32 = 64;

/// How long a change of the access file may take.
const SOON: Duration = Duration::from_secs(10);

/// A server with an access file.
struct Guarded {
    server: Server,
    file: AccessFile,
    folder: TempDir,
}

impl Guarded {
    fn start(content: &str) -> Self {
        Self::start_in(temporary_directory(), content)
    }

    fn start_in(folder: TempDir, content: &str) -> Self {
        let file = AccessFile::new(folder.path(), content);
        let server = setup(&folder, &file).start();
        Self { server, file, folder }
    }

    fn client(&self) -> Client {
        self.server.client()
    }
}

fn setup(folder: &TempDir, file: &AccessFile) -> Setup {
    Setup::in_directory(&folder.path().join("vault")).with(["--access".into(), file.path().into_os_string()])
}

/// A request without a body, or with a text.
fn ask(client: &Client, authorization: &str, method: &str, path: &str) -> Answer {
    let body = (method == "POST").then_some(b"hello" as &[u8]);
    let mut headers = vec![("Content-Type", "text/plain")];
    if !authorization.is_empty() {
        headers.push(("Authorization", authorization));
    }
    client.send(method, path, &headers, body).unwrap()
}

/// That the answer is this problem: its detail.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) -> String {
    let body: Value = answer.json();
    assert_eq!((answer.status, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    body["detail"].as_str().unwrap().to_owned()
}

/// What `/status` says of the access file.
fn trouble(client: &Client, authorization: &str) -> Option<String> {
    let status = ask(client, authorization, "GET", "/status").expect(200).json();
    status["access_trouble"].as_str().map(str::to_owned)
}
