//! The contract, request by request.

use std::num::NonZero;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlobClientDownloadOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientCreateOptions, BlobContainerClientDeleteOptions,
    BlobContainerClientGetPropertiesResultHeaders, BlobContainerClientSetMetadataOptions,
    BlockBlobClientUploadOptions, PageBlobClientClearPagesOptions, PageBlobClientCreateOptions,
    PageBlobClientCreateResultHeaders, PageBlobClientSetSequenceNumberOptions,
    PageBlobClientSetSequenceNumberResultHeaders, PageBlobClientUploadPagesOptions,
    PageBlobClientUploadPagesResultHeaders, SequenceNumberActionType,
};
use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use futures::TryStreamExt;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use super::errors::Asked;
use super::{AzureStorage, etag, present, quoted};
use crate::limits::{AZURE_LARGE_REQUEST_TIME, AZURE_SMALL_BYTES, AZURE_SMALL_REQUEST_TIME};
use crate::storage::arguments::{
    check_create, check_name, check_pages, check_put, check_read, check_rewrite, check_sequence_number,
    not_a_block_blob,
};
use crate::storage::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};

const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");

/// What a listing is taken to move: it may go through a whole blob, or through all containers.
const LISTED: usize = 4 << 20;

/// How long a request may take that moves so many bytes.
fn time_for(bytes: usize) -> Duration {
    if bytes <= AZURE_SMALL_BYTES { AZURE_SMALL_REQUEST_TIME } else { AZURE_LARGE_REQUEST_TIME }
}

/// Azure's CRC-64 is the one of NVMe, sent with its lowest byte first.
fn checksum(bytes: &[u8]) -> Vec<u8> {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_le_bytes().to_vec()
}

/// Azure counts with a sign.
fn signed(number: Term) -> Result<i64, StorageError> {
    check_sequence_number(number)?;
    Ok(i64::try_from(number.0).expect("the number was found to be below 2^63"))
}

fn unsigned(number: i64) -> Result<Term, StorageError> {
    let number = u64::try_from(number).map(Term);
    number.map_err(|_| StorageError::Unavailable("the answer has a sequence number below 0".to_owned()))
}

/// Values go through HTTP headers.
fn check_metadata(metadata: &Metadata) -> Result<(), StorageError> {
    let fine = |(name, value): (&String, &String)| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && value.trim() == value
    };
    let wrong = metadata.iter().find(|pair| !fine(*pair));
    wrong.map_or(Ok(()), |(name, _)| {
        Err(StorageError::Refused(format!("`{}` cannot stand in metadata", name.escape_debug())))
    })
}

impl AzureStorage {
    pub(super) async fn blob_properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        let client = self.blob(blob);
        let request = || self.ask(AZURE_SMALL_REQUEST_TIME, client.get_properties(None));
        let answer = self.ask_again(0, request).await?;
        let number = answer.blob_sequence_number().ok().flatten().unwrap_or_default();
        Ok(BlobProperties {
            bytes: present(answer.content_length(), "length")?,
            sequence_number: unsigned(number)?,
            etag: etag(present(answer.etag(), "ETag")?.as_ref()),
        })
    }

    /// What a conditional request has come to: where there is no blob that could be in some state, Azure answers that it is
    /// in another.
    async fn or_missing(
        &self,
        blob: &BlobName,
        outcome: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if outcome == Err(StorageError::PreconditionFailed) {
            self.blob_properties(blob).await?;
        }
        outcome
    }

    /// Refuses what Azurite, and nobody promises that not Azure, would do: put a block blob in a page blob's place.
    async fn check_no_page_blob(&self, blob: &BlobName) -> Result<(), StorageError> {
        let client = self.blob(blob);
        let request = || self.ask(AZURE_SMALL_REQUEST_TIME, client.get_properties(None));
        match self.ask_again(0, request).await {
            Ok(answer) if answer.headers().get_optional_str(&BLOB_TYPE) == Some("PageBlob") => {
                Err(not_a_block_blob(blob))
            }
            Ok(_) | Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Storage for AzureStorage {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        check_metadata(metadata)?;
        let options = BlobContainerClientCreateOptions {
            metadata: Some(metadata.clone().into_iter().collect()),
            ..Default::default()
        };
        let client = self.container(name);
        let request = client.create(Some(options));
        self.ask_as(Asked::Container, AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        let client = self.container(name);
        let request = || self.ask(AZURE_SMALL_REQUEST_TIME, client.get_properties(None));
        let answer = self.ask_again(0, request).await?;
        present(answer.metadata().map(Some), "metadata").map(|metadata| metadata.into_iter().collect())
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        check_metadata(metadata)?;
        let options =
            BlobContainerClientSetMetadataOptions { lease_id: Some(lease.0.clone()), ..Default::default() };
        let all = metadata.clone().into_iter().collect();
        let client = self.container(name);
        self.ask(AZURE_SMALL_REQUEST_TIME, client.set_metadata(&all, Some(options))).await.map(|_| ())
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let options =
            BlobContainerClientDeleteOptions { lease_id: Some(lease.0.clone()), ..Default::default() };
        let client = self.container(name);
        self.ask(AZURE_SMALL_REQUEST_TIME, client.delete(Some(options))).await.map(|_| ())
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        self.ask_again(LISTED, || self.all_containers(prefix)).await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        check_create(blob, bytes, sequence_number)?;
        let options = PageBlobClientCreateOptions {
            blob_sequence_number: Some(signed(sequence_number)?),
            ..Default::default()
        };
        let client = self.blob(blob).page_blob_client();
        let request = client.create(bytes, Some(options.if_not_exists()));
        match self.ask(AZURE_SMALL_REQUEST_TIME, request).await {
            // The one condition is that there be none, and only a blob that exists has a lease.
            Err(StorageError::LeaseHeld | StorageError::PreconditionFailed) => {
                Err(StorageError::AlreadyExists)
            }
            answer => Ok(etag(present(answer?.etag(), "ETag")?.as_ref())),
        }
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        self.blob_properties(blob).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let range = check_put(position, bytes.len())?;
        let checksum = checksum(&bytes);
        let fence = signed(fence)?;
        let limit = time_for(bytes.len());
        let client = self.blob(blob).page_blob_client();
        let request = || {
            let options = PageBlobClientUploadPagesOptions {
                if_sequence_number_equal_to: Some(fence),
                lease_id: lease.map(|lease| lease.0.clone()),
                transactional_content_crc64: Some(checksum.clone()),
                ..Default::default()
            };
            let (body, range) = (bytes.clone().into(), range.clone());
            self.ask(limit, client.upload_pages(body, range.end - range.start, range.into(), Some(options)))
        };
        let stored = match lease {
            // What stands at a place of a segment never changes under one fence, so that a copy may land at any time.
            None => self.ask_again(bytes.len(), request).await,
            // Elsewhere it may change, and a copy that landed late would take the change back.
            Some(_) => request().await,
        };
        stored.map(|_| ())
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        let range = check_rewrite(page.len())?;
        let checksum = checksum(&page);
        let fence = signed(fence)?;
        let client = self.blob(blob).page_blob_client();
        let request = async || {
            let options = PageBlobClientUploadPagesOptions {
                if_match: Some(quoted(if_match)),
                if_sequence_number_equal_to: Some(fence),
                lease_id: Some(lease.0.clone()),
                transactional_content_crc64: Some(checksum.clone()),
                ..Default::default()
            };
            let body = page.clone().into();
            let request = client.upload_pages(body, range.end, range.clone().into(), Some(options));
            self.ask(AZURE_SMALL_REQUEST_TIME, request).await
        };
        let answer = self.ask_again(page.len(), request).await?;
        Ok(etag(present(answer.etag(), "ETag")?.as_ref()))
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        check_pages(&range)?;
        let options = PageBlobClientClearPagesOptions {
            if_sequence_number_equal_to: Some(signed(fence)?),
            ..Default::default()
        };
        let client = self.blob(blob).page_blob_client();
        let request = client.clear_pages(range.into(), Some(options));
        // Never sent twice: a copy that landed late would wipe out what was written since.
        self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        check_read(&range)?;
        let wanted = usize::try_from(range.end - range.start)
            .ok()
            .and_then(NonZero::new)
            .ok_or_else(|| StorageError::Refused(format!("{range:?} is too long for one read")))?;
        let client = self.blob(blob);
        let read = async || {
            let options = BlobClientDownloadOptions {
                // One request: the SDK would read the parts of a longer range one by one, all in the first one's state.
                partition_size: Some(wanted),
                parallel: Some(NonZero::<usize>::MIN),
                range: Some(range.clone().into()),
                ..Default::default()
            };
            let mut answer = client.download(Some(options)).await?;
            let mut bytes = BytesMut::with_capacity(wanted.get());
            while let Some(piece) = answer.body.try_next().await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() > wanted.get() {
                    break;
                }
            }
            Ok((answer.properties, bytes.freeze()))
        };
        let request = || self.ask(time_for(wanted.get()), read());
        let (properties, bytes) = self.ask_again(wanted.get(), request).await?;
        if bytes.len() != wanted.get() {
            return Err(StorageError::Refused(format!("{range:?} is not inside the blob {blob}")));
        }
        Ok(BlobRead {
            bytes,
            sequence_number: unsigned(properties.blob_sequence_number.unwrap_or_default())?,
            etag: etag(present(Ok(properties.etag), "ETag")?.as_ref()),
        })
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        self.ask_again(LISTED, || self.written_ranges(blob, range.clone())).await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        let number = signed(at_least)?;
        let client = self.blob(blob).page_blob_client();
        let request = || {
            let options = PageBlobClientSetSequenceNumberOptions {
                blob_sequence_number: Some(number),
                ..Default::default()
            };
            let raise = client.set_sequence_number(SequenceNumberActionType::Max, Some(options));
            self.ask(AZURE_SMALL_REQUEST_TIME, raise)
        };
        // A copy that comes late finds a number that is as high, or one of a segment made since, which is higher.
        let answer = self.ask_again(0, request).await?;
        unsigned(present(answer.blob_sequence_number(), "sequence number")?)
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let options = PageBlobClientSetSequenceNumberOptions {
            blob_sequence_number: Some(signed(number)?),
            if_match: Some(quoted(if_match)),
            lease_id: lease.map(|lease| lease.0.clone()),
            ..Default::default()
        };
        let client = self.blob(blob).page_blob_client();
        let request = client.set_sequence_number(SequenceNumberActionType::Update, Some(options));
        let set = self.ask(AZURE_SMALL_REQUEST_TIME, request).await;
        self.or_missing(blob, set.map(|_| ())).await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        check_name(blob)?;
        self.check_no_page_blob(blob).await?;
        let client = self.blob(blob).block_blob_client();
        let request = || {
            let options = BlockBlobClientUploadOptions {
                // One request, however long.
                partition_size: Some(NonZero::new(bytes.len() as u64).unwrap_or(NonZero::<u64>::MIN)),
                ..Default::default()
            };
            self.ask(AZURE_LARGE_REQUEST_TIME, client.upload(bytes.clone().into(), Some(options)))
        };
        self.ask_again(bytes.len(), request).await.map(|_| ())
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        self.ask_again(LISTED, || self.all_blobs(container, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        let options = BlobClientDeleteOptions { if_match: if_match.map(quoted), ..Default::default() };
        let client = self.blob(blob);
        let deleted = self.ask(AZURE_SMALL_REQUEST_TIME, client.delete(Some(options))).await;
        self.or_missing(blob, deleted.map(|_| ())).await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        self.acquire(target, duration).await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.ask_again(0, || self.renew(target, lease)).await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.release(target, lease).await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        self.end_lease(blob, if_match).await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        self.grant(container).await
    }

    fn leases_last(&self) -> bool {
        false
    }
}
