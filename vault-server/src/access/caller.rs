//! Who makes a request.

use std::fmt;
use std::sync::Arc;

use crate::access::grants::{Grant, Right};

/// Who makes a request, and what they were granted.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    name: String,
    grants: Vec<Arc<[Grant]>>,
}

impl Caller {
    /// Somebody with these grants, which many callers may share: thousands of them are remembered. `name` says how they
    /// are known and stands in the audit log.
    #[must_use]
    pub fn new(name: String, grants: impl IntoIterator<Item = Arc<[Grant]>>) -> Self {
        let grants = grants.into_iter().filter(|grants| !grants.is_empty()).collect();
        Self(Arc::new(Inner { name, grants }))
    }

    /// Anybody, where nobody is asked who they are.
    #[must_use]
    pub fn anybody() -> Self {
        Self::new("anybody".to_owned(), [[Grant::everything()].into()])
    }

    /// `user <name>`, `token <name>`, or `<subject> of <issuer>`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether they may do this with the stream of this name.
    #[must_use]
    pub fn may(&self, stream: &str, right: Right) -> bool {
        self.0.grants.iter().flat_map(|grants| grants.iter()).any(|grant| grant.allows(stream, right))
    }

    /// Whether they may do anything at all.
    #[must_use]
    pub fn may_anything(&self) -> bool {
        !self.0.grants.is_empty()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.name()).finish()
    }
}
