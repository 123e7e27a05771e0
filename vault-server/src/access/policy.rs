//! An access file in force, with what was found out under it. Another file brings another policy, so that nothing of
//! what was remembered outlives what it rests on.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use axum::http::HeaderMap;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode_header};
use quick_cache::sync::Cache;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::access::caller::Caller;
use crate::access::claims::{self, Claims};
use crate::access::credentials::Credentials;
use crate::access::fetch::Place;
use crate::access::file::{AccessFile, IssuerEntry};
use crate::access::issuer::Issuer;
use crate::access::keys::is_taken;
use crate::access::passwords::Passwords;
use crate::access::refusal::Refused;
use crate::env::Env;
use crate::limits::CREDENTIALS_CACHED;

type Digest = [u8; 32];

/// Who is let in.
#[derive(Debug)]
pub(super) struct Policy {
    env: Env,
    passwords: Passwords,
    tokens: HashMap<Digest, Caller>,
    issuers: Vec<Trusted>,
    verified: Cache<Digest, Verified>,
}

#[derive(Debug)]
struct Trusted {
    issuer: Arc<Issuer>,
    entry: IssuerEntry,
}

/// A signed token that was verified.
#[derive(Clone, Debug)]
struct Verified {
    caller: Caller,
    good_until_s: u64,
    /// By which issuer, with which of its sets of keys.
    issuer: usize,
    version: u64,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

impl Policy {
    /// What a file says. Issuers that stay the same keep their keys: they may be down.
    pub(super) fn new(
        file: AccessFile,
        env: &Env,
        passwords_at_once: &Arc<Semaphore>,
        before: Option<&Self>,
    ) -> Self {
        let token = |token: crate::access::file::Token| {
            (token.sha256.0, Caller::new(format!("token {}", token.name.0), [token.grants]))
        };
        let trusted = |entry: IssuerEntry| {
            let place = Place {
                url: entry.url.clone(),
                ca_file: entry.ca_file.clone(),
                token_file: entry.token_file.clone(),
            };
            let same = before.and_then(|before| before.issuers().find(|issuer| issuer.place == place));
            let issuer = same.cloned().unwrap_or_else(|| Issuer::new(place, env.clone()));
            Trusted { issuer, entry }
        };
        Self {
            env: env.clone(),
            passwords: Passwords::new(file.users, env.clone(), Arc::clone(passwords_at_once)),
            tokens: file.tokens.into_iter().map(token).collect(),
            issuers: file.issuers.into_iter().map(trusted).collect(),
            verified: Cache::new(CREDENTIALS_CACHED),
        }
    }

    pub(super) fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().map(|trusted| &trusted.issuer)
    }

    /// Who makes the request with these headers.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        match Credentials::of(headers)? {
            Credentials::Basic(basic) => self.passwords.authenticate(basic).await,
            Credentials::Bearer(token) => self.bearer(token).await,
        }
    }

    async fn bearer(&self, token: &str) -> Result<Caller, Refused> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let digest: Digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(caller) = self.tokens.get(&digest) {
            return Ok(caller.clone());
        }
        if self.issuers.is_empty() {
            return Err(Refused::Unauthenticated("the token is not known here"));
        }
        if let Some(known) = self.verified.get(&digest)
            && self.now_s() < known.good_until_s
            && self.issuers[known.issuer].issuer.version() == known.version
        {
            return Ok(known.caller);
        }
        let verified = self.verify(token).await?;
        self.verified.insert(digest, verified.clone());
        Ok(verified.caller)
    }

    fn now_s(&self) -> u64 {
        self.env.clock.now().0 / 1_000
    }

    async fn verify(&self, token: &str) -> Result<Verified, Refused> {
        const UNKNOWN: Refused = Refused::Unauthenticated(
            "the token is neither known here nor a JSON Web Token signed with RS, PS, ES or EdDSA",
        );
        let header = decode_header(token).map_err(|_| UNKNOWN)?;
        if !is_taken(header.alg) {
            return Err(UNKNOWN);
        }
        // RFC 7515, 4.1.11: none of the extensions is understood here.
        if header.crit.is_some() {
            return Err(Refused::Unauthenticated(
                "the token has critical extensions (`crit`), and none is known here",
            ));
        }
        let Unverified { iss } = insecure_decode_claims(token)
            .map_err(|_| Refused::Unauthenticated("the token does not say who issued it"))?;
        let index = self.issuers.iter().position(|trusted| trusted.entry.url.0 == iss);
        let index =
            index.ok_or(Refused::Unauthenticated("the token's issuer is none that this server trusts"))?;
        let Trusted { issuer, entry } = &self.issuers[index];
        let (key, version) = issuer.key(header.kid.as_deref(), header.alg).await?;
        let claims = signed(token, &key, header.alg)
            .ok_or(Refused::Unauthenticated("the token's signature is wrong"))?;
        let (caller, good_until_s) = claims::caller(&claims, entry, self.now_s())?;
        Ok(Verified { caller, good_until_s, issuer: index, version })
    }
}

/// The claims of a token that is signed with this key, in this way and no other.
fn signed(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Claims> {
    let mut signature_alone = Validation::new(algorithm);
    // What is claimed is looked at in `claims`, by the clock of this server.
    signature_alone.required_spec_claims.clear();
    signature_alone.validate_exp = false;
    signature_alone.validate_aud = false;
    let data = jsonwebtoken::decode::<Claims>(token, key, &signature_alone).ok()?;
    Some(data.claims)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::access::{file, passwords};

    async fn refused(header: Value) -> Refused {
        let file = "issuers:\n- url: https://issuer.example\n  audience: messagevault\n  grants:\n  \
            - {subject: me, grants: ['all:read']}\n";
        let file = file::parse(file.as_bytes()).unwrap();
        let policy = Policy::new(file, &Env::controlled(1), &passwords::at_once(), None);
        let text = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let token = format!("{}.{}.AAAA", text(header), text(json!({"iss": "https://stranger.example"})));
        policy.bearer(&token).await.unwrap_err()
    }

    #[tokio::test]
    async fn critical_extensions_are_refused_before_anybody_is_asked() {
        let plain = refused(json!({"alg": "RS256", "kid": "k"})).await;
        assert_eq!(plain, Refused::Unauthenticated("the token's issuer is none that this server trusts"));
        for crit in [json!(["b64"]), json!([]), json!(["exp", "urn:example:more"])] {
            let refused = refused(json!({"alg": "RS256", "kid": "k", "b64": true, "crit": crit})).await;
            assert!(refused.to_string().contains("`crit`"), "{refused}");
        }
    }
}
