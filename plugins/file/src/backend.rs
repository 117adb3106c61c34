//! Opens files.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use pactio_pool::{Lazy, Pool};
use pactio_sdk::{Backend, Code, IoError, OpenError, OpenMode, OpenRequest, Opened, TreeDevice};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fcntl_setfl, seek};
use rustix::io::Errno;

use crate::cached::Calls;
use crate::device::FileDevice;
use crate::engine::{Engine, Rings, THREADS};
use crate::explained::explain;
use crate::folder::{self, Folder};
use crate::pipe::Pipe;
use crate::replacement::Replacement;

/// The backend. Its threads start with the first file.
#[derive(Clone, Default)]
pub(crate) struct Files(Arc<Shared>);

struct Shared {
    pool: Lazy,
    rings: Rings,
    calls: Arc<Calls>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { pool: Lazy::new("pactio-file"), rings: Rings::default(), calls: Arc::default() }
    }
}

/// The options for opening a file, besides the mode.
#[derive(Clone, Copy)]
pub(crate) struct OpenFlags {
    direct: bool,
    map: bool,
    io: Io,
}

/// How uncached I/O is performed.
#[derive(Clone, Copy)]
enum Io {
    Auto,
    Ring,
    Threads,
}

#[cfg(target_os = "linux")]
const DIRECT: OFlags = OFlags::DIRECT;
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlags = OFlags::empty();

/// Alignment of direct I/O. Devices need 512 bytes or 4 KiB; this satisfies both.
const BLOCK: u32 = 4096;

impl Backend for Files {
    type Device = FileDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<FileDevice, OpenError> {
        self.open_file(Path::new(request.target()), request.mode(), OpenFlags::of(request)?)
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        let path = Path::new(request.target());
        if request.target().is_empty() {
            return Err(OpenError::invalid_input("no path is given; write file:/path/to/file"));
        }
        let is_folder_by_name = request.target().ends_with('/');
        if is_folder_by_name
            && (request.mode().contains(OpenMode::REPLACE) || request.mode().contains(OpenMode::TRUNCATE))
        {
            return Err(is_directory());
        }
        if is_folder_by_name && request.mode().contains(OpenMode::CREATE) {
            match fs::create_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(explain(error, true)),
                // The name is durable, as far as the file system can do it.
                Ok(()) => drop(path.parent().map(|parent| {
                    folder::sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
                })),
            }
        }
        if path.is_dir() && (is_folder_by_name || !request.mode().contains(OpenMode::CREATE)) {
            return Ok(Opened::new(TreeDevice(Folder::new(
                self.clone(),
                path.to_owned(),
                OpenFlags::of(request)?,
                request.mode(),
            ))));
        }
        self.open_path(path, request.mode(), OpenFlags::of(request)?)
    }
}

impl OpenFlags {
    fn of(request: &OpenRequest<'_>) -> Result<Self, OpenError> {
        let io = match request.option("io").unwrap_or_default() {
            "threads" => Io::Threads,
            "ring" => Io::Ring,
            _ => Io::Auto,
        };
        let (direct, map) = (request.flag_option("direct")?, request.flag_option("map")?);
        if direct && map {
            return Err(OpenError::invalid_input("`direct` and `map` cannot be combined"));
        }
        Ok(Self { direct, map, io })
    }
}

impl Files {
    /// Opens a file, or a pipe for writing.
    pub(crate) fn open_path(&self, path: &Path, mode: OpenMode, how: OpenFlags) -> Result<Opened, OpenError> {
        if mode.contains(OpenMode::WRITE)
            && !mode.contains(OpenMode::READ)
            && let Some(pipe) = Pipe::open(path)?
        {
            return Ok(Opened::new(pipe));
        }
        self.open_file(path, mode, how).map(Opened::new)
    }

    fn open_file(&self, path: &Path, mode: OpenMode, how: OpenFlags) -> Result<FileDevice, OpenError> {
        let (file, replacement) = if mode.contains(OpenMode::REPLACE) {
            replace(path, mode, how.direct)?
        } else {
            (open(path, mode, how.direct)?, None)
        };
        let (rings, known) = (&self.0.rings, Arc::default());
        let engine = match how.io {
            Io::Threads => Engine::Threads,
            Io::Ring => rings.engine(&file, &known).map_err(|error| {
                let text = format!("the kernel gives no io_uring: {error}; leave io=ring out to do without");
                OpenError::new(error.into(), text)
            })?,
            // The system takes the bytes of a new file without waiting, and gives those of a small file at once.
            Io::Auto if !how.direct && (replacement.is_some() || is_small(&file, mode)) => Engine::Threads,
            Io::Auto => rings.engine(&file, &known).unwrap_or(Engine::Threads),
        };
        let calls = (!matches!(how.io, Io::Threads)).then(|| self.0.calls.clone());
        let alignment = if how.direct { BLOCK } else { 1 };
        let mut device =
            FileDevice::new(file, replacement, mode, self.pool()?, engine, calls, alignment, known);
        if how.map && mode.contains(OpenMode::READ) {
            device.map_file()?;
        }
        Ok(device)
    }

    /// The pool of threads.
    pub(crate) fn pool(&self) -> Result<Arc<Pool>, OpenError> {
        Ok(self.0.pool.get(THREADS)?)
    }
}

/// Whether making a queue for a file costs more than reading all of it: trees have many such files.
fn is_small(file: &File, mode: OpenMode) -> bool {
    const SMALL: u64 = 1 << 20;
    // Systems report a size of 0 for files that are made when they are read.
    let is_small = |metadata: Metadata| metadata.is_file() && (1..=SMALL).contains(&metadata.len());
    !mode.contains(OpenMode::WRITE) && file.metadata().is_ok_and(is_small)
}

/// Begins to replace a file. A file that cannot be replaced, such as a device node, is opened as it is.
fn replace(path: &Path, mode: OpenMode, direct: bool) -> Result<(File, Option<Replacement>), OpenError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(is_directory());
    }
    let Some((replacement, file)) = Replacement::begin(path, 0o666)? else {
        return Ok((open(path, mode, direct)?, None));
    };
    if direct {
        let flags = fcntl_getfl(&file).map_err(io::Error::from)?;
        fcntl_setfl(&file, flags | DIRECT).map_err(|_| no_direct())?;
    }
    Ok((file, Some(replacement)))
}

fn is_directory() -> OpenError {
    OpenError::new(IoError::from_code(Code::IS_DIRECTORY), "it is a directory; name a file in it")
}

fn no_direct() -> OpenError {
    OpenError::new(
        IoError::from_code(Code::UNSUPPORTED),
        "its file system has no direct I/O; leave direct out",
    )
}

fn open(path: &Path, mode: OpenMode, direct: bool) -> Result<File, OpenError> {
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
            IoError::from_code(Code::NOT_SEEKABLE),
            "it is a pipe, socket or terminal, which has no positions",
        )
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(not_seekable()),
        Err(error) if direct && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return Err(no_direct());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && mode.contains(OpenMode::CREATE) => {
            return Err(OpenError::new(error.into(), "the folder that it should be made in does not exist"));
        }
        Err(error) => return Err(explain(error, write)),
    };
    let metadata = file.metadata().map_err(OpenError::from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(is_directory());
    }
    if kind.is_fifo() || kind.is_socket() || seek(&file, SeekFrom::Current(0)).is_err() {
        return Err(not_seekable());
    }
    if kind.is_file() || kind.is_block_device() {
        // With this flag, a ring would work on the caller's thread instead of on the kernel's workers.
        let flags = fcntl_getfl(&file).map_err(io::Error::from)?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(io::Error::from)?;
    }
    Ok(file)
}
