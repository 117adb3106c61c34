//! Copies of files within a tree, in steps: a copy can be cancelled, and other work gets its turn between two steps.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pactio_pool::Pool;
use pactio_sdk::{Answer, Cause, IoError, OpenError, RenameMode};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::TempPath;

use crate::explained::cause;
use crate::replacement::{Replacement, make};

/// Bytes that are copied in one step.
const STEP: u64 = 16 << 20;

/// The mode of a file until it is whole.
const PRIVATE: u32 = 0o600;

/// A regular file that is being copied. The new name appears with the whole copy; if this is dropped before, the temporary file
/// is removed.
struct Copying {
    source: File,
    /// Size of the source when the copy began.
    size: u64,
    /// The permissions of the source.
    permissions: u32,
    copy: File,
    /// Position of the next byte.
    at: u64,
    place: Place,
}

/// The name that the copy gets.
enum Place {
    /// A name that must not exist then.
    New(TempPath, PathBuf),
    /// A name that may exist.
    Any(Replacement),
}

/// Copies a regular file on threads of the pool. The file system shares the blocks if it can; else the kernel copies the bytes,
/// without holes. A new file gets the permissions of the one that is copied; a replaced file keeps its own.
pub(crate) fn copy_file(pool: Arc<Pool>, from: PathBuf, to: PathBuf, mode: RenameMode, answer: Answer) {
    let threads = pool.clone();
    threads.submit(move || match Copying::begin(&from, &to, mode) {
        Ok(Some(copying)) => copying.go_on(pool, answer),
        Ok(None) => answer.result(Ok::<_, Cause>(())),
        Err(error) => answer.result(Err(Cause::new(error.error(), error.message()))),
    });
}

impl Copying {
    /// Opens both files. `None` if both names are the same file's one name, where nothing is to be done.
    fn begin(from: &Path, to: &Path, mode: RenameMode) -> Result<Option<Self>, OpenError> {
        // A pipe does not wait for its other end. The kind is asked of the open file: the name may be given to another file.
        let open =
            OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(from);
        let source = open?;
        let metadata = source.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(Errno::ISDIR).into());
        }
        if !metadata.is_file() {
            return Err(OpenError::invalid_input("only regular files are copied"));
        }
        let (place, copy) = match mode {
            RenameMode::Keep => {
                if fs::symlink_metadata(to).is_ok() {
                    return Err(io::Error::from(Errno::EXIST).into());
                }
                let (temporary, copy) = make(to, true, PRIVATE)?;
                (Place::New(temporary, to.to_owned()), copy)
            }
            RenameMode::Replace => {
                // Two names of one file become two files; a link that leads to the name itself stays.
                if fs::canonicalize(to).is_ok_and(|to| fs::canonicalize(from).is_ok_and(|from| from == to)) {
                    return Ok(None);
                }
                match Replacement::begin(to, PRIVATE)? {
                    Some((replacement, copy)) => (Place::Any(replacement), copy),
                    None if to.is_dir() => return Err(io::Error::from(Errno::ISDIR).into()),
                    None => return Err(OpenError::invalid_input("the new name is no regular file")),
                }
            }
        };
        let (size, permissions) = (metadata.len(), metadata.mode() & 0o777);
        Ok(Some(Self { source, size, permissions, copy, at: 0, place }))
    }

    /// Makes a step, and leaves the next one to a thread of the pool.
    fn go_on(mut self, pool: Arc<Pool>, answer: Answer) {
        if answer.is_cancelled() {
            return answer.error(IoError::CANCELLED);
        }
        match self.step() {
            Ok(false) => {
                let threads = pool.clone();
                threads.submit(move || self.go_on(pool, answer));
            }
            Ok(true) => answer.result(self.publish().map_err(cause)),
            Err(error) => answer.result(Err(cause(error))),
        }
    }

    /// Copies the next bytes; `true` at the end.
    fn step(&mut self) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        if self.at == 0 && rustix::fs::ioctl_ficlone(&self.copy, &self.source).is_ok() {
            return Ok(true);
        }
        // The system makes the bytes of some files when they are read, and gives them no size.
        if self.size == 0 {
            io::copy(&mut self.source, &mut self.copy)?;
            return Ok(true);
        }
        let Some(data) = data_from(&self.source, self.at..self.size)? else {
            // The bytes of a file that became shorter look like a hole.
            if self.source.metadata()?.len() < self.size {
                return Err(became_shorter());
            }
            self.copy.set_len(self.size)?;
            return Ok(true);
        };
        let len = (data.end - data.start).min(STEP);
        self.source.seek(SeekFrom::Start(data.start))?;
        self.copy.seek(SeekFrom::Start(data.start))?;
        if io::copy(&mut (&self.source).take(len), &mut self.copy)? < len {
            return Err(became_shorter());
        }
        self.at = data.start + len;
        Ok(false)
    }

    /// Gives the copy its name.
    fn publish(self) -> io::Result<()> {
        let permissions = Permissions::from_mode(self.permissions);
        match self.place {
            Place::New(temporary, to) => {
                self.copy.set_permissions(permissions)?;
                temporary.persist_noclobber(to).map_err(|error| error.error)
            }
            Place::Any(replacement) => {
                if replacement.replaces().is_none() {
                    self.copy.set_permissions(permissions)?;
                }
                replacement.publish()
            }
        }
    }
}

fn became_shorter() -> io::Error {
    io::Error::other("the file became shorter while it was copied")
}

/// The first range in `within` that is no hole, as far as the file system tells.
fn data_from(file: &File, within: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if within.is_empty() {
        return Ok(None);
    }
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{SeekFrom, seek};

        let start = match seek(file, SeekFrom::Data(within.start)) {
            // There is a hole up to the end.
            Err(Errno::NXIO) => return Ok(None),
            Err(_) => return Ok(Some(within)),
            Ok(start) => start,
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(within.end).min(within.end);
        // The file may have become longer or shorter.
        Ok(Some(start..end).filter(|data| !data.is_empty()))
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = file;
        Ok(Some(within))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_stay_and_all_bytes_are_copied() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], (20 << 20) + 3).unwrap();
        file.write_all_at(&[9; 3], (64 << 20) - 3).unwrap();
        let mut copying = Copying::begin(&from, &to, RenameMode::Keep).unwrap().unwrap();
        assert!(!to.exists());
        while !copying.step().unwrap() {}
        copying.publish().unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
        assert!(blocks(&to) <= blocks(&from) + 64, "{} blocks of {}", blocks(&to), blocks(&from));
    }

    #[test]
    fn a_file_that_becomes_shorter_is_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, vec![1; 3 * STEP as usize]).unwrap();
        let mut copying = Copying::begin(&from, &to, RenameMode::Keep).unwrap().unwrap();
        if copying.step().unwrap() {
            // The file system shares blocks.
            return;
        }
        File::options().write(true).open(&from).unwrap().set_len(5).unwrap();
        let mut last = copying.step();
        while let Ok(false) = last {
            last = copying.step();
        }
        assert!(last.is_err());
        drop(copying);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }
}
