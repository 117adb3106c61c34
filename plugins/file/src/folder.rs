//! A folder: a tree of files.

use std::fs;
use std::io;
use std::path::PathBuf;

use pactio_sdk::{
    Code, Entry, IoError, Listing, OpenError, OpenMode, Opened, Opening, Records, Rests, Tree, TreeDevice,
};

use crate::backend::{Files, How};

/// An open folder. Names are looked up when they are asked for, so it sees what others do to it.
pub(crate) struct Folder {
    files: Files,
    path: PathBuf,
    how: How,
    rests: Rests,
}

impl Folder {
    pub(crate) fn new(files: Files, path: PathBuf, how: How) -> Self {
        Self { files, path, how, rests: Rests::default() }
    }

    /// The path of a name in it; nothing, if it would not be in it.
    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let outside = |part: &str| matches!(part, "" | "." | "..");
        match name {
            "" => Some(self.path.clone()),
            name => (!name.split('/').any(outside)).then(|| self.path.join(name)),
        }
    }
}

impl Tree for Folder {}

impl Listing for Folder {
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
        let (Some(path), Ok(pool)) = (self.path_of(folder), self.files.pool()) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (rests, folder) = (self.rests.clone(), folder.to_owned());
        pool.submit(move || rests.answer_with(folder, from, entries, |_| read(&path).map_err(explain)));
    }
}

/// What is in a folder, by name. Names that are not UTF-8 cannot be opened, and are left out.
fn read(path: &PathBuf) -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // What a link leads to; a link that leads nowhere is named all the same.
        let metadata = fs::metadata(entry.path()).ok();
        let is_folder = metadata.as_ref().is_some_and(fs::Metadata::is_dir);
        let size = metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        all.push(Entry { name, is_folder, size });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// A path that goes through a file, or is longer than the system has names, leads nowhere.
fn explain(error: io::Error) -> IoError {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => IoError::from_code(Code::NOT_FOUND),
        _ => error.into(),
    }
}

impl Opening for Folder {
    fn open(&self, name: &str, mode: OpenMode) -> Result<Opened, OpenError> {
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
        self.files.open_file(&path, mode, self.how).map(Opened::new)
    }
}
