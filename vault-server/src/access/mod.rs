//! Who may use the server. `docs/access.md` tells it to operators; `http::authorize` asks here for every request.
//!
//! ```text
//!  access file --watch--> policy --+-- passwords   argon2id, verified once, then known by a keyed hash
//!                                  +-- tokens      by their SHA-256
//!                                  +-- issuer      keys by discovery; `keys` and `claims` judge what is signed
//!  Authorization --credentials--> policy --> caller, with its grants
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`grants`], [`caller`], [`refusal`] | who may do what; why somebody is not let in |
//! | `file`, `texts`, `password` | the access file, from YAML; the texts in it; passwords as argon2id left them |
//! | `watch` | the file on disk, and the files that it names |
//! | `policy` | a file in force, with what was found out under it |
//! | `credentials`, `passwords` | `Authorization`; names with passwords |
//! | `keys`, `claims` | published keys; what signed tokens claim |
//! | `issuer`, `fetch` | issuers of signed tokens, and asking them for their keys |
//! | [`audit`] | who did what, and who was refused |

pub mod audit;
pub mod caller;
mod claims;
mod credentials;
mod fetch;
mod file;
pub mod grants;
mod issuer;
mod keys;
mod password;
mod passwords;
mod policy;
pub mod refusal;
mod texts;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::http::HeaderMap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::audit::Audit;
use crate::access::caller::Caller;
use crate::access::policy::Policy;
use crate::access::refusal::Refused;
use crate::access::watch::{Found, understand};
use crate::env::Env;
use crate::limits::{LOOK_AT_FILES_EVERY, MAX_WATCHED_FILE_BYTES};
use crate::watched::{Settling, read_bounded};

/// Who may use the server, as the access file has it now.
#[derive(Debug)]
pub struct Access {
    env: Env,
    asked: Option<Asked>,
    pub(crate) audit: Audit,
}

/// What there is where people are asked who they are.
#[derive(Debug)]
struct Asked {
    policy: RwLock<Arc<Policy>>,
    passwords_at_once: Arc<Semaphore>,
    path: PathBuf,
    /// What stands in the file, until the task takes it.
    content: Mutex<Option<Settling<Found>>>,
    /// What is wrong with the newest file.
    trouble: Mutex<Option<String>>,
}

impl Access {
    /// Nobody is asked who they are, and everybody may do everything.
    #[must_use]
    pub fn for_everybody(env: Env) -> Arc<Self> {
        Arc::new(Self { audit: Audit::new(env.clone()), env, asked: None })
    }

    /// Those whom the file names.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, the line and the field that is wrong.
    pub fn from_file(path: PathBuf, env: Env) -> Result<Arc<Self>, String> {
        let found = read_bounded(&path, MAX_WATCHED_FILE_BYTES);
        let file = understand(&path, &found)?;
        let passwords_at_once = passwords::at_once();
        let policy = Arc::new(Policy::new(file, &env, &passwords_at_once, None));
        let asked = Asked {
            policy: RwLock::new(policy),
            passwords_at_once,
            path,
            content: Mutex::new(Some(Settling::new(found))),
            trouble: Mutex::new(None),
        };
        Ok(Arc::new(Self { audit: Audit::new(env.clone()), env, asked: Some(asked) }))
    }

    /// Whether people are asked who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// Who makes the request with these headers.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        match &self.asked {
            None => Ok(Caller::anybody()),
            Some(asked) => asked.policy().authenticate(headers).await,
        }
    }

    /// What is wrong with the newest access file, or with the issuers that it names, in a sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let asked = self.asked.as_ref()?;
        let trouble = asked.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let policy = asked.policy();
        let issuers = policy.issuers().filter_map(|issuer| issuer.trouble());
        let all: Vec<_> = trouble.into_iter().chain(issuers).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Keeps the file and the keys of issuers fresh until `stopping`. Does nothing when it is called again.
    pub async fn run(&self, stopping: &CancellationToken) {
        let Some(asked) = &self.asked else { return };
        let content = asked.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut content) = content else { return };
        let issuers = TaskTracker::new();
        let begin = |before: Option<&Policy>, policy: &Policy| {
            for issuer in policy.issuers() {
                let runs = before.is_some_and(|before| before.issuers().any(|old| Arc::ptr_eq(old, issuer)));
                if !runs {
                    let issuer = Arc::clone(issuer);
                    issuers.spawn(async move { issuer.run().await });
                }
            }
        };
        begin(None, &asked.policy());
        loop {
            tokio::select! {
                () = self.env.clock.sleep(LOOK_AT_FILES_EVERY) => {}
                () = stopping.cancelled() => break,
            }
            self.audit.tell_of_the_left_out(false);
            let path = asked.path.clone();
            let looked =
                tokio::task::spawn_blocking(move || read_bounded(&path, MAX_WATCHED_FILE_BYTES)).await;
            let Ok(found) = looked else { break };
            if !content.changed(found) {
                continue;
            }
            let before = asked.policy();
            let understood = {
                let (path, settled) = (asked.path.clone(), content.settled().clone());
                tokio::task::spawn_blocking(move || understand(&path, &settled)).await
            };
            let Ok(understood) = understood else { break };
            let file = match understood {
                Ok(file) => file,
                Err(why) => {
                    tracing::error!(why, "the new access file is not valid; the old one stays in force");
                    asked.set_trouble(Some(why));
                    continue;
                }
            };
            let policy = Arc::new(Policy::new(file, &self.env, &asked.passwords_at_once, Some(&before)));
            begin(Some(&before), &policy);
            *asked.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&policy);
            asked.set_trouble(None);
            for old in before.issuers() {
                if !policy.issuers().any(|issuer| Arc::ptr_eq(old, issuer)) {
                    old.stop.cancel();
                }
            }
            tracing::info!(file = %asked.path.display(), "a new access file is in force");
        }
        asked.policy().issuers().for_each(|issuer| issuer.stop.cancel());
        issuers.close();
        issuers.wait().await;
        self.audit.tell_of_the_left_out(true);
    }
}

impl Asked {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
