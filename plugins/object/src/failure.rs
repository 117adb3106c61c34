//! Converts errors of stores to errors of devices.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use object_store::Error as StoreError;
use pactio_sdk::{Cause, Code, IoError, OpenError};

/// The kind of a store's error.
pub(crate) fn code(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound { .. } => Code::NOT_FOUND,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Code::PERMISSION_DENIED,
        StoreError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => Code::CHANGED,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => Code::UNSUPPORTED,
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => Code::INVALID_INPUT,
        _ => of_source(error),
    }
}

/// The kind of a general error, as far as its sources and its text tell.
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
                | io::ErrorKind::UnexpectedEof => Code::DISCONNECTED,
                kind => IoError::from(io::Error::from(kind)).code(),
            };
        }
        source = error.source();
    }
    // The client names its own limits in each error.
    let text = explain(error).replace("retry_timeout", "");
    // Addresses and names may contain any words.
    let text = text.split(' ').filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["non-partial response", "did not return a partial", "Content-Range", "not partial"]) {
        Code::UNSUPPORTED
    } else if has(&["404 Not Found", "NoSuchBucket"]) {
        Code::NOT_FOUND
    } else if has(&["401 Unauthorized", "403 Forbidden", "169.254.169.254", "metadata.google.internal"]) {
        // Without credentials, the client asks for the credentials of a machine in the store's own cloud.
        Code::PERMISSION_DENIED
    } else if has(&["503 Service", "503 Slow", "429 Too Many", "SlowDown"]) {
        Code::BUSY
    } else if has(&["timed out", "timeout", "Timeout"]) {
        Code::TIMED_OUT
    } else if has(&["error sending request", "connection", "Connection", "error decoding response body"]) {
        Code::DISCONNECTED
    } else {
        Code::IO
    }
}

/// The failure of a request, with the text of the store. The text also goes to the host's log.
pub(crate) fn failed(what: &str, error: &StoreError) -> Cause {
    let text = format!("{what}: {}", explain(error));
    tracing::warn!("{text}");
    let failure = IoError::from_code(code(error));
    // A fault of the server itself; other temporary faults have codes of their own.
    let is_servers =
        ["500 Internal", "502 Bad Gateway", "504 Gateway"].iter().any(|status| text.contains(status));
    Cause::new(if is_servers { failure.temporary() } else { failure }, text)
}

/// An error of opening.
pub(crate) fn cannot_open(error: &StoreError) -> OpenError {
    let text = match code(error) {
        Code::NOT_FOUND => "there is no such object, or no such bucket".to_owned(),
        Code::PERMISSION_DENIED => format!(
            "permission is denied; credentials come from the options key-id, key and token or from the environment, as \
             AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_ACCOUNT_KEY; anonymous=true goes without: {}",
            explain(error)
        ),
        _ => explain(error),
    };
    OpenError::new(IoError::from_code(code(error)), text)
}

/// The text of an error and of its sources; a source whose text is already there is left out, as it would only repeat it.
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
    let words: Vec<_> = last.split_whitespace().map(without_secrets).collect();
    words.join(" ")
}

/// A key for a text, without what may be the query of an address.
pub(crate) fn shown(key: &object_store::path::Path) -> String {
    match key.as_ref().split_once('?') {
        Some((front, _)) => format!("{front}?***"),
        None => key.to_string(),
    }
}

/// A word of a text, without the password and the query of the URL in it: the query may be a signature or a token.
fn without_secrets(word: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = word.split_once("://") else { return Cow::Borrowed(word) };
    // In a path, the client writes the mark as an escape.
    let mark = ["?", "%3F", "%3f"].into_iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min();
    let (address, query) =
        mark.map_or((rest, None), |(at, mark)| (&rest[..at], Some((mark, &rest[at + mark.len()..]))));
    let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            // A user without a password may be a token.
            None => format!("***@{host}"),
        },
        None => authority.to_owned(),
    };
    // Punctuation behind a URL stays.
    let end = query.map_or(String::new(), |(mark, query)| {
        format!("{mark}***{}", &query[query.trim_end_matches([')', ',', ':', ';', '"', '.']).len()..])
    });
    Cow::Owned(format!("{scheme}://{authority}{path}{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_queries_of_urls_are_not_shown() {
        for (word, shown) in [
            ("HEAD", "HEAD"),
            ("https://host:80/a@b:c", "https://host:80/a@b:c"),
            ("https://me:pass@host/x", "https://me:***@host/x"),
            ("https://me:p:a@s@host", "https://me:***@host"),
            ("(https://me@host/x?sig=abc&a=b):", "(https://***@host/x?***):"),
            ("https://host/x%3Fsig=abc,", "https://host/x%3F***,"),
            ("https://me:p?ss", "https://me:p?***"),
        ] {
            assert_eq!(without_secrets(word), shown);
        }
    }
}
