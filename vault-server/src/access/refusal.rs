//! Why somebody is not let in.

/// Why it is not known who makes a request. The sentences go to the client: they hold nothing of what it sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The credentials are missing or wrong.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Too many passwords wait to be verified.
    #[error("too many passwords wait to be verified; try again soon")]
    Busy,
    /// The token may be good, but its issuer does not say with which keys it signs.
    #[error("the token's issuer cannot be asked for its keys; try again soon")]
    IssuerUnavailable,
}
