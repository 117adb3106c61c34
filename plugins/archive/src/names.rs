//! The tree of names in an archive.

use std::collections::{BTreeMap, HashMap};

use pactio_sdk::Entry;

use crate::content::{Content, Item};

/// More names than this are not kept in memory.
pub(crate) const MOST: usize = 1 << 24;

/// Names, and what they stand for.
pub(crate) struct Names {
    contents: Vec<Content>,
    by_name: HashMap<String, u32>,
    /// What is in each folder, by name.
    folders: BTreeMap<String, BTreeMap<String, Child>>,
}

/// What a name in a folder stands for: a file's number, or a folder.
type Child = Option<u32>;

impl Names {
    /// A tree of items.
    ///
    /// # Errors
    ///
    /// If a name could be meant to leave the archive, or two are one: whoever reads it may mean another file than whoever has
    /// made or examined it.
    pub(crate) fn new(items: Vec<Item>) -> Result<Self, String> {
        let mut names = Self {
            contents: Vec::with_capacity(items.len()),
            by_name: HashMap::with_capacity(items.len()),
            folders: BTreeMap::from([(String::new(), BTreeMap::new())]),
        };
        for Item { name, content } in items {
            names.add(&name, content)?;
        }
        Ok(names)
    }

    fn add(&mut self, written: &str, content: Content) -> Result<(), String> {
        let shown = || written.escape_debug().to_string();
        // What some tools write in front or behind says nothing.
        let name = written.strip_prefix("./").unwrap_or(written);
        let name = if content.is_folder() { name.trim_end_matches('/') } else { name };
        if content.is_folder() && matches!(name, "" | ".") {
            return Ok(());
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0')) {
            return Err(format!("it has a file named '{}', which is no name within it", shown()));
        }
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        self.folder(folder).map_err(|()| format!("'{}' is in a folder that is also a file", shown()))?;
        if content.is_folder() {
            return self.folder(name).map_err(|()| format!("'{}' is a file and a folder", shown()));
        }
        let number = self.contents.len() as u32;
        let children = self.folders.get_mut(folder).expect("it was made above");
        if children.insert(last.to_owned(), Some(number)).is_some() {
            return Err(format!("it has '{}' twice; which of them is meant is not clear", shown()));
        }
        self.contents.push(content);
        self.by_name.insert(name.to_owned(), number);
        Ok(())
    }

    /// Makes a folder, and those that it is in.
    fn folder(&mut self, name: &str) -> Result<(), ()> {
        if self.folders.contains_key(name) {
            return Ok(());
        }
        // From the outermost that is missing; a name may have as many as it has bytes.
        let mut at = 0;
        while at < name.len() {
            let end = name[at..].find('/').map_or(name.len(), |slash| at + slash);
            let (parent, path) = (name[..at].trim_end_matches('/'), &name[..end]);
            if !self.folders.contains_key(path) {
                let children = self.folders.get_mut(parent).ok_or(())?;
                if children.insert(name[at..end].to_owned(), None).is_some() {
                    return Err(());
                }
                self.folders.insert(path.to_owned(), BTreeMap::new());
            }
            at = end + 1;
        }
        Ok(())
    }

    /// Number of files.
    pub(crate) fn count(&self) -> usize {
        self.contents.len()
    }

    /// The number of a file.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn is_folder(&self, name: &str) -> bool {
        self.folders.contains_key(name)
    }

    pub(crate) fn content(&self, number: u32) -> &Content {
        &self.contents[number as usize]
    }

    /// What is in a folder, by name; nothing, if there is no such folder.
    pub(crate) fn list(&self, folder: &str) -> Option<impl Iterator<Item = Entry>> {
        let children = self.folders.get(folder)?;
        Some(children.iter().map(|(name, child)| Entry {
            name: name.clone(),
            is_folder: child.is_none(),
            size: child.and_then(|number| self.content(number).size()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Result<Names, String> {
        let item = |name: &&str| Item {
            name: (*name).to_owned(),
            content: if name.ends_with('/') { Content::Folder } else { Content::Stored(Vec::new()) },
        };
        Names::new(all.iter().map(item).collect())
    }

    #[test]
    fn folders_are_those_that_names_are_in() {
        let names = names(&["b/c/d", "a", "b/", "b/c/", "e/", "./f", "b/a"]).unwrap();
        let list = |folder| names.list(folder).map(|all| all.map(|entry| entry.name).collect::<Vec<_>>());
        assert_eq!(list("").unwrap(), ["a", "b", "e", "f"]);
        assert_eq!(list("b").unwrap(), ["a", "c"]);
        assert_eq!(list("e").unwrap(), [""; 0]);
        assert!(list("a").is_none() && list("b/").is_none());
        assert_eq!(names.count(), 4);
        assert!(names.find("b/c/d").is_some() && names.find("b/c").is_none());
    }

    #[test]
    fn names_that_leave_or_are_two_are_refused() {
        for (all, what) in [
            (&["../x"][..], "it has a file named '../x', which is no name within it"),
            (&["a/../x"], "it has a file named 'a/../x', which is no name within it"),
            (&["/etc/passwd"], "it has a file named '/etc/passwd', which is no name within it"),
            (&["a//b"], "it has a file named 'a//b', which is no name within it"),
            (&["a\u{1b}\0"], "it has a file named 'a\\u{1b}\\0', which is no name within it"),
            (&[""], "it has a file named '', which is no name within it"),
            (&["x", "x"], "it has 'x' twice; which of them is meant is not clear"),
            (&["x", "./x"], "it has './x' twice; which of them is meant is not clear"),
            (&["x", "x/y"], "'x/y' is in a folder that is also a file"),
            (&["x", "x/"], "'x/' is a file and a folder"),
            (&["x/y", "x"], "it has 'x' twice; which of them is meant is not clear"),
        ] {
            assert_eq!(names(all).err().as_deref(), Some(what), "{all:?}");
        }
    }
}
