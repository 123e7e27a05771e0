//! Shared access signatures: leave to read the blobs of one container for a few minutes.
//!
//! With an account key it is a service SAS. An identity asks Azure for a key of its own, which lasts a few hours, and
//! signs a user delegation SAS with that. Whoever has only a SAS cannot make another. The texts to sign are those of
//! "Create a service SAS" and "Create a user delegation SAS" in Azure's REST documentation, for versions from
//! 2020-12-06 on.

use std::time::Duration;

use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use azure_core::http::Url;
use azure_core::time::{OffsetDateTime, to_rfc3339};
use azure_storage_blob::models::KeyInfo;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Mutex;
use vault_format::ids::Timestamp;
use vault_format::names::ContainerName;

use super::AzureStorage;
use super::settings::Credential;
use crate::limits::{
    AZURE_SMALL_REQUEST_TIME, DELEGATION_KEY_TIME, DIRECT_READ_CLOCK_SKEW, DIRECT_READ_TIME,
};
use crate::storage::{ReadAccess, ReadGrant, StorageError};

/// The version of the signature; it need not be that of the requests that use it.
const VERSION: &str = "2022-11-02";

/// What grants are signed with.
#[derive(Debug)]
pub(super) enum Signer {
    /// The account's key, in base64.
    Key(Secret),
    /// The identity's own key, as long as it lasts.
    Identity(Mutex<Option<DelegationKey>>),
    /// Nothing.
    None,
}

impl Signer {
    pub(super) fn of(credential: &Credential) -> Self {
        match credential {
            Credential::Key(key) => Self::Key(key.clone()),
            Credential::Sas(_) => Self::None,
            Credential::Identity(_) => Self::Identity(Mutex::default()),
        }
    }
}

/// A key that Azure has given to an identity. The texts are as Azure wrote them: they are signed too.
#[derive(Clone, Debug)]
pub(super) struct DelegationKey {
    object: String,
    tenant: String,
    start: String,
    expiry: String,
    service: String,
    version: String,
    /// In base64.
    value: Secret,
    ends_s: i64,
}

/// What a signature gives leave to.
struct Leave<'a> {
    account: &'a str,
    container: &'a str,
    start: String,
    expiry: String,
    protocol: &'static str,
}

impl Leave<'_> {
    fn text_to_sign(&self, key: Option<&DelegationKey>) -> String {
        let Self { account, container, start, expiry, protocol } = self;
        let resource = format!("/blob/{account}/{container}");
        let mut lines = vec!["r", start, expiry, &resource];
        match key {
            // A stored access policy.
            None => lines.push(""),
            Some(DelegationKey { object, tenant, start, expiry, service, version, .. }) => {
                lines.extend([object, tenant, start, expiry, service, version].map(String::as_str));
                // Whom an agent acts for, twice, and a correlation id.
                lines.extend(["", "", ""]);
            }
        }
        // Addresses, then protocol, version, kind of resource, snapshot, encryption scope and five headers of answers.
        lines.extend(["", protocol, VERSION, "c", "", "", "", "", "", "", ""]);
        lines.join("\n")
    }

    fn signed(&self, secret: &Secret, key: Option<&DelegationKey>) -> azure_core::Result<String> {
        let signature = hmac_sha256(&self.text_to_sign(key), secret)?;
        let mut url = Url::parse("sas:").expect("this is a URL");
        let mut query = url.query_pairs_mut();
        query.extend_pairs([("sv", VERSION), ("sr", "c"), ("sp", "r")]);
        query.extend_pairs([("st", &*self.start), ("se", &self.expiry), ("spr", self.protocol)]);
        if let Some(DelegationKey { object, tenant, start, expiry, service, version, .. }) = key {
            query.extend_pairs([("skoid", object), ("sktid", tenant), ("skt", start)]);
            query.extend_pairs([("ske", expiry), ("sks", service), ("skv", version)]);
        }
        query.append_pair("sig", &signature);
        drop(query);
        Ok(url.query().expect("parameters were added").to_owned())
    }
}

fn moment(seconds: i64) -> Result<OffsetDateTime, StorageError> {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| StorageError::Unavailable("this machine's clock is far off".to_owned()))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("limits are a few hours")
}

impl AzureStorage {
    pub(super) async fn grant(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        let now = i64::try_from(self.env.clock.now().0 / 1_000).unwrap_or(i64::MAX / 2);
        let ends = now + seconds(DIRECT_READ_TIME);
        let endpoint = &self.account.endpoint;
        let leave = Leave {
            account: &self.account.name,
            container: container.as_str(),
            start: to_rfc3339(&moment(now - seconds(DIRECT_READ_CLOCK_SKEW))?),
            expiry: to_rfc3339(&moment(ends)?),
            // Azure knows no SAS for http alone.
            protocol: if endpoint.scheme() == "https" { "https" } else { "https,http" },
        };
        let signed = match &self.signer {
            Signer::None => {
                return Ok(ReadAccess::None(
                    "the server itself has only a shared access signature for the storage account and cannot make \
                     another; give it an identity or an account key",
                ));
            }
            Signer::Key(key) => leave.signed(key, None),
            Signer::Identity(kept) => {
                let key = self.delegation_key(kept, now, ends).await?;
                leave.signed(&key.value, Some(&key))
            }
        };
        let sas =
            signed.map_err(|_| StorageError::Refused("the key to sign with is not base64".to_owned()))?;
        Ok(ReadAccess::Granted(ReadGrant {
            container_url: format!("{}/{container}", endpoint.as_str().trim_end_matches('/')),
            sas,
            expires: Timestamp(u64::try_from(ends).unwrap_or_default() * 1_000),
        }))
    }

    /// The identity's key, if it lasts until `until`, else a new one. Whoever comes meanwhile waits for that one.
    async fn delegation_key(
        &self,
        kept: &Mutex<Option<DelegationKey>>,
        now: i64,
        until: i64,
    ) -> Result<DelegationKey, StorageError> {
        let mut kept = kept.lock().await;
        if let Some(key) = kept.as_ref().filter(|key| key.ends_s >= until) {
            return Ok(key.clone());
        }
        let wanted = KeyInfo {
            start: Some(moment(now - seconds(DIRECT_READ_CLOCK_SKEW))?),
            expiry: Some(moment(now + seconds(DELEGATION_KEY_TIME))?),
            ..KeyInfo::default()
        };
        let given = self
            .ask(AZURE_SMALL_REQUEST_TIME, async {
                self.service.get_user_delegation_key(wanted.try_into()?, None).await?.into_model()
            })
            .await?;
        let part = |text: Option<String>, name: &str| {
            text.ok_or_else(|| {
                StorageError::Unavailable(format!("Azure's key for the identity has no {name}"))
            })
        };
        let time = |time: Option<OffsetDateTime>, name| part(time.as_ref().map(to_rfc3339), name);
        let key = DelegationKey {
            object: part(given.signed_oid, "object id")?,
            tenant: part(given.signed_tid, "tenant")?,
            start: time(given.signed_start, "start")?,
            expiry: time(given.signed_expiry, "expiry")?,
            service: part(given.signed_service, "service")?,
            version: part(given.signed_version, "version")?,
            value: Secret::new(part(given.value.map(|value| BASE64_STANDARD.encode(value)), "value")?),
            ends_s: given.signed_expiry.map_or(now, OffsetDateTime::unix_timestamp),
        };
        tracing::debug!(
            account = self.account.name,
            until = key.expiry,
            "a new key to sign direct reads with"
        );
        Ok(kept.insert(key).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "U0VDUkVU";

    fn leave() -> Leave<'static> {
        Leave {
            account: "mine",
            container: "mv-orders",
            start: "2026-01-31T11:55:00Z".to_owned(),
            expiry: "2026-01-31T12:15:00Z".to_owned(),
            protocol: "https",
        }
    }

    fn delegated() -> DelegationKey {
        DelegationKey {
            object: "oid".to_owned(),
            tenant: "tid".to_owned(),
            start: "2026-01-31T10:00:00Z".to_owned(),
            expiry: "2026-01-31T14:00:00Z".to_owned(),
            service: "b".to_owned(),
            version: "2026-04-06".to_owned(),
            value: Secret::new(KEY),
            ends_s: 0,
        }
    }

    /// The order of the fields is that of Azure's documentation.
    #[test]
    fn the_texts_are_those_of_the_documentation() {
        assert_eq!(
            leave().text_to_sign(None),
            "r\n2026-01-31T11:55:00Z\n2026-01-31T12:15:00Z\n/blob/mine/mv-orders\n\n\nhttps\n2022-11-02\nc\n\n\n\n\n\n\n"
        );
        assert_eq!(
            leave().text_to_sign(Some(&delegated())),
            "r\n2026-01-31T11:55:00Z\n2026-01-31T12:15:00Z\n/blob/mine/mv-orders\noid\ntid\n2026-01-31T10:00:00Z\n\
             2026-01-31T14:00:00Z\nb\n2026-04-06\n\n\n\n\nhttps\n2022-11-02\nc\n\n\n\n\n\n\n"
        );
    }

    #[test]
    fn the_query_holds_what_was_signed_and_no_secret() {
        let query = leave().signed(&Secret::new(KEY), None).unwrap();
        assert!(query.starts_with("sv=2022-11-02&sr=c&sp=r&st=2026-01-31T11%3A55%3A00Z&se="), "{query}");
        assert!(query.contains("&spr=https&sig=") && !query.contains("sk"), "{query}");
        let query = leave().signed(&Secret::new(KEY), Some(&delegated())).unwrap();
        assert!(query.contains("&skoid=oid&sktid=tid&skt=2026-01-31T10%3A00%3A00Z&ske="), "{query}");
        assert!(query.contains("&sks=b&skv=2026-04-06&sig=") && !query.contains(KEY), "{query}");
        assert!(!format!("{:?}", delegated()).contains(KEY));
    }
}
