//! The tree of names in an archive.
//!
//! Memory is linear in the size of the archive's directory: each name that a folder has is kept once, by the folder's number.

use std::collections::BTreeMap;
use std::collections::btree_map;

use pactio_sdk::{Entry, Kind, Stat};

use crate::content::Content;

/// Maximum number of names that are kept in memory.
pub(crate) const MOST: usize = 1 << 24;

/// Maximum length of a name in bytes, the limit for a path on most systems.
pub(crate) const LONGEST: usize = 4096;

/// Maximum number of folders that a name is in.
const DEEPEST: usize = 128;

/// Number of the root folder.
pub(crate) const ROOT: u32 = 0;

/// The object of a name: a file's number, or a folder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    File(u32),
    Folder(u32),
}

/// A folder's number, and a name in it.
type Key = (u32, Box<str>);

/// Names, and the files and folders that they stand for.
pub(crate) struct Names {
    contents: Vec<Content>,
    /// Sorted, so that the names of a folder are next to each other.
    children: Vec<(Key, Child)>,
}

/// Names while they are added.
#[derive(Default)]
pub(crate) struct Coming {
    contents: Vec<Content>,
    children: BTreeMap<Key, Child>,
    folders: u32,
    /// The folder of the last file: most often, the next file is in the same one.
    last: Option<(String, u32)>,
}

/// A name without the `./` that some tools write in front of it.
pub(crate) fn clean(written: &str) -> &str {
    written.strip_prefix("./").unwrap_or(written)
}

/// A name for a message, on one line.
pub(crate) fn shown(written: &str) -> String {
    const MOST: usize = 100;
    let mut text: String = written.chars().take(MOST).flat_map(char::escape_debug).collect();
    if written.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}

/// # Errors
///
/// If a name is longer or deeper than any legitimate one.
pub(crate) fn bounded(written: &[u8]) -> Result<(), String> {
    let depth = written.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    let what = if written.len() > LONGEST {
        format!("of {} bytes; the most is {LONGEST}", written.len())
    } else if depth > DEEPEST {
        format!("in {depth} folders; the most is {DEEPEST}")
    } else {
        return Ok(());
    };
    let front = String::from_utf8_lossy(&written[..written.len().min(LONGEST)]);
    Err(format!("it has a name '{}' {what}: pack it again with shorter names", shown(&front)))
}

impl Coming {
    /// Adds a file, or a folder if it has no content.
    ///
    /// # Errors
    ///
    /// If a name could leave the archive, or two names conflict: a reader of the archive might take another file than its author
    /// or examiner. If a name is too long or in too many folders, or there are more than `MOST` names.
    pub(crate) fn add(&mut self, written: &str, content: Option<Content>) -> Result<(), String> {
        bounded(written.as_bytes())?;
        let name = clean(written);
        let Some(content) = content else {
            return match name.trim_end_matches('/') {
                "" | "." => Ok(()),
                name => self.walk(name, written).map(drop),
            };
        };
        let (folder, last) = match (name.rsplit_once('/'), &self.last) {
            (None, _) => (ROOT, name),
            (Some((path, last)), Some((same, folder))) if path == same => (*folder, last),
            (Some((path, last)), _) => {
                let folder = self.walk(path, written)?;
                self.last = Some((path.to_owned(), folder));
                (folder, last)
            }
        };
        self.put(folder, last, written, content)
    }

    /// Adds a folder, for [`put`](Self::put).
    pub(crate) fn folder(&mut self, written: &str) -> Result<u32, String> {
        bounded(written.as_bytes())?;
        self.walk(clean(written), written)
    }

    /// Adds a file in a folder that was added.
    pub(crate) fn put(
        &mut self,
        folder: u32,
        name: &str,
        written: &str,
        content: Content,
    ) -> Result<(), String> {
        check_name(name, written)?;
        self.room()?;
        let btree_map::Entry::Vacant(place) = self.children.entry((folder, name.into())) else {
            return Err(format!("it has '{}' twice; which of them is meant is not clear", shown(written)));
        };
        place.insert(Child::File(self.contents.len() as u32));
        self.contents.push(content);
        Ok(())
    }

    fn room(&self) -> Result<(), String> {
        if self.children.len() >= MOST { Err(format!("it has more than {MOST} names")) } else { Ok(()) }
    }

    /// The number of a folder, which is created with its parent folders.
    fn walk(&mut self, path: &str, written: &str) -> Result<u32, String> {
        check(path, written)?;
        self.room()?;
        let mut at = ROOT;
        for part in path.split('/') {
            let folders = &mut self.folders;
            let child = self.children.entry((at, part.into())).or_insert_with(|| {
                *folders += 1;
                Child::Folder(*folders)
            });
            match *child {
                Child::Folder(number) => at = number,
                Child::File(_) => {
                    return Err(format!("'{}' needs a folder that is also a file", shown(written)));
                }
            }
        }
        Ok(at)
    }

    /// The finished tree of names.
    pub(crate) fn finish(self) -> Names {
        Names { contents: self.contents, children: self.children.into_iter().collect() }
    }
}

/// Checks that each part of a path is a name.
fn check(path: &str, written: &str) -> Result<(), String> {
    path.split('/').try_for_each(|part| check_name(part, written))
}

fn check_name(name: &str, written: &str) -> Result<(), String> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(format!("it has a file named '{}', which is no name within it", shown(written)));
    }
    Ok(())
}

impl Names {
    /// Number of files.
    pub(crate) fn count(&self) -> usize {
        self.contents.len()
    }

    /// The file or folder of a path.
    pub(crate) fn find(&self, path: &str) -> Option<Child> {
        if path.is_empty() {
            return Some(Child::Folder(ROOT));
        }
        path.split('/').try_fold(Child::Folder(ROOT), |at, part| match at {
            Child::Folder(number) => self.child(number, part),
            Child::File(_) => None,
        })
    }

    fn child(&self, folder: u32, name: &str) -> Option<Child> {
        let at = self.children.binary_search_by(|((of, child), _)| (*of, &**child).cmp(&(folder, name)));
        at.ok().map(|at| self.children[at].1)
    }

    pub(crate) fn content(&self, number: u32) -> &Content {
        &self.contents[number as usize]
    }

    /// The entries of a folder, by name; `None`, if there is no such folder.
    pub(crate) fn list(&self, folder: &str) -> Option<Entries<'_>> {
        let Child::Folder(number) = self.find(folder)? else { return None };
        let start = self.children.partition_point(|((of, _), _)| *of < number);
        let end = self.children.partition_point(|((of, _), _)| *of <= number);
        Some(Entries { names: self, rest: self.children[start..end].iter() })
    }
}

/// The entries of a folder. Skipping costs nothing, so that a list in many answers is as cheap as in one.
pub(crate) struct Entries<'n> {
    names: &'n Names,
    rest: std::slice::Iter<'n, (Key, Child)>,
}

impl Entries<'_> {
    fn entry(&self, ((_, name), child): &(Key, Child)) -> Entry {
        match *child {
            Child::File(number) => Entry::new(&**name, self.names.content(number).stat()),
            Child::Folder(_) => Entry::new(&**name, Stat::of(Kind::FOLDER)),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.nth(0)
    }

    fn nth(&mut self, skip: usize) -> Option<Entry> {
        self.rest.nth(skip).map(|child| self.entry(child))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn names<N: AsRef<str>>(all: &[N]) -> Result<Names, String> {
        let mut names = Coming::default();
        for name in all.iter().map(AsRef::as_ref) {
            names.add(name, (!name.ends_with('/')).then(|| Content::Stored(Vec::new())))?;
        }
        Ok(names.finish())
    }

    #[test]
    fn folders_are_those_that_names_are_in() {
        let names = names(&["b/c/d", "a", "b/", "b/c/", "e/", "./f", "b/a"]).unwrap();
        let list = |folder| names.list(folder).map(|all| all.map(|entry| entry.name).collect::<Vec<_>>());
        assert_eq!(list("").unwrap(), ["a", "b", "e", "f"]);
        assert_eq!(list("b").unwrap(), ["a", "c"]);
        assert_eq!(list("e").unwrap(), [""; 0]);
        assert!(list("a").is_none() && list("b/").is_none() && list("b/c/d/e").is_none());
        assert_eq!(names.count(), 4);
        assert!(matches!(names.find("b/c/d"), Some(Child::File(_))));
        assert!(matches!(names.find("b/c"), Some(Child::Folder(_))));
        assert!(names.find("b/d").is_none() && names.find("/b").is_none());
    }

    #[test]
    fn names_that_leave_or_are_two_are_refused() {
        for (all, what) in [
            (&["../x"][..], "it has a file named '../x', which is no name within it"),
            (&["a/../x"], "it has a file named 'a/../x', which is no name within it"),
            (&["/etc/passwd"], "it has a file named '/etc/passwd', which is no name within it"),
            (&["a//b"], "it has a file named 'a//b', which is no name within it"),
            (&["../"], "it has a file named '../', which is no name within it"),
            (&["a\u{1b}\0"], "it has a file named 'a\\u{1b}\\0', which is no name within it"),
            (&[""], "it has a file named '', which is no name within it"),
            (&["x", "x"], "it has 'x' twice; which of them is meant is not clear"),
            (&["x", "./x"], "it has './x' twice; which of them is meant is not clear"),
            (&["x", "x/y"], "'x/y' needs a folder that is also a file"),
            (&["x", "x/"], "'x/' needs a folder that is also a file"),
            (&["x/y", "x"], "it has 'x' twice; which of them is meant is not clear"),
        ] {
            assert_eq!(names(all).err().as_deref(), Some(what), "{all:?}");
        }
    }

    #[test]
    fn names_that_are_too_long_or_too_deep_are_refused_and_shown_in_short() {
        assert!(names(&[format!("{}x", "a/".repeat(DEEPEST)), "y".repeat(LONGEST)]).is_ok());
        let error = names(&[format!("{}x", "a/".repeat(DEEPEST + 1))]).err().unwrap();
        assert!(
            error.ends_with("in 129 folders; the most is 128: pack it again with shorter names"),
            "{error}"
        );
        let error = names(&["\n".repeat(LONGEST + 1)]).err().unwrap();
        assert!(error.contains("\\n…' of 4097 bytes; the most is 4096") && error.len() < 400, "{error}");
    }

    #[test]
    fn skipping_in_a_list_costs_nothing() {
        let all: Vec<String> = (0..300_000).map(|number| format!("folder/{number:06}")).collect();
        let names = names(&all).unwrap();
        let began = Instant::now();
        assert_eq!(names.list("folder").unwrap().count(), all.len());
        let whole = began.elapsed();
        let began = Instant::now();
        // `Records` skips in the same way.
        let mut rest = names.list("folder").unwrap().enumerate().skip(all.len() - 1);
        let (number, last) = rest.next().unwrap();
        assert!(began.elapsed() * 10 < whole, "{:?} of {whole:?}", began.elapsed());
        assert_eq!((number, last.name.to_str().unwrap()), (299_999, "299999"));
    }
}
