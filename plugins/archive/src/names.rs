//! The tree of names in an archive.
//!
//! Memory is linear in the size of the archive's directory, regardless of the depth of its names. Only folders that contain
//! files, or that the directory names, are kept, each as one text, sorted. The folders above them follow from the texts.
//!
//! ```text
//!  text:   "maps" "sound\0ambient" "sound\0music"            '\0' in place of '/': sorted texts are sorted trees
//!  files:  (0, "e1.bsp") (0, "e2.bsp") (2, "track.ogg")      sorted by folder and name
//! ```

use std::cmp;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use pactio_sdk::{Entry, Kind, Refused, Stat};

use crate::content::Content;

/// Maximum number of names that are kept in memory.
pub(crate) const MAX_NAMES: usize = 1 << 24;

/// Maximum length of a name in bytes, the limit for a path on most systems.
pub(crate) const LONGEST: usize = 4096;

/// Maximum number of folders that a name is in.
const DEEPEST: usize = 128;

/// The byte that separates the names of a path in memory. No name contains this byte.
const SEPARATOR: u8 = 0;

/// A part of the text of all names.
#[derive(Clone, Copy)]
struct Piece {
    start: u32,
    len: u16,
}

/// A file: its folder's number, its name, and the number of its content.
#[derive(Clone, Copy)]
struct File {
    folder: u32,
    name: Piece,
    content: u32,
}

/// The object of a name: a file's number, or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    File(u32),
    Folder,
}

/// Names, and the files and folders that they stand for.
pub(crate) struct Names {
    text: Vec<u8>,
    contents: Vec<Content>,
    /// The paths of folders that have files or were named, sorted, each once.
    folders: Vec<Piece>,
    /// Sorted by folder and name, each once.
    files: Vec<File>,
    /// The index of the first file of each folder, and the number of files.
    first_files: Vec<u32>,
    refused: Vec<Hidden>,
    /// The number of the folder that was looked up last: the next lookup is usually near.
    near: AtomicUsize,
}

/// An entry that is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hidden {
    name: Box<str>,
    reason: Reason,
}

/// Why an entry is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Outside,
    Nul,
    Empty,
    TooLong,
    TooDeep,
    Replaced,
    FolderToo,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Outside => "it would lie outside of the archive",
            Self::Nul => "it has a zero byte",
            Self::Empty => "a part of it is empty or '.'",
            Self::TooLong => "it is longer than 4096 bytes",
            Self::TooDeep => "it is in more than 128 folders",
            Self::Replaced => "a later entry has the same name",
            Self::FolderToo => "a folder has the same name",
        }
    }
}

/// Names while they are added.
#[derive(Default)]
pub(crate) struct NamesBuilder {
    text: Vec<u8>,
    contents: Vec<Content>,
    folders: Vec<Piece>,
    files: Vec<File>,
    refused: Vec<Hidden>,
    /// The folder that was added last: consecutive files are usually in the same folder.
    last: Option<u32>,
}

/// A name without the `./` that some tools write in front of it.
fn clean(written: &str) -> &str {
    written.strip_prefix("./").unwrap_or(written)
}

/// A name for a message, on one line.
pub(crate) fn shown(written: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 100;
    let mut text: String = written.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if written.chars().nth(MAX_SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// The reason why a path is invalid within an archive.
fn refusal(path: &str) -> Option<Reason> {
    if path.contains('\0') {
        return Some(Reason::Nul);
    }
    if path.len() > LONGEST {
        return Some(Reason::TooLong);
    }
    if path.starts_with('/') {
        return Some(Reason::Outside);
    }
    let mut depth = 0;
    for part in path.split('/') {
        depth += 1;
        match part {
            ".." => return Some(Reason::Outside),
            "" | "." => return Some(Reason::Empty),
            _ => {}
        }
    }
    (depth > DEEPEST + 1).then_some(Reason::TooDeep)
}

impl NamesBuilder {
    /// Adds a file, or a folder if it has no content. An entry with an invalid name is hidden.
    ///
    /// # Errors
    ///
    /// If there are more than `MAX_NAMES` names, or more text than can be counted.
    pub(crate) fn add(&mut self, written: &str, content: Option<Content>) -> Result<(), String> {
        let name = clean(written);
        let Some(content) = content else {
            let path = name.trim_end_matches('/');
            // An entry for the archive's root, such as `./`, adds nothing: the root always exists.
            if matches!(path, "" | ".") && !name.starts_with('/') {
                return Ok(());
            }
            return match refusal(path) {
                Some(reason) => self.hide(written, reason),
                None => self.folder(path).map(drop),
            };
        };
        if let Some(reason) = refusal(name) {
            return self.hide(written, reason);
        }
        let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
        let folder = self.folder(path)?;
        self.put(folder, last, content)
    }

    /// Adds a folder of files, for [`put`](Self::put); `None` if its files are hidden.
    pub(crate) fn folder_of_files(&mut self, written: &str) -> Result<Option<u32>, String> {
        let path = clean(written);
        match refusal(path) {
            Some(reason) => self.hide(written, reason).map(|()| None),
            None => self.folder(path).map(Some),
        }
    }

    /// Adds a file in a folder of [`folder_of_files`](Self::folder_of_files). A file with an invalid name is hidden.
    pub(crate) fn check_and_put(&mut self, folder: u32, name: &str, content: Content) -> Result<(), String> {
        match refusal(name) {
            Some(reason) => self.hide(name, reason),
            // `name` is one name, not a path: a separator in it would stand for a folder that was not added.
            None if name.contains('/') => self.hide(name, Reason::Empty),
            None => self.put(folder, name, content),
        }
    }

    fn put(&mut self, folder: u32, name: &str, content: Content) -> Result<(), String> {
        self.room()?;
        let name = self.piece(name.as_bytes())?;
        self.files.push(File { folder, name, content: self.contents.len() as u32 });
        self.contents.push(content);
        Ok(())
    }

    fn hide(&mut self, written: &str, reason: Reason) -> Result<(), String> {
        self.room()?;
        let end = written.floor_char_boundary(LONGEST);
        self.refused.push(Hidden { name: written[..end].into(), reason });
        Ok(())
    }

    /// The number of a folder. Until [`finish`](Self::finish), one folder may have several numbers.
    pub(crate) fn folder(&mut self, path: &str) -> Result<u32, String> {
        let same = |piece: &Piece| {
            let known =
                bytes(&self.text, *piece).iter().map(|&byte| if byte == SEPARATOR { b'/' } else { byte });
            usize::from(piece.len) == path.len() && known.eq(path.bytes())
        };
        if let Some(last) = self.last.filter(|&last| same(&self.folders[last as usize])) {
            return Ok(last);
        }
        self.room()?;
        let path: Vec<u8> = path.bytes().map(|byte| if byte == b'/' { SEPARATOR } else { byte }).collect();
        let piece = self.piece(&path)?;
        let number = self.folders.len() as u32;
        self.folders.push(piece);
        self.last = Some(number);
        Ok(number)
    }

    fn piece(&mut self, text: &[u8]) -> Result<Piece, String> {
        let start =
            u32::try_from(self.text.len()).map_err(|_| "its names are longer than 4 GiB".to_owned())?;
        self.text.extend_from_slice(text);
        Ok(Piece { start, len: text.len() as u16 })
    }

    fn room(&self) -> Result<(), String> {
        let count = self.files.len() + self.folders.len() + self.refused.len();
        if count >= MAX_NAMES { Err(format!("it has more than {MAX_NAMES} names")) } else { Ok(()) }
    }

    /// The finished tree of names. Of several files with one name, the last one counts.
    ///
    /// # Errors
    ///
    /// If `strict`, and an entry is hidden.
    pub(crate) fn finish(self, strict: bool) -> Result<Names, String> {
        let Self { text, contents, folders, mut files, mut refused, .. } = self;
        let mut order: Vec<u32> = (0..folders.len() as u32).collect();
        let path = |number: u32| bytes(&text, folders[number as usize]);
        order.sort_unstable_by(|&one, &other| path(one).cmp(path(other)));
        // Folders are sorted and kept once. `number_of` maps their old numbers, which the files have, to the new ones.
        let mut sorted: Vec<Piece> = Vec::new();
        let mut number_of = vec![0; folders.len()];
        for number in order {
            if sorted.last().is_none_or(|last| bytes(&text, *last) != path(number)) {
                sorted.push(folders[number as usize]);
            }
            number_of[number as usize] = sorted.len() as u32 - 1;
        }
        let folders = sorted;
        files.iter_mut().for_each(|file| file.folder = number_of[file.folder as usize]);
        drop(number_of);
        let key = |file: &File| (file.folder, bytes(&text, file.name));
        // Contents are numbered in the order of the archive, so the last of several files with one name sorts last.
        files.sort_unstable_by(|one, other| key(one).cmp(&key(other)).then(one.content.cmp(&other.content)));
        // The methods of `Names` serve the next steps; the fields that are empty here are set there.
        let mut names = Names {
            text,
            contents,
            folders,
            files: Vec::new(),
            first_files: Vec::new(),
            refused: Vec::new(),
            near: AtomicUsize::new(0),
        };
        let mut kept: Vec<File> = Vec::with_capacity(files.len());
        for file in files {
            if let Some(last) = kept
                .last_mut()
                .filter(|last| last.folder == file.folder && names.bytes(last.name) == names.bytes(file.name))
            {
                refused.push(Hidden { name: names.path_of(last).into(), reason: Reason::Replaced });
                *last = file;
            } else {
                kept.push(file);
            }
        }
        names.files = kept;
        for path in names.files_that_are_folders() {
            refused.push(Hidden { name: path.into(), reason: Reason::FolderToo });
        }
        names.refused = refused;
        names.first_files = names.find_first_files();
        match names.refused.first().filter(|_| strict) {
            Some(Hidden { name, reason }) => {
                Err(format!("its entry '{}' is refused: {}", shown(name), reason.text()))
            }
            None => Ok(names),
        }
    }
}

fn bytes(text: &[u8], piece: Piece) -> &[u8] {
    &text[piece.start as usize..][..usize::from(piece.len)]
}

/// Names are kept as they were read: as UTF-8.
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The first index of `range` for which `before` is false. The search is fast if this index is near the start of `range`.
fn gallop(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (range.start, 1);
    while low + step <= range.end && before(low + step - 1) {
        low += step;
        step *= 2;
    }
    let (mut low, mut high) = (low, (low + step).min(range.end));
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl Names {
    /// Number of files.
    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    /// Number of entries that the tree does not show, with the reasons in [`refused`](Self::refused).
    pub(crate) fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// The hidden entries, from this number on.
    pub(crate) fn refused(&self, from: usize) -> impl Iterator<Item = Refused> + '_ {
        let rest = self.refused.get(from..).unwrap_or_default();
        rest.iter().map(|hidden| Refused::new(&*hidden.name, hidden.reason.text()))
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        bytes(&self.text, piece)
    }

    fn folder(&self, number: usize) -> &[u8] {
        self.bytes(self.folders[number])
    }

    /// The path of a file.
    fn path_of(&self, file: &File) -> String {
        let folder = utf8(self.folder(file.folder as usize)).replace('\0', "/");
        let name = utf8(self.bytes(file.name));
        if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
    }

    /// The file or folder of a path.
    pub(crate) fn find(&self, path: &str) -> Option<Child> {
        if path.contains('\0') {
            return None;
        }
        let path = path.replace('/', "\0").into_bytes();
        if self.is_folder(&path) {
            return Some(Child::Folder);
        }
        let (folder, name) = match path.iter().rposition(|&byte| byte == SEPARATOR) {
            Some(separator) => (&path[..separator], &path[separator + 1..]),
            None => (&path[..0], &path[..]),
        };
        // Only a folder that is kept itself has files.
        let number = self.first_from(folder);
        if number == self.folders.len() || self.folder(number) != folder {
            return None;
        }
        let files = &self.files[self.files_in(number)];
        let found = files.binary_search_by(|file| self.bytes(file.name).cmp(name));
        found.ok().map(|index| Child::File(files[index].content))
    }

    /// Whether a path is the path of a kept folder, or of a folder above one.
    fn is_folder(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        self.leads_through(self.first_from(path), path)
    }

    /// Whether the folder with this number exists, and its path is `path` or lies below `path`.
    fn leads_through(&self, number: usize, path: &[u8]) -> bool {
        self.folders.get(number).is_some_and(|piece| {
            let rest = self.bytes(*piece).strip_prefix(path);
            rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == SEPARATOR))
        })
    }

    /// The number of the first folder whose path is `path` or sorts behind `path`.
    fn first_from(&self, path: &[u8]) -> usize {
        let before = |number: usize| self.folder(number) < path;
        // Ordering: Relaxed, also below. The value is a hint: the search finds the folder from any start.
        let near = self.near.load(Ordering::Relaxed).min(self.folders.len());
        let first = if near > 0 && !before(near - 1) {
            self.folders[..near].partition_point(|piece| self.bytes(*piece) < path)
        } else {
            gallop(near..self.folders.len(), before)
        };
        self.near.store(first, Ordering::Relaxed);
        first
    }

    pub(crate) fn content(&self, number: u32) -> &Content {
        &self.contents[number as usize]
    }

    /// The entries of a folder, by name, from a cursor on; `None`, if there is no such folder. The cursor 0 is the beginning.
    pub(crate) fn list(&self, folder: &str, from: u64) -> Option<Entries<'_>> {
        if folder.contains('\0') {
            return None;
        }
        let path = folder.replace('/', "\0").into_bytes();
        let start = self.first_from(&path);
        if !path.is_empty() && !self.leads_through(start, &path) {
            return None;
        }
        // The folder itself is kept only if it has files or was named. The folders in it follow it.
        let own = self.folders.get(start).is_some_and(|piece| self.bytes(*piece) == path);
        let files = if own { self.files_in(start) } else { 0..0 };
        let mut entries = self.entries(&path, files, start + usize::from(own));
        // A cursor has the index of the next file in its upper half, and that of the next folder in its lower half. It comes
        // from the caller, so both are limited to this folder.
        if from > 0 {
            let (file, folder) = ((from >> 32) as usize, (from & 0xffff_ffff) as usize);
            entries.files.start = file.clamp(entries.files.start, entries.files.end);
            entries.folders.start = folder.clamp(entries.folders.start, entries.folders.end);
        }
        Some(entries)
    }

    /// The entries of a folder: its files, and the folders in it, which follow each other from `first` on.
    fn entries(&self, path: &[u8], files: Range<usize>, first: usize) -> Entries<'_> {
        let inside = |index: usize| {
            let text = self.folder(index);
            path.is_empty() || (text.starts_with(path) && text.get(path.len()) == Some(&SEPARATOR))
        };
        let folders = first..gallop(first..self.folders.len(), inside);
        Entries { names: self, files, folders, prefix: if path.is_empty() { 0 } else { path.len() + 1 } }
    }

    /// The files of the folder with this number.
    fn files_in(&self, folder: usize) -> Range<usize> {
        self.first_files[folder] as usize..self.first_files[folder + 1] as usize
    }

    /// Gives the index of the first file of each folder, and the number of files as the last element. The files are sorted
    /// by folder.
    fn find_first_files(&self) -> Vec<u32> {
        let mut first = vec![0; self.folders.len() + 1];
        // The files of a folder count one element further: the sums are then the files in front of each folder.
        for file in &self.files {
            first[file.folder as usize + 1] += 1;
        }
        for folder in 1..first.len() {
            first[folder] += first[folder - 1];
        }
        first
    }

    /// Removes the files that have the name of a folder, and returns their paths.
    fn files_that_are_folders(&mut self) -> Vec<String> {
        // The indices of these files, in rising order.
        let mut doubled = Vec::new();
        // The files of one folder after the other.
        let mut files = 0..0;
        while files.end < self.files.len() {
            let number = self.files[files.end].folder;
            files =
                files.end..gallop(files.end..self.files.len(), |index| self.files[index].folder == number);
            let path = self.folder(number as usize);
            let mut entries = self.entries(path, files.clone(), number as usize + 1);
            // The folders and files of this folder are sorted by name, so one pass over both finds equal names.
            while !entries.folders.is_empty() {
                let folder = entries.folder_name();
                let rest = entries.files.clone();
                entries.files.start = gallop(rest, |index| self.bytes(self.files[index].name) < folder);
                let at = entries.files.start;
                if at < files.end && self.bytes(self.files[at].name) == folder {
                    doubled.push(at);
                }
                entries.pass_folder();
            }
        }
        let paths = doubled.iter().map(|&at| self.path_of(&self.files[at])).collect();
        let mut index = 0;
        let mut doubled = doubled.into_iter().peekable();
        self.files.retain(|_| {
            index += 1;
            doubled.next_if_eq(&(index - 1)).is_none()
        });
        paths
    }
}

/// The entries of a folder: its files and the folders in it, merged.
pub(crate) struct Entries<'n> {
    names: &'n Names,
    files: Range<usize>,
    /// The folders whose paths begin with the path of this folder.
    folders: Range<usize>,
    /// Number of bytes of these paths in front of the name within this folder.
    prefix: usize,
}

impl<'n> Entries<'n> {
    /// The cursor of the next entry. Only the first entry of the archive's root has the cursor 0.
    pub(crate) fn cursor(&self) -> u64 {
        (self.files.start as u64) << 32 | self.folders.start as u64
    }

    /// The name of the next folder.
    fn folder_name(&self) -> &'n [u8] {
        let rest = &self.names.folder(self.folders.start)[self.prefix..];
        rest.split(|&byte| byte == SEPARATOR).next().unwrap_or_default()
    }

    /// Skips all paths that lead through the next folder.
    fn pass_folder(&mut self) {
        let (names, prefix) = (self.names, self.prefix);
        let name = self.folder_name();
        let same = |index: usize| {
            let rest = &names.folder(index)[prefix..];
            rest.strip_prefix(name).is_some_and(|rest| rest.first().is_none_or(|&byte| byte == SEPARATOR))
        };
        self.folders.start = gallop(self.folders.clone(), same);
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let names = self.names;
        let file = (!self.files.is_empty()).then(|| &names.files[self.files.start]);
        let folder = (!self.folders.is_empty()).then(|| self.folder_name());
        let first = match (file, folder) {
            (Some(file), Some(folder)) => names.bytes(file.name).cmp(folder),
            (Some(_), None) => cmp::Ordering::Less,
            (None, Some(_)) => cmp::Ordering::Greater,
            (None, None) => return None,
        };
        if let (Some(file), cmp::Ordering::Less) = (file, first) {
            self.files.start += 1;
            return Some(Entry::new(utf8(names.bytes(file.name)), names.content(file.content).stat()));
        }
        let name = folder.unwrap_or_default();
        self.pass_folder();
        Some(Entry::new(utf8(name), Stat::of(Kind::FOLDER)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn stored() -> Content {
        Content::Stored { extents: Vec::new(), crc: None }
    }

    fn coming<N: AsRef<str>>(all: &[N]) -> NamesBuilder {
        let mut names = NamesBuilder::default();
        for name in all.iter().map(AsRef::as_ref) {
            names.add(name, (!name.ends_with('/')).then(stored)).unwrap();
        }
        names
    }

    fn names<N: AsRef<str>>(all: &[N]) -> Names {
        coming(all).finish(false).unwrap()
    }

    fn list(names: &Names, folder: &str) -> Option<Vec<String>> {
        let all = names.list(folder, 0)?;
        Some(all.map(|entry| entry.name.to_string() + if entry.is_folder() { "/" } else { "" }).collect())
    }

    #[test]
    fn folders_are_those_that_names_are_in() {
        let names = names(&["b/c/d", "a", "b/", "b/c/", "e/", "./f", "b/a", "b.x/y", "b!"]);
        assert_eq!(list(&names, "").unwrap(), ["a", "b/", "b!", "b.x/", "e/", "f"]);
        assert_eq!(list(&names, "b").unwrap(), ["a", "c/"]);
        assert_eq!(list(&names, "e").unwrap(), [""; 0]);
        assert!(list(&names, "a").is_none() && list(&names, "b/").is_none());
        assert!(list(&names, "b/c/d/e").is_none() && list(&names, "b\0c").is_none());
        assert_eq!((names.count(), names.refused_count()), (6, 0));
        assert!(matches!(names.find("b/c/d"), Some(Child::File(0))));
        assert!(matches!(names.find("b/c"), Some(Child::Folder)));
        assert!(names.find("b/d").is_none() && names.find("/b").is_none() && names.find("b\0c").is_none());
    }

    #[test]
    fn names_that_are_none_are_hidden_with_their_reason() {
        for (all, shown, reason) in [
            (&["../x", "y"][..], &["y"][..], Reason::Outside),
            (&["a/../x"], &[], Reason::Outside),
            (&["/etc/passwd"], &[], Reason::Outside),
            (&["../"], &[], Reason::Outside),
            (&["a//b"], &[], Reason::Empty),
            (&["a/./b"], &[], Reason::Empty),
            (&["a\u{1b}\0"], &[], Reason::Nul),
            (&[""], &[], Reason::Empty),
            (&["x", "y", "x"], &["x", "y"], Reason::Replaced),
            (&["x", "./x"], &["x"], Reason::Replaced),
            (&["x", "x/y"], &["x/"], Reason::FolderToo),
            (&["x/", "x"], &["x/"], Reason::FolderToo),
            (&["x/y/z/w", "x/y"], &["x/"], Reason::FolderToo),
        ] {
            let names = names(all);
            assert_eq!(list(&names, "").unwrap(), shown, "{all:?}");
            let refused: Vec<_> = names.refused(0).map(|refused| refused.reason).collect();
            assert_eq!(refused, [reason.text()], "{all:?}");
            let error = coming(all).finish(true).err().unwrap();
            assert!(error.ends_with(reason.text()), "{error}");
        }
        // Of several files with one name, the last one is found.
        assert_eq!(names(&["x", "y", "x", "x"]).find("x"), Some(Child::File(3)));
    }

    #[test]
    fn names_that_are_too_long_or_too_deep_are_hidden() {
        let fine = names(&[format!("{}x", "a/".repeat(DEEPEST)), "y".repeat(LONGEST)]);
        assert_eq!((fine.count(), fine.refused_count()), (2, 0));
        let deep = names(&[format!("{}x", "a/".repeat(DEEPEST + 1))]);
        assert_eq!(deep.refused(0).next().unwrap().reason, "it is in more than 128 folders");
        let error = coming(&["\n".repeat(LONGEST + 1)]).finish(true).err().unwrap();
        assert!(
            error.contains("\\n…' is refused: it is longer than 4096 bytes") && error.len() < 400,
            "{error}"
        );
    }

    /// Compares the entries of each folder with those of a simple model.
    #[test]
    fn the_tree_is_that_of_a_simple_model() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let part = |random: &mut fastrand::Rng| ["a", "b", "a!", "a.", "c"][random.usize(..5)].to_owned();
            let all: Vec<String> = (0..random.usize(1..30))
                .map(|_| {
                    let parts: Vec<_> = (0..random.usize(1..4)).map(|_| part(&mut random)).collect();
                    parts.join("/") + if random.u8(..4) == 0 { "/" } else { "" }
                })
                .collect();
            let mut folders = BTreeSet::from([String::new()]);
            let mut files = BTreeMap::new();
            let mut number = 0;
            for name in &all {
                let path = name.trim_end_matches('/');
                for (at, _) in path.match_indices('/') {
                    folders.insert(path[..at].to_owned());
                }
                if name.ends_with('/') {
                    folders.insert(path.to_owned());
                } else {
                    files.insert(path.to_owned(), number);
                    number += 1;
                }
            }
            let written = files.len();
            files.retain(|path, _| !folders.contains(path));
            let names = names(&all);
            assert_eq!(names.count(), files.len(), "{all:?}");
            assert!(names.refused_count() >= written - files.len());
            for folder in &folders {
                let inside = |path: &&String| match path.rsplit_once('/') {
                    Some((parent, _)) => parent == folder,
                    None => folder.is_empty() && !path.is_empty(),
                };
                let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
                let mut expected: Vec<(String, bool)> =
                    folders.iter().filter(inside).map(|path| (last(path), true)).collect();
                expected.extend(files.keys().filter(inside).map(|path| (last(path), false)));
                expected.sort();
                let mut entries = names.list(folder, 0).unwrap();
                let (mut found, mut cursor) = (Vec::new(), 0);
                // A list that begins at the cursor of an entry begins with this entry.
                while let Some(entry) = entries.next() {
                    assert_eq!(names.list(folder, cursor).unwrap().next().as_ref(), Some(&entry));
                    cursor = entries.cursor();
                    assert_ne!(cursor, 0);
                    found.push((entry.name.to_string(), entry.is_folder()));
                }
                assert_eq!(found, expected, "'{folder}' of {all:?}");
            }
            for (path, number) in &files {
                assert_eq!(names.find(path), Some(Child::File(*number)), "{path} of {all:?}");
            }
        }
    }

    #[test]
    fn memory_does_not_depend_on_the_depth() {
        let all: Vec<String> =
            (0..10_000).map(|number| format!("{number:05}/{}x", "a/".repeat(120))).collect();
        let names = names(&all);
        assert!(names.text.len() <= all.iter().map(String::len).sum());
        assert_eq!((names.folders.len(), names.files.len()), (10_000, 10_000));
        assert_eq!(list(&names, "00007/a/a").unwrap(), ["a/"]);
    }
}
