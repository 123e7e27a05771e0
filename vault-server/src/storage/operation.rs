//! The requests of [`Storage`](super::Storage), by name: for counts, and to say which one is to fail.

use std::fmt;

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One kind of request.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Operation {
            $($(#[$doc])* $variant,)*
        }

        impl Operation {
            /// Every one, in the order of the trait.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in metrics and messages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    /// `create_container`
    CreateContainer = "create_container",
    /// `container_metadata`
    ContainerMetadata = "container_metadata",
    /// `set_container_metadata`
    SetContainerMetadata = "set_container_metadata",
    /// `delete_container`
    DeleteContainer = "delete_container",
    /// `list_containers`
    ListContainers = "list_containers",
    /// `create_page_blob`
    CreatePageBlob = "create_page_blob",
    /// `properties`
    Properties = "properties",
    /// `put_pages`
    PutPages = "put_pages",
    /// `rewrite_page`
    RewritePage = "rewrite_page",
    /// `clear_pages`
    ClearPages = "clear_pages",
    /// `read`
    Read = "read",
    /// `page_ranges`
    PageRanges = "page_ranges",
    /// `raise_sequence_number`
    RaiseSequenceNumber = "raise_sequence_number",
    /// `set_sequence_number`
    SetSequenceNumber = "set_sequence_number",
    /// `put_block_blob`
    PutBlockBlob = "put_block_blob",
    /// `list_blobs`
    ListBlobs = "list_blobs",
    /// `delete_blob`
    DeleteBlob = "delete_blob",
    /// `acquire_lease`
    AcquireLease = "acquire_lease",
    /// `renew_lease`
    RenewLease = "renew_lease",
    /// `release_lease`
    ReleaseLease = "release_lease",
    /// `break_lease`
    BreakLease = "break_lease",
    /// `grant_reads`
    GrantReads = "grant_reads",
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
