//! Errors of a host.

use std::fmt;

use pactio_sdk::{Cause, Code, IoError, Report};

/// An error with a message that names operation, object and reason.
///
/// ```no_run
/// # fn main() -> Result<(), pactio::Error> {
/// # let host = pactio::Host::builder().build()?;
/// # let device = host.open("s3:bucket/key")?;
/// let mut waited = std::time::Duration::from_millis(100);
/// let bytes = loop {
///     match host.block_on(device.read_range(0..4096)) {
///         Err(error) if error.is_temporary() => std::thread::sleep(waited),
///         other => break other?,
///     }
///     waited *= 2;
/// };
/// # Ok(())
/// # }
/// ```
///
/// Beside the message there are the [kind](Self::kind), the device's own [error](Self::io_error) and [text](Self::text), the
/// [account](Self::report) of the request, and a [hint](Self::hint). An error converts into [`std::io::Error`] with the nearest
/// kind. Its [source](std::error::Error::source) is the error of the device or the system.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    report: Option<Report>,
    /// The error of a device, with its text.
    cause: Option<Cause>,
    /// The error of the system.
    system: Option<std::io::Error>,
}

/// The kind of the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A URL is invalid.
    InvalidUrl,
    /// A profile does not exist or is invalid.
    InvalidProfile,
    /// No plugin has the scheme.
    UnknownScheme,
    /// An option of a URL does not match the plugin's manifest.
    InvalidOption,
    /// The plugin was found, but cannot be used.
    Refused(RefusalKind),
    /// The host itself could not be set up.
    Setup,
    /// A device could not be opened; the code is the reason.
    Open(Code),
    /// A request was not done completely; the code is that of the lowest offset that failed.
    Io(Code),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (hint, report, cause, system) = (None, None, None, None);
        Self(Box::new(Inner { kind, message: message.into(), hint, report, cause, system }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a report. The cause is that of the lowest offset that failed.
    pub(crate) fn with_report(mut self, report: Report) -> Self {
        self.0.cause = report.min_cause().map(|(_, cause)| cause.clone());
        self.0.report = Some(report);
        self
    }

    pub(crate) fn with_cause(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub(crate) fn with_system(mut self, error: std::io::Error) -> Self {
        self.0.system = Some(error);
        self
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The code of the device or plugin, if the error came from one; [`Code::INVALID_INPUT`] for an invalid option.
    pub fn code(&self) -> Option<Code> {
        match self.0.kind {
            ErrorKind::Open(code) | ErrorKind::Io(code) => Some(code),
            ErrorKind::InvalidOption => Some(Code::INVALID_INPUT),
            _ => None,
        }
    }

    /// The error of the device, if this one came from a device.
    pub fn io_error(&self) -> Option<IoError> {
        self.0.cause.as_ref().map(Cause::error).or_else(|| self.code().map(IoError::from_code))
    }

    /// The text of the device, such as a server's own message, if it gave one.
    pub fn text(&self) -> Option<&str> {
        self.0.cause.as_ref()?.text()
    }

    /// Whether the same operation may succeed later, with nothing changed: see [`IoError::is_temporary`].
    pub fn is_temporary(&self) -> bool {
        self.io_error().is_some_and(IoError::is_temporary)
    }

    /// How to proceed, if a hint is known.
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match (&self.0.cause, &self.0.system) {
            (Some(cause), _) => Some(cause),
            (None, Some(error)) => Some(error),
            (None, None) => None,
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match (error.0.kind, error.io_error(), &error.0.system) {
            (_, Some(error), _) => error.kind(),
            (_, None, Some(system)) => system.kind(),
            (ErrorKind::UnknownScheme | ErrorKind::Refused(_), ..) => std::io::ErrorKind::Unsupported,
            _ => std::io::ErrorKind::InvalidInput,
        };
        std::io::Error::new(kind, error)
    }
}

/// For code that mixes the host with requests of `pactio_sdk`.
impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Self::from(Cause::from(error))
    }
}

/// For code that mixes the host with requests of `pactio_sdk`.
impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self::new(ErrorKind::Io(cause.error().code()), cause.to_string()).with_cause(cause)
    }
}

/// The step at which a file was refused. Nothing after that step was trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// Users that are not trusted can write the file, or put another file in its place.
    Writable,
    /// The file cannot be read.
    Unreadable,
    /// It is not a shared library of this system and architecture.
    NotALibrary,
    /// It has no manifest, so it is not a pactio plugin.
    NoManifest,
    /// Its manifest or its entry is invalid.
    Damaged,
    /// It was built for another version of the ABI.
    AbiVersion,
    /// It was built for this version of the ABI, but its boundary differs.
    Fingerprint,
    /// It needs a feature that this host does not have.
    MissingFeature,
    /// Another file with the same plugin id was found before.
    Duplicate,
    /// The system could not load it.
    CannotLoad,
    /// The loaded library is not the file that was examined.
    Replaced,
    /// The memory layout of a boundary type differs.
    Layout,
    /// Its code failed while it was set up.
    Setup,
}

impl RefusalKind {
    /// A name that stays the same in all versions, for programs.
    ///
    /// ```
    /// assert_eq!(pactio::RefusalKind::AbiVersion.code(), "abi-version");
    /// ```
    pub fn code(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Unreadable => "unreadable",
            Self::NotALibrary => "not-a-library",
            Self::NoManifest => "no-manifest",
            Self::Damaged => "damaged",
            Self::AbiVersion => "abi-version",
            Self::Fingerprint => "fingerprint",
            Self::MissingFeature => "missing-feature",
            Self::Duplicate => "duplicate",
            Self::CannotLoad => "cannot-load",
            Self::Replaced => "replaced",
            Self::Layout => "layout",
            Self::Setup => "setup",
        }
    }
}
