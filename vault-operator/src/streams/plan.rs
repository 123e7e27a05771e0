//! What to do with a stream's container, given what its owner wants and what was found. Pure.
//!
//! ```text
//!  found \ known before     no                       yes
//!  nothing                  create                   data is missing: stop, or create if allowed to
//!  a stream, unowned        take it over             the same id: take it over; another: data is missing
//!  a stream of ours         change what differs      the same
//!  somebody else's          conflict, unless that somebody does not want it any more
//!  a restore under way      wait
//! ```

use vault_format::limits::DEFAULT_SEGMENT_BYTES;
use vault_server::log::settings::{Settings, StreamMeta};
use vault_server::storage::Metadata;

use crate::api::settings::{Codec, StreamSettings};
use crate::conditions::{Reason, State};

/// What an owner wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The stream's name.
    pub name: String,
    /// The owner as it stands in the container's metadata.
    pub owner: String,
    /// What the stream is to be like; its account is always set.
    pub settings: Settings,
    /// The stream's id, where it was seen before, by this owner or by a server that misses it.
    pub known: Option<String>,
    /// Whether it may begin anew where its data is missing.
    pub recreate: bool,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing: all is as wanted.
    Nothing(StreamMeta),
    /// Make the container, for a new stream.
    Create,
    /// Write these metadata.
    Change(StreamMeta),
    /// Find out whether this owner wants the stream still.
    AskAfter(String),
    /// Wait, or wait for somebody to change something.
    Stop(State),
}

/// The name under which a VaultStream owns streams.
#[must_use]
pub fn vault_stream_owner(namespace: &str, name: &str) -> String {
    format!("vaultstream/{namespace}/{name}")
}

/// The name under which a MessageVault owns streams.
#[must_use]
pub fn message_vault_owner(namespace: &str, name: &str) -> String {
    format!("messagevault/{namespace}/{name}")
}

/// The settings of a resource as the server has them. What is left out has its default.
#[must_use]
pub fn settings(given: &StreamSettings, main_account: &str) -> Settings {
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Settings {
        segment_bytes: number(given.segment_bytes).unwrap_or(DEFAULT_SEGMENT_BYTES),
        codec: match given.codec.unwrap_or_default() {
            Codec::None => vault_format::codec::Codec::None,
            Codec::Lz4 => vault_format::codec::Codec::Lz4,
            Codec::Zstd => vault_format::codec::Codec::Zstd,
        },
        account: Some(given.account.clone().unwrap_or_else(|| main_account.to_owned())),
        append_bytes_per_second: number(given.append_bytes_per_second),
        retention_seconds: number(given.retention_seconds),
        retention_bytes: number(given.retention_bytes),
        max_bytes: number(given.max_bytes),
    }
}

/// What to do about a container. `found` are its metadata, `None` where there is no container; `released` is an owner of
/// whom it was found out that the stream is not wanted any more.
#[must_use]
pub fn plan(wanted: &Wanted, found: Option<&Metadata>, released: Option<&str>) -> Step {
    let name = &wanted.name;
    let Some(metadata) = found else {
        return match &wanted.known {
            Some(id) if !wanted.recreate => missing(format!(
                "the container of the stream {name} (id {id}) is gone from storage; appends are refused. Restore it \
                 (soft delete, mvctl restore), or annotate {} with messagevault.io/recreate: {name} to begin anew at offset 0",
                resource(&wanted.owner)
            )),
            _ => Step::Create,
        };
    };
    if StreamMeta::from_unfinished_metadata(metadata).is_some() {
        return Step::Stop(State::Reconciling(Reason::new(
            "Restoring",
            format!("the stream {name} is being restored; if nobody is at it, run mvctl restore again"),
        )));
    }
    let meta = match StreamMeta::from_metadata(metadata) {
        Ok(meta) => meta,
        Err(invalid) => {
            return stalled(
                "NotAStream",
                format!(
                    "the container of {name} is not a stream's: {invalid}. Choose another stream name, or move it"
                ),
            );
        }
    };
    if let Some(owner) =
        meta.owner.as_deref().filter(|owner| *owner != wanted.owner && Some(*owner) != released)
    {
        return Step::AskAfter(owner.to_owned());
    }
    // A mark of this owner's own is of a deletion that was given up: who deletes the stream does not ask for it here.
    if meta.deleting && meta.owner.as_ref() != Some(&wanted.owner) {
        return Step::Stop(State::Reconciling(Reason::new(
            "StillDeleting",
            format!("a stream {name} of before is still being deleted"),
        )));
    }
    let id = meta.id.to_string();
    if let Some(known) = wanted.known.as_ref().filter(|known| **known != id && !wanted.recreate) {
        return missing(format!(
            "the container of {name} holds another stream (id {id}) than before ({known}). If that is right, annotate {} \
             with messagevault.io/recreate: {name} to go on with it",
            resource(&wanted.owner)
        ));
    }
    let account = meta.settings.account.clone().or_else(|| wanted.settings.account.clone());
    if account != wanted.settings.account {
        return stalled(
            "WrongAccount",
            format!(
                "the stream {name} lives in the storage account {} for ever: set settings.account to it",
                account.unwrap_or_default()
            ),
        );
    }
    // An account that is not written down is the main one, and stays so.
    let settings = Settings { account: meta.settings.account.clone(), ..wanted.settings.clone() };
    if meta.settings == settings && meta.owner.as_ref() == Some(&wanted.owner) && !meta.deleting {
        return Step::Nothing(meta);
    }
    Step::Change(StreamMeta { settings, owner: Some(wanted.owner.clone()), deleting: false, ..meta })
}

/// The resource that an owner is, as kubectl takes it.
fn resource(owner: &str) -> String {
    match owner.splitn(3, '/').collect::<Vec<_>>()[..] {
        [kind, namespace, name] => format!("{kind}/{name} in the namespace {namespace}"),
        _ => owner.to_owned(),
    }
}

/// What to say where another owner has the stream and wants it.
#[must_use]
pub fn conflict(name: &str, owner: &str) -> State {
    State::Stalled(Reason::new(
        "Conflict",
        format!(
            "the stream {name} belongs to {owner}, which came first: choose another streamName, or delete that one (its \
             messages stay unless its deletionPolicy is Delete)"
        ),
    ))
}

fn missing(sentence: String) -> Step {
    stalled("DataMissing", sentence)
}

fn stalled(word: &'static str, sentence: String) -> Step {
    Step::Stop(State::Stalled(Reason::new(word, sentence)))
}

#[cfg(test)]
mod tests {
    use vault_format::ids::{StreamId, Timestamp};

    use super::*;

    const OWNER: &str = "vaultstream/shop/orders";

    fn wanted() -> Wanted {
        let settings = settings(&StreamSettings::default(), "main");
        Wanted { name: "orders".into(), owner: OWNER.into(), settings, known: None, recreate: false }
    }

    fn meta(owner: Option<&str>) -> StreamMeta {
        StreamMeta {
            id: StreamId([7; 16]),
            created: Timestamp(1),
            settings: wanted().settings,
            begun: true,
            trimmed: false,
            deleting: false,
            owner: owner.map(str::to_owned),
        }
    }

    fn word(step: &Step) -> &'static str {
        match step {
            Step::Stop(state) => state.reason().word,
            other => panic!("it goes on: {other:?}"),
        }
    }

    fn found(meta: &StreamMeta) -> Metadata {
        meta.to_metadata()
    }

    #[test]
    fn a_new_stream_is_created_and_a_lost_one_is_not() {
        assert_eq!(plan(&wanted(), None, None), Step::Create);
        let known = Wanted { known: Some("07".into()), ..wanted() };
        let step = plan(&known, None, None);
        assert_eq!(word(&step), "DataMissing");
        assert!(
            matches!(&step, Step::Stop(State::Stalled(reason)) if reason.sentence.contains("annotate vaultstream/orders in the namespace shop with messagevault.io/recreate: orders"))
        );
        assert_eq!(plan(&Wanted { recreate: true, ..known }, None, None), Step::Create);
    }

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        let ours = meta(Some(OWNER));
        assert_eq!(plan(&wanted(), Some(&found(&ours)), None), Step::Nothing(ours.clone()));
        let unnamed = StreamMeta { settings: Settings { account: None, ..ours.settings.clone() }, ..ours };
        assert_eq!(plan(&wanted(), Some(&found(&unnamed)), None), Step::Nothing(unnamed));
    }

    #[test]
    fn an_unowned_stream_is_taken_over_with_all_that_is_in_it() {
        let mut before = meta(None);
        before.settings.retention_seconds = Some(60);
        before.trimmed = true;
        let Step::Change(next) = plan(&wanted(), Some(&found(&before)), None) else {
            panic!("it is changed")
        };
        assert_eq!(
            (next.owner.as_deref(), next.id, next.begun, next.trimmed),
            (Some(OWNER), before.id, true, true)
        );
        assert_eq!(next.settings, wanted().settings, "what is left out has its default");
    }

    #[test]
    fn drift_of_settings_is_put_back() {
        for spoil in [
            |settings: &mut Settings| settings.segment_bytes = 4 << 20,
            |settings: &mut Settings| settings.codec = vault_format::codec::Codec::Zstd,
            |settings: &mut Settings| settings.append_bytes_per_second = Some(1 << 20),
            |settings: &mut Settings| settings.retention_seconds = Some(60),
            |settings: &mut Settings| settings.retention_bytes = Some(64 << 20),
            |settings: &mut Settings| settings.max_bytes = Some(1 << 30),
        ] {
            let mut drifted = meta(Some(OWNER));
            spoil(&mut drifted.settings);
            assert_eq!(plan(&wanted(), Some(&found(&drifted)), None), Step::Change(meta(Some(OWNER))));
        }
    }

    #[test]
    fn the_first_owner_wins_while_it_wants_the_stream() {
        let theirs = meta(Some("messagevault/a/b"));
        assert_eq!(plan(&wanted(), Some(&found(&theirs)), None), Step::AskAfter("messagevault/a/b".into()));
        let released = plan(&wanted(), Some(&found(&theirs)), Some("messagevault/a/b"));
        assert_eq!(released, Step::Change(meta(Some(OWNER))));
        assert_eq!(conflict("orders", "messagevault/a/b").reason().word, "Conflict");
    }

    #[test]
    fn another_stream_in_the_place_of_ours_is_not_taken_for_it() {
        let ours = found(&meta(Some(OWNER)));
        let known = |id: &str| Wanted { known: Some(id.to_owned()), ..wanted() };
        assert!(matches!(plan(&known(&StreamId([7; 16]).to_string()), Some(&ours), None), Step::Nothing(_)));
        let another = known(&StreamId([8; 16]).to_string());
        assert_eq!(word(&plan(&another, Some(&ours), None)), "DataMissing");
        let allowed = Wanted { recreate: true, ..another };
        assert!(matches!(plan(&allowed, Some(&ours), None), Step::Nothing(_)));
    }

    #[test]
    fn what_is_not_ready_to_be_owned_is_waited_for() {
        let deleting = StreamMeta { deleting: true, ..meta(Some("messagevault/a/b")) };
        let released = plan(&wanted(), Some(&found(&deleting)), Some("messagevault/a/b"));
        assert_eq!(word(&released), "StillDeleting");
        let given_up = StreamMeta { deleting: true, ..meta(Some(OWNER)) };
        assert_eq!(plan(&wanted(), Some(&found(&given_up)), None), Step::Change(meta(Some(OWNER))));
        let mut restoring = Metadata::new();
        meta(None).write_unfinished_to(&mut restoring);
        assert_eq!(word(&plan(&wanted(), Some(&restoring), None)), "Restoring");
        assert_eq!(word(&plan(&wanted(), Some(&Metadata::new()), None)), "NotAStream");
    }

    #[test]
    fn a_stream_stays_in_its_account() {
        let mut elsewhere = meta(Some(OWNER));
        elsewhere.settings.account = Some("other".into());
        let step = plan(&wanted(), Some(&found(&elsewhere)), None);
        assert_eq!(word(&step), "WrongAccount");
        assert!(
            matches!(&step, Step::Stop(state) if state.reason().sentence.contains("set settings.account"))
        );
    }
}
