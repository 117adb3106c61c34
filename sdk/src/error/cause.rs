//! An error with a text for people.

use alloc::sync::Arc;
use core::fmt;

use super::IoError;

/// Why a range failed: the four-byte error, and the text of the side that failed it, if there is one.
///
/// ```
/// use pactio_sdk::{Cause, Code, IoError};
///
/// let cause = Cause::new(IoError::from_code(Code::BUSY), "the server answered 503 Slow Down");
/// assert_eq!(cause.error().code(), Code::BUSY);
/// assert_eq!(cause.to_string(), "busy: the server answered 503 Slow Down");
/// assert_eq!(Cause::from(IoError::END).text(), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Cause {
    error: IoError,
    text: Option<Arc<str>>,
}

impl Cause {
    /// An error with a text for people that states the failure and its reason. A report keeps the first 4096 bytes of the
    /// text.
    pub fn new(error: IoError, text: impl Into<Arc<str>>) -> Self {
        Self { error, text: Some(text.into()) }
    }

    /// The error.
    pub fn error(&self) -> IoError {
        self.error
    }

    /// The text, if there is one.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<IoError> for Cause {
    fn from(error: IoError) -> Self {
        Self { error, text: None }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            None => self.error.fmt(f),
            Some(text) => write!(f, "{}: {text}", self.error),
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cause").field("error", &self.error).field("text", &self.text).finish()
    }
}

impl core::error::Error for Cause {}

#[cfg(feature = "std")]
impl From<Cause> for std::io::Error {
    fn from(cause: Cause) -> Self {
        Self::new(cause.error().kind(), cause)
    }
}
