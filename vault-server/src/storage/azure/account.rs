//! Whether a storage account can hold a vault.

use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};

use super::AzureStorage;
use crate::limits::AZURE_SMALL_REQUEST_TIME;
use crate::storage::StorageError;

const KIND: HeaderName = HeaderName::from_static("x-ms-account-kind");
const SKU: HeaderName = HeaderName::from_static("x-ms-sku-name");
const HIERARCHICAL: HeaderName = HeaderName::from_static("x-ms-is-hns-enabled");

impl AzureStorage {
    /// Asks what kind of account this is, and answers why it cannot hold a vault: it has no page blobs or no block blobs.
    /// An identity may lack the right to know; then the account is taken for a fitting one.
    pub async fn why_unfit(&self) -> Result<Option<String>, StorageError> {
        let answer = self.ask(AZURE_SMALL_REQUEST_TIME, async {
            match self.service.get_account_info(None).await {
                Ok(answer) => Ok(Some(answer.headers().clone())),
                Err(error) if not_allowed(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        match answer.await? {
            Some(headers) => {
                Ok(unfit(&headers).map(|why| format!("the storage account {} {why}", self.account.name)))
            }
            None => {
                let account = &self.account.name;
                tracing::warn!(
                    account,
                    "nobody may tell what kind of account this is; it must be a standard one of kind StorageV2 without hierarchical namespace"
                );
                Ok(None)
            }
        }
    }
}

/// Whether the right to this one request is missing, and not the right to any.
fn not_allowed(error: &azure_core::Error) -> bool {
    let ErrorKind::HttpResponse { status, error_code, .. } = error.kind() else {
        return false;
    };
    let code = error_code.as_deref().unwrap_or_default();
    u16::from(*status) == 403
        && !matches!(
            code,
            "AuthenticationFailed"
                | "AccountIsDisabled"
                | "KeyBasedAuthenticationNotPermitted"
                | "AuthorizationFailure"
        )
}

fn unfit(headers: &Headers) -> Option<String> {
    let get = |name: &HeaderName| headers.get_optional_str(name).unwrap_or_default();
    let (kind, sku) = (get(&KIND), get(&SKU));
    if get(&HIERARCHICAL).eq_ignore_ascii_case("true") {
        return Some(
            "has a hierarchical namespace, and such accounts have no page blobs: use one without".to_owned(),
        );
    }
    if !matches!(kind, "" | "StorageV2" | "Storage") {
        return Some(format!(
            "is of kind {kind}, which has no page blobs: use a standard one of kind StorageV2"
        ));
    }
    if sku.starts_with("Premium") {
        return Some(format!("is {sku}, which has no block blobs beside page blobs: use a standard one"));
    }
    None
}

#[cfg(test)]
mod tests {
    use azure_core::http::StatusCode;

    use super::*;

    fn verdict(kind: &'static str, sku: &'static str, hierarchical: &'static str) -> Option<String> {
        let mut headers = Headers::new();
        headers.insert(KIND, kind);
        headers.insert(SKU, sku);
        headers.insert(HIERARCHICAL, hierarchical);
        unfit(&headers)
    }

    #[test]
    fn only_the_right_to_ask_may_be_missing() {
        let failed = |status, code: &str| {
            let error_code = Some(code.to_owned());
            not_allowed(&ErrorKind::HttpResponse { status, error_code, raw_response: None }.into_error())
        };
        assert!(failed(StatusCode::Forbidden, "AuthorizationPermissionMismatch"));
        assert!(failed(StatusCode::Forbidden, "AuthorizationResourceTypeMismatch"));
        assert!(!failed(StatusCode::Forbidden, "AuthenticationFailed"));
        assert!(!failed(StatusCode::Forbidden, "AuthorizationFailure"));
        assert!(!failed(StatusCode::ServiceUnavailable, "ServerBusy"));
        assert!(!not_allowed(&ErrorKind::Io.into_error()));
    }

    #[test]
    fn standard_accounts_fit_and_others_are_told_why_not() {
        for sku in ["Standard_LRS", "Standard_ZRS", "Standard_RAGRS"] {
            assert_eq!(verdict("StorageV2", sku, "false"), None);
        }
        assert_eq!(unfit(&Headers::new()), None);
        for (kind, sku, hierarchical, said) in [
            ("StorageV2", "Standard_LRS", "true", "hierarchical namespace"),
            ("BlockBlobStorage", "Premium_LRS", "false", "BlockBlobStorage"),
            ("FileStorage", "Premium_LRS", "false", "FileStorage"),
            ("BlobStorage", "Standard_LRS", "false", "BlobStorage"),
            ("StorageV2", "Premium_LRS", "false", "Premium_LRS"),
        ] {
            let why = verdict(kind, sku, hierarchical).unwrap();
            assert!(why.contains(said), "{why}");
        }
    }
}
