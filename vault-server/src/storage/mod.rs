//! Storage, as the log sees it: containers, page blobs with sequence numbers, leases.
//!
//! [`Storage`] is a contract. Every backend passes the one suite in [`conformance`], and nothing above this module
//! knows which backend it runs on.
//!
//! | module | subject |
//! |---|---|
//! | [`memory`] | everything in this process; gone with it |
//! | [`mod@file`] | one directory; the embedded default |
//! | [`azure`] | one Azure storage account |
//! | [`accounts`] | several storages as one |
//! | [`counted`], `ended` | counts the requests to another backend; how they ended |
//! | [`faulty`] | fails, delays and tears the requests to another backend, for tests |
//! | [`conformance`] | the suite |
//! | [`mod@open`] | opening the one that settings name |
//! | [`operation`] | the requests, by name |
//! | [`mod@twice`] | sending a request a second time while nobody answers the first |
//! | `arguments` | what makes a request refused whatever is stored |
//! | `leases` | who holds which lease, for backends that keep leases themselves |
//! | `written` | which pages hold anything but zeros |

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use vault_format::ids::{Position, Term, Timestamp};
use vault_format::names::ContainerName;

pub mod accounts;
mod arguments;
pub mod azure;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod counted;
mod ended;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub mod file;
mod leases;
pub mod memory;
pub mod open;
pub mod operation;
pub mod twice;
mod written;

/// Small named texts kept with a container. Names are identifiers in lower case, values printable ASCII.
pub type Metadata = BTreeMap<String, String>;

/// In the metadata of a container that is to be created: the storage account that it is to stand in, for backends that
/// have several.
pub const ACCOUNT: &str = "account";

/// A blob's full name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlobName {
    /// The container that holds it.
    pub container: ContainerName,
    /// Its name there, printable ASCII without `\\`; `/` divides folders. No part between two `/` is empty or begins
    /// with a dot, and no blob has the name of another's folder.
    pub name: String,
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.name)
    }
}

/// Names one state of a blob. Only equality means anything.
///
/// It changes when the blob is created, also in the place of a deleted one, replaced, or given a sequence number, and when
/// its first page is rewritten. Whether another write or a clear of pages changes it is the backend's choice, so that no
/// caller may rely on either.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ETag(pub String);

/// Names one holding of a lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LeaseId(pub String);

/// What a lease can be held on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeaseTarget {
    /// Guards changes of a container's metadata and its deletion.
    Container(ContainerName),
    /// Guards writes to a blob.
    Blob(BlobName),
}

/// What is known of a blob without reading it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobProperties {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its sequence number; 0 for a block blob.
    pub sequence_number: Term,
    /// Its present state.
    pub etag: ETag,
}

/// A part of a blob, with the sequence number and state in force when it was read.
#[derive(Clone, Debug)]
pub struct BlobRead {
    /// Exactly the range that was asked for; zeros where nothing was written.
    pub bytes: Bytes,
    /// The blob's sequence number.
    pub sequence_number: Term,
    /// The blob's state.
    pub etag: ETag,
}

/// A container in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerEntry {
    /// Its name.
    pub name: ContainerName,
    /// The storage account that it stands in; empty where the backend has no accounts.
    pub account: String,
    /// Its metadata.
    pub metadata: Metadata,
}

/// A blob in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobEntry {
    /// Its name inside the container.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its present state.
    pub etag: ETag,
}

/// Whether somebody may read a container's blobs without going through this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadAccess {
    /// So.
    Granted(ReadGrant),
    /// Not from this storage, for the reason in this sentence.
    None(&'static str),
}

/// Leave to read the blobs of one container. Its debug form does not show the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadGrant {
    /// The container's URL, without a query. `/` and a blob's name behind it make the blob's.
    pub container_url: String,
    /// What gives leave: the query of every request, without the `?`.
    pub sas: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl fmt::Debug for ReadGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container_url, expires, .. } = self;
        f.debug_struct("ReadGrant")
            .field("container_url", container_url)
            .field("expires", expires)
            .finish_non_exhaustive()
    }
}

/// How a storage request failed.
///
/// All but [`StorageError::Unavailable`] are definite: the request changed nothing and never will.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StorageError {
    /// The container or blob does not exist.
    #[error("it does not exist")]
    NotFound,
    /// What was to be created exists.
    #[error("it exists already")]
    AlreadyExists,
    /// The condition on sequence number or ETag does not hold, or the lease id named with the request is not that of
    /// the lease now held.
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
    /// Somebody else holds the lease that this request wants, or a lease is held and the request names none.
    #[error("another holder has the lease")]
    LeaseHeld,
    /// There is no room left. The write may be torn, so that it counts as unknown until it was sent again.
    #[error("the storage is full: {0}")]
    Full(String),
    /// The request can never succeed as it stands: a wrong range, no permission, a damaged file.
    #[error("{0}")]
    Refused(String),
    /// The outcome is unknown: it may have been carried out, or be carried out later.
    #[error("the storage did not answer: {0}")]
    Unavailable(String),
}

/// The contract between the log and what stores it.
///
/// - A page blob is created at its full size and reads as zeros. It is written in pages of 512 bytes. A page is stored
///   whole or not at all; a write of several pages may be torn by a crash, and then any subset of them is stored.
/// - **Durable**: a request that succeeded survives any crash.
/// - **Fenced**: a write that names a sequence number and the check of that number are one atomic step. Once
///   [`Storage::raise_sequence_number`] has answered, no write that names a lower number takes effect any more,
///   however late it arrives.
/// - **Linearizable**: a read sees every request that was answered before it was sent.
/// - **Leased**: while somebody holds the lease on a blob, every request that changes it and does not name that lease
///   fails. A request that names a lease fails where none is held.
/// - An outcome of [`StorageError::Unavailable`] leaves open whether, and when, the request takes effect; sending the
///   same request again is always allowed.
/// - A range of bytes that is written, cleared or read is not empty and lies inside the blob; what is written, cleared
///   or looked through is whole pages. Anything else is `Refused`, and so is a name, size, sequence number (at most
///   2^63 - 1) or duration that breaks its rule, a request for pages or sequence numbers on a block blob, and a block
///   blob in the place of a page blob.
/// - What a request names must exist, else `NotFound`: a blob, and a container unless it is being created. Where a
///   request breaks several rules, any one of them may be reported.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates a container with its metadata, atomically. Fails with `AlreadyExists`. For a while after a container of
    /// that name was deleted it may fail with `Unavailable`.
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError>;

    /// The metadata of a container.
    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError>;

    /// Replaces all metadata of a container. The caller holds its lease, so that a request which arrives late cannot
    /// change a container of the same name made since.
    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError>;

    /// Deletes a container and all in it. The caller holds its lease.
    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError>;

    /// All containers whose names begin with `prefix`, in the order of their names. A name comes twice where containers
    /// in two accounts have it.
    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError>;

    /// Creates a page blob of `bytes` (a multiple of 512), all zeros, with its sequence number. `AlreadyExists` where
    /// a blob of that name exists, `NotFound` where the container does not.
    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError>;

    /// Size, sequence number and state.
    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError>;

    /// Writes whole pages at `position`, at most 4 MiB, if the blob's sequence number is `fence` and, where a lease is
    /// on the blob, `lease` is its holder's.
    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError>;

    /// Writes the first page of a page blob anew, if the blob's sequence number is `fence`, `lease` holds its lease, and it
    /// is in state `if_match`. Answers the state that it is in then, which is another one: so of requests that name one state
    /// one takes effect, and none takes back what a later one wrote, however late it arrives. `PreconditionFailed` also
    /// where a copy of this very request has been carried out: who needs to know looks at the page.
    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError>;

    /// Makes whole pages read as zeros and leave [`Storage::page_ranges`], if the blob's sequence number is `fence`.
    /// The range may be as long as the blob.
    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError>;

    /// Reads a range that lies inside the blob, of a block blob too. What is read survives any crash, unless this very
    /// process wrote it and has no answer yet.
    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError>;

    /// Which parts of `range` may hold anything but zeros, in order, in whole pages. Every page that is not all zeros
    /// is in one of them, and none that was never written or was cleared since; ranges may adjoin. An empty range has
    /// none.
    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError>;

    /// Sets the sequence number to the greater of itself and `at_least`; answers the number then in force.
    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError>;

    /// Sets the sequence number to `number`, higher or lower, if the blob is in state `if_match` and, where a lease is
    /// on the blob, `lease` is its holder's.
    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError>;

    /// Creates or replaces a block blob.
    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError>;

    /// All blobs of a container whose names begin with `prefix`, in the order of their names.
    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError>;

    /// Deletes a blob, where `if_match` is given only in that state.
    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError>;

    /// Takes the lease on a target for `duration` (15 to 60 s), counted again from each renewal. `LeaseHeld` where
    /// another holder has it. A backend whose leases end with the process may ignore the duration. No request that had no
    /// answer has named the id that is answered, so that nothing which arrives late can hold a lease under it.
    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError>;

    /// Prolongs a lease. `PreconditionFailed` where it is no longer held; one that ran out may be held still as long as
    /// nobody else took it.
    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError>;

    /// Gives a lease back. `PreconditionFailed` where it is no longer held.
    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError>;

    /// Ends the lease on a blob at once, whoever holds it, if the blob is in state `if_match`. `PreconditionFailed` where
    /// it is in another, or nobody holds a lease; `Refused` where [`Storage::leases_last`].
    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError>;

    /// Lets somebody read a container's blobs without going through this process, or says why that cannot be: nobody
    /// can write with it, read another container or list blobs, and it ends after
    /// [`DIRECT_READ_TIME`](crate::limits::DIRECT_READ_TIME) at most. Whether the container exists is not looked at.
    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError>;

    /// Whether the lease on a blob lasts until it is given back or its holder's process ends. It never runs out then and
    /// cannot be broken, and trying to acquire it costs next to nothing.
    fn leases_last(&self) -> bool;
}
