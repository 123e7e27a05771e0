//! Whether a body came as it was sent: `Content-MD5`, and `Content-Digest` and `Repr-Digest` of RFC 9530.
//!
//! Bodies are taken without content encoding, so that the two of RFC 9530 are about the same bytes.

use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};
use sha2::{Digest, Sha256, Sha512};

use crate::http::problem::{Code, Problem};
use crate::http::request::single;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    Md5,
    Sha256,
    Sha512,
}

impl Algorithm {
    /// As RFC 9530 names it. MD5 is not among those that it allows to rely on.
    fn named(name: &str) -> Option<Self> {
        match name {
            "sha-256" => Some(Self::Sha256),
            "sha-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Md5 => Md5::output_size(),
            Self::Sha256 => Sha256::output_size(),
            Self::Sha512 => Sha512::output_size(),
        }
    }

    fn of(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(body).to_vec(),
            Self::Sha256 => Sha256::digest(body).to_vec(),
            Self::Sha512 => Sha512::digest(body).to_vec(),
        }
    }
}

struct Claim {
    header: HeaderName,
    algorithm: Algorithm,
    digest: Vec<u8>,
}

/// What the headers of a request say of its body.
pub(crate) struct Digests(Vec<Claim>);

impl Digests {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// `invalid_parameter` where one is malformed or given twice, `unsupported` where one has none of the algorithms
    /// that are checked.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut claims = Vec::new();
        if let Some(value) = single(headers, &CONTENT_MD5)? {
            let digest = BASE64_STANDARD.decode(value).map_err(|_| malformed(&CONTENT_MD5))?;
            claims.push(Claim { header: CONTENT_MD5, algorithm: Algorithm::Md5, digest });
        }
        for header in [CONTENT_DIGEST, REPR_DIGEST] {
            let Some(value) = single(headers, &header)? else { continue };
            let parsed = Parser::new(value.as_bytes()).parse::<Dictionary>();
            let members = parsed.map_err(|_| malformed(&header))?;
            let before = claims.len();
            for (name, entry) in members {
                let Some(algorithm) = Algorithm::named(name.as_str()) else { continue };
                let ListEntry::Item(Item { bare_item: BareItem::ByteSequence(digest), .. }) = entry else {
                    return Err(malformed(&header));
                };
                claims.push(Claim { header: header.clone(), algorithm, digest });
            }
            if claims.len() == before {
                let detail =
                    format!("`{header}` has neither sha-256 nor sha-512, and no other algorithm is checked");
                return Err(Problem::new(Code::Unsupported, detail));
            }
        }
        match claims.iter().find(|claim| claim.digest.len() != claim.algorithm.bytes()) {
            Some(claim) => Err(malformed(&claim.header)),
            None => Ok(Self(claims)),
        }
    }

    /// Compares them with the body.
    ///
    /// # Errors
    ///
    /// `digest_mismatch`.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Problem> {
        match self.0.iter().find(|claim| claim.algorithm.of(body) != claim.digest) {
            Some(Claim { header, .. }) => {
                let detail = format!(
                    "the body that arrived is not the one that `{header}` was made of; send it again"
                );
                Err(Problem::new(Code::DigestMismatch, detail))
            }
            None => Ok(()),
        }
    }
}

fn malformed(header: &HeaderName) -> Problem {
    let form = if *header == CONTENT_MD5 { "16 bytes in base64" } else { "for instance sha-256=:<base64>:" };
    Problem::new(Code::InvalidParameter, format!("`{header}` is malformed; it must be {form}"))
}
