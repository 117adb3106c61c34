//! Opens files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::{Arc, OnceLock};

use pactio_sdk::{Backend, Code, Error, OpenError, OpenMode, OpenRequest};
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;

use crate::device::FileDevice;
use crate::pool::Pool;

/// The backend. Its threads start with the first file.
pub(crate) struct Files {
    pool: OnceLock<Arc<Pool>>,
}

impl Files {
    pub(crate) const fn new() -> Self {
        Self { pool: OnceLock::new() }
    }
}

impl Backend for Files {
    type Device = FileDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<FileDevice, OpenError> {
        let path = request.target();
        if path.is_empty() {
            return Err(OpenError::invalid_input("no path is given; write file:/path/to/file"));
        }
        let file = open(path, request.mode())?;
        let pool = match self.pool.get() {
            Some(pool) => pool,
            None => {
                let started = Pool::start().map_err(|error| {
                    let text = format!("the threads that do the I/O cannot be started: {error}");
                    OpenError::new(error.into(), text)
                })?;
                self.pool.get_or_init(|| started)
            }
        };
        Ok(FileDevice::new(file, request.mode(), pool.clone()))
    }
}

fn open(path: &str, mode: OpenMode) -> Result<File, OpenError> {
    let write = mode.contains(OpenMode::WRITE);
    let opened = OpenOptions::new()
        .read(mode.contains(OpenMode::READ) || !write)
        .write(write)
        .create(write && mode.contains(OpenMode::CREATE))
        .truncate(write && mode.contains(OpenMode::TRUNCATE))
        // Opening a pipe must not wait for its other end.
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path);
    let not_seekable = || {
        OpenError::new(
            Error::from_code(Code::NotSeekable),
            "it is a pipe, socket or terminal, which has no positions",
        )
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(not_seekable()),
        Err(error) => return Err(explain(error, write)),
    };
    let metadata = file.metadata().map_err(OpenError::from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(OpenError::new(
            Error::from_code(Code::IsDirectory),
            "it is a directory; name a file in it",
        ));
    }
    if kind.is_fifo() || kind.is_socket() || seek(&file, SeekFrom::Current(0)).is_err() {
        return Err(not_seekable());
    }
    Ok(file)
}

/// The system's words, with what to try where that is clear.
fn explain(error: io::Error, write: bool) -> OpenError {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied if write => "permission to write it is denied".to_owned(),
        io::ErrorKind::PermissionDenied => "permission to read it is denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory; name a file in it".to_owned(),
        _ => error.to_string(),
    };
    OpenError::new(error.into(), text)
}
