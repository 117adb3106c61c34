//! A folder: a tree of files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use pactio_sdk::{
    Code, Entry, IoError, Kind, ListCursors, Listing, OpenError, OpenMode, Opened, Opening, Records, Stat,
    Tree, TreeDevice,
};

use crate::backend::{Files, OpenFlags};

/// An open folder. Names are looked up on each request, so changes by other programs are seen.
pub(crate) struct Folder {
    files: Files,
    path: PathBuf,
    how: OpenFlags,
    cursors: ListCursors<Entry>,
}

impl Folder {
    pub(crate) fn new(files: Files, path: PathBuf, how: OpenFlags) -> Self {
        Self { files, path, how, cursors: ListCursors::default() }
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
}

impl Listing for Folder {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        let (Some(path), Ok(pool)) = (self.path_of(folder), self.files.pool()) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (cursors, folder) = (self.cursors.clone(), folder.to_owned());
        pool.submit(move || {
            cursors
                .answer_with(folder, from, entries, |_| read(&path).map_err(|error| explain(error).into()));
        });
    }
}

/// The entries of a folder, by name.
fn read(path: &PathBuf) -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The metadata of a link's target. A dangling link is listed with its own metadata.
        let metadata = fs::metadata(entry.path()).or_else(|_| entry.metadata());
        let stat = metadata.map_or_else(|_| Stat::default(), |metadata| Stat::of_file(&metadata));
        all.push(Entry::new(entry.file_name(), stat));
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
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
                return Ok(Opened::new(TreeDevice(Self::new(self.files.clone(), path, self.how))));
            }
            Err(error)
                if error.kind() == io::ErrorKind::InvalidFilename && !mode.contains(OpenMode::WRITE) =>
            {
                let text = "there is no such file: the system has no names as long as this";
                return Err(OpenError::new(explain(error), text));
            }
            _ => {}
        }
        self.files.open_path(&path, mode, self.how)
    }
}
