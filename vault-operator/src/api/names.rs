//! Labels, annotations and finalizers that the operator writes or looks at.

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "message-vault-operator";

/// The label of every object that belongs to a vault: the vault's name.
pub const VAULT_LABEL: &str = "messagevault.io/vault";

/// The annotation that pauses a resource: `true`.
pub const PAUSED: &str = "messagevault.io/paused";

/// The annotation that lets a stream whose data is missing begin anew, at offset 0: the stream's name, or several with
/// commas between.
pub const RECREATE: &str = "messagevault.io/recreate";

/// The annotation that lets a vault take over storage which is marked as another one's: the uid of the vault that is
/// found there.
pub const ADOPT: &str = "messagevault.io/adopt";

/// The finalizer of a resource with a stream that is deleted with it.
pub const FINALIZER: &str = "messagevault.io/delete-streams";

/// The annotation of pods by which they are replaced when the connection string has changed.
pub const CREDENTIAL_HASH: &str = "messagevault.io/credential-hash";

/// Which of the names that an annotation lists are there.
#[must_use]
pub fn lists(annotation: Option<&String>, name: &str) -> bool {
    annotation.is_some_and(|text| text.split(',').any(|listed| listed.trim() == name))
}
