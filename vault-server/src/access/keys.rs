//! The keys with which an issuer signs, as it publishes them (RFC 7517).

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::limits::MAX_ISSUER_KEYS;

/// What signatures are taken: none that can be made with what is public.
pub(super) fn is_taken(algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512 | ES256 | ES384 | EdDSA)
}

/// The keys of an issuer.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    jwk: Jwk,
    verifies: DecodingKey,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Those of a published set that can be used here; the others are of no concern.
    pub(super) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let Published { keys } =
            serde_json::from_slice(json).map_err(|_| "they are no set of JSON Web Keys")?;
        if keys.len() > MAX_ISSUER_KEYS {
            return Err("there are more than a hundred of them");
        }
        let usable = keys.into_iter().filter_map(|key| Key::new(serde_json::from_value(key).ok()?));
        let keys: Vec<_> = usable.collect();
        if keys.is_empty() { Err("none of them can be used") } else { Ok(Self { keys }) }
    }

    /// The key of this id for signatures of this kind; without an id, the only one for them.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm) && (id.is_none() || key.jwk.common.key_id.as_deref() == id));
        let found = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then_some(&found.verifies)
    }

    /// Whether these are the same keys.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.keys.iter().map(|key| &key.jwk).eq(other.keys.iter().map(|key| &key.jwk))
    }
}

impl Key {
    fn new(jwk: Jwk) -> Option<Self> {
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|uses| *uses == PublicKeyUse::Signature);
        // A key that is not public verifies nothing: whoever has it could have signed.
        let public =
            !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_));
        if !signs || !public {
            return None;
        }
        let verifies = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { jwk, verifies })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA};
        let kind = match &self.jwk.algorithm {
            AlgorithmParameters::RSA(_) => algorithm.family() == jsonwebtoken::AlgorithmFamily::Rsa,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => algorithm == ES256,
                EllipticCurve::P384 => algorithm == ES384,
                _ => false,
            },
            AlgorithmParameters::OctetKeyPair(key) => {
                key.curve == EllipticCurve::Ed25519 && algorithm == EdDSA
            }
            _ => false,
        };
        let said = self.jwk.common.key_algorithm;
        kind && said.is_none_or(|said| said.to_string() == format!("{algorithm:?}"))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(keys: &serde_json::Value) -> Result<KeySet, &'static str> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn rsa(id: &str) -> serde_json::Value {
        json!({"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB", "use": "sig", "alg": "RS256"})
    }

    #[test]
    fn keys_are_found_by_id_and_by_what_they_sign() {
        let curve = json!({"kty": "EC", "kid": "b", "crv": "P-256", "x": "AQAB", "y": "AQAB"});
        let keys = set(&json!([rsa("a"), curve])).unwrap();
        assert!(keys.find(Some("a"), Algorithm::RS256).is_some());
        assert!(keys.find(Some("b"), Algorithm::ES256).is_some());
        for (id, algorithm) in [
            ("a", Algorithm::RS512),
            ("a", Algorithm::PS256),
            ("a", Algorithm::HS256),
            ("a", Algorithm::ES256),
            ("b", Algorithm::ES384),
            ("b", Algorithm::HS256),
            ("c", Algorithm::RS256),
        ] {
            assert!(keys.find(Some(id), algorithm).is_none(), "{id} {algorithm:?}");
        }
        assert!(keys.find(None, Algorithm::RS256).is_some());
        let two = set(&json!([rsa("a"), rsa("b")])).unwrap();
        assert!(two.find(None, Algorithm::RS256).is_none(), "either could be meant");
        assert!(!two.is_as(&keys) && two.is_as(&set(&json!([rsa("a"), rsa("b")])).unwrap()));
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        let secret = json!({"kty": "oct", "kid": "s", "k": "AQAB", "alg": "HS256"});
        let mut encrypts = rsa("e");
        encrypts["use"] = json!("enc");
        let strange = json!({"kty": "LWE", "kid": "z", "alg": "Q"});
        let keys = set(&json!([secret, encrypts, strange, "x", rsa("a")])).unwrap();
        assert_eq!(keys.keys.len(), 1);
        assert!(keys.find(Some("s"), Algorithm::HS256).is_none());
        assert!(set(&json!([secret])).is_err() && set(&json!([])).is_err() && set(&json!("x")).is_err());
        assert!(set(&json!(vec![rsa("a"); MAX_ISSUER_KEYS + 1])).is_err());
        assert!(KeySet::parse(b"<html>").is_err());
    }

    #[test]
    fn no_algorithm_with_a_shared_secret_is_taken() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(!is_taken(algorithm));
        }
        assert!(is_taken(Algorithm::RS256) && is_taken(Algorithm::EdDSA));
    }
}
