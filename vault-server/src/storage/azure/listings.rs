//! Answers that come in pages, each of which is a request with a time limit of its own.

use std::ops::Range;

use azure_core::http::headers::HeaderName;
use azure_storage_blob::models::{
    BlobContainerClientListBlobsOptions, BlobServiceClientListContainersOptions, ListContainersIncludeType,
    PageBlobClientListPageRangesOptions,
};
use futures::TryStreamExt;
use vault_format::names::ContainerName;

use super::{AzureStorage, etag};
use crate::limits::AZURE_LARGE_REQUEST_TIME;
use crate::storage::arguments::{check_aligned, check_inside};
use crate::storage::{BlobEntry, BlobName, ContainerEntry, StorageError};

const BLOB_BYTES: HeaderName = HeaderName::from_static("x-ms-blob-content-length");

fn unreadable(error: &azure_core::Error) -> StorageError {
    StorageError::Unavailable(format!("a listing cannot be read ({})", error.kind()))
}

impl AzureStorage {
    pub(super) async fn all_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let options = BlobServiceClientListContainersOptions {
            include: Some(vec![ListContainersIncludeType::Metadata]),
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
            ..Default::default()
        };
        let pages = self.service.list_containers(Some(options)).map_err(|error| unreadable(&error))?;
        let mut pages = pages.into_pages();
        let mut found = Vec::new();
        while let Some(page) = self.ask(AZURE_LARGE_REQUEST_TIME, pages.try_next()).await? {
            for item in page.into_model().map_err(|error| unreadable(&error))?.container_items {
                // Others, such as `$web`, are nobody's here.
                let Some(name) = item.name.as_deref().and_then(ContainerName::listed) else { continue };
                let metadata = item.metadata.unwrap_or_default().into_iter().collect();
                found.push(ContainerEntry { name, account: self.account.name.clone(), metadata });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    pub(super) async fn all_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        let options = BlobContainerClientListBlobsOptions {
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
            ..Default::default()
        };
        let pages =
            self.container(container).list_blobs(Some(options)).map_err(|error| unreadable(&error))?;
        let mut pages = pages.into_pages();
        let mut found = Vec::new();
        while let Some(page) = self.ask(AZURE_LARGE_REQUEST_TIME, pages.try_next()).await? {
            for item in page.into_model().map_err(|error| unreadable(&error))?.blob_items {
                let properties = item.properties.unwrap_or_default();
                let entry = item.name.zip(properties.content_length).zip(properties.etag);
                let Some(((name, bytes), tag)) = entry else {
                    return Err(StorageError::Unavailable(
                        "a listing lacks names, sizes or ETags".to_owned(),
                    ));
                };
                found.push(BlobEntry { name, bytes, etag: etag(tag.as_ref()) });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    pub(super) async fn written_ranges(
        &self,
        blob: &BlobName,
        range: Range<u64>,
    ) -> Result<Vec<Range<u64>>, StorageError> {
        check_aligned(&range)?;
        if range.start >= range.end {
            let properties = self.blob_properties(blob).await?;
            check_inside(&range, properties.bytes)?;
            return Ok(Vec::new());
        }
        let options =
            PageBlobClientListPageRangesOptions { range: Some(range.clone().into()), ..Default::default() };
        let client = self.blob(blob).page_blob_client();
        let mut pages = client.list_page_ranges(Some(options)).map_err(|error| unreadable(&error))?;
        let mut found = Vec::new();
        while let Some(page) = self.ask(AZURE_LARGE_REQUEST_TIME, pages.try_next()).await? {
            let blob_bytes =
                page.headers().get_optional_str(&BLOB_BYTES).and_then(|bytes| bytes.parse().ok());
            check_inside(&range, blob_bytes.unwrap_or(range.end))?;
            for written in page.into_model().map_err(|error| unreadable(&error))?.page_ranges {
                // Both ends are parts of the range.
                let start = written.start.and_then(|start| u64::try_from(start).ok());
                let end = written.end.and_then(|end| u64::try_from(end).ok());
                let Some((start, end)) = start.zip(end) else {
                    return Err(StorageError::Unavailable("a range of pages lacks an end".to_owned()));
                };
                let (start, end) = (start.max(range.start), (end + 1).min(range.end));
                if start < end {
                    found.push(start..end);
                }
            }
        }
        Ok(found)
    }
}
