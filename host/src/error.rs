//! What can go wrong in a host.

use std::fmt;

use pactio_sdk::{Code, Report};

use crate::RefusalKind;

/// An error with a message that names what failed, where and why.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    report: Option<Report>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A URL makes no sense.
    InvalidUrl,
    /// A profile does not exist or makes no sense.
    InvalidProfile,
    /// No plugin has the scheme.
    UnknownScheme,
    /// An option of a URL is not what the plugin's manifest asks for.
    InvalidOption,
    /// The plugin was found, but cannot be used.
    Refused(RefusalKind),
    /// The host itself could not be set up.
    Setup,
    /// A device could not be opened; the plugin says why.
    Open(Code),
    /// A request was not done completely; the code is that of the lowest offset that failed.
    Io(Code),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, report: None }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_report(mut self, report: Report) -> Self {
        self.0.report = Some(report);
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The code of the device or plugin, if it came from one; [`Code::INVALID_INPUT`] for an invalid option.
    pub fn code(&self) -> Option<Code> {
        match self.0.kind {
            ErrorKind::Open(code) | ErrorKind::Io(code) => Some(code),
            ErrorKind::InvalidOption => Some(Code::INVALID_INPUT),
            _ => None,
        }
    }

    /// What to try, if something is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The account of the request that failed, if one was made.
    pub fn report(&self) -> Option<&Report> {
        self.0.report.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.code() {
            Some(code) => {
                let error = pactio_sdk::IoError::from_code(code);
                std::io::Error::from(error).kind()
            }
            None => std::io::ErrorKind::InvalidInput,
        };
        std::io::Error::new(kind, error)
    }
}
