//! Tokens for an identity: which credential the environment asks for, and how long one waits for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientMethodOptions, ClientOptions};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};

use crate::env::Env;
use crate::limits::{AZURE_TOKEN_PAUSE, AZURE_TOKEN_TIME};

const CHOICE: &str = "AZURE_TOKEN_CREDENTIALS";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CLIENT: &str = "AZURE_CLIENT_ID";
const TENANT: &str = "AZURE_TENANT_ID";
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Where tokens come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Identity {
    /// Entra gives them for a token that Kubernetes keeps fresh in a file.
    Workload { tenant: String, client: String, token_file: PathBuf },
    /// The same for a token that somebody else fetches.
    Asserted { tenant: String, client: String, source: Source },
    /// The Azure machine, or app service, that this runs on.
    Managed { client: Option<String> },
    /// Who has signed in with `az` or `azd`.
    DeveloperTools,
    /// Developer tools, else the machine: whichever gives the first token.
    Any,
}

impl Identity {
    /// What the environment asks for. An error is a sentence that says what to set.
    pub(super) fn choose(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let managed = || Self::Managed { client: get(CLIENT) };
        let workload = |token_file: String| match (get(TENANT), get(CLIENT)) {
            (Some(tenant), Some(client)) => {
                Ok(Self::Workload { tenant, client, token_file: token_file.into() })
            }
            _ => Err(format!(
                "{TOKEN_FILE} is set, so {CLIENT} and {TENANT} must be set as well: label the pod \
                 azure.workload.identity/use=true and annotate its service account with the client id"
            )),
        };
        match get(CHOICE).as_deref() {
            None => match get(TOKEN_FILE) {
                Some(file) => workload(file),
                None if get(IDENTITY_ENDPOINT).is_some() || get(CLIENT).is_some() => Ok(managed()),
                None => Ok(Self::Any),
            },
            Some("prod") => get(TOKEN_FILE).map_or_else(|| Ok(managed()), workload),
            Some("dev") => Ok(Self::DeveloperTools),
            Some("WorkloadIdentityCredential") => {
                let file = get(TOKEN_FILE).ok_or_else(|| {
                    format!("{CHOICE} asks for workload identity, so {TOKEN_FILE} must be set")
                })?;
                workload(file)
            }
            Some("ManagedIdentityCredential") => Ok(managed()),
            Some(other) => Err(format!(
                "{CHOICE} is `{}`, but must be prod, dev, WorkloadIdentityCredential or ManagedIdentityCredential",
                other.escape_debug()
            )),
        }
    }

    /// The credential. Every request for a token goes through `client`, once.
    pub(super) fn credential(
        &self,
        client: &ClientOptions,
        env: &Env,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let inner: Arc<dyn TokenCredential> = match self {
            Self::Workload { tenant, client: id, token_file } => {
                asserted(tenant, id, Source(Arc::new(TokenFile(token_file.clone()))), client)?
            }
            Self::Asserted { tenant, client: id, source } => asserted(tenant, id, source.clone(), client)?,
            Self::Managed { client: id } => managed(id.as_deref(), client)?,
            Self::DeveloperTools => FirstThatWorks::of(vec![DeveloperToolsCredential::new(None)?]),
            Self::Any => {
                FirstThatWorks::of(vec![DeveloperToolsCredential::new(None)?, managed(None, client)?])
            }
        };
        Ok(Arc::new(Patient { inner, env: env.clone(), failed: Mutex::new(None) }))
    }
}

fn asserted(
    tenant: &str,
    id: &str,
    source: Source,
    client: &ClientOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let options = ClientAssertionCredentialOptions { client_options: client.clone() };
    Ok(ClientAssertionCredential::new(tenant.to_owned(), id.to_owned(), source, Some(options))?)
}

fn managed(id: Option<&str>, client: &ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
    Ok(ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
        user_assigned_id: id.map(|id| UserAssignedId::ClientId(id.to_owned())),
        client_options: client.clone(),
    }))?)
}

/// Where the token comes from that says who an identity is, and for which Entra gives one for the storage.
#[async_trait]
pub trait AssertionSource: Send + Sync + 'static {
    /// A token that is good now. It is asked for at each exchange, about once an hour, and has four
    /// seconds for that together with the exchange.
    ///
    /// # Errors
    ///
    /// A sentence, without secrets, that says why there is none.
    async fn assertion(&self) -> Result<String, String>;
}

/// A source as the SDK takes one. Two are the same where they are one object.
#[derive(Clone)]
pub(super) struct Source(pub(super) Arc<dyn AssertionSource>);

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Source {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for Source {
    async fn secret(&self, _options: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        self.0.assertion().await.map_err(failure)
    }
}

/// What Kubernetes signed, read anew for each exchange: it is replaced long before it runs out, and an exchange that
/// sends an old one fails for good. The SDK's own credential reads it every ten minutes at most.
struct TokenFile(PathBuf);

#[async_trait]
impl AssertionSource for TokenFile {
    async fn assertion(&self) -> Result<String, String> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        match read.unwrap_or_else(|error| Err(error.into())) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(format!("{} cannot be read: {error}", self.0.display())),
        }
    }
}

/// Keeps to the first credential that gave a token.
#[derive(Debug)]
struct FirstThatWorks {
    all: Vec<Arc<dyn TokenCredential>>,
    found: OnceLock<usize>,
}

impl FirstThatWorks {
    fn of(all: Vec<Arc<dyn TokenCredential>>) -> Arc<Self> {
        Arc::new(Self { all, found: OnceLock::new() })
    }
}

#[async_trait]
impl TokenCredential for FirstThatWorks {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if let Some(found) = self.found.get() {
            return self.all[*found].get_token(scopes, options).await;
        }
        for (index, credential) in self.all.iter().enumerate() {
            match credential.get_token(scopes, options.clone()).await {
                // Two requests may find the same at once.
                Ok(token) => return Ok((token, self.found.get_or_init(|| index)).0),
                Err(error) => tracing::debug!(error = %error.kind(), index, "this credential gives no token"),
            }
        }
        Err(failure(
            "no credential here gives one: sign in with `az login`, or set AZURE_CLIENT_ID or a connection \
             string",
        ))
    }
}

/// Bounds the wait for a token, and leaves a failing source alone for a while: a token that is still good for minutes
/// must not be held up by attempts to renew it.
#[derive(Debug)]
struct Patient {
    inner: Arc<dyn TokenCredential>,
    env: Env,
    /// When the last attempt failed, on the monotonic clock.
    failed: Mutex<Option<Duration>>,
}

impl Patient {
    fn set_failed(&self, failed: Option<Duration>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    fn paused(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| self.env.clock.monotonic().saturating_sub(at) < AZURE_TOKEN_PAUSE)
    }
}

#[async_trait]
impl TokenCredential for Patient {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if self.paused() {
            return Err(failure("the last attempt failed a moment ago"));
        }
        let outcome = self.env.timeout(AZURE_TOKEN_TIME, self.inner.get_token(scopes, options)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(failure("nobody answered in time")));
        self.set_failed(outcome.is_err().then(|| self.env.clock.monotonic()));
        outcome
    }
}

/// A failure in words of our own, which may be told: they stand in an inner error that is not the SDK's.
fn failure(why: impl Into<String>) -> azure_core::Error {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(String);
    azure_core::Error::new(ErrorKind::Credential, Told(why.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use azure_core::time::OffsetDateTime;

    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Result<Identity, String> {
        Identity::choose(&|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_chooses_the_identity() {
        let pod = [(TOKEN_FILE, "/token"), (CLIENT, "c"), (TENANT, "t")];
        let workload =
            Identity::Workload { tenant: "t".into(), client: "c".into(), token_file: "/token".into() };
        assert_eq!(chosen(&pod).unwrap(), workload);
        assert_eq!(chosen(&[&pod[..], &[(CHOICE, "prod")]].concat()).unwrap(), workload);
        assert_eq!(chosen(&[&pod[..], &[(CHOICE, "dev")]].concat()).unwrap(), Identity::DeveloperTools);
        let named = Identity::Managed { client: Some("c".into()) };
        assert_eq!(chosen(&[(CLIENT, "c")]).unwrap(), named);
        assert_eq!(chosen(&[&pod[..], &[(CHOICE, "ManagedIdentityCredential")]].concat()).unwrap(), named);
        assert_eq!(chosen(&[(IDENTITY_ENDPOINT, "http://x")]).unwrap(), Identity::Managed { client: None });
        assert_eq!(chosen(&[(CHOICE, "prod")]).unwrap(), Identity::Managed { client: None });
        assert_eq!(chosen(&[]).unwrap(), Identity::Any);
    }

    #[test]
    fn half_an_identity_is_refused_with_what_is_missing() {
        for (variables, said) in [
            (&[(TOKEN_FILE, "/token"), (CLIENT, "c")][..], TENANT),
            (&[(CHOICE, "WorkloadIdentityCredential")], TOKEN_FILE),
            (&[(CHOICE, "guess")], "must be prod, dev"),
        ] {
            assert!(chosen(variables).unwrap_err().contains(said), "{variables:?}");
        }
    }

    #[derive(Debug)]
    struct Source {
        asked: AtomicUsize,
        answers: fn(usize) -> Option<bool>,
    }

    #[async_trait]
    impl TokenCredential for Source {
        async fn get_token(
            &self,
            _scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            match (self.answers)(self.asked.fetch_add(1, Ordering::Relaxed)) {
                Some(true) => Ok(AccessToken::new("token", OffsetDateTime::now_utc())),
                Some(false) => Err(failure("no")),
                None => std::future::pending().await,
            }
        }
    }

    fn source(answers: fn(usize) -> Option<bool>) -> Arc<Source> {
        Arc::new(Source { asked: AtomicUsize::new(0), answers })
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_is_given_up_and_left_alone_for_a_while() {
        let env = Env::controlled(1);
        let inner = source(|asked| (asked > 0).then_some(true));
        let patient = Patient { inner: inner.clone(), env: env.clone(), failed: Mutex::new(None) };
        let started = env.clock.monotonic();
        patient.get_token(&["s"], None).await.unwrap_err();
        assert_eq!(env.clock.monotonic() - started, AZURE_TOKEN_TIME);
        patient.get_token(&["s"], None).await.unwrap_err();
        assert_eq!(inner.asked.load(Ordering::Relaxed), 1);
        env.clock.sleep(AZURE_TOKEN_PAUSE).await;
        patient.get_token(&["s"], None).await.unwrap();
        patient.get_token(&["s"], None).await.unwrap();
        assert_eq!(inner.asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_token_file_that_is_missing_is_named() {
        let source = Source(Arc::new(TokenFile("/does/not/exist".into())));
        let error = source.secret(None).await.unwrap_err();
        let told = super::super::errors::meaning(&error, super::super::errors::Asked::Other).to_string();
        assert!(told.contains("/does/not/exist cannot be read"), "{told}");
    }

    #[tokio::test]
    async fn the_first_source_that_works_is_kept() {
        let (first, second) = (source(|_| Some(false)), source(|_| Some(true)));
        let both = FirstThatWorks::of(vec![first.clone(), second.clone()]);
        both.get_token(&["s"], None).await.unwrap();
        both.get_token(&["s"], None).await.unwrap();
        let asked = |source: &Source| source.asked.load(Ordering::Relaxed);
        assert_eq!((asked(&first), asked(&second)), (1, 2));
    }
}
