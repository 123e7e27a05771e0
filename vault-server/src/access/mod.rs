//! Who may use the server. `docs/access.md` tells it to operators; `http::authorize` asks here for every request.
//!
//! ```text
//!  access files -watch--> policy --+-- passwords   argon2id, verified once, then known by a keyed hash
//!                                  +-- tokens      by their SHA-256
//!                                  +-- issuer      keys by discovery; `keys` and `claims` judge what is signed
//!  Authorization --credentials--> policy --> caller, with its grants
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`grants`], [`caller`], [`refusal`] | who may do what; why somebody is not let in |
//! | `file`, `texts`, `password` | access files, from YAML; the texts in them; passwords as argon2id left them |
//! | `watch` | the files on disk, and the files that they name |
//! | `policy` | the files in force, with what was found out under it |
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
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
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
use crate::access::watch::{Found, look, understand};
use crate::env::Env;
use crate::limits::LOOK_AT_FILES_EVERY;
use crate::watched::Settling;

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
    paths: Vec<PathBuf>,
    /// What stands in the files, until the task takes it.
    content: Mutex<Option<Settling<Vec<Found>>>>,
    /// What is wrong with the newest files.
    trouble: Mutex<Option<String>>,
}

/// Checks the text of an access file. The files that it names are not looked at.
///
/// # Errors
///
/// A sentence that names the line and the field that is wrong, and nothing that may be secret.
pub fn check(text: &str) -> Result<(), String> {
    file::parse(text.as_bytes()).map(|_| ())
}

impl Access {
    /// Nobody is asked who they are, and everybody may do everything.
    #[must_use]
    pub fn for_everybody(env: Env) -> Arc<Self> {
        Arc::new(Self { audit: Audit::new(env.clone()), env, asked: None })
    }

    /// Those whom the files name, taken together. Without a file that is nobody.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, the line and the field that is wrong.
    pub fn from_files(paths: Vec<PathBuf>, env: Env) -> Result<Arc<Self>, String> {
        let found = look(&paths);
        let file = understand(&paths, &found)?;
        let passwords_at_once = passwords::at_once();
        let policy = Arc::new(Policy::new(file, &env, &passwords_at_once, None));
        let asked = Asked {
            policy: RwLock::new(policy),
            passwords_at_once,
            paths,
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

    /// Keeps the files and the keys of issuers fresh until `stopping`. Does nothing when it is called again.
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
            let paths = asked.paths.clone();
            let looked = tokio::task::spawn_blocking(move || look(&paths)).await;
            let Ok(found) = looked else { break };
            if !content.changed(found) {
                continue;
            }
            let before = asked.policy();
            let understood = {
                let (paths, settled) = (asked.paths.clone(), content.settled().clone());
                tokio::task::spawn_blocking(move || understand(&paths, &settled)).await
            };
            let Ok(understood) = understood else { break };
            let file = match understood {
                Ok(file) => file,
                Err(why) => {
                    tracing::error!(
                        why,
                        "the new access file is not valid; what was there before stays in force"
                    );
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
            tracing::info!(files = ?asked.paths, "a new access file is in force");
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

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;
    use sha2::{Digest, Sha256};

    use super::*;

    fn token(name: &str) -> String {
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("tokens:\n- {{name: {name}, sha256: {hash:?}, grants: ['all:read']}}\n")
    }

    #[tokio::test(start_paused = true)]
    async fn several_files_are_in_force_together_and_one_that_is_wrong_holds_all_back() {
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::controlled(1));
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        let write = |index: usize, text: &str| std::fs::write(&paths[index], text).unwrap();
        write(0, &token("a"));
        write(1, &token("a"));
        let twice = Access::from_files(paths.to_vec(), env.clone()).unwrap_err();
        assert!(twice.contains("two: tokens[0].name: there is a token of this name before"), "{twice}");
        write(1, &token("b"));
        let access = Access::from_files(paths.to_vec(), env.clone()).unwrap();
        let (running, stop) = (Arc::clone(&access), CancellationToken::new());
        let stopping = stop.clone();
        let running = tokio::spawn(async move { running.run(&stopping).await });
        let let_in = async |tokens: [&str; 4]| {
            env.clock.sleep(5 * LOOK_AT_FILES_EVERY).await;
            let mut known = Vec::new();
            for token in tokens {
                let header = format!("Bearer {token}").parse().unwrap();
                known.push(
                    access.authenticate(&HeaderMap::from_iter([(AUTHORIZATION, header)])).await.is_ok(),
                );
            }
            known
        };
        let all = ["a", "b", "c", "d"];
        assert_eq!(let_in(all).await, [true, true, false, false]);
        // One is right and new, the other is wrong.
        write(0, &token("c"));
        write(1, "tokens: [\n");
        assert_eq!(let_in(all).await, [true, true, false, false]);
        assert!(access.trouble().unwrap().contains("two: "), "{:?}", access.trouble());
        write(1, &token("d"));
        assert_eq!(let_in(all).await, [false, false, true, true]);
        assert_eq!(access.trouble(), None);
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn a_text_can_be_checked_before_it_becomes_a_file() {
        assert_eq!(super::check("tokens: []\n"), Ok(()));
        let missing = "issuers:\n- url: https://a\n  audience: a\n  grants: []\n  ca_file: /does/not/exist\n";
        assert_eq!(super::check(missing), Ok(()));
        assert!(super::check("tokens:\n- name: a\n").unwrap_err().contains("line 2"));
    }
}
