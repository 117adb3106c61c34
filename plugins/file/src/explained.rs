//! The texts of the system's errors, with hints.

use std::io;

use pactio_sdk::{Cause, Code, IoError, OpenError};

/// An error with the system's text.
pub(crate) fn cause(error: io::Error) -> Cause {
    let text = error.to_string();
    Cause::new(error.into(), text)
}

/// An error with the system's text, or with a hint where the way to proceed is clear.
pub(crate) fn explain(error: io::Error, write: bool) -> OpenError {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::NotADirectory => {
            let text = "there is no such file: a part of its path is a file";
            return OpenError::new(IoError::from_code(Code::NOT_FOUND), text);
        }
        io::ErrorKind::PermissionDenied if write => "permission to write it is denied".to_owned(),
        io::ErrorKind::PermissionDenied => "permission to read it is denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory; name a file in it".to_owned(),
        _ => error.to_string(),
    };
    OpenError::new(error.into(), text)
}
