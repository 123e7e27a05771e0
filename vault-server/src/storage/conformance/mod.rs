//! The suite that every backend passes: one check for each sentence of the contract, named by that sentence.
//!
//! Nothing here knows a backend. Containers are named after a prefix that the caller chooses, so that runs on a real
//! service do not meet, and are deleted when their check ends. Checks never wait for a lease to run out.

mod blobs;
mod concurrency;
mod containers;
mod fencing;
mod leases;
mod pages;

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use super::{BlobName, ETag, LeaseId, LeaseTarget, Metadata, Storage, StorageError};
use crate::env::Env;

/// How long the checks take leases for: the shortest time that is allowed.
const LEASE: Duration = Duration::from_secs(15);

/// How long a service may take to delete a container before its name is free again.
const DELETION_PATIENCE: Duration = Duration::from_secs(180);

/// One check of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is about, in words joined by hyphens.
    pub name: &'static str,
    run: fn(Bench) -> BoxFuture<'static, Outcome>,
}

impl Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A sentence of the contract that a backend breaks.
#[derive(Debug, thiserror::Error)]
#[error("{check}: the contract says \"{sentence}\", but {found}")]
pub struct Broken {
    check: String,
    sentence: &'static str,
    found: String,
}

/// What a check comes to.
type Outcome = Result<(), Broken>;

/// All checks.
#[must_use]
pub fn checks() -> Vec<Check> {
    [containers::CHECKS, blobs::CHECKS, pages::CHECKS, fencing::CHECKS, leases::CHECKS, concurrency::CHECKS]
        .concat()
}

/// Runs every check on storage of its own and panics with all sentences that are broken. `prefix` begins the name of
/// every container: at most 30 characters that no other run on the same service uses.
pub async fn run(env: &Env, prefix: &str, storage: impl Fn() -> Arc<dyn Storage>) {
    run_knowing(env, prefix, &[], storage).await;
}

/// As [`run`], on an emulator that is known to fail the checks named in `known`. It panics as well when one of those
/// passes, so that the list stays true.
pub async fn run_knowing(env: &Env, prefix: &str, known: &[&str], storage: impl Fn() -> Arc<dyn Storage>) {
    let mut broken = Vec::new();
    for (number, check) in checks().into_iter().enumerate() {
        let bench = Bench { storage: storage(), env: env.clone(), prefix: format!("{prefix}{number}-") };
        match (run_one(check, bench).await, known.contains(&check.name)) {
            (Err(sentence), false) => broken.push(sentence.to_string()),
            (Ok(()), true) => broken.push(format!("{}: it holds, although it is known not to", check.name)),
            (Ok(()), false) | (Err(_), true) => {}
        }
    }
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

async fn run_one(check: Check, bench: Bench) -> Outcome {
    let outcome =
        (check.run)(bench.clone()).await.map_err(|broken| Broken { check: check.name.into(), ..broken });
    bench.clean_up().await;
    outcome
}

/// What a check works on.
#[derive(Clone, Debug)]
struct Bench {
    storage: Arc<dyn Storage>,
    env: Env,
    prefix: String,
}

impl Bench {
    fn container(&self, name: &str) -> ContainerName {
        ContainerName::listed(&format!("{}{name}", self.prefix)).expect("checks use names that are allowed")
    }

    /// Makes a container. A name whose container was just deleted may need a while.
    async fn make(&self, name: &str) -> Result<ContainerName, Broken> {
        let container = self.container(name);
        let started = self.env.clock.monotonic();
        loop {
            match self.storage.create_container(&container, &Metadata::new()).await {
                Err(StorageError::Unavailable(_))
                    if self.env.clock.monotonic() - started < DELETION_PATIENCE =>
                {
                    self.env.clock.sleep(Duration::from_secs(2)).await;
                }
                made => return done("Creates a container", made).map(|()| container),
            }
        }
    }

    /// Makes a container with a page blob.
    async fn make_blob(&self, bytes: u64, number: Term) -> Result<BlobName, Broken> {
        let blob = blob(&self.make("c").await?, "folder/blob");
        done("Creates a page blob", self.storage.create_page_blob(&blob, bytes, number).await)?;
        Ok(blob)
    }

    async fn delete(&self, container: &ContainerName) -> Outcome {
        let target = LeaseTarget::Container(container.clone());
        let lease = done("Takes the lease on a target", self.storage.acquire_lease(&target, LEASE).await)?;
        done("Deletes a container", self.storage.delete_container(container, &lease).await)
    }

    async fn put(&self, blob: &BlobName, at: u64, bytes: Bytes, fence: Term) -> Result<(), StorageError> {
        self.storage.put_pages(blob, Position(at), bytes, fence, None).await
    }

    async fn etag(&self, blob: &BlobName) -> Result<ETag, Broken> {
        Ok(done("Size, sequence number and state", self.storage.properties(blob).await)?.etag)
    }

    /// What stays behind is leased by a check that failed; on a service such containers are the operator's to delete.
    async fn clean_up(&self) {
        let left = self.storage.list_containers(&self.prefix).await.unwrap_or_default();
        for entry in left {
            let _ = self.delete(&entry.name).await;
        }
    }
}

fn blob(container: &ContainerName, name: &str) -> BlobName {
    BlobName { container: container.clone(), name: name.to_owned() }
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn pages(count: usize, byte: u8) -> Bytes {
    Bytes::from(vec![byte; count * 512])
}

/// No backend gives out such an id, but each takes it for one: Azure's are of this form.
fn no_lease() -> LeaseId {
    LeaseId("00000000-0000-4000-8000-000000000000".to_owned())
}

fn broken(sentence: &'static str, found: String) -> Broken {
    Broken { check: String::new(), sentence, found }
}

fn holds(sentence: &'static str, holds: bool, found: impl Debug) -> Outcome {
    if holds { Ok(()) } else { Err(broken(sentence, format!("{found:?} was found"))) }
}

#[expect(clippy::needless_pass_by_value, reason = "checks compare what they have just made")]
fn equal<T: PartialEq + Debug>(sentence: &'static str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(broken(sentence, format!("{found:?} is not {wanted:?}"))) }
}

fn done<T>(sentence: &'static str, result: Result<T, StorageError>) -> Result<T, Broken> {
    result.map_err(|error| broken(sentence, format!("the request failed: {error:?}")))
}

/// The definite ways to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    NotFound,
    AlreadyExists,
    PreconditionFailed,
    LeaseHeld,
    Refused,
}

fn failure(error: &StorageError) -> Option<Failure> {
    match error {
        StorageError::NotFound => Some(Failure::NotFound),
        StorageError::AlreadyExists => Some(Failure::AlreadyExists),
        StorageError::PreconditionFailed => Some(Failure::PreconditionFailed),
        StorageError::LeaseHeld => Some(Failure::LeaseHeld),
        StorageError::Refused(_) => Some(Failure::Refused),
        StorageError::Full(_) | StorageError::Unavailable(_) => None,
    }
}

fn fails<T: Debug>(sentence: &'static str, result: Result<T, StorageError>, wanted: Failure) -> Outcome {
    match result {
        Err(error) if failure(&error) == Some(wanted) => Ok(()),
        other => Err(broken(sentence, format!("{other:?} came instead of {wanted:?}"))),
    }
}
