//! An issuer of signed tokens: the keys that it is known to sign with, and the task that keeps them fresh.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::access::fetch::{self, Place};
use crate::access::keys::KeySet;
use crate::access::refusal::Refused;
use crate::env::Env;
use crate::limits::{ISSUER_KEYS_EVERY, ISSUER_KEYS_KEPT, ISSUER_PATIENCE, ISSUER_PAUSE};

/// An issuer, for as long as an access file names it.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) place: Place,
    env: Env,
    state: Mutex<State>,
    /// Somebody wants a key that is not among those known.
    wanted: Notify,
    /// How often the keys were asked for, whatever the outcome.
    asked: watch::Sender<u64>,
    /// The end of its task.
    pub(super) stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    /// Another one for each set of keys.
    version: u64,
    /// When the keys were fetched, on the monotonic clock.
    fetched: Option<Duration>,
    /// When they were last asked for.
    asked: Option<Duration>,
    /// They are being asked for.
    asking: bool,
    trouble: Option<String>,
}

impl Issuer {
    /// One of which nothing is known yet. `run` must run.
    pub(super) fn new(place: Place, env: Env) -> Arc<Self> {
        Arc::new(Self {
            place,
            env,
            state: Mutex::new(State { asking: true, ..State::default() }),
            wanted: Notify::new(),
            asked: watch::Sender::new(0),
            stop: CancellationToken::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which set of keys is in force: a token verified with an earlier one is verified again.
    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    /// What keeps it from saying its keys.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.state();
        state.trouble.as_ref().map(|why| format!("the keys of {} are not to be had: {why}", self.place.url.0))
    }

    /// The key with this id for signatures of this kind, and the version of the set that it is from. Where it is
    /// not known, the issuer is asked, but not too often.
    ///
    /// # Errors
    ///
    /// [`Refused::IssuerUnavailable`] where the issuer may know the key but does not answer.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(DecodingKey, u64), Refused> {
        if let Some(found) = self.known(id, algorithm) {
            return Ok(found);
        }
        self.ask().await;
        if let Some(found) = self.known(id, algorithm) {
            return Ok(found);
        }
        if self.state().trouble.is_some() || *self.asked.borrow() == 0 {
            return Err(Refused::IssuerUnavailable);
        }
        Err(Refused::Unauthenticated("the token is signed with a key that its issuer does not publish"))
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<(DecodingKey, u64)> {
        let (keys, version) = {
            let state = self.state();
            let age = self.env.clock.monotonic().saturating_sub(state.fetched?);
            if age > ISSUER_KEYS_KEPT {
                return None;
            }
            (Arc::clone(&state.keys), state.version)
        };
        keys.find(id, algorithm).map(|key| (key.clone(), version))
    }

    /// Waits until the issuer was asked, unless that was a moment ago.
    async fn ask(&self) {
        let mut asked = self.asked.subscribe();
        {
            let state = self.state();
            let ago = state.asked.map(|at| self.env.clock.monotonic().saturating_sub(at));
            if !state.asking && ago.is_some_and(|ago| ago < ISSUER_PAUSE) {
                return;
            }
        }
        self.wanted.notify_one();
        // What has not come by then is not known.
        let _ = self.env.timeout(ISSUER_PATIENCE, asked.changed()).await;
    }

    /// Keeps the keys fresh until `stop`.
    pub(super) async fn run(&self) {
        loop {
            self.state().asking = true;
            let fetched = tokio::select! {
                fetched = fetch::keys(&self.env, &self.place) => fetched,
                () = self.stop.cancelled() => return,
            };
            let well = fetched.is_ok();
            self.take(fetched);
            self.asked.send_modify(|count| *count += 1);
            let next = async {
                self.env.clock.sleep(ISSUER_PAUSE).await;
                if well {
                    let rest = self.env.jitter(ISSUER_KEYS_EVERY);
                    // Either is a reason.
                    let _ = self.env.timeout(rest, self.wanted.notified()).await;
                }
            };
            tokio::select! {
                () = next => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    pub(super) fn take(&self, fetched: Result<KeySet, String>) {
        let mut state = self.state();
        let now = self.env.clock.monotonic();
        (state.asking, state.asked) = (false, Some(now));
        match fetched {
            Ok(keys) => {
                state.fetched = Some(now);
                if state.trouble.take().is_some() {
                    tracing::info!(issuer = self.place.url.0, "the issuer says its keys again");
                }
                if !keys.is_as(&state.keys) {
                    (state.keys, state.version) = (Arc::new(keys), state.version + 1);
                    tracing::info!(issuer = self.place.url.0, version = state.version, "keys of an issuer");
                }
            }
            Err(why) => {
                if state.trouble.as_ref() != Some(&why) {
                    tracing::error!(
                        issuer = self.place.url.0,
                        why,
                        "the keys of an issuer are not to be had"
                    );
                }
                state.trouble = Some(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::texts::IssuerUrl;

    fn issuer() -> Arc<Issuer> {
        let url = IssuerUrl::try_from("https://issuer.invalid".to_owned()).unwrap();
        Issuer::new(Place { url, ca_file: None, token_file: None }, Env::controlled(1))
    }

    fn keys(id: &str) -> KeySet {
        let set = json!({"keys": [{"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB"}]});
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    async fn asked(issuer: &Issuer, id: &str) -> Result<u64, Refused> {
        issuer.key(Some(id), Algorithm::RS256).await.map(|(_, version)| version)
    }

    #[tokio::test(start_paused = true)]
    async fn known_keys_outlive_their_issuer_by_hours_but_not_for_ever() {
        let issuer = issuer();
        assert_eq!(asked(&issuer, "a").await, Err(Refused::IssuerUnavailable));
        issuer.take(Ok(keys("a")));
        assert_eq!(asked(&issuer, "a").await, Ok(1));
        issuer.env.clock.sleep(ISSUER_KEYS_KEPT).await;
        issuer.take(Err("it is down".to_owned()));
        assert_eq!(asked(&issuer, "a").await, Ok(1));
        assert_eq!(asked(&issuer, "b").await, Err(Refused::IssuerUnavailable));
        assert!(issuer.trouble().unwrap().contains("it is down"));
        issuer.env.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(asked(&issuer, "a").await, Err(Refused::IssuerUnavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_asked_for_but_not_too_often() {
        let issuer = issuer();
        issuer.take(Ok(keys("a")));
        issuer.asked.send_modify(|count| *count += 1);
        let began = issuer.env.clock.monotonic();
        assert!(matches!(asked(&issuer, "b").await, Err(Refused::Unauthenticated(_))));
        assert_eq!(issuer.env.clock.monotonic(), began, "it was asked a moment ago");
        issuer.env.clock.sleep(ISSUER_PAUSE).await;
        let asking = {
            let issuer = Arc::clone(&issuer);
            tokio::spawn(async move { asked(&issuer, "b").await })
        };
        issuer.wanted.notified().await;
        issuer.take(Ok(keys("b")));
        issuer.asked.send_modify(|count| *count += 1);
        assert_eq!(asking.await.unwrap(), Ok(2));
        // The old key is gone with the set that it was in.
        assert!(matches!(asked(&issuer, "a").await, Err(Refused::Unauthenticated(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_keys_are_no_new_version() {
        let issuer = issuer();
        issuer.take(Ok(keys("a")));
        issuer.take(Err("x".to_owned()));
        issuer.take(Ok(keys("a")));
        assert_eq!((issuer.version(), issuer.trouble()), (1, None));
    }
}
