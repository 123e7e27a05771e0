//! What the rest of the server sees of the election.

use serde::Serialize;
use vault_format::ids::Term;

/// How this server stands in its vault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The vault's uid, once this server has found the vault.
    pub vault_uid: Option<String>,
    /// Whether this server has listed the streams, so that it can say which there are.
    pub listed: bool,
    /// Who leads, as far as this server knows; it may be this server.
    pub leader: Option<Leader>,
    /// What keeps this server from its work, in a sentence.
    pub trouble: Option<String>,
}

/// A leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Leader {
    /// The URL at which it is reached.
    pub endpoint: String,
    /// The term under which it leads.
    #[serde(serialize_with = "term")]
    #[schema(value_type = u64)]
    pub term: Term,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn term<S: serde::Serializer>(term: &Term, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(term.0)
}

impl Standing {
    /// Why a server that follows cannot serve reads. `None` where it can.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<&str> {
        match &self.trouble {
            Some(trouble) => Some(trouble),
            None if !self.listed => Some("this server has not found its vault yet"),
            None => None,
        }
    }
}
