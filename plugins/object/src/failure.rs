//! What stores say, as errors of devices.

use std::error::Error as _;
use std::io;

use object_store::Error as StoreError;
use pactio_sdk::{Code, Error, OpenError};

/// The kind of a store's error.
pub(crate) fn code(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound { .. } => Code::NotFound,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Code::PermissionDenied,
        StoreError::AlreadyExists { .. } => Code::AlreadyExists,
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => Code::Changed,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => Code::Unsupported,
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => Code::InvalidInput,
        _ => of_source(error),
    }
}

/// What lies behind a general error, as far as it can be told.
fn of_source(error: &StoreError) -> Code {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() != io::ErrorKind::Other
        {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => Code::Disconnected,
                kind => Error::from(io::Error::from(kind)).code(),
            };
        }
        source = error.source();
    }
    // Its client says its own limits with each error.
    let text = explain(error).replace("retry_timeout", "");
    // Addresses and names may be any words.
    let text = text.split(' ').filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["non-partial response", "did not return a partial", "Content-Range", "not partial"]) {
        Code::Unsupported
    } else if has(&["404 Not Found", "NoSuchBucket"]) {
        Code::NotFound
    } else if has(&["401 Unauthorized", "403 Forbidden", "169.254.169.254", "metadata.google.internal"]) {
        // Without credentials, the client asks for those of a machine in the store's own cloud.
        Code::PermissionDenied
    } else if has(&["timed out", "timeout", "Timeout"]) {
        Code::TimedOut
    } else if has(&["error sending request", "connection", "Connection", "error decoding response body"]) {
        Code::Disconnected
    } else {
        Code::Io
    }
}

/// An error of a request; what the store says goes to the host's log.
pub(crate) fn failed(what: &str, error: &StoreError) -> Error {
    tracing::warn!("{what}: {}", explain(error));
    Error::from_code(code(error))
}

/// An error of opening.
pub(crate) fn cannot_open(error: &StoreError) -> OpenError {
    let text = match code(error) {
        Code::NotFound => "there is no such object, or no such bucket".to_owned(),
        Code::PermissionDenied => format!(
            "permission is denied; credentials come from the options key-id, key and token or from the environment, as \
             AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_ACCOUNT_KEY; anonymous=true goes without: {}",
            explain(error)
        ),
        _ => explain(error),
    };
    OpenError::new(Error::from_code(code(error)), text)
}

/// The innermost reasons, without what surrounds them: those say the same again with more words.
fn explain(error: &StoreError) -> String {
    let mut last = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !last.contains(&text) {
            last = format!("{last}: {text}");
        }
        source = error.source();
    }
    last.split_whitespace().collect::<Vec<_>>().join(" ")
}
