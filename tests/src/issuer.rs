//! An issuer of signed tokens on this machine, which works by the rules of kube-apiserver: a discovery document and keys
//! that only who shows a token gets, over https with a certificate of its own authority. Tokens are put together by hand
//! here, with nothing of what verifies them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKey, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA512,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// No client takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA, PKCS #1 padding, SHA-256.
    Rs256,
    /// RSA, PSS padding, SHA-512.
    Ps512,
    /// P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

enum Secret {
    Rsa(RsaKey),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

/// A key that signs tokens.
pub struct Key {
    /// Its id.
    pub id: String,
    kind: Kind,
    secret: Secret,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    /// A new one.
    #[must_use]
    pub fn new(id: &str, kind: Kind) -> Self {
        let secret = match kind {
            Kind::Rs256 | Kind::Ps512 => RsaKey::generate(KeySize::Rsa2048).map(Secret::Rsa),
            Kind::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Secret::Curve),
            Kind::EdDsa => Ed25519KeyPair::generate().map(Secret::Edwards),
        };
        Self { id: id.to_owned(), kind, secret: secret.expect("keys can be made") }
    }

    /// What `alg` is.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Rs256 => "RS256",
            Kind::Ps512 => "PS512",
            Kind::Es256 => "ES256",
            Kind::EdDsa => "EdDSA",
        }
    }

    fn public(&self) -> Value {
        let mut key = match &self.secret {
            Secret::Rsa(key) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                let [n, e] = [n, e].map(|number| text(number.big_endian_without_leading_zero()));
                json!({ "kty": "RSA", "n": n, "e": e })
            }
            Secret::Curve(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
            }
            Secret::Edwards(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref()) })
            }
        };
        for (name, value) in [("kid", self.id.as_str()), ("use", "sig"), ("alg", self.algorithm())] {
            key[name] = json!(value);
        }
        key
    }

    /// The public key as DER, which everybody may have.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        match &self.secret {
            Secret::Rsa(key) => key.public_key().as_ref().to_vec(),
            Secret::Curve(key) => key.public_key().as_ref().to_vec(),
            Secret::Edwards(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Rsa(key) => {
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if self.kind == Kind::Ps512 { &RSA_PSS_SHA512 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).expect("an RSA key signs");
                signature
            }
            Secret::Curve(key) => key.sign(&random, message).expect("a key signs").as_ref().to_vec(),
            Secret::Edwards(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm(), "kid": self.id, "typ": "JWT" });
        signed(&header, claims, |message| self.sign(message))
    }
}

/// A token with any header, signed by `sign`.
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", text(signature))
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How the issuer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// It closes every connection at once.
    Down,
    /// With this status.
    Failing(u16),
    /// With keys that never end.
    Endless,
    /// It says that it is somebody else.
    Impostor,
}

struct State {
    url: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    /// What has to be shown, where anything has to.
    bearer: Mutex<Option<String>>,
    asked: AtomicU64,
}

/// An issuer that listens on this machine, until the process ends.
#[derive(Clone)]
pub struct Issuer(Arc<State>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Issuer {
    /// One that everybody may ask, without TLS.
    #[must_use]
    pub fn plain() -> Self {
        Self::start(None)
    }

    /// One over https, whose authority's certificate is written to `ca_file`.
    #[must_use]
    pub fn https(ca_file: &Path) -> Self {
        Self::start(Some(certificates(ca_file)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = Self(Arc::new(State {
            url: format!("{scheme}://localhost:{port}"),
            keys: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            bearer: Mutex::default(),
            asked: AtomicU64::new(0),
        }));
        let serving = issuer.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (serving, tls) = (serving.clone(), tls.clone());
                // A client that goes away is no concern of the others.
                std::thread::spawn(move || serving.serve(client, tls));
            }
        });
        issuer
    }

    /// What its tokens have as `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Publishes these keys, and no others.
    pub fn publish(&self, keys: &[&Key]) {
        *lock(&self.0.keys) = keys.iter().map(|key| key.public()).collect();
    }

    /// Answers like this from now on.
    pub fn be(&self, mood: Mood) {
        *lock(&self.0.mood) = mood;
    }

    /// Wants to be shown this from now on.
    pub fn want(&self, bearer: &str) {
        *lock(&self.0.bearer) = Some(bearer.to_owned());
    }

    /// How many requests it was sent.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// The claims of a token of this issuer for the audience `messagevault` that lasts ten minutes.
    #[must_use]
    pub fn claims(&self, subject: &str) -> Value {
        let now = now_s();
        json!({
            "iss": self.url(), "aud": ["messagevault"], "sub": subject,
            "iat": now, "nbf": now, "exp": now + 600,
        })
    }

    fn serve(&self, client: TcpStream, tls: Option<Arc<ServerConfig>>) -> Option<()> {
        client.set_read_timeout(Some(LIMIT)).ok()?;
        client.set_write_timeout(Some(LIMIT)).ok()?;
        if *lock(&self.0.mood) == Mood::Down {
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        match tls {
            None => self.answer(&mut BufReader::new(client)),
            Some(tls) => {
                let tls = ServerConnection::new(tls).ok()?;
                let mut stream = BufReader::new(StreamOwned::new(tls, client));
                self.answer(&mut stream)?;
                let tls = stream.get_mut();
                tls.conn.send_close_notify();
                tls.flush().ok()
            }
        }
    }

    fn answer<S: Read + Write>(&self, stream: &mut BufReader<S>) -> Option<()> {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            line.clear();
            stream.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let mood = lock(&self.0.mood).clone();
        let wanted = lock(&self.0.bearer).as_ref().map(|bearer| format!("Bearer {bearer}"));
        let let_in = wanted.is_none() || headers.get("authorization") == wanted.as_ref();
        let (status, body) = match (path.as_str(), mood) {
            (_, Mood::Failing(status)) => (status, json!({})),
            _ if !let_in => (401, json!({ "kind": "Status", "reason": "Unauthorized" })),
            ("/.well-known/openid-configuration", mood) => (200, self.discovery(&mood)),
            ("/openid/v1/jwks", Mood::Endless) => {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[";
                stream.get_mut().write_all(head.as_bytes()).ok()?;
                loop {
                    stream.get_mut().write_all(&[b' '; 65_536]).ok()?;
                }
            }
            ("/openid/v1/jwks", _) => (200, json!({ "keys": *lock(&self.0.keys) })),
            _ => (404, json!({})),
        };
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.get_mut().write_all(format!("{head}{body}").as_bytes()).ok()?;
        stream.get_mut().flush().ok()
    }

    /// As kube-apiserver has it.
    fn discovery(&self, mood: &Mood) -> Value {
        let url = self.url();
        let issuer = if *mood == Mood::Impostor { "https://somebody.else" } else { url };
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{url}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }
}

/// A certificate for this machine, of an authority that nobody knows but who is given its file.
fn certificates(ca_file: &Path) -> Arc<ServerConfig> {
    const MADE: &str = "certificates can be made";
    let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect(MADE);
    let authority_pem = authority.self_signed(&authority_key).expect(MADE).pem();
    let mut leaf = CertificateParams::new(["localhost".to_owned()].to_vec()).expect(MADE);
    leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let key = rcgen::KeyPair::generate().expect(MADE);
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(authority, authority_key)).expect(MADE);
    std::fs::write(ca_file, authority_pem).expect("there is room for a certificate");
    let leaf = CertificateDer::from_pem_slice(leaf.pem().as_bytes()).expect(MADE);
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect(MADE);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has what TLS needs").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![leaf], key).expect("the key is the certificate's"))
}
