//! Converts errors of stores to errors of devices.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
use pactio_sdk::{Cause, Code, IoError, OpenError};

use crate::retries::Trouble;

/// The error for an error of a store, with its class: temporary or permanent.
pub(crate) fn error(error: &StoreError) -> IoError {
    let code = match error {
        StoreError::NotFound { .. } => Code::NOT_FOUND,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Code::PERMISSION_DENIED,
        StoreError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => Code::CHANGED,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => Code::UNSUPPORTED,
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => Code::INVALID_INPUT,
        _ => return of_sources(error),
    };
    IoError::from_code(code)
}

/// The error for a general error, as far as its sources and its text tell.
fn of_sources(error: &StoreError) -> IoError {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return trouble.error;
        }
        if let Some(http) = error.downcast_ref::<HttpError>() {
            match http.kind() {
                HttpErrorKind::Timeout => return IoError::from_code(Code::TIMED_OUT),
                HttpErrorKind::Unknown => {}
                // The answer broke off.
                _ => return IoError::from_code(Code::DISCONNECTED),
            }
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            // `Other` does not tell the kind of failure.
            && io.kind() != io::ErrorKind::Other
        {
            return match io.kind() {
                io::ErrorKind::UnexpectedEof => IoError::from_code(Code::DISCONNECTED),
                kind => IoError::from(io::Error::from(kind)),
            };
        }
        source = error.source();
    }
    // The client's own errors have private types: only their texts tell them apart.
    let text = explain(error);
    // Addresses and names may contain any words.
    let text = text.split(' ').filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code = if has(&["non-partial response", "did not return a partial", "Content-Range", "not partial"]) {
        Code::UNSUPPORTED
    } else if has(&["404 Not Found", "NoSuchBucket"]) {
        Code::NOT_FOUND
    } else if has(&["401 Unauthorized", "403 Forbidden"]) {
        Code::PERMISSION_DENIED
    } else {
        Code::IO
    };
    IoError::from_code(code)
}

/// The failure of a request, with the text of the store. The text also goes to the host's log.
pub(crate) fn failed(what: &str, failure: &StoreError) -> Cause {
    let text = format!("{what}: {}", explain(failure));
    tracing::warn!("{text}");
    Cause::new(error(failure), text)
}

/// An error of opening.
pub(crate) fn cannot_open(failure: &StoreError) -> OpenError {
    let error = error(failure);
    let text = match error.code() {
        Code::NOT_FOUND => "there is no such object, or no such bucket".to_owned(),
        Code::PERMISSION_DENIED => format!("permission is denied: {}", explain(failure)),
        _ => explain(failure),
    };
    OpenError::new(error, text)
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
    redacted(&last)
}

/// A text in one line, without the passwords and queries of the URLs in it.
pub(crate) fn redacted(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(without_secrets).collect();
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
