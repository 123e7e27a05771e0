//! Access files, and what callers show.

use std::path::{Path, PathBuf};

use argon2::password_hash::CustomizedPasswordHasher;
use argon2::{Argon2, Params};
use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A password as argon2id leaves it, going through this much memory twice.
#[must_use]
pub fn hashed(password: &str, memory_kib: u32) -> String {
    let params = Params::new(memory_kib, 2, 1, None).expect("these are within argon2's limits");
    let salt = b"a salt of the tests";
    let hash = Argon2::default().hash_password_customized(password.as_bytes(), salt, None, None, params);
    hash.expect("argon2 takes any password").to_string()
}

/// The entry of a user whose password is `<name>'s password`.
#[must_use]
pub fn user(name: &str, memory_kib: u32, grants: &[&str]) -> String {
    let hash = hashed(&format!("{name}'s password"), memory_kib);
    format!("- name: {name}\n  password: {hash}\n  grants: {grants:?}\n")
}

/// The entry of a token `<name>-token`.
#[must_use]
pub fn token(name: &str, grants: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{name}-token").as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("- name: {name}\n  sha256: {hex}\n  grants: {grants:?}\n")
}

/// What Basic shows for a name and a password.
#[must_use]
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// What the user of this name shows.
#[must_use]
pub fn as_user(name: &str) -> String {
    basic(name, &format!("{name}'s password"))
}

/// What who has the token of this name shows.
#[must_use]
pub fn with_token(name: &str) -> String {
    format!("Bearer {name}-token")
}

/// An access file that is replaced as Kubernetes replaces a mounted Secret: by a link to another directory.
#[derive(Debug)]
pub struct AccessFile {
    folder: PathBuf,
    version: std::cell::Cell<u32>,
}

impl AccessFile {
    /// With this content, in this directory.
    #[must_use]
    pub fn new(folder: &Path, content: &str) -> Self {
        let file = Self { folder: folder.to_owned(), version: std::cell::Cell::new(0) };
        let link = file.folder.join("access.yaml");
        std::os::unix::fs::symlink("..data/access.yaml", link).expect("links can be made");
        file.replace(content);
        file
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("access.yaml")
    }

    /// Replaces all of it at once.
    pub fn replace(&self, content: &str) {
        const ROOM: &str = "there is room for a small file";
        let version = self.version.replace(self.version.get() + 1);
        let name = format!("..version-{version}");
        std::fs::create_dir(self.folder.join(&name)).expect(ROOM);
        std::fs::write(self.folder.join(&name).join("access.yaml"), content).expect(ROOM);
        let (fresh, link) = (self.folder.join("..data_tmp"), self.folder.join("..data"));
        std::os::unix::fs::symlink(name, &fresh).expect(ROOM);
        std::fs::rename(fresh, link).expect(ROOM);
    }
}
