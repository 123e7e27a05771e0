//! Every error that a client can see. This is the only place that gives a failure its code and status.

use std::borrow::Cow;
use std::fmt;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use vault_format::ids::Offset;
use vault_format::names::InvalidName;
use vault_format::producers;
use vault_format::record::{InvalidRecord, InvalidRun};

use crate::access::refusal::Refused;
use crate::log::error::{AdminError, AppendError, ReadError, StreamFault, Unusable};
use crate::log::settings::InvalidSettings;
use crate::storage::StorageError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:ident, $retryable:literal, $title:literal;)*) => {
        /// What went wrong, as a stable word.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its word in the answer.
            #[must_use]
            pub fn word(self) -> &'static str {
                self.row().0
            }

            /// The word in the answer, its status, whether the same request may succeed later, and a short title.
            #[must_use]
            pub fn row(self) -> (&'static str, StatusCode, bool, &'static str) {
                match self {
                    $(Self::$variant => ($word, StatusCode::$status, $retryable, $title),)*
                }
            }
        }
    };
}

codes! {
    InvalidName = "invalid_name", BAD_REQUEST, false, "This is not a stream's name";
    InvalidParameter = "invalid_parameter", BAD_REQUEST, false, "A parameter or header is wrong or unknown";
    InvalidSettings = "invalid_settings", BAD_REQUEST, false, "A setting is wrong or unknown";
    InvalidBody = "invalid_body", BAD_REQUEST, false, "The body is not what its content type says";
    InvalidMessage = "invalid_message", BAD_REQUEST, false, "A message is wrong";
    DigestMismatch = "digest_mismatch", BAD_REQUEST, false, "The body is not the one that was digested";
    Unsupported = "unsupported", BAD_REQUEST, false, "This server does not do that";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, false, "It is not known who asks";
    Forbidden = "forbidden", FORBIDDEN, false, "The caller may not do that";
    CrossSite = "cross_site", FORBIDDEN, false, "A page of another site may have sent this";
    ProducerFenced = "producer_fenced", FORBIDDEN, false, "The producer has started anew";
    NoSuchRoute = "no_such_route", NOT_FOUND, false, "There is no such route";
    StreamNotFound = "stream_not_found", NOT_FOUND, false, "There is no such stream";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, false, "The route has no such method";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, false, "None of the accepted types is served";
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, true, "The body took too long";
    OtherSettings = "other_settings", CONFLICT, false, "The stream exists with other settings";
    TooManyStreams = "too_many_streams", CONFLICT, false, "The vault has as many streams as it may";
    ManagedByKubernetes = "managed_by_kubernetes", CONFLICT, false, "The stream belongs to a Kubernetes object";
    NoDirectAccess = "no_direct_access", CONFLICT, false, "The storage cannot be read directly";
    Busy = "busy", CONFLICT, true, "Somebody else is changing the stream";
    StillDeleting = "still_deleting", CONFLICT, true, "A stream of this name is still being deleted";
    OffsetsExhausted = "offsets_exhausted", CONFLICT, false, "The stream has no offsets left";
    ProducerGap = "producer_gap", CONFLICT, true, "Requests of the producer before this one are missing";
    ProducerUnknown = "producer_unknown", CONFLICT, false, "The producer is not known, or not any more";
    ProducerForgotten = "producer_forgotten", CONFLICT, false, "The request was stored before, it is not known where";
    ProducerReused = "producer_reused", CONFLICT, false, "Another request was stored with this sequence";
    BelowFirst = "below_first", GONE, false, "The messages are no longer kept";
    OffsetMismatch = "offset_mismatch", PRECONDITION_FAILED, false, "The next offset is not the expected one";
    MessageTooLarge = "message_too_large", PAYLOAD_TOO_LARGE, false, "A message is too large";
    RequestTooLarge = "request_too_large", PAYLOAD_TOO_LARGE, false, "The request is too large";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false, "The content type is not taken";
    BeyondTail = "beyond_tail", RANGE_NOT_SATISFIABLE, false, "The stream ends before this offset";
    AuthenticationBusy = "authentication_busy", TOO_MANY_REQUESTS, true, "Too many passwords are being verified";
    QueueFull = "queue_full", TOO_MANY_REQUESTS, true, "Too much waits to be written";
    RateExceeded = "rate_exceeded", TOO_MANY_REQUESTS, true, "The stream is appended to faster than it may be";
    Corrupt = "corrupt", INTERNAL_SERVER_ERROR, false, "Stored data is damaged";
    DataMissing = "data_missing", INTERNAL_SERVER_ERROR, false, "Stored data is missing";
    TwoAccounts = "two_accounts", INTERNAL_SERVER_ERROR, false, "Two storage accounts have the stream";
    FormatTooNew = "format_too_new", INTERNAL_SERVER_ERROR, false, "A newer server wrote here";
    IssuerUnavailable = "issuer_unavailable", SERVICE_UNAVAILABLE, true, "The token's issuer does not answer";
    NoLeader = "no_leader", SERVICE_UNAVAILABLE, true, "No leader is known";
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, true, "The storage took too long";
    StorageUnavailable = "storage_unavailable", SERVICE_UNAVAILABLE, true, "The storage does not answer";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, true, "Too much is being read";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, true, "This server cannot serve reads now";
    StreamFull = "stream_full", INSUFFICIENT_STORAGE, false, "The stream takes as much as it may";
    StorageFull = "storage_full", INSUFFICIENT_STORAGE, true, "The storage is full";
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|code| code.word());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ProblemCode")
    }
}

/// An error as a client sees it: RFC 9457, and what a program needs to decide what to do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemDetail)]
pub struct Problem {
    #[serde(skip)]
    code: Code,
    detail: String,
    /// `none`: the request was not carried out, nor will it be. `possible`: it may have been, or may be later.
    side_effects: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_index: Option<u32>,
    /// When the same request may succeed, for codes whose answers say so.
    #[serde(skip)]
    retry_after_seconds: u64,
}

/// A problem and what its code says of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Shown {
    /// A URN that ends with the code.
    r#type: String,
    title: &'static str,
    status: u16,
    code: Code,
    /// Whether the same request may succeed later.
    retryable: bool,
    #[serde(flatten)]
    problem: Problem,
}

impl Problem {
    /// A definite failure that `detail` explains in a sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            side_effects: "none",
            next_offset: None,
            first_offset: None,
            end_offset: None,
            message_index: None,
            retry_after_seconds: 1,
        }
    }

    /// A failure of the message with this index, counted from 0.
    pub fn message(code: Code, index: u32, reason: impl std::fmt::Display) -> Self {
        Self { message_index: Some(index), ..Self::new(code, format!("message {index}: {reason}")) }
    }

    /// The failure's code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong, in a sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The outcome is unknown: the request may have been carried out.
    #[must_use]
    pub fn with_side_effects(mut self) -> Self {
        self.side_effects = "possible";
        self
    }
}

impl Problem {
    /// The document that clients get, as one line of JSON.
    #[must_use]
    pub fn document(self) -> Vec<u8> {
        let (word, status, retryable, title) = self.code.row();
        let r#type = format!("urn:messagevault:problem:{word}");
        let code = self.code;
        let shown = Shown { r#type, title, status: status.as_u16(), code, retryable, problem: self };
        serde_json::to_vec(&shown).expect("a struct of texts and numbers is written as JSON")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let code = self.code;
        let (_, status, _, _) = code.row();
        let retry_after_seconds = self.retry_after_seconds;
        let mut response = Response::new(Body::from(self.document()));
        *response.status_mut() = status;
        // For whoever counts refusals.
        response.extensions_mut().insert(code);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, retry_after_seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            for scheme in
                [r#"Basic realm="message-vault", charset="UTF-8""#, r#"Bearer realm="message-vault""#]
            {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Unauthenticated(_) => Code::Unauthenticated,
            Refused::Busy => Code::AuthenticationBusy,
            Refused::IssuerUnavailable => Code::IssuerUnavailable,
        };
        Self::new(code, refused.to_string())
    }
}

impl From<StreamFault> for Problem {
    fn from(fault: StreamFault) -> Self {
        let code = match fault {
            StreamFault::Corrupt { .. } => Code::Corrupt,
            StreamFault::DataMissing(_) => Code::DataMissing,
            StreamFault::TwoAccounts(_) => Code::TwoAccounts,
            StreamFault::FormatTooNew { .. } => Code::FormatTooNew,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<Unusable> for Problem {
    fn from(error: Unusable) -> Self {
        let detail = error.to_string();
        match error {
            Unusable::NotFound => Self::new(Code::StreamNotFound, detail),
            Unusable::NoLeader => Self::new(Code::NoLeader, detail),
            Unusable::Fault(fault) => fault.into(),
            Unusable::Storage(StorageError::Full(_)) => Self::new(Code::StorageFull, detail),
            Unusable::Storage(_) => Self::new(Code::StorageUnavailable, detail),
            Unusable::TimedOut => Self::new(Code::TimedOut, detail),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let detail = error.to_string();
        match error {
            AppendError::Unusable(unusable) => unusable.into(),
            AppendError::OffsetMismatch { next_offset: Offset(next_offset) } => {
                Self { next_offset: Some(next_offset), ..Self::new(Code::OffsetMismatch, detail) }
            }
            AppendError::QueueFull(_) => Self::new(Code::QueueFull, detail),
            AppendError::RateExceeded { retry_after_seconds } => {
                Self { retry_after_seconds, ..Self::new(Code::RateExceeded, detail) }
            }
            AppendError::StreamFull { .. } => Self::new(Code::StreamFull, detail),
            AppendError::StorageFull(_) => Self::new(Code::StorageFull, detail),
            AppendError::Producer(refused) => refused.into(),
            AppendError::OffsetsExhausted => Self::new(Code::OffsetsExhausted, detail),
            AppendError::Unknown(unusable) => Self { detail, ..Self::from(unusable) }.with_side_effects(),
        }
    }
}

impl From<producers::Refused> for Problem {
    fn from(refused: producers::Refused) -> Self {
        let code = match refused {
            producers::Refused::OlderEpoch { .. } => Code::ProducerFenced,
            producers::Refused::Gap { .. } => Code::ProducerGap,
            producers::Refused::Unknown => Code::ProducerUnknown,
            producers::Refused::Forgotten { .. } => Code::ProducerForgotten,
            producers::Refused::Reused { .. } => Code::ProducerReused,
        };
        Self::new(code, refused.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::Unusable(unusable) => unusable.into(),
            ReadError::BelowFirst { first_offset: Offset(first_offset) } => {
                Self { first_offset: Some(first_offset), ..Self::new(Code::BelowFirst, detail) }
            }
            ReadError::BeyondTail { end_offset: Offset(end_offset) } => {
                Self { end_offset: Some(end_offset), ..Self::new(Code::BeyondTail, detail) }
            }
            ReadError::Overloaded => Self::new(Code::Overloaded, detail),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let detail = error.to_string();
        match error {
            // What storage did not answer it may have carried out.
            AdminError::Unusable(unusable @ (Unusable::Storage(_) | Unusable::TimedOut)) => {
                Self::from(unusable).with_side_effects()
            }
            AdminError::Unusable(unusable) => unusable.into(),
            AdminError::InvalidSettings(invalid) => invalid.into(),
            AdminError::OtherSettings(_) => Self::new(Code::OtherSettings, detail),
            AdminError::UnknownAccount { .. } => Self::new(Code::InvalidSettings, detail),
            AdminError::Managed(_) => Self::new(Code::ManagedByKubernetes, detail),
            AdminError::TooManyStreams(_) => Self::new(Code::TooManyStreams, detail),
            AdminError::StillDeleting => Self::new(Code::StillDeleting, detail),
            AdminError::LeadLost => Self::new(Code::NoLeader, detail).with_side_effects(),
            AdminError::Busy => Self::new(Code::Busy, detail),
        }
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<InvalidSettings> for Problem {
    fn from(error: InvalidSettings) -> Self {
        Self::new(Code::InvalidSettings, error.to_string())
    }
}

impl From<InvalidRun> for Problem {
    fn from(InvalidRun { index, reason }: InvalidRun) -> Self {
        let code = match reason {
            InvalidRecord::ValueTooLong { .. } => Code::MessageTooLarge,
            _ => Code::InvalidMessage,
        };
        Self::message(code, index, reason)
    }
}
