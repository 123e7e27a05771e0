//! Names with passwords. Verifying one is made to be slow, so each is verified on first sight alone, few at a time, and
//! never more than a few for one name wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::access::caller::Caller;
use crate::access::file::User;
use crate::access::password::Password;
use crate::access::refusal::Refused;
use crate::env::Env;
use crate::limits::{CREDENTIALS_CACHED, PASSWORD_PATIENCE, PASSWORDS_AT_ONCE, PASSWORDS_WAITING};

const WRONG: Refused = Refused::Unauthenticated("the user name or the password is wrong");
const MALFORMED: Refused =
    Refused::Unauthenticated("`Authorization: Basic` takes base64 of a user name, a colon and a password");

/// What a name and password are remembered by: nobody can tell them from it without the key, which is never stored.
type Print = [u8; 32];

/// How many passwords are verified at once, of all access files of this process.
pub(super) fn at_once() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((cores / 2).clamp(1, PASSWORDS_AT_ONCE)))
}

/// The users of an access file.
pub(super) struct Passwords {
    env: Env,
    key: hmac::Key,
    users: HashMap<String, Known>,
    /// One of their passwords is verified where the name is unknown, so that names cannot be told by the time.
    decoys: Vec<Password>,
    unknown: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
    accepted: Cache<Print, Caller>,
    wrong: Cache<Print, ()>,
}

struct Known {
    password: Password,
    caller: Caller,
    /// Places for passwords that wait to be verified.
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new(users: Vec<User>, env: Env, at_once: Arc<Semaphore>) -> Self {
        let mut key = [0; 32];
        env.entropy.fill(&mut key);
        let places = || Arc::new(Semaphore::new(PASSWORDS_WAITING));
        let decoys = users.iter().map(|user| user.password.clone()).collect();
        let known = |user: User| {
            let caller = Caller::new(format!("user {}", user.name.0), [user.grants]);
            (user.name.0, Known { password: user.password, caller, places: places() })
        };
        Self {
            env,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            users: users.into_iter().map(known).collect(),
            decoys,
            unknown: places(),
            at_once,
            accepted: Cache::new(CREDENTIALS_CACHED),
            wrong: Cache::new(CREDENTIALS_CACHED),
        }
    }

    fn print(&self, text: &str) -> Print {
        let tag = hmac::sign(&self.key, text.as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// Whose name and password these are, in base64.
    pub(super) async fn authenticate(&self, basic: &str) -> Result<Caller, Refused> {
        let print = self.print(basic);
        if let Some(caller) = self.accepted.get(&print) {
            return Ok(caller);
        }
        let verified = self.env.timeout(PASSWORD_PATIENCE, self.verify_once(basic, print)).await;
        verified.unwrap_or(Err(Refused::Busy))
    }

    /// Many connections that show the same at once have it verified once.
    async fn verify_once(&self, basic: &str, print: Print) -> Result<Caller, Refused> {
        let guard = match self.accepted.get_value_or_guard_async(&print).await {
            Ok(caller) => return Ok(caller),
            Err(guard) => guard,
        };
        if self.wrong.get(&print).is_some() {
            return Err(WRONG);
        }
        let caller = match self.verify(basic).await {
            Ok(caller) => caller,
            Err(refused) => {
                if refused == WRONG {
                    self.wrong.insert(print, ());
                }
                return Err(refused);
            }
        };
        // It fails where the cache was emptied meanwhile, which does not make the password wrong.
        let _ = guard.insert(caller.clone());
        Ok(caller)
    }

    async fn verify(&self, basic: &str) -> Result<Caller, Refused> {
        let bytes = BASE64_STANDARD.decode(basic).map_err(|_| MALFORMED)?;
        let colon = bytes.iter().position(|byte| *byte == b':').ok_or(MALFORMED)?;
        let known = std::str::from_utf8(&bytes[..colon]).ok().and_then(|name| self.users.get(name));
        let (password, places) = match known {
            Some(known) => (known.password.clone(), &known.places),
            None => {
                let print = self.print(&String::from_utf8_lossy(&bytes[..colon]));
                let Some(decoy) = usize::from(print[0]).checked_rem(self.decoys.len()) else {
                    return Err(WRONG);
                };
                (self.decoys[decoy].clone(), &self.unknown)
            }
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let turn = Arc::clone(&self.at_once).acquire_owned().await.expect("it is never closed");
        let right = tokio::task::spawn_blocking(move || {
            // It goes on although its caller may have gone: until then it counts.
            let _counted = (place, turn);
            password.is(&bytes[colon + 1..])
        });
        match (known, right.await) {
            (Some(known), Ok(true)) => Ok(known.caller.clone()),
            (_, Ok(_)) => Err(WRONG),
            // The process is about to end.
            (_, Err(_)) => Err(Refused::Busy),
        }
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::CustomizedPasswordHasher;
    use argon2::{Argon2, Params};

    use super::*;
    use crate::access::file;
    use crate::access::grants::Right;

    fn hashed(password: &str, memory_kib: u32) -> String {
        let params = Params::new(memory_kib, 1, 1, None).unwrap();
        let hash = Argon2::default().hash_password_customized(
            password.as_bytes(),
            b"some salt of the test",
            None,
            None,
            params,
        );
        hash.unwrap().to_string()
    }

    fn passwords(memory_kib: u32) -> Arc<Passwords> {
        let users = ["good", "other"].map(|name| {
            let hash = hashed(&format!("{name} password"), memory_kib);
            format!("- {{name: {name}, password: {hash:?}, grants: ['{name}:read']}}\n")
        });
        let file = file::parse(format!("users:\n{}", users.concat()).as_bytes()).unwrap();
        Arc::new(Passwords::new(file.users, Env::real(), Arc::new(Semaphore::new(1))))
    }

    fn basic(name: &str, password: &str) -> String {
        BASE64_STANDARD.encode(format!("{name}:{password}"))
    }

    #[tokio::test]
    async fn the_right_password_lets_in_and_is_remembered() {
        let passwords = passwords(64);
        let right = basic("good", "good password");
        for _ in 0..2 {
            let caller = passwords.authenticate(&right).await.unwrap();
            assert_eq!(caller.name(), "user good");
            assert!(caller.may("good", Right::Read) && !caller.may("other", Right::Read));
        }
        assert_eq!(passwords.accepted.len(), 1);
        // Without a turn nothing can be verified, but what is known needs none.
        let _turn = Arc::clone(&passwords.at_once).acquire_owned().await.unwrap();
        passwords.authenticate(&right).await.unwrap();
    }

    #[tokio::test]
    async fn everything_else_is_refused_in_the_same_words() {
        let passwords = passwords(64);
        let all =
            [("good", "other password"), ("good", ""), ("nobody", "good password"), ("", ""), ("GOOD", "x")];
        for (name, password) in all {
            let shown = basic(name, password);
            assert_eq!(passwords.authenticate(&shown).await.unwrap_err(), WRONG);
            let _turn = Arc::clone(&passwords.at_once).acquire_owned().await.unwrap();
            assert_eq!(passwords.authenticate(&shown).await.unwrap_err(), WRONG, "it is remembered");
        }
        for malformed in ["", "?", &BASE64_STANDARD.encode("no colon")] {
            assert_eq!(passwords.authenticate(malformed).await.unwrap_err(), MALFORMED);
        }
        assert_eq!(passwords.accepted.len(), 0);
    }

    #[tokio::test]
    async fn guessing_at_one_name_holds_up_no_other() {
        let passwords = passwords(64);
        let turn = Arc::clone(&passwords.at_once).acquire_owned().await.unwrap();
        let guesses: Vec<_> = (0..100)
            .map(|n| {
                let (passwords, name) = (Arc::clone(&passwords), ["good", "nobody"][n % 2]);
                tokio::spawn(async move { passwords.authenticate(&basic(name, &n.to_string())).await })
            })
            .collect();
        let waiting = async |passwords: &Passwords| {
            while passwords.unknown.available_permits() + passwords.users["good"].places.available_permits()
                > 0
            {
                tokio::task::yield_now().await;
            }
        };
        waiting(&passwords).await;
        let other = {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move { passwords.authenticate(&basic("other", "other password")).await })
        };
        drop(turn);
        other.await.unwrap().unwrap();
        let mut busy = 0;
        for guess in guesses {
            busy += usize::from(guess.await.unwrap().unwrap_err() == Refused::Busy);
        }
        assert_eq!(busy, 100 - 2 * PASSWORDS_WAITING);
    }

    #[tokio::test]
    async fn many_connections_with_the_same_password_have_it_verified_once() {
        let passwords = passwords(64);
        let turn = Arc::clone(&passwords.at_once).acquire_owned().await.unwrap();
        let shown: Vec<_> = (0..100)
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                tokio::spawn(async move { passwords.authenticate(&basic("good", "good password")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(turn);
        for shown in shown {
            shown.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn an_unknown_name_takes_as_long_as_a_wrong_password() {
        let passwords = passwords(16 << 10);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..15 {
            for (name, times) in ["good", "nobody"].iter().zip(&mut times) {
                let began = passwords.env.clock.monotonic();
                passwords.authenticate(&basic(name, &round.to_string())).await.unwrap_err();
                times.push(passwords.env.clock.monotonic() - began);
            }
        }
        let [known, unknown] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        assert!(unknown > known / 2 && unknown < known * 2, "{known:?} and {unknown:?}");
    }

    #[tokio::test]
    async fn without_users_nobody_is_let_in() {
        let passwords = Passwords::new(Vec::new(), Env::real(), at_once());
        assert_eq!(passwords.authenticate(&basic("a", "b")).await.unwrap_err(), WRONG);
    }
}
