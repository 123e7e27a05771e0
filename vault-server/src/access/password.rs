//! A password as argon2id left it, in the form that the argon2 command and all its libraries print (a PHC string).

use std::fmt;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::limits::{MAX_ARGON2_KIB, MAX_ARGON2_WORK_KIB};

/// From this size on glibc's allocator always takes memory from the system and gives it back at once (its
/// `DEFAULT_MMAP_THRESHOLD_MAX`). Smaller pieces would stay behind, one for each of the threads that verify passwords in
/// turn: hundreds of MiB after a flood.
const GIVEN_BACK_BYTES: usize = 32 << 20;

/// A password's hash, and what it takes to compare with it.
#[derive(Clone)]
pub(super) struct Password {
    argon2: Argon2<'static>,
    salt: Salt,
    hash: Output,
}

impl Password {
    /// Whether this is the password. Takes tens of milliseconds of a core, and the memory that the hash asks for.
    pub(super) fn is(&self, password: &[u8]) -> bool {
        let blocks = self.argon2.params().block_count();
        let mut memory = Vec::with_capacity(blocks.max(GIVEN_BACK_BYTES / Block::SIZE + 1));
        memory.resize(blocks, Block::new());
        let mut found = [0; Output::MAX_LENGTH];
        let found = &mut found[..self.hash.len()];
        let hashed = self.argon2.hash_password_into_with_memory(password, &self.salt, found, &mut memory);
        // Comparing two `Output`s takes the same time wherever they differ.
        hashed.is_ok() && Output::new(found).is_ok_and(|found| found == self.hash)
    }
}

impl TryFrom<String> for Password {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        understand(&text).ok_or_else(|| {
            "a password is a hash as argon2 prints it, such as $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>"
                .to_owned()
        })?
    }
}

/// Nothing where it is no such hash, else whether it may be verified.
fn understand(text: &str) -> Option<Result<Password, String>> {
    let parsed = PasswordHash::new(text).ok()?;
    if parsed.algorithm.as_str() != "argon2id" {
        return None;
    }
    let version = parsed.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    let (memory, work) = (params.m_cost(), u64::from(params.m_cost()) * u64::from(params.t_cost()));
    if memory > MAX_ARGON2_KIB || work > MAX_ARGON2_WORK_KIB {
        return Some(Err(format!(
            "verifying this password costs too much: m may be {MAX_ARGON2_KIB}, m times t {MAX_ARGON2_WORK_KIB}"
        )));
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    Some(Ok(Password { argon2, salt: parsed.salt?, hash: parsed.hash? }))
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `echo -n 'correct horse' | argon2 'some salt' -id -m 10 -t 2 -p 2 -e`
    const OF_THE_COMMAND: &str =
        "$argon2id$v=19$m=1024,t=2,p=2$c29tZSBzYWx0$OgITkIRoG21FLUd2rcraQUC7Y99ONo3ET4rwxxZUH7s";

    #[test]
    fn what_the_argon2_command_prints_is_understood() {
        let password = Password::try_from(OF_THE_COMMAND.to_owned()).unwrap();
        assert!(password.is(b"correct horse"));
        assert!(!password.is(b"correct horsf") && !password.is(b""));
        assert_eq!(format!("{password:?}"), "Password(..)");
    }

    #[test]
    fn what_is_no_such_hash_or_costs_too_much_is_refused() {
        let refused = |text: String| Password::try_from(text).unwrap_err();
        let with = |params: &str| refused(OF_THE_COMMAND.replace("m=1024,t=2,p=2", params));
        for params in ["m=131073,t=1,p=1", "m=65536,t=17,p=1", "m=4294967295,t=1,p=1"] {
            assert!(with(params).contains("costs too much"), "{params}");
        }
        for params in ["m=1024,t=0,p=1", "m=7,t=1,p=1", "m=1024,t=1,p=0", "x=1"] {
            assert!(with(params).contains("argon2id"), "{params}");
        }
        let (no_hash, _) = OF_THE_COMMAND.rsplit_once('$').unwrap();
        for text in [
            "",
            "correct horse",
            no_hash,
            &OF_THE_COMMAND.replace("argon2id", "argon2i"),
            &OF_THE_COMMAND.replace("v=19", "v=20"),
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        ] {
            assert!(refused(text.to_owned()).contains("$argon2id$"), "{text}");
        }
    }
}
