//! Folders of `local:`. The client leaves out names that its own uploads might have, refuses a folder with a name that is no key,
//! and does not know empty folders.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use object_store::path::Path;
use pactio_sdk::{Entry, Kind, RenameMode, Stat};

use crate::odd::reason;

/// The names of a folder, and its keys that cannot be opened, with the reasons.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) entries: Vec<Entry>,
    pub(crate) hidden: Vec<(String, &'static str)>,
}

/// Whether a key is a folder.
pub(crate) fn is_folder(key: &Path) -> bool {
    fs::metadata(place(key)).is_ok_and(|metadata| metadata.is_dir())
}

/// The content of a folder.
pub(crate) fn list(folder: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for entry in fs::read_dir(place(folder))? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let mut hide = |reason| listed.hidden.push((key_in(folder, &text), reason));
        let metadata = match (name.to_str(), fs::metadata(entry.path())) {
            (None, _) => {
                hide("the name is not UTF-8, and keys are");
                continue;
            }
            (_, Err(_)) => {
                hide("it has no metadata, as a link to nothing, or was just removed");
                continue;
            }
            (_, Ok(metadata)) => metadata,
        };
        if !metadata.is_dir() && is_of_upload(&text) {
            hide(
                "a name with '#' and digits at its end is one of an unfinished upload, which the client does not open",
            );
        } else if Path::parse(&*text).is_err() {
            hide(reason(&text));
        } else if metadata.is_dir() {
            let mut stat = Stat::of(Kind::FOLDER);
            stat.identity = Stat::of_file(&metadata).identity;
            listed.entries.push(Entry::new(&*text, stat));
        } else {
            listed.entries.push(Entry::new(&*text, Stat::of_file(&metadata)));
        }
    }
    Ok(listed)
}

/// The hidden keys of a folder and of all folders in it. A link back to a folder on its path is passed over.
pub(crate) fn hidden(folder: &Path) -> io::Result<Vec<(String, &'static str)>> {
    let (mut hidden, mut on_path) = (Vec::new(), Vec::new());
    add_hidden(folder, &mut on_path, &mut hidden)?;
    Ok(hidden)
}

/// Adds the hidden keys of a folder and of all folders in it. `on_path` has the device and inode of each folder from the first
/// one down to this one's parent.
fn add_hidden(
    folder: &Path,
    on_path: &mut Vec<(u64, u64)>,
    hidden: &mut Vec<(String, &'static str)>,
) -> io::Result<()> {
    let metadata = fs::metadata(place(folder))?;
    let identity = (metadata.dev(), metadata.ino());
    if on_path.contains(&identity) {
        return Ok(());
    }
    on_path.push(identity);
    let listed = list(folder)?;
    hidden.extend(listed.hidden);
    for entry in listed.entries.iter().filter(|entry| entry.is_folder()) {
        if let Some(name) = entry.name.to_str() {
            // Not `join`, which encodes some characters.
            let Ok(folder) = Path::parse(key_in(folder, name)) else { continue };
            let depth = on_path.len();
            if add_hidden(&folder, on_path, hidden).is_err() {
                // The call that failed has left its folder on the path.
                on_path.truncate(depth);
                hidden.push((folder.to_string(), "the folder cannot be listed"));
            }
        }
    }
    on_path.pop();
    Ok(())
}

/// Copies a file. The bytes are in a file with the name of an upload until they are whole.
pub(crate) fn copy_file(from: &Path, to: &Path, mode: RenameMode) -> io::Result<()> {
    let (from, to) = (place(from), place(to));
    if let Some((folder, _)) = to.rsplit_once('/') {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(&to).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut source = File::open(&from)?;
    let permissions = source.metadata()?.permissions();
    let mut open = OpenOptions::new();
    // Private until the copy is whole.
    open.write(true).create_new(true).mode(0o600);
    let mut numbers = 0_u64..;
    let (staged, mut copy) = loop {
        let staged = format!("{to}#{}", numbers.next().unwrap_or_default());
        match open.open(&staged) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => break (staged, made?),
        }
    };
    let made =
        io::copy(&mut source, &mut copy).and_then(|_| copy.set_permissions(permissions)).and_then(|()| {
            match mode {
                RenameMode::Replace => fs::rename(&staged, &to),
                // Unlike a renaming, a link does not replace.
                RenameMode::Keep => fs::hard_link(&staged, &to),
            }
        });
    if made.is_err() || mode == RenameMode::Keep {
        let _ = fs::remove_file(&staged);
    }
    made
}

/// The path of a key.
fn place(key: &Path) -> String {
    format!("/{key}")
}

fn key_in(folder: &Path, name: &str) -> String {
    if folder.as_ref().is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether the client takes a name for that of an upload.
fn is_of_upload(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('#').is_some_and(|(_, number)| is_number(number))
}
