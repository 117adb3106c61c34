//! A folder: a tree of files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pactio_sdk::{
    Answer, Cancellation, Cause, Change, Code, CopyFile, CreateFile, CreateFolder, Entry, ExtensionQuery,
    Flush, FlushScope, IoError, Kind, ListCursors, Listing, OpenError, OpenMode, Opened, Opening, Records,
    Remove, Rename, RenameMode, RequestId, SetStat, Stat, Tree, TreeDevice, Watch, Watching,
};

use crate::backend::{Files, OpenFlags};
use crate::copying::copy_file;
use crate::explained;
use crate::watching::Source;

/// An open folder. Names are looked up on each request, so changes by other programs are seen.
pub(crate) struct Folder {
    files: Files,
    path: PathBuf,
    how: OpenFlags,
    /// The names in it may be changed.
    may_change: bool,
    cursors: ListCursors<Box<OsStr>>,
    watching: Arc<Watching<Source>>,
}

impl Folder {
    pub(crate) fn new(files: Files, path: PathBuf, how: OpenFlags, mode: OpenMode) -> Self {
        let may_change = mode.contains(OpenMode::WRITE);
        Self { files, path, how, may_change, cursors: ListCursors::default(), watching: Arc::default() }
    }

    /// Changes a name on a thread that may block.
    fn change(
        &self,
        name: &[u8],
        answer: Answer,
        change: impl FnOnce(PathBuf) -> io::Result<()> + Send + 'static,
    ) {
        match (self.path_of(name).filter(|_| !name.is_empty()), self.files.pool()) {
            (Some(path), Ok(pool)) => pool.submit(move || {
                answer.result(change(path).map_err(explained::cause));
            }),
            _ => answer.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    /// The path of a name in the folder; `None`, if the path would lead out of the folder.
    fn path_of(&self, name: &[u8]) -> Option<PathBuf> {
        let outside = |part: &[u8]| matches!(part, b"" | b"." | b"..");
        match name {
            b"" => Some(self.path.clone()),
            name => {
                let inside = !name.split(|byte| *byte == b'/').any(outside);
                inside.then(|| self.path.join(OsStr::from_bytes(name)))
            }
        }
    }
}

impl Tree for Folder {
    fn stat(&self) -> Stat {
        fs::metadata(&self.path).map_or_else(|_| Stat::of(Kind::FOLDER), |metadata| Stat::of_file(&metadata))
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Watch>(self).offer::<dyn Cancellation>(self);
        if self.may_change {
            query.offer::<dyn Remove>(self).offer::<dyn Rename>(self).offer::<dyn CreateFolder>(self);
            query.offer::<dyn CopyFile>(self).offer::<dyn SetStat>(self);
            query.offer::<dyn CreateFile>(self);
            query.offer::<dyn Flush>(self);
        }
    }
}

impl Flush for Folder {
    /// Makes the names in the folder durable.
    fn flush(&self, _: FlushScope, answer: Answer) {
        let path = self.path.clone();
        match self.files.pool() {
            Ok(pool) => pool.submit(move || answer.result(sync(&path).map_err(IoError::from))),
            Err(_) => answer.error(IoError::from_code(Code::FAILED)),
        }
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

impl Watch for Folder {
    fn watch(&self, from: u64, changes: Records<Change>) {
        match (from, self.files.pool()) {
            (0, Ok(pool)) => {
                let (watching, path) = (self.watching.clone(), self.path.clone());
                pool.submit(move || watching.begin(changes, |log| Source::start(&path, log)));
            }
            (0, Err(_)) => changes.error(IoError::from_code(Code::FAILED)),
            _ => self.watching.go_on(from, changes),
        }
    }
}

impl Cancellation for Folder {
    fn cancel(&self, request: RequestId) {
        self.watching.cancel(request);
    }
}

impl Remove for Folder {
    fn remove(&self, name: &[u8], answer: Answer) {
        self.change(name, answer, |path| match fs::symlink_metadata(&path)?.is_dir() {
            true => fs::remove_dir(path),
            // A link is removed, and not its target.
            false => fs::remove_file(path),
        });
    }
}

impl CreateFile for Folder {
    fn create_file(&self, name: &[u8], answer: Answer) {
        self.change(name, answer, |path| fs::File::create_new(path).map(drop));
    }
}

impl CreateFolder for Folder {
    fn create_folder(&self, name: &[u8], answer: Answer) {
        self.change(name, answer, fs::create_dir);
    }
}

impl Rename for Folder {
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let Some(to) = self.path_of(to).filter(|_| !to.is_empty()) else {
            return answer.error(IoError::from_code(Code::INVALID_INPUT));
        };
        self.change(from, answer, move |from| match mode {
            RenameMode::Replace => replace(&from, &to),
            RenameMode::Keep => rename_new(&from, &to),
        });
    }
}

impl SetStat for Folder {
    fn set_stat(&self, name: &[u8], stat: Stat, answer: Answer) {
        let Stat { modified, accessed, mode, .. } = stat;
        let mut settable = Stat::default();
        (settable.modified, settable.accessed, settable.mode) = (modified, accessed, mode);
        if stat != settable {
            let text = "only the times of the last change and the last read, and permission bits, can be set";
            return answer.fail(&Cause::new(IoError::UNSUPPORTED, text));
        }
        self.change(name, answer, move |path| {
            // Links are followed.
            if let Some(time) = modified {
                filetime::set_file_mtime(&path, time.into())?;
            }
            if let Some(time) = accessed {
                filetime::set_file_atime(&path, time.into())?;
            }
            match mode {
                Some(mode) => fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777)),
                None => Ok(()),
            }
        });
    }
}

impl CopyFile for Folder {
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let paths = self.path_of(from).zip(self.path_of(to)).filter(|_| !from.is_empty() && !to.is_empty());
        match (paths, self.files.pool()) {
            (Some((from, to)), Ok(pool)) => copy_file(pool, from, to, mode, answer),
            _ => answer.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }
}

/// Renames; a file of the new name is replaced.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // The system does nothing if both are links to one file.
    match (fs::symlink_metadata(from), fs::symlink_metadata(to)) {
        (Ok(one), Ok(other))
            if one.nlink() > 1 && from != to && (one.dev(), one.ino()) == (other.dev(), other.ino()) =>
        {
            let text = "both names are links to one file, which stay; remove the old name instead";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
        _ => Ok(()),
    }
}

/// Renames without replacing, in one step.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Listing for Folder {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        let (Some(path), Ok(pool)) = (self.path_of(folder), self.files.pool()) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (cursors, folder) = (self.cursors.clone(), folder.to_owned());
        pool.submit(move || {
            let names = |_: &[u8]| {
                names(&path).map_err(|error| {
                    let text = error.to_string();
                    Cause::new(explain(error), text)
                })
            };
            cursors.answer_lazily(folder, from, entries, names, |name| entry(&path, name));
        });
    }
}

/// The names in a folder, in order. Only the names are kept, so that a folder of many files needs little memory.
fn names(path: &Path) -> io::Result<Vec<Box<OsStr>>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_boxed_os_str()));
    let mut all = entries.collect::<io::Result<Vec<_>>>()?;
    all.sort_unstable();
    Ok(all)
}

/// The entry of a name; `None` if the name is gone by now.
fn entry(folder: &Path, name: &OsStr) -> Option<Entry> {
    let path = folder.join(name);
    // The metadata of a link's target. A dangling link is listed with its own metadata.
    let metadata = fs::metadata(&path).or_else(|_| fs::symlink_metadata(&path));
    match metadata {
        Ok(metadata) => Some(Entry::new(name.as_bytes(), Stat::of_file(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(Entry::new(name.as_bytes(), Stat::default())),
    }
}

/// A path that goes through a file, or has a longer name than the system allows, is not found.
fn explain(error: io::Error) -> IoError {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => IoError::from_code(Code::NOT_FOUND),
        _ => error.into(),
    }
}

impl Opening for Folder {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let path = self
            .path_of(name)
            .ok_or_else(|| OpenError::invalid_input("the name has a part that is empty, '.' or '..'"))?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && !mode.contains(OpenMode::CREATE) => {
                return Ok(Opened::new(TreeDevice(Self::new(self.files.clone(), path, self.how, mode))));
            }
            Err(error)
                if error.kind() == io::ErrorKind::InvalidFilename && !mode.contains(OpenMode::WRITE) =>
            {
                let text = "there is no such file: the system has no names as long as this";
                return Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), text));
            }
            _ => {}
        }
        self.files.open_path(&path, mode, self.how)
    }
}
