//! Opening a device: the purpose, and the reason for a failure.

use core::fmt;
use core::ops::BitOr;

use super::OpenFailure;
use crate::{Code, IoError, Location, State, Subject};

/// The purpose for which a device is opened: bits that can be joined with `|`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenMode(pub(crate) u32);

impl OpenMode {
    /// Only to be inspected.
    pub const NONE: Self = Self(0);
    /// To be read.
    pub const READ: Self = Self(1);
    /// To be written.
    pub const WRITE: Self = Self(2);
    /// To be created if it does not exist.
    pub const CREATE: Self = Self(4);
    /// To be emptied if it exists.
    pub const TRUNCATE: Self = Self(8);
    /// To be written anew as a whole: the device begins empty, the previous content stays until the device is
    /// [published](crate::Publish), and nothing changes if that does not happen. Comes with [`WRITE`](Self::WRITE) and
    /// [`CREATE`](Self::CREATE). Devices without that ability, such as memory, are opened as they are.
    pub const REPLACE: Self = Self(16);

    /// All bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as they cross the boundary.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for OpenMode {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for OpenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::CREATE, "CREATE"),
            (Self::TRUNCATE, "TRUNCATE"),
            (Self::REPLACE, "REPLACE"),
        ];
        let set: Vec<&str> =
            names.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| *name).collect();
        write!(f, "OpenMode({})", set.join(" | "))
    }
}

/// Why a device was not opened: a kind and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    error: IoError,
    message: String,
}

impl OpenError {
    /// An error with a message that names the failure, its reason and a remedy.
    pub fn new(error: IoError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// An argument is invalid.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(IoError::from_code(Code::INVALID_INPUT), message)
    }

    /// The plugin's code panicked, perhaps with a message.
    pub(crate) fn panicked(message: Option<String>) -> Self {
        let mut text = "the plugin panicked while it opened the device".to_owned();
        if let Some(message) = message {
            text = format!("{text}: {message}");
        }
        Self::new(IoError::new(Code::PANICKED, Subject::BACKEND, State::UNSPECIFIED, Location::PLUGIN), text)
    }

    /// The kind.
    pub fn error(&self) -> IoError {
        self.error
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for OpenError {}

impl From<IoError> for OpenError {
    fn from(error: IoError) -> Self {
        Self::new(error, error.to_string())
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        let message = error.to_string();
        Self::new(error.into(), message)
    }
}

impl From<OpenFailure> for OpenError {
    fn from(failure: OpenFailure) -> Self {
        Self { error: failure.error, message: failure.message.to_text() }
    }
}

impl From<OpenError> for OpenFailure {
    fn from(error: OpenError) -> Self {
        Self { error: error.error, message: error.message.into() }
    }
}
