//! The system container of a vault: whose it is. Servers refuse to work for another vault than theirs; so does the
//! operator, for another MessageVault, or one of another cluster.
//!
//! | metadata | meaning |
//! |---|---|
//! | `vault_uid` | the vault; servers are started with it |
//! | `owner` | `messagevault/<namespace>/<name>`; without it nobody has the vault yet |
//! | `cluster` | the uid of the namespace `kube-system` of the cluster that the owner is in |

use kube::ResourceExt;
use vault_format::names::ContainerName;
use vault_server::election::VAULT_UID;
use vault_server::storage::{Metadata, Storage, StorageError};

use super::open::OpenVault;
use crate::api::MessageVault;
use crate::api::names::ADOPT;
use crate::conditions::{Reason, State};
use crate::streams::carry_out::{look, with_lease};
use crate::streams::plan::message_vault_owner;

/// The reason of a vault whose storage is not, or no longer, its own.
pub const ANOTHER_VAULT: &str = "AnotherVault";

const OWNER: &str = "owner";
const CLUSTER: &str = "cluster";

impl Claimant {
    /// The claimant that a MessageVault is, in a cluster.
    #[must_use]
    pub fn of(vault: &MessageVault, cluster: Option<&String>) -> Self {
        let namespace = vault.namespace().unwrap_or_default();
        Self {
            owner: message_vault_owner(&namespace, &vault.name_any()),
            cluster: cluster.cloned(),
            new_uid: vault.uid().unwrap_or_default(),
            known_uid: vault.status.as_ref().and_then(|status| status.vault_uid.clone()),
            adopt: vault.annotations().get(ADOPT).cloned(),
        }
    }
}

/// Who asks for a vault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// `messagevault/<namespace>/<name>`.
    pub owner: String,
    /// The cluster, where it is known.
    pub cluster: Option<String>,
    /// The uid that a new vault gets.
    pub new_uid: String,
    /// The vault's uid, where it was seen before.
    pub known_uid: Option<String>,
    /// The uid of a vault that may be taken over from somebody else.
    pub adopt: Option<String>,
}

/// What to do about a system container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is the claimant's vault, of this uid.
    Joined(String),
    /// Make it, with these metadata.
    Create(Metadata),
    /// Write these metadata.
    Claim(Metadata),
    /// Somebody must change something.
    Stop(State),
}

/// What to do about a system container, given its metadata; `None` where there is none. Pure.
#[must_use]
pub fn plan(claimant: &Claimant, container: &str, found: Option<&Metadata>) -> Step {
    let sign = |metadata: &mut Metadata| {
        metadata.insert(OWNER.to_owned(), claimant.owner.clone());
        if let Some(cluster) = &claimant.cluster {
            metadata.insert(CLUSTER.to_owned(), cluster.clone());
        }
    };
    let Some(found) = found else {
        let uid = claimant.known_uid.as_ref().unwrap_or(&claimant.new_uid);
        let mut metadata = Metadata::from([(VAULT_UID.to_owned(), uid.clone())]);
        sign(&mut metadata);
        return Step::Create(metadata);
    };
    let Some(uid) = found.get(VAULT_UID) else {
        return stalled(format!(
            "the container {container} is there and is no vault's: choose another storage.prefix or account"
        ));
    };
    let same_owner = found.get(OWNER).is_none_or(|owner| *owner == claimant.owner);
    let same_cluster = match (found.get(CLUSTER), &claimant.cluster) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    };
    let may = claimant.adopt.as_ref() == Some(uid);
    if !(same_owner && same_cluster || may) {
        let owner = found.get(OWNER).map_or("somebody", String::as_str);
        let elsewhere = if same_cluster { "" } else { " of another cluster" };
        return stalled(format!(
            "the vault {uid} in the container {container} belongs to {owner}{elsewhere}: choose another storage.prefix or \
             account; or, once nothing serves it there any more, annotate messagevault.io/adopt: {uid}"
        ));
    }
    if let Some(known) = claimant.known_uid.as_ref().filter(|known| *known != uid && !may) {
        return stalled(format!(
            "the container {container} holds the vault {uid}, and this was {known}: restore what was there, or annotate \
             messagevault.io/adopt: {uid} to go on with it"
        ));
    }
    let mut signed = found.clone();
    if may {
        // Where the own cluster is not known, the one that it was adopted from must not find itself there.
        signed.remove(CLUSTER);
    }
    sign(&mut signed);
    if signed == *found { Step::Joined(uid.clone()) } else { Step::Claim(signed) }
}

fn stalled(sentence: String) -> Step {
    Step::Stop(State::Stalled(Reason::new(ANOTHER_VAULT, sentence)))
}

/// Makes or finds the vault; answers its uid, or why it cannot be this one.
pub async fn join(vault: &OpenVault, claimant: &Claimant) -> Result<Result<String, State>, StorageError> {
    let storage = vault.storage();
    let container = vault.prefix().system_container();
    if claimant.known_uid.is_none()
        && let Some(state) = overlapping(vault).await?
    {
        return Ok(Err(state));
    }
    let mut found = look(storage, &container).await?;
    // Another claimant, or a server, may come between: once is enough to see what it did.
    for _ in 0..2 {
        match plan(claimant, container.as_str(), found.as_ref()) {
            Step::Joined(uid) => return Ok(Ok(uid)),
            Step::Stop(state) => return Ok(Err(state)),
            Step::Create(metadata) => match storage.create_container(&container, &metadata).await {
                Ok(()) => tracing::info!(%container, "vault created"),
                Err(StorageError::AlreadyExists) => {}
                Err(error) => return Err(error),
            },
            Step::Claim(_) => claim(storage, &container, claimant).await?,
        }
        found = look(storage, &container).await?;
    }
    match plan(claimant, container.as_str(), found.as_ref()) {
        Step::Joined(uid) => Ok(Ok(uid)),
        Step::Stop(state) => Ok(Err(state)),
        _ => Err(StorageError::Unavailable(format!("the container {container} changes all the time"))),
    }
}

/// Whether the vault is the claimant's still, or why not: another cluster may have taken it over.
pub async fn check(vault: &OpenVault, claimant: &Claimant) -> Result<Option<State>, StorageError> {
    let container = vault.prefix().system_container();
    let found = look(vault.storage(), &container).await?;
    Ok(match plan(claimant, container.as_str(), found.as_ref()) {
        Step::Stop(state) => Some(state),
        Step::Joined(_) | Step::Create(_) | Step::Claim(_) => None,
    })
}

async fn claim(
    storage: &dyn Storage,
    container: &ContainerName,
    claimant: &Claimant,
) -> Result<(), StorageError> {
    with_lease(storage, container, async |lease| {
        let found = storage.container_metadata(container).await?;
        if let Step::Claim(metadata) = plan(claimant, container.as_str(), Some(&found)) {
            storage.set_container_metadata(container, &metadata, &lease).await?;
        }
        Ok(())
    })
    .await
}

/// Whether another vault's containers could be taken for this one's.
async fn overlapping(vault: &OpenVault) -> Result<Option<State>, StorageError> {
    let prefix = vault.prefix();
    let all = vault.storage().list_containers("").await?;
    for entry in all.iter().filter(|entry| entry.metadata.contains_key(VAULT_UID)) {
        let theirs = entry.name.as_str().strip_suffix(vault_format::names::SYSTEM).unwrap_or_default();
        if prefix.overlaps(theirs) {
            return Ok(Some(State::Stalled(Reason::new(
                "PrefixOverlaps",
                format!(
                    "storage.prefix is `{}`, and another vault of the account has `{theirs}`: neither may begin the \
                     other; choose another prefix",
                    prefix.as_str()
                ),
            ))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant() -> Claimant {
        Claimant {
            owner: "messagevault/shop/events".into(),
            cluster: Some("cluster-1".into()),
            new_uid: "new".into(),
            known_uid: None,
            adopt: None,
        }
    }

    fn found(entries: &[(&str, &str)]) -> Metadata {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn ours() -> Metadata {
        found(&[("vault_uid", "v1"), ("owner", "messagevault/shop/events"), ("cluster", "cluster-1")])
    }

    #[test]
    fn a_vault_is_made_once_and_made_again_as_the_same() {
        let Step::Create(metadata) = plan(&claimant(), "mv-sys", None) else { panic!("it is made") };
        assert_eq!(metadata.get("vault_uid").map(String::as_str), Some("new"));
        let known = Claimant { known_uid: Some("v1".into()), ..claimant() };
        assert_eq!(plan(&known, "mv-sys", None), Step::Create(ours()));
        assert_eq!(plan(&known, "mv-sys", Some(&ours())), Step::Joined("v1".into()));
        assert_eq!(
            plan(&claimant(), "mv-sys", Some(&ours())),
            Step::Joined("v1".into()),
            "made anew by its name"
        );
    }

    #[test]
    fn a_vault_without_an_owner_is_claimed() {
        let bare = found(&[("vault_uid", "v1"), ("other", "kept")]);
        let Step::Claim(metadata) = plan(&claimant(), "mv-sys", Some(&bare)) else { panic!("it is claimed") };
        assert_eq!(metadata.get("other").map(String::as_str), Some("kept"));
        assert_eq!(metadata.get("cluster").map(String::as_str), Some("cluster-1"));
    }

    #[test]
    fn another_ones_vault_is_left_alone_unless_it_may_be_adopted() {
        for (key, value, says) in [
            ("owner", "messagevault/shop/other", "belongs to messagevault/shop/other:"),
            ("cluster", "cluster-2", "belongs to messagevault/shop/events of another cluster:"),
        ] {
            let mut theirs = ours();
            theirs.insert(key.to_owned(), value.to_owned());
            let Step::Stop(state) = plan(&claimant(), "mv-sys", Some(&theirs)) else { panic!("it stops") };
            let said = state.reason().sentence;
            assert!(said.contains(says) && said.contains("messagevault.io/adopt: v1"), "{said}");
            let adopting = Claimant { adopt: Some("v1".into()), ..claimant() };
            assert_eq!(plan(&adopting, "mv-sys", Some(&theirs)), Step::Claim(ours()));
        }
    }

    #[test]
    fn what_is_not_the_vault_of_before_is_refused() {
        let known = Claimant { known_uid: Some("v0".into()), ..claimant() };
        assert!(matches!(plan(&known, "mv-sys", Some(&ours())), Step::Stop(State::Stalled(_))));
        assert!(matches!(plan(&claimant(), "mv-sys", Some(&Metadata::new())), Step::Stop(State::Stalled(_))));
    }
}
