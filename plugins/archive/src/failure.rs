//! Why an archive, or a file in it, cannot be opened.

use std::io;

use pactio_sdk::{Code, IoError, OpenError};

/// What it says makes no sense.
pub(crate) fn corrupt(what: impl Into<String>) -> OpenError {
    OpenError::new(IoError::from_code(Code::CORRUPT), what)
}

/// `what` cannot be read. What failed below may be better the next time; what ends too early stays so.
pub(crate) fn unread(what: &str, below: IoError) -> OpenError {
    if below.code() == Code::END {
        return corrupt(format!("{what} ends behind the archive's end: it was cut; get it again"));
    }
    OpenError::new(below, format!("{what} cannot be read: {below}"))
}

/// What a device failed with says more than the kind that it has here.
pub(crate) fn below(error: &io::Error) -> IoError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<IoError>());
    inner.copied().unwrap_or_else(|| io::Error::from(error.kind()).into())
}
