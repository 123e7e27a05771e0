//! What an answer of Azure, or its absence, means: the one table from status and error code to [`StorageError`].
//!
//! No message repeats what Azure or the HTTP client said in words: those may hold a URL, and a URL may hold a SAS.

use azure_core::error::ErrorKind;
use azure_core::http::headers::HeaderName;

use crate::storage::StorageError;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// The longest of Azure's error codes that is repeated.
const CODE_CHARS: usize = 64;

/// Which request failed, as far as it changes what an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// To create a container.
    Container,
    /// Anything else.
    Other,
}

/// What a failed request comes to.
pub(super) fn meaning(error: &azure_core::Error, asked: Asked) -> StorageError {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, raw_response } => {
            let header =
                raw_response.as_ref().and_then(|answer| answer.headers().get_optional_str(&ERROR_CODE));
            let code = header.or(error_code.as_deref()).map(code).unwrap_or_default();
            answer(u16::from(*status), &code, asked)
        }
        ErrorKind::Credential => credential(error),
        _ => StorageError::Unavailable(cause(error).unwrap_or_else(|| "the request failed".to_owned())),
    }
}

/// Why a container cannot be created for half a minute or more after one of its name was deleted.
pub const BEING_DELETED: &str = "a container of that name is being deleted";

/// The table. A status of 5xx or 429 leaves the outcome open, any other answer is definite.
fn answer(status: u16, code: &str, asked: Asked) -> StorageError {
    match (status, code) {
        (409, "ContainerBeingDeleted") if asked == Asked::Container => {
            StorageError::Unavailable(BEING_DELETED.to_owned())
        }
        (404, _) | (409, "ContainerBeingDeleted") => StorageError::NotFound,
        (409, "BlobAlreadyExists" | "ContainerAlreadyExists") => StorageError::AlreadyExists,
        (412, "LeaseIdMissing") | (409, "LeaseAlreadyPresent" | "LeaseIsBreakingAndCannotBeAcquired") => {
            StorageError::LeaseHeld
        }
        (412, _)
        | (
            409,
            "LeaseIdMismatchWithLeaseOperation"
            | "LeaseNotPresentWithLeaseOperation"
            | "LeaseIsBrokenAndCannotBeRenewed"
            | "LeaseIsBreakingAndCannotBeChanged"
            | "LeaseAlreadyBroken",
        ) => StorageError::PreconditionFailed,
        // What arrived is not what was sent: the same bytes may arrive whole the next time.
        (400, "Md5Mismatch" | "Crc64Mismatch") => {
            StorageError::Unavailable(format!("the request was damaged on its way ({code})"))
        }
        (408 | 429 | 500.., _) | (409, "AccountBeingCreated") => {
            StorageError::Unavailable(format!("Azure answered {}", named(status, code)))
        }
        _ => {
            let advice = advice(code).map(|advice| format!(": {advice}")).unwrap_or_default();
            StorageError::Refused(format!("Azure refused the request with {}{advice}", named(status, code)))
        }
    }
}

fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "AuthenticationFailed" | "InvalidAuthenticationInfo" => {
            "the account key, SAS or token is wrong or has expired, or this machine's clock is off by minutes"
        }
        "NoAuthenticationInformation" => "the request carried neither key nor SAS nor token",
        "AuthorizationPermissionMismatch" => {
            "the identity needs the role Storage Blob Data Contributor on the account, or the SAS more permissions"
        }
        "AuthorizationFailure" => {
            "the account's network rules keep this machine out, the identity has no role on the account, or the key or \
             SAS is wrong"
        }
        "KeyBasedAuthenticationNotPermitted" => "the account accepts no keys; use an identity",
        "InsufficientAccountPermissions"
        | "AuthorizationServiceMismatch"
        | "AuthorizationResourceTypeMismatch" => {
            "the SAS must be one for the account: service blob, types service, container and object, and the \
             permissions read, write, delete, list, add and create"
        }
        "AuthorizationProtocolMismatch" => "the SAS allows https only",
        "AuthorizationSourceIPMismatch" => "the SAS does not allow this machine's address",
        "AccountIsDisabled" => "the storage account is disabled",
        "InvalidBlobType" => "the blob is of another type: only page blobs have pages and sequence numbers",
        "InvalidRange" | "InvalidPageRange" => "the range is not inside the blob",
        _ => return None,
    })
}

/// No token, so that nothing was sent to storage. Only what Entra has said for good is definite.
fn credential(error: &azure_core::Error) -> StorageError {
    let answered = sources(error).find_map(|source| {
        let kind = source.downcast_ref::<azure_core::Error>()?.kind();
        if let ErrorKind::HttpResponse { status, error_code, .. } = kind {
            Some((u16::from(*status), error_code.as_deref().map(code).unwrap_or_default()))
        } else {
            None
        }
    });
    match answered {
        Some((status @ (400 | 401 | 403), code)) => StorageError::Refused(format!(
            "the identity was refused a token with {}: check AZURE_CLIENT_ID, AZURE_TENANT_ID and the identity's \
             federated credential",
            named(status, &entra(&code))
        )),
        Some((status, code)) => {
            StorageError::Unavailable(format!("no token is to be had: {}", named(status, &entra(&code))))
        }
        None => {
            let why = cause(error).unwrap_or_else(|| "the identity gives none".to_owned());
            StorageError::Unavailable(format!("no token is to be had: {why}"))
        }
    }
}

/// Entra's codes are numbers; everybody knows them with letters in front.
fn entra(code: &str) -> String {
    if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("AADSTS{code}")
    } else {
        code.to_owned()
    }
}

fn code(text: &str) -> String {
    text.chars().take_while(char::is_ascii_alphanumeric).take(CODE_CHARS).collect()
}

fn named(status: u16, code: &str) -> String {
    if code.is_empty() { status.to_string() } else { format!("{status} {code}") }
}

fn sources<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The innermost cause, which is the system's or the TLS library's: what the HTTP client and the SDK say themselves
/// may name the URL.
fn cause(error: &azure_core::Error) -> Option<String> {
    let innermost = sources(error).last()?;
    let tells_more = innermost.is::<reqwest::Error>() || innermost.is::<azure_core::Error>();
    (!tells_more).then(|| innermost.to_string())
}

#[cfg(test)]
mod tests {
    use azure_core::http::StatusCode;

    use super::*;

    fn plain(status: u16, code: &str) -> StorageError {
        answer(status, code, Asked::Other)
    }

    #[test]
    fn every_definite_answer_has_its_meaning() {
        use StorageError::{AlreadyExists, LeaseHeld, NotFound, PreconditionFailed};
        let table = [
            (404, "BlobNotFound", NotFound),
            (404, "ContainerNotFound", NotFound),
            (404, "", NotFound),
            (409, "ContainerBeingDeleted", NotFound),
            (409, "BlobAlreadyExists", AlreadyExists),
            (409, "ContainerAlreadyExists", AlreadyExists),
            (412, "LeaseIdMissing", LeaseHeld),
            (409, "LeaseAlreadyPresent", LeaseHeld),
            (412, "LeaseIdMismatchWithBlobOperation", PreconditionFailed),
            (412, "LeaseIdMismatchWithContainerOperation", PreconditionFailed),
            (409, "LeaseIdMismatchWithLeaseOperation", PreconditionFailed),
            (412, "LeaseLost", PreconditionFailed),
            (412, "LeaseNotPresentWithBlobOperation", PreconditionFailed),
            (412, "LeaseNotPresentWithContainerOperation", PreconditionFailed),
            (409, "LeaseNotPresentWithLeaseOperation", PreconditionFailed),
            (409, "LeaseIsBrokenAndCannotBeRenewed", PreconditionFailed),
            (412, "ConditionNotMet", PreconditionFailed),
            (412, "SequenceNumberConditionNotMet", PreconditionFailed),
            (412, "", PreconditionFailed),
        ];
        for (status, code, meaning) in table {
            assert_eq!(plain(status, code), meaning, "{status} {code}");
        }
    }

    #[test]
    fn what_may_still_happen_is_unavailable() {
        for (status, code) in [
            (500, "InternalError"),
            (500, "OperationTimedOut"),
            (503, "ServerBusy"),
            (503, ""),
            (429, ""),
            (408, ""),
            (400, "Crc64Mismatch"),
            (400, "Md5Mismatch"),
        ] {
            assert!(matches!(plain(status, code), StorageError::Unavailable(_)), "{status} {code}");
        }
    }

    #[test]
    fn a_container_that_is_being_deleted_is_gone_unless_it_is_to_be_created() {
        let created = answer(409, "ContainerBeingDeleted", Asked::Container);
        assert!(matches!(created, StorageError::Unavailable(_)));
        assert_eq!(plain(409, "ContainerBeingDeleted"), StorageError::NotFound);
    }

    #[test]
    fn refusals_name_the_code_and_say_what_helps() {
        for (status, code, help) in [
            (403, "AuthenticationFailed", "clock"),
            (401, "InvalidAuthenticationInfo", "expired"),
            (403, "AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
            (403, "AuthorizationFailure", "network rules"),
            (403, "KeyBasedAuthenticationNotPermitted", "identity"),
            (409, "InvalidBlobType", "page blobs"),
            (413, "RequestBodyTooLarge", ""),
            (400, "InvalidHeaderValue", ""),
        ] {
            let StorageError::Refused(why) = plain(status, code) else { panic!("{status} {code}") };
            assert!(why.contains(code) && why.contains(&status.to_string()) && why.contains(help), "{why}");
        }
    }

    #[test]
    fn an_error_code_is_repeated_but_nothing_else_that_came_with_it() {
        let kind = ErrorKind::HttpResponse {
            status: StatusCode::Forbidden,
            error_code: Some("Strange?sig=SECRET".to_owned()),
            raw_response: None,
        };
        let error = azure_core::Error::with_message(kind, "https://x/?sig=SECRET");
        let StorageError::Refused(why) = meaning(&error, Asked::Other) else { panic!() };
        assert_eq!(why, "Azure refused the request with 403 Strange");
    }

    #[tokio::test]
    async fn a_failed_connection_is_unavailable_and_its_url_is_not_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/?sig=SECRET", listener.local_addr().unwrap());
        drop(listener);
        let failed =
            reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap_err();
        let error = azure_core::Error::with_error(ErrorKind::Connection, failed, "failed");
        let StorageError::Unavailable(why) = meaning(&error, Asked::Other) else { panic!() };
        assert!(why.contains("refused") && !why.contains("SECRET") && !why.contains("127.0.0.1"), "{why}");
    }

    #[test]
    fn entra_refuses_for_good_only_what_it_has_looked_at() {
        let failed = |status, code: &str| {
            let kind =
                ErrorKind::HttpResponse { status, error_code: Some(code.to_owned()), raw_response: None };
            let inner = azure_core::Error::with_message(kind, "with a token in it");
            azure_core::Error::with_error(ErrorKind::Credential, inner, "with a token in it")
        };
        let refused = meaning(&failed(StatusCode::BadRequest, "70021"), Asked::Other);
        let StorageError::Refused(why) = refused else { panic!("{refused:?}") };
        assert!(why.contains("AADSTS70021") && !why.contains("token in it"), "{why}");
        let busy = meaning(&failed(StatusCode::ServiceUnavailable, ""), Asked::Other);
        assert!(matches!(busy, StorageError::Unavailable(_)), "{busy:?}");
    }
}
