//! A file that is replaced as a whole: the new content is in a temporary file of the same folder until it is published.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pactio_sdk::{Code, Identity, IoError, OpenError};
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use tempfile::TempPath;

/// Longest part of the file's own name in the temporary one: names have at most 255 bytes.
const LONGEST_NAME: usize = 200;

/// Maximum number of symbolic links that are followed: the system's limit.
const MAX_LINKS: usize = 40;

const ADVICE: &str = "without `replace`, as with `pactio cp --inplace`, the file itself is written";

/// A file that is to be replaced, and the temporary file with the new content. If it is dropped before it is published, the
/// temporary file is removed.
pub(crate) struct Replacement {
    /// The path of the file that is replaced. It is no symbolic link.
    target: PathBuf,
    /// The storage of the content that is replaced, if there is any.
    replaces: Option<Identity>,
    /// `None` after the publication.
    temporary: Mutex<Option<TempPath>>,
    published: AtomicBool,
}

impl Replacement {
    /// Makes the temporary file, with the mode, owner and extended attributes of the file that it replaces. `None` if the path
    /// leads to something that cannot be replaced by a file, such as a device node. `new_mode` is the mode of a file that
    /// replaces none.
    ///
    /// # Errors
    ///
    /// If the file must not be written, if the temporary file cannot be made, or if an attribute cannot be kept.
    pub(crate) fn begin(path: &Path, new_mode: u32) -> Result<Option<(Self, File)>, OpenError> {
        let target = follow(path)?;
        let existing = match fs::metadata(path) {
            Ok(metadata) if !is_at(&metadata, &target) => return Ok(None),
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(metadata) = &existing {
            may_write(path)?;
            tracing::debug!(path = %target.display(), links = metadata.nlink(), "is replaced when it is published");
        }
        let mode = if existing.is_none() { new_mode } else { 0o600 };
        let (temporary, file) = make(&target, existing.is_none(), mode)?;
        let replaces = existing.as_ref().map(|metadata| Identity::file(metadata.dev(), metadata.ino()));
        if let Some(metadata) = existing {
            keep_attributes(&target, &metadata, &file)?;
        }
        let (temporary, published) = (Mutex::new(Some(temporary)), AtomicBool::new(false));
        Ok(Some((Self { target, replaces, temporary, published }, file)))
    }

    /// The storage of the content that is replaced, if there is any.
    pub(crate) fn replaces(&self) -> Option<&Identity> {
        self.replaces.as_ref()
    }

    pub(crate) fn is_published(&self) -> bool {
        // Ordering: Relaxed. The flag guards no data.
        self.published.load(Ordering::Relaxed)
    }

    fn temporary(&self) -> MutexGuard<'_, Option<TempPath>> {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the temporary file the name of the file that it replaces. May block.
    pub(crate) fn publish(&self) -> io::Result<()> {
        let mut temporary = self.temporary();
        let Some(path) = temporary.take() else { return Ok(()) };
        match path.persist(&self.target) {
            Ok(()) => {
                // Ordering: Relaxed. The flag guards no data.
                self.published.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                *temporary = Some(error.path);
                Err(error.error)
            }
        }
    }

    /// Makes the name durable. May block.
    pub(crate) fn flush_name(&self) -> io::Result<()> {
        File::open(folder_of(&self.target))?.sync_all()
    }

    /// Reports that written bytes are discarded.
    pub(crate) fn report_discarded(&self) {
        let path = self.target.display();
        match self.replaces {
            Some(_) => tracing::warn!("'{path}' keeps its content: the new one was not published"),
            None => tracing::warn!("'{path}' was not made: its content was not published"),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Follows the symbolic links at the end of a path, also if the last one leads to no file.
fn follow(path: &Path) -> Result<PathBuf, OpenError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from(Errno::LOOP).into())
}

/// Whether a path, without following links, leads to this regular file. The result is `false` for a link that is no path, as in
/// `/proc`.
fn is_at(metadata: &Metadata, target: &Path) -> bool {
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    metadata.is_file()
        && fs::symlink_metadata(target).is_ok_and(|target| identity(&target) == identity(metadata))
}

/// Checks the permission to write the file. To replace the file, the system only checks the permission to write its folder.
fn may_write(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).open(path) {
        // A running program cannot be written, but it can be replaced.
        Err(error) if error.raw_os_error() != Some(Errno::TXTBSY.raw_os_error()) => {
            Err(crate::explained::explain(error, true))
        }
        _ => Ok(()),
    }
}

/// Makes the temporary file. `is_new`: it replaces no other file.
pub(crate) fn make(target: &Path, is_new: bool, mode: u32) -> Result<(TempPath, File), OpenError> {
    let name =
        target.file_name().ok_or_else(|| OpenError::invalid_input("the path does not end with a name"))?;
    let name = &name.as_bytes()[..name.len().min(LONGEST_NAME)];
    let prefix = OsString::from_vec([b".", name, b"."].concat());
    let made = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".new")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder_of(target));
    let (file, path) = made.map_err(|error| cannot_make(&error, is_new))?.into_parts();
    Ok((path, file))
}

fn cannot_make(error: &io::Error, is_new: bool) -> OpenError {
    let code = IoError::from(io::Error::from(error.kind()));
    let text = match error.kind() {
        io::ErrorKind::NotFound if is_new => "the folder that it should be made in does not exist".to_owned(),
        io::ErrorKind::NotADirectory if is_new => "a part of its path is a file".to_owned(),
        io::ErrorKind::PermissionDenied if is_new => "permission to make it is denied".to_owned(),
        kind => {
            let advice = if is_new { String::new() } else { format!("; {ADVICE}") };
            let reason = if kind == io::ErrorKind::PermissionDenied {
                "permission denied".into()
            } else {
                error.to_string()
            };
            format!("no file can be made in its folder: {reason}{advice}")
        }
    };
    OpenError::new(code, text)
}

/// Gives the temporary file the owner, mode, access list and extended attributes of the file that it replaces.
fn keep_attributes(target: &Path, metadata: &Metadata, file: &File) -> Result<(), OpenError> {
    let made = file.metadata()?;
    let mut mode = metadata.mode() & 0o7777;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid())
        && fchown(file, Some(metadata.uid()), Some(metadata.gid())).is_err()
    {
        // Only root can change the owner. The group can be changed if this user is a member of it.
        let _ = fchown(file, None, Some(metadata.gid()));
        // The set-ID bits would give the rights of this user instead of the old owner's.
        mode &= 0o777;
    }
    // The mode is set before the access list, which holds a part of the mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    keep_extended(target, file).map_err(|(name, error)| {
        let name = String::from_utf8_lossy(&name).into_owned();
        let text = format!("its extended attribute '{name}' cannot be kept: {error}; {ADVICE}");
        OpenError::new(IoError::from_code(Code::UNSUPPORTED), text)
    })
}

/// An access list. A new file may inherit one from its folder.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Attributes that belong to the replaced content: rights of a program, and digests of the bytes.
const OF_CONTENT: [&[u8]; 3] = [b"security.capability", b"security.evm", b"security.ima"];

/// Copies the extended attributes; an error comes with the name of the attribute.
fn keep_extended(target: &Path, file: &File) -> Result<(), (Vec<u8>, Errno)> {
    let listing = |errno| (b"*".to_vec(), errno);
    let old = match OpenOptions::new().read(true).open(target) {
        Ok(old) => old,
        // Only the attributes are read, so a file without read permission is opened for writing.
        Err(_) => match OpenOptions::new().write(true).open(target) {
            Ok(old) => old,
            Err(error) => return Err(listing(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        },
    };
    let names = names(&old).map_err(listing)?;
    if !names.iter().any(|name| name == ACCESS_LIST)
        && self::names(file).map_err(listing)?.iter().any(|name| name == ACCESS_LIST)
    {
        fremovexattr(file, ACCESS_LIST).map_err(|errno| (ACCESS_LIST.to_vec(), errno))?;
    }
    for name in names.into_iter().filter(|name| !OF_CONTENT.contains(&name.as_slice())) {
        if let Err(errno) = keep_one(&old, file, &name) {
            return Err((name, errno));
        }
    }
    Ok(())
}

fn keep_one(old: &File, new: &File, name: &[u8]) -> Result<(), Errno> {
    let value = grown(|buffer| fgetxattr(old, name, buffer))?;
    if grown(|buffer| fgetxattr(new, name, buffer)).is_ok_and(|there| there == value) {
        return Ok(());
    }
    fsetxattr(new, name, &value, XattrFlags::empty())
}

/// The names of a file's extended attributes; none on a file system without such attributes.
fn names(file: &File) -> Result<Vec<Vec<u8>>, Errno> {
    match grown(|buffer| flistxattr(file, buffer)) {
        Ok(names) => {
            Ok(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Calls with larger buffers until the answer fits.
fn grown(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}
