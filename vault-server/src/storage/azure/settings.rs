//! Which account, and how to get in: read from the command line and the environment, before anything is sent.

use std::sync::Arc;

use azure_core::credentials::Secret;
use azure_core::http::Url;

use super::connection_string;
use super::credentials::{AssertionSource, Identity, Source};

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
const ENDPOINT: &str = "AZURE_STORAGE_BLOB_ENDPOINT";

/// Where a storage account is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountAddress {
    /// The account's name.
    pub name: String,
    /// The URL of its blob service, without a query.
    pub endpoint: Url,
}

/// How requests to an account are let in. Its debug form shows no secret.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// With one of the account's two keys, in base64.
    Key(Secret),
    /// With a shared access signature: what stands behind the `?`.
    Sas(Secret),
    /// With tokens for an identity.
    Identity(Identity),
}

/// A storage account and the way in. Its debug form shows no secret.
#[derive(Clone, Debug)]
pub struct AzureSettings {
    pub(super) account: AccountAddress,
    pub(super) credential: Credential,
}

impl AzureSettings {
    /// Where the account is.
    #[must_use]
    pub fn account(&self) -> &AccountAddress {
        &self.account
    }

    /// The account that a connection string names, let in as it says. `UseDevelopmentStorage=true` is the emulator on
    /// this machine.
    ///
    /// # Errors
    ///
    /// One sentence, without secrets, that begins with "the connection string".
    pub fn from_connection_string(text: &str) -> Result<Self, String> {
        connection_string::parse(text).map_err(|why| format!("the connection string {why}"))
    }

    /// An account let in by an identity of Entra: `source` says who asks, in the place of the file that
    /// `AZURE_FEDERATED_TOKEN_FILE` names. Of the environment `AZURE_AUTHORITY_HOST` alone counts.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with `account_or_url`, an account's name or the `https` URL of its blob
    /// service, or that the identity has no tenant or client id.
    pub fn with_assertion(
        account_or_url: &str,
        tenant: String,
        client: String,
        source: Arc<dyn AssertionSource>,
    ) -> Result<Self, String> {
        let account = named(account_or_url)?;
        for (what, id) in [("tenant", &tenant), ("client", &client)] {
            if id.trim().is_empty() {
                return Err(format!("the identity for `{}` has no {what} id", account.name));
            }
        }
        let identity = Identity::Asserted { tenant, client, source: Source(source) };
        Ok(Self { account, credential: Credential::Identity(identity) })
    }

    /// An account let in by this process's own identity, which is found as [`from_environment`] says, whatever names
    /// accounts there. `env` looks up a variable of the environment.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with `account_or_url`, as above, or what to set.
    pub fn with_own_identity(
        account_or_url: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let get = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        Ok(Self {
            account: named(account_or_url)?,
            credential: Credential::Identity(Identity::choose(&get)?),
        })
    }
}

/// The settings of the main account. `spec` is an account's name, the URL of its blob service, or empty; `env` looks
/// up a variable of the environment.
///
/// With an empty `spec`, `AZURE_STORAGE_CONNECTION_STRING` says everything, else `AZURE_STORAGE_ACCOUNT` or
/// `AZURE_STORAGE_BLOB_ENDPOINT` names the account. Without a connection string requests carry tokens of an identity,
/// which is found as in other Azure SDKs: `AZURE_TOKEN_CREDENTIALS`, `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_CLIENT_ID`,
/// `AZURE_TENANT_ID`, `IDENTITY_ENDPOINT`.
///
/// # Errors
///
/// One sentence that says what to set.
pub fn from_environment(spec: &str, env: impl Fn(&str) -> Option<String>) -> Result<AzureSettings, String> {
    let get = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let identity =
        |account| Ok(AzureSettings { account, credential: Credential::Identity(Identity::choose(&get)?) });
    if !spec.is_empty() {
        if get(CONNECTION_STRING).is_some() {
            return Err(format!(
                "`azure:{spec}` names an account and {CONNECTION_STRING} is set as well: give `azure:` alone to use \
                 the connection string, or unset it to use an identity"
            ));
        }
        return identity(address(spec).map_err(|why| format!("`azure:{spec}` {why}"))?);
    }
    match (get(CONNECTION_STRING), get(ACCOUNT), get(ENDPOINT)) {
        (Some(text), account, endpoint) => {
            let settings =
                connection_string::parse(&text).map_err(|why| format!("{CONNECTION_STRING} {why}"))?;
            if account.is_some_and(|account| account != settings.account.name) {
                return Err(format!(
                    "{CONNECTION_STRING} and {ACCOUNT} name two accounts: unset one of them"
                ));
            }
            if endpoint.is_some() {
                return Err(format!("{CONNECTION_STRING} and {ENDPOINT} are both set: unset one of them"));
            }
            Ok(settings)
        }
        (None, Some(account), Some(url)) => {
            let endpoint = secure_endpoint(&url).map_err(|why| format!("{ENDPOINT} {why}"))?;
            let account = address_of_name(&account).map_err(|why| format!("{ACCOUNT} {why}"))?;
            identity(AccountAddress { endpoint, ..account })
        }
        (None, Some(account), None) => {
            identity(address_of_name(&account).map_err(|why| format!("{ACCOUNT} {why}"))?)
        }
        (None, None, Some(url)) => {
            let endpoint = secure_endpoint(&url).map_err(|why| format!("{ENDPOINT} {why}"))?;
            identity(AccountAddress { name: account_of(&endpoint), endpoint })
        }
        (None, None, None) => Err(format!(
            "`azure:` names no storage account: set {CONNECTION_STRING}, or {ACCOUNT} to use an identity"
        )),
    }
}

/// The settings of a further account, given by its name or the `https` URL of its blob service:
/// `AZURE_STORAGE_CONNECTION_STRING_<NAME>`, in upper case, if that is set, else an identity.
///
/// # Errors
///
/// One sentence that says what to set.
pub fn from_environment_named(
    account_or_url: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<AzureSettings, String> {
    let get = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let account = named(account_or_url)?;
    let variable = format!("{CONNECTION_STRING}_{}", account.name.to_ascii_uppercase());
    let Some(text) = get(&variable) else {
        return Ok(AzureSettings { account, credential: Credential::Identity(Identity::choose(&get)?) });
    };
    let settings = connection_string::parse(&text).map_err(|why| format!("{variable} {why}"))?;
    if settings.account.name != account.name {
        return Err(format!("{variable} is for another account, `{}`", settings.account.name));
    }
    Ok(settings)
}

/// The same, and an error is a whole sentence.
fn named(account_or_url: &str) -> Result<AccountAddress, String> {
    address(account_or_url).map_err(|why| format!("`{account_or_url}` {why}"))
}

/// An account's name or the URL of its blob service.
fn address(spec: &str) -> Result<AccountAddress, String> {
    if spec.contains("://") {
        let endpoint = secure_endpoint(spec)?;
        return Ok(AccountAddress { name: account_of(&endpoint), endpoint });
    }
    address_of_name(spec)
}

fn address_of_name(name: &str) -> Result<AccountAddress, String> {
    let fine = (3..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !fine {
        return Err("is not the name of a storage account, which has 3 to 24 lower-case letters and digits"
            .to_owned());
    }
    let endpoint = endpoint(&format!("https://{name}.blob.core.windows.net"))?;
    Ok(AccountAddress { name: name.to_owned(), endpoint })
}

/// Reads the URL of a blob service. An error ends a sentence.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|_| "is not a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("does not begin with https:// (or http://, for an emulator)".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query: a SAS belongs into SharedAccessSignature of a connection string".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Tokens go over TLS only.
fn secure_endpoint(text: &str) -> Result<Url, String> {
    let url = endpoint(text)?;
    if url.scheme() == "https" {
        Ok(url)
    } else {
        Err("must begin with https://, because an identity's tokens go over TLS only".to_owned())
    }
}

/// The account's name as its endpoint has it: the path's first part, as behind an emulator, else the host's first
/// label.
pub(super) fn account_of(endpoint: &Url) -> String {
    let from_path =
        endpoint.path_segments().and_then(|mut parts| parts.next()).filter(|part| !part.is_empty());
    let from_host = endpoint.domain().and_then(|host| host.split_once('.')).map(|(name, _)| name);
    from_path.or(from_host).or(endpoint.host_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYED: &str = "AccountName=mine;AccountKey=U0VDUkVU";

    fn read(spec: &str, variables: &[(&str, &str)]) -> Result<AzureSettings, String> {
        from_environment(spec, lookup(variables))
    }

    fn lookup(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |wanted| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
    }

    fn at(settings: &AzureSettings) -> (&str, &str) {
        (&settings.account().name, settings.account().endpoint.as_str())
    }

    #[test]
    fn an_account_is_named_in_many_ways() {
        let mine = ("mine", "https://mine.blob.core.windows.net/");
        for (spec, variables) in [
            ("", &[(CONNECTION_STRING, KEYED)][..]),
            ("", &[(CONNECTION_STRING, KEYED), (ACCOUNT, "mine")]),
            ("", &[(ACCOUNT, "mine"), (CONNECTION_STRING, " ")]),
            ("", &[(ENDPOINT, "https://mine.blob.core.windows.net/")]),
            ("mine", &[]),
            ("https://mine.blob.core.windows.net", &[]),
            ("mine", &[(ACCOUNT, "another")]),
        ] {
            let settings = read(spec, variables).unwrap();
            assert_eq!(at(&settings), mine, "{spec} {variables:?}");
            let keyed = variables.contains(&(CONNECTION_STRING, KEYED));
            assert_eq!(matches!(settings.credential, Credential::Key(_)), keyed);
        }
        let private = read("", &[(ACCOUNT, "mine"), (ENDPOINT, "https://private.example/")]).unwrap();
        assert_eq!(at(&private), ("mine", "https://private.example/"));
        let emulated = read("https://127.0.0.1:10000/devstoreaccount1", &[]).unwrap();
        assert_eq!(at(&emulated), ("devstoreaccount1", "https://127.0.0.1:10000/devstoreaccount1"));
    }

    #[test]
    fn what_is_missing_or_in_conflict_is_said_in_a_sentence() {
        for (spec, variables, said) in [
            ("", &[][..], "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT"),
            ("mine", &[(CONNECTION_STRING, KEYED)], "is set as well"),
            ("", &[(CONNECTION_STRING, KEYED), (ACCOUNT, "another")], "two accounts"),
            ("", &[(CONNECTION_STRING, KEYED), (ENDPOINT, "https://x.y/")], "both set"),
            ("", &[(CONNECTION_STRING, "AccountName=a")], "AZURE_STORAGE_CONNECTION_STRING has neither"),
            ("", &[(ACCOUNT, "Mine")], "AZURE_STORAGE_ACCOUNT is not the name"),
            ("", &[(ENDPOINT, "http://x.y/")], "AZURE_STORAGE_BLOB_ENDPOINT must begin with https://"),
            ("https://x.y/?sv=1&sig=U0VDUkVU", &[], "a SAS belongs into"),
            ("two words", &[], "is not the name"),
        ] {
            let why = read(spec, variables).unwrap_err();
            assert!(why.contains(said), "{spec} {variables:?}: {why}");
        }
    }

    #[test]
    fn a_further_account_has_a_variable_of_its_own() {
        let keyed = [("AZURE_STORAGE_CONNECTION_STRING_MINE", KEYED)];
        let settings = from_environment_named("mine", lookup(&keyed)).unwrap();
        assert!(matches!(settings.credential, Credential::Key(_)));
        let settings = from_environment_named("other", lookup(&keyed)).unwrap();
        assert_eq!(at(&settings), ("other", "https://other.blob.core.windows.net/"));
        assert!(matches!(settings.credential, Credential::Identity(_)));
        let settings = from_environment_named("https://far.blob.core.chinacloudapi.cn", lookup(&[])).unwrap();
        assert_eq!(at(&settings), ("far", "https://far.blob.core.chinacloudapi.cn/"));
        let crossed = [("AZURE_STORAGE_CONNECTION_STRING_OTHER", KEYED)];
        assert!(from_environment_named("other", lookup(&crossed)).unwrap_err().contains("another account"));
        assert!(from_environment_named("UPPER", lookup(&[])).unwrap_err().contains("lower-case"));
    }

    struct Never;

    #[async_trait::async_trait]
    impl AssertionSource for Never {
        async fn assertion(&self) -> Result<String, String> {
            Err("the API server is away".to_owned())
        }
    }

    #[test]
    fn a_program_gives_what_others_read_from_the_environment() {
        let keyed = AzureSettings::from_connection_string(KEYED).unwrap();
        assert_eq!(at(&keyed), ("mine", "https://mine.blob.core.windows.net/"));
        let emulated = AzureSettings::from_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(at(&emulated).0, "devstoreaccount1");
        let why = AzureSettings::from_connection_string("AccountName=a").unwrap_err();
        assert!(why.starts_with("the connection string has neither AccountKey"), "{why}");

        let asserted = |account: &str, client: &str| {
            AzureSettings::with_assertion(account, "t".to_owned(), client.to_owned(), Arc::new(Never))
        };
        for account in ["mine", "https://mine.blob.core.windows.net"] {
            let settings = asserted(account, "c").unwrap();
            assert_eq!(at(&settings), ("mine", "https://mine.blob.core.windows.net/"));
            assert!(matches!(settings.credential, Credential::Identity(Identity::Asserted { .. })));
        }
        assert!(asserted("http://x.y/", "c").unwrap_err().contains("https://"));
        assert!(asserted("Mine", "c").unwrap_err().contains("is not the name"));
        assert_eq!(asserted("mine", " ").unwrap_err(), "the identity for `mine` has no client id");

        let own = AzureSettings::with_own_identity("mine", lookup(&[(CONNECTION_STRING, KEYED)])).unwrap();
        assert!(matches!(own.credential, Credential::Identity(Identity::Any)));
        let half = [("AZURE_FEDERATED_TOKEN_FILE", "/token")];
        let why = AzureSettings::with_own_identity("mine", lookup(&half)).unwrap_err();
        assert!(why.contains("AZURE_CLIENT_ID"), "{why}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let sas = "BlobEndpoint=https://a.b/;SharedAccessSignature=sig=U0VDUkVU";
        for text in [KEYED, sas] {
            assert!(!format!("{:?}", read("", &[(CONNECTION_STRING, text)]).unwrap()).contains("U0VDUkVU"));
        }
    }
}
