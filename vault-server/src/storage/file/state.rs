//! The small file beside a page blob: its size, sequence number and ETag. Written only when one of them changes, so
//! that a write of pages costs one sync.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vault_format::ids::Term;
use vault_format::limits::PAGE_BYTES;

use super::super::leases::random_hex;
use super::super::{ETag, StorageError};
use super::disk::{self, Layout, Temporary};
use crate::env::Env;

const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageState {
    version: u32,
    #[serde(rename = "bytes")]
    made_bytes: u64,
    /// How much of it is there: less than it was made with where somebody has truncated the file.
    #[serde(skip)]
    present: u64,
    sequence_number: u64,
    /// Drawn anew for each blob, so that a successor of the same name never has the same ETag.
    id: String,
    changes: u64,
}

impl PageState {
    pub(super) fn new(bytes: u64, number: Term, env: &Env) -> Self {
        Self {
            version: VERSION,
            made_bytes: bytes,
            present: bytes,
            sequence_number: number.0,
            id: random_hex(env),
            changes: 1,
        }
    }

    /// The blob's size, or what is left of it.
    pub(super) fn bytes(&self) -> u64 {
        self.present
    }

    /// As the data file is found to be. What the state file says stays: a backup may be put in its place.
    pub(super) fn with_file_of(self, bytes: u64) -> Self {
        Self { present: self.made_bytes.min(bytes / PAGE_BYTES * PAGE_BYTES), ..self }
    }

    pub(super) fn sequence_number(&self) -> Term {
        Term(self.sequence_number)
    }

    pub(super) fn etag(&self) -> ETag {
        ETag(format!("{}-{}", self.id, self.changes))
    }

    pub(super) fn with_number(&self, number: Term) -> Self {
        Self { sequence_number: number.0, changes: self.changes + 1, ..self.clone() }
    }

    /// `None` where there is no state file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StorageError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk::refused("reading", path, &error)),
        };
        let state: Self = serde_json::from_slice(&text).map_err(|error| disk::damaged(path, error))?;
        match state.version {
            VERSION => Ok(Some(state)),
            version => Err(StorageError::Refused(format!(
                "`{}` is of version {version}; use a newer server",
                path.display()
            ))),
        }
    }

    /// Replaces the state file. It is durable when this returns; after a failure the old or the new one is there.
    pub(super) fn write(&self, path: &Path, layout: &Layout, env: &Env) -> Result<(), StorageError> {
        let text = serde_json::to_vec(self).expect("numbers and a text are JSON");
        let file = Temporary::new(layout, env);
        file.write(&text)?;
        file.place(path)
    }
}
