//! Nothing that a server says holds a secret, however much it is told to say: not what it logs, not what it answers, not
//! what it counts.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use vault_tests::access::{basic, hashed, token, with_token};
use vault_tests::azurite;
use vault_tests::certificates::Certificates;
use vault_tests::client::{Answer, Client};
use vault_tests::curl::curl;
use vault_tests::issuer::{Issuer, Key, Kind};
use vault_tests::raw::exchange;
use vault_tests::replicas::{Replicas, free_port, on_account, on_azure};
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::shared_access::account_sas;
use vault_tests::token_endpoint::{TokenEndpoint, Verdict};
use vault_tests::wait::{LONG, until};

use crate::CHEAP;

const ACCOUNT: &str = "secretive";
const PASSWORD: &str = "pass word/with+more=of:it";
/// Shown to the server by somebody who mistakes one thing for another; a secret all the same.
const MISTAKEN: &str = "mistaken-for-something-else-0123456789";
const UNKNOWN_TOKEN: &str = "unknown-token-0123456789";
/// What the server shows an issuer, and what it shows Entra.
const SHOWN: &str = "shown-to-the-issuer-0123456789";
const ASSERTION: &str = "shown-to-entra-0123456789";

/// All that came out, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn answer(&mut self, what: &str, answer: &Answer) {
        let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}\n"));
        let text = headers.collect::<String>() + &String::from_utf8_lossy(&answer.body);
        self.0.push((what.to_owned(), text));
    }

    fn file(&mut self, path: &Path) {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        self.0.push((path.display().to_string(), text));
    }

    /// Fails where a secret stands in it, in any of the ways to write it.
    fn assert_holds_none_of(&self, secrets: &[(&str, String)]) {
        for (name, secret) in secrets {
            for written in ways_to_write(secret) {
                for (place, text) in &self.0 {
                    let found = text.find(&written);
                    let line = found.map(|at| {
                        let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
                        text[begin..].lines().next().unwrap_or_default()
                    });
                    assert!(line.is_none(), "{name} stands in {place} as {written}: {line:?}");
                }
            }
        }
    }
}

fn ways_to_write(secret: &str) -> Vec<String> {
    let escaped = |upper: bool, all: bool| -> String {
        let one = |byte: u8| match byte {
            _ if !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) => {
                char::from(byte).to_string()
            }
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        secret.bytes().map(one).collect()
    };
    let mut all = vec![
        secret.to_owned(),
        BASE64_STANDARD.encode(secret),
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
        escaped(true, false),
        escaped(false, false),
        escaped(true, true),
        escaped(false, true),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
        format!("{secret:?}").trim_matches('"').to_owned(),
    ];
    // What is base64 itself is looked for as the bytes that it stands for too.
    if let Ok(bytes) = BASE64_STANDARD.decode(secret) {
        all.push(BASE64_URL_SAFE_NO_PAD.encode(&bytes));
        all.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        all.push(format!("{bytes:?}"));
    }
    all
}

/// A server that says all that it can, into a file. What it says where it listens goes to its stdout as always.
fn talkative(setup: Setup, log: &Path) -> Setup {
    let script = "exec \"$@\" 2>>\"$0\"".to_owned().into();
    setup
        // Of this one the server says less unless it is named.
        .with(["--log", "trace,typespec_client_core=trace"])
        .wrapped_in(["/bin/sh".into(), "-c".into(), script, log.as_os_str().to_owned()])
}

/// A token as an issuer that nobody trusts would sign it.
fn stray_token() -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let (head, claims) = (r#"{"alg":"RS256","kid":"k"}"#, r#"{"iss":"https://issuer.invalid","sub":"me"}"#);
    format!("{}.{}.{}", part(head), part(claims), part("no signature, but a secret all the same"))
}

/// Who may ask, and an issuer that wants to be shown a token.
struct Callers {
    issuer: Issuer,
    key: Key,
    hash: String,
}

impl Callers {
    fn new(folder: &Path) -> Self {
        let (issuer, key) = (Issuer::plain(), Key::new("k", Kind::Es256));
        issuer.publish(&[&key]);
        issuer.want(SHOWN);
        std::fs::write(folder.join("shown"), SHOWN).unwrap();
        Self { issuer, key, hash: hashed(PASSWORD, CHEAP) }
    }

    fn users(&self) -> String {
        format!("users:\n- name: shop\n  password: {}\n  grants: ['all:admin']\n", self.hash)
    }

    fn file(&self, folder: &Path) -> String {
        let (users, robot) = (self.users(), token("robot", &["s:read"]));
        let (url, shown) = (self.issuer.url(), folder.join("shown"));
        let issuer = format!("- url: {url}\n  audience: messagevault\n  token_file: {}\n", shown.display());
        format!(
            "{users}tokens:\n{robot}issuers:\n{issuer}  grants:\n  - {{subject: pod, grants: ['s:write']}}\n"
        )
    }

    /// What is shown by those who may and those who may not, and by who mixes things up.
    fn shown(&self) -> Vec<(&'static str, String)> {
        let bearer = |token: &str| format!("Bearer {token}");
        let mut expired = self.issuer.claims("pod");
        expired["exp"] = 1.into();
        vec![
            ("a password", basic("shop", PASSWORD)),
            ("a wrong password", basic("shop", MISTAKEN)),
            ("a token", with_token("robot")),
            ("an unknown token", bearer(UNKNOWN_TOKEN)),
            ("a signed token", bearer(&self.key.token(&self.issuer.claims("pod")))),
            ("a signed token that has expired", bearer(&self.key.token(&expired))),
            ("a token of an issuer that nobody trusts", bearer(&stray_token())),
            ("another scheme", format!("Digest {MISTAKEN}")),
            ("no scheme", MISTAKEN.to_owned()),
            ("nothing", String::new()),
        ]
    }
}

/// A way into storage: the server's settings, and whether they let it in.
struct Way {
    log: &'static str,
    setup: Setup,
    port: u16,
    works: bool,
}

#[test]
fn nothing_that_a_server_says_holds_a_secret() {
    let folder = temporary_directory();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    // Its base64 has what is written otherwise in URLs.
    let key = BASE64_STANDARD.encode([0xfb; 64].map(|byte: u8| byte.rotate_left(1)));
    let other_key = BASE64_STANDARD.encode([0x3e; 64]);
    let azurite = azurite::Setup::in_memory().account(ACCOUNT, &key).start();
    let account =
        |key: &str| format!("AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={}", azurite.endpoint());
    let callers = Callers::new(folder.path());
    let (access, shown) = (path("access.yaml"), callers.shown());
    std::fs::write(&access, callers.file(folder.path())).unwrap();

    let guarded = |setup: Setup, log: &str| {
        talkative(setup.with(["--access".into(), access.clone().into_os_string()]), &path(log))
    };
    let start = |log: &str| guarded(on_account(&account(&key), "secrets-", free_port()), log);
    let (mut said, mut grants) = (Said::default(), Vec::new());
    let good = basic("shop", PASSWORD);
    let mut replicas = Replicas::start_guarded([start("one.log"), start("two.log")], &good);
    for index in 0..2 {
        let served = drive(&replicas.client(index), &shown, &mut said, &mut grants);
        assert_eq!(served, ["a password", "a token", "a signed token"], "they are who they say");
        awkward(replicas.addresses()[index], &mut said);
    }
    // A broken access file names what is wrong with it.
    let twice = format!("- name: twice\n  password: {MISTAKEN}\n  grants: []\n");
    std::fs::write(&access, callers.users() + &twice).unwrap();
    let trouble = || {
        let status = replicas.client(0).send("GET", "/status", &[("Authorization", &good)], None).unwrap();
        status.json()["access_trouble"].is_string().then_some(status)
    };
    said.answer("the status with a broken file", &until("the file is found broken", LONG, trouble));
    std::fs::write(&access, callers.users()).unwrap();
    for index in 0..2 {
        replicas.server_mut(index).stop_in_order();
        said.0.push(("stdout".to_owned(), replicas.server(index).log()));
    }

    // Storage that refuses, or that is entered in other ways.
    let sas = |key: &str, expiry: &str| account_sas((ACCOUNT, key), expiry, "rwdlactf");
    let (expired, forged) = (sas(&key, "2020-01-01T00:00:00Z"), sas(&other_key, "2099-01-01T00:00:00Z"));
    let fine = sas(&key, "2099-01-01T00:00:00Z");
    let with_sas = |sas: &str| format!("BlobEndpoint={};SharedAccessSignature={sas}", azurite.endpoint());
    let certificates = Certificates::new();
    let over_tls =
        azurite::Setup::in_memory().https(&certificates.path("leaf"), &certificates.path("key")).start();
    let entra = TokenEndpoint::start(certificates.server(), |exchange| {
        if exchange.path.contains("refused") { Verdict::Refused(70_021) } else { Verdict::Token(3_600) }
    });
    std::fs::write(path("assertion"), ASSERTION).unwrap();
    let connected = |log, connection: &str, works| {
        let port = free_port();
        Way { log, setup: on_account(connection, "secrets-", port), port, works }
    };
    let identified = |log, tenant: &str, works| {
        let port = free_port();
        let setup = on_azure("secrets-", port)
            .environment("SSL_CERT_FILE", &certificates.path("ca").display().to_string())
            .environment("AZURE_STORAGE_BLOB_ENDPOINT", &over_tls.endpoint())
            .environment("AZURE_AUTHORITY_HOST", &entra.url())
            .environment("AZURE_TENANT_ID", tenant)
            .environment("AZURE_CLIENT_ID", "client")
            .environment("AZURE_FEDERATED_TOKEN_FILE", &path("assertion").display().to_string());
        Way { log, setup, port, works }
    };
    let ways = [
        connected("wrong-key.log", &account(&other_key), false),
        connected("expired.log", &with_sas(&expired), false),
        connected("forged.log", &with_sas(&forged), false),
        connected("signature.log", &with_sas(&fine), true),
        identified("refused.log", "refused", false),
        identified("identity.log", "tenant", true),
    ];
    for Way { log, setup, port, works } in &ways {
        let mut server = guarded(setup.clone(), log).start_unready(([127, 0, 0, 1], *port).into());
        let client = server.client();
        let told = until("it is ready, or says why not", LONG, || {
            let ready = client.get("/readyz");
            let settled = *works || String::from_utf8_lossy(&ready.body).contains("storage");
            (settled && (ready.status == 200) == *works).then_some(ready)
        });
        said.answer(log, &told);
        drive(&client, &shown, &mut said, &mut grants);
        server.stop_in_order();
        said.0.push((format!("stdout of {log}"), server.log()));
    }
    assert!(!entra.of("tenant").is_empty() && !entra.of("refused").is_empty(), "tokens were asked for");
    for log in ["one.log", "two.log"].into_iter().chain(ways.iter().map(|way| way.log)) {
        said.file(&path(log));
        let text = &said.0.last().unwrap().1;
        assert!(text.contains("TRACE") && text.contains("DEBUG"), "{log} says little");
    }

    let mut secrets = vec![
        ("the hash of a password", callers.hash.rsplit('$').next().unwrap().to_owned()),
        ("a password", PASSWORD.to_owned()),
        ("a name with its password", format!("shop:{PASSWORD}")),
        ("a wrong password", format!("shop:{MISTAKEN}")),
        ("what was mistaken for something else", MISTAKEN.to_owned()),
        ("the token that the issuer is shown", SHOWN.to_owned()),
        ("the token that Entra is shown", ASSERTION.to_owned()),
        ("the end of a token of Entra's", BASE64_URL_SAFE_NO_PAD.encode("signature")),
        ("a signed request", format!("SharedKey {ACCOUNT}:")),
        ("a signature that has expired", signature(&expired)),
        ("a forged signature", signature(&forged)),
        ("a signature", signature(&fine)),
        ("a connection string", account(&key)),
        ("a connection string with a signature", with_sas(&fine)),
        ("the account's key", key),
        ("another key", other_key),
    ];
    for (what, shown) in &shown {
        let token = shown.strip_prefix("Bearer ").unwrap_or_default();
        // All of a signed token but its end may be known to anybody.
        secrets.extend(
            token.rsplit('.').next().filter(|end| !end.is_empty()).map(|end| (*what, end.to_owned())),
        );
    }
    assert!(!grants.is_empty(), "readers were given leave to read the account");
    secrets.extend(grants.iter().map(|grant| ("a reader's signature", signature(grant))));
    said.assert_holds_none_of(&secrets);
}

/// What is secret of a shared access signature.
fn signature(sas: &str) -> String {
    let pairs: Vec<_> = sas.split('&').filter_map(|pair| pair.strip_prefix("sig=")).collect();
    assert_eq!(pairs.len(), 1, "{sas}");
    pairs[0].replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
}

/// Good requests and bad ones by each of the callers: those of them who could read. Signatures that readers are given are
/// put aside: that answer is what they are for.
fn drive<'a>(
    client: &Client,
    callers: &[(&'a str, String)],
    said: &mut Said,
    grants: &mut Vec<String>,
) -> Vec<&'a str> {
    let mut served = Vec::new();
    for (who, authorization) in callers {
        for (method, path) in [
            ("PUT", "/streams/s"),
            ("POST", "/streams/s/messages"),
            ("POST", "/streams/s/messages?expected_offset=77"),
            ("GET", "/streams/s/messages?from=0"),
            ("GET", "/streams/s/messages?from=latest&wait=1"),
            ("GET", "/streams/s"),
            ("GET", "/streams"),
            ("GET", "/streams/none/messages"),
            ("DELETE", "/streams/none"),
            ("GET", "/status"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
            ("GET", "/"),
            ("GET", "/openapi.json"),
            ("GET", "/debug"),
        ] {
            let answer = crate::ask(client, authorization, method, path);
            said.answer(&format!("{method} {path} with {who}"), &answer);
            if path == "/streams/s" && method == "GET" && answer.status == 200 {
                served.push(*who);
            }
        }
        let plan = crate::ask(client, authorization, "GET", "/streams/s/access");
        if plan.status == 200 {
            grants.push(query_of_grant(&plan.json()));
        } else {
            said.answer(&format!("GET /streams/s/access with {who}"), &plan);
        }
    }
    served
}

/// The signature in a plan of direct reads.
fn query_of_grant(plan: &Value) -> String {
    let text = plan.to_string();
    let begin = text.find("sv=").expect("there is a signature in it");
    text[begin..].split('"').next().unwrap().to_owned()
}

/// What no library sends, and HTTP/2, whose libraries log frames.
fn awkward(address: std::net::SocketAddr, said: &mut Said) {
    let twice = format!("Authorization: Bearer {MISTAKEN}\r\n").repeat(2);
    let close = "Connection: close\r\n";
    for request in [
        format!("GET /streams/s HTTP/1.1\r\nHost: {address}\r\n{close}{twice}\r\n"),
        format!(
            "GET /streams/s HTTP/1.1\r\nHost: {address}\r\n{close}Authorization: Bearer {MISTAKEN}\0\r\n\r\n"
        ),
        format!(
            "GET /streams/s HTTP/1.1\r\nHost: {address}\r\n{close}Authorization : Bearer {MISTAKEN}\r\n\r\n"
        ),
        format!(
            "GET /streams/s HTTP/1.1\r\nHost: {address}\r\n{close}Authorization: Bearer\r\n {MISTAKEN}\r\n\r\n"
        ),
        format!(
            "GET /streams/s HTTP/1.1\r\nHost: {address}\r\n{close}Authorization: Basic !{MISTAKEN}\r\n\r\n"
        ),
        format!("Authorization: Bearer {MISTAKEN}\r\n\r\n"),
    ] {
        said.0.push(("an answer to what no library sends".to_owned(), exchange(address, request.as_bytes())));
    }
    let url = format!("http://{address}/streams/s/messages");
    for header in [with_token("robot"), format!("Bearer {UNKNOWN_TOKEN}")] {
        let header = format!("Authorization: {header}");
        let answer = curl(["--http2-prior-knowledge", "--header", &header, &url]);
        said.0.push(("an answer over HTTP/2".to_owned(), answer.body));
    }
}
