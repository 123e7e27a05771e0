//! What stands in for Entra: it exchanges a pod's token for one that Azurite takes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::http::Url;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What Entra does in an exchange.
#[derive(Debug)]
pub struct TokenEndpoint {
    port: u16,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

/// What somebody asked for, with which tenant in its path.
#[derive(Debug)]
pub struct Exchange {
    /// The path of the request, which begins with the tenant.
    pub path: String,
    form: Vec<(String, String)>,
}

/// What comes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A token that lasts so many seconds.
    Token(u32),
    /// None, for the reason with this number: `AADSTS` and the number.
    Refused(u32),
}

impl Exchange {
    /// A field of the form; empty where it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.form.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl TokenEndpoint {
    /// Starts it; whoever asks gets what `judge` says.
    pub fn start(config: Arc<ServerConfig>, judge: impl Fn(&Exchange) -> Verdict + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let recorded = exchanges.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let tls = ServerConnection::new(config.clone()).expect("the certificate is good");
                let mut stream = BufReader::new(StreamOwned::new(tls, client));
                // A client that goes away is no concern of the others.
                let Some(exchange) = read_exchange(&mut stream) else { continue };
                let (status, body) = answer(judge(&exchange));
                lock(&recorded).push(exchange);
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

    /// What `AZURE_AUTHORITY_HOST` has to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The exchanges for a tenant since this was last asked.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Vec<Exchange> {
        let mut all = lock(&self.exchanges);
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

fn answer(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Refused(code) => (
            "400 Bad Request",
            format!(r#"{{"error":"invalid_client","error_description":"SECRET","error_codes":[{code}]}}"#),
        ),
        Verdict::Token(seconds) => (
            "200 OK",
            format!(r#"{{"token_type":"Bearer","expires_in":{seconds},"access_token":"{}"}}"#, token()),
        ),
    }
}

fn lock(exchanges: &Mutex<Vec<Exchange>>) -> MutexGuard<'_, Vec<Exchange>> {
    exchanges.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token with what Azurite looks at; it does not verify the signature.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let claims = format!(
        r#"{{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/tenant/","oid":"object","tid":"tenant","iat":{now},"nbf":{now},"exp":{}}}"#,
        now + 3_600
    );
    let parts = [r#"{"alg":"RS256","typ":"JWT"}"#, &claims, "signature"];
    parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".")
}
