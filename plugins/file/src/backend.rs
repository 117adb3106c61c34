//! Opens files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::{Arc, OnceLock};

use pactio_sdk::{Backend, Code, Error, OpenError, OpenMode, OpenRequest};
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;

use crate::device::FileDevice;
use crate::engine::{Engine, Rings};
use crate::pool::Pool;

/// The backend. Its threads start with the first file.
#[derive(Default)]
pub(crate) struct Files {
    pool: OnceLock<Arc<Pool>>,
    rings: Rings,
}

#[cfg(target_os = "linux")]
const DIRECT: OFlags = OFlags::DIRECT;
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlags = OFlags::empty();

/// What direct I/O is aligned to. Devices want 512 bytes or 4 KiB; this does for both.
const BLOCK: u32 = 4096;

impl Backend for Files {
    type Device = FileDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<FileDevice, OpenError> {
        let path = request.target();
        if path.is_empty() {
            return Err(OpenError::invalid_input("no path is given; write file:/path/to/file"));
        }
        let direct = request.flag_option("direct")?;
        let file = open(path, request.mode(), direct)?;
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
        let engine = match request.option("io").unwrap_or_default() {
            "threads" => Engine::Threads,
            "ring" => self.rings.engine(&file).map_err(|error| {
                let text = format!("the kernel gives no io_uring: {error}; leave io=ring out to do without");
                OpenError::new(error.into(), text)
            })?,
            _ => self.rings.engine(&file).unwrap_or(Engine::Threads),
        };
        let alignment = if direct { BLOCK } else { 1 };
        Ok(FileDevice::new(file, request.mode(), pool.clone(), engine, alignment))
    }
}

fn open(path: &str, mode: OpenMode, direct: bool) -> Result<File, OpenError> {
    let write = mode.contains(OpenMode::WRITE);
    let flags = if direct { OFlags::NONBLOCK | DIRECT } else { OFlags::NONBLOCK };
    let opened = OpenOptions::new()
        .read(mode.contains(OpenMode::READ) || !write)
        .write(write)
        .create(write && mode.contains(OpenMode::CREATE))
        .truncate(write && mode.contains(OpenMode::TRUNCATE))
        // Opening a pipe must not wait for its other end.
        .custom_flags(flags.bits() as i32)
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
        Err(error) if direct && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return Err(OpenError::new(
                Error::from_code(Code::Unsupported),
                "its file system has no direct I/O; leave direct out",
            ));
        }
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
