//! What it costs the server to know who asks, once it has seen them: the same small read with and without.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use vault_tests::access::{AccessFile, as_user, token, user, with_token};
use vault_tests::issuer::{Issuer, Key, Kind};
use vault_tests::process::cpu;
use vault_tests::server::{Server, Setup};

use crate::connection::Connection;
use crate::figures::{count, median, rounded, spread};
use crate::{Options, progress};

/// How much more CPU a request may take, in microseconds.
const GOAL_US: f64 = 20.0;

/// Connections that ask, each in a closed loop.
const CLIENTS: u64 = 4;

/// What argon2id goes through for the password: 19 MiB, as OWASP asks.
const ARGON2_KIB: u32 = 19 << 10;

/// An empty read at the tail: the server asks no storage for it.
const TARGET: &str = "/streams/bench/messages?from=latest";

/// A caller, and the server that it asks.
struct Variant<'a> {
    name: &'static str,
    server: &'a Server,
    authorization: Option<String>,
    microseconds: Vec<f64>,
}

/// Server CPU for each request.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let (issuer, key) = (Issuer::plain(), Key::new("bench", Kind::Rs256));
    issuer.publish(&[&key]);
    let file = AccessFile::new(
        directory.path(),
        &format!(
            "users:\n{}tokens:\n{}issuers:\n- url: {}\n  audience: messagevault\n  grants:\n  \
             - {{subject: 'system:serviceaccount:shop:*', grants: ['bench:write']}}\n",
            user("bench", ARGON2_KIB, &["bench:write"]),
            token("bench", &["bench:write"]),
            issuer.url()
        ),
    );
    let open = Setup::in_directory(&directory.path().join("open")).start();
    let access = ["--access".into(), file.path().into_os_string()];
    let guarded = Setup::in_directory(&directory.path().join("guarded")).with(access).start();
    let jwt = format!("Bearer {}", key.token(&issuer.claims("system:serviceaccount:shop:till")));
    let variant =
        |name, server, authorization| Variant { name, server, authorization, microseconds: Vec::new() };
    let mut variants = [
        variant("open", &open, None),
        variant("token", &guarded, Some(with_token("bench"))),
        variant("password", &guarded, Some(as_user("bench"))),
        variant("signed_token", &guarded, Some(jwt)),
    ];
    for variant in &variants {
        let mut headers = vec![("Content-Type", "text/plain")];
        headers.extend(variant.authorization.as_deref().map(|shown| ("Authorization", shown)));
        // It makes the stream, and the caller known.
        let answer = variant.server.client().send(
            "POST",
            "/streams/bench/messages",
            &headers,
            Some(b"one message"),
        )?;
        answer.expect(200);
    }
    for round in 1..=options.rounds {
        for variant in &mut variants {
            let before = cpu(variant.server.pid())?;
            let requests = ask(variant.server.address(), &variant.request(), options)?;
            let used = cpu(variant.server.pid())? - before;
            let each = used.as_secs_f64() * 1e6 / count(requests);
            progress(format_args!(
                "authorization, {}, round {round}: {each:.1} us, {requests} requests",
                variant.name
            ));
            variant.microseconds.push(each);
        }
    }
    let [open, others @ ..] = &variants;
    let mut out = json!({
        "clients": CLIENTS,
        "open": { "server_cpu_us_per_request": spread(&open.microseconds) },
        "goal_us_more": GOAL_US,
    });
    let mut reached = true;
    for variant in others {
        let more: Vec<f64> = variant
            .microseconds
            .iter()
            .zip(&open.microseconds)
            .map(|(with, without)| with - without)
            .collect();
        reached &= rounded(median(&more)) < GOAL_US;
        out[variant.name] =
            json!({ "server_cpu_us_per_request": spread(&variant.microseconds), "us_more": spread(&more) });
    }
    out["reached"] = json!(reached);
    Ok(out)
}

impl Variant<'_> {
    fn request(&self) -> Vec<u8> {
        let shown = self.authorization.as_ref().map(|shown| format!("Authorization: {shown}\r\n"));
        let shown = shown.unwrap_or_default();
        format!("GET {TARGET} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n{shown}\r\n")
            .into_bytes()
    }
}

/// Asks for as long as a measurement lasts: how many requests were answered.
fn ask(address: SocketAddr, request: &[u8], options: &Options) -> anyhow::Result<u64> {
    let end = Instant::now() + options.duration();
    let one = || -> anyhow::Result<u64> {
        let mut connection = Connection::open(address, 16 << 10)?;
        let mut requests = 0;
        while Instant::now() < end {
            connection.exchange(request, |_| {})?;
            requests += 1;
        }
        Ok(requests)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    })
}
