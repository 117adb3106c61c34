//! The errors for an archive, or a file in it, that cannot be opened.

use std::io;

use pactio_sdk::{Code, IoError, OpenError};

/// An error for invalid data.
pub(crate) fn corrupt(what: impl Into<String>) -> OpenError {
    OpenError::new(IoError::from_code(Code::CORRUPT), what)
}

/// An error for a failed read of `what`. A failure of the device below keeps its code: a retry may succeed. An archive that ends
/// too early is corrupt.
pub(crate) fn unread(what: &str, below: IoError) -> OpenError {
    if below.code() == Code::END {
        return corrupt(format!("{what} ends behind the archive's end: it was cut; get it again"));
    }
    OpenError::new(below, format!("{what} cannot be read: {below}"))
}

/// The device's error inside of an [`io::Error`], which is more exact than the kind; without one, an error of that kind.
pub(crate) fn below(error: &io::Error) -> IoError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<IoError>());
    inner.copied().unwrap_or_else(|| io::Error::from(error.kind()).into())
}
