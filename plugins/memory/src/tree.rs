//! A tree of files in memory.
//!
//! ```text
//! Tree (a folder, open) ──► Names: path -> Folder | File(content) ◄── Budget: bytes of all contents
//!                             ▲ published                 ▲
//! FileDevice of a new content ┘        FileDevice ────────┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use pactio_sdk::{
    Answer, Cause, Code, CopyFile, CreateFile, CreateFolder, Entry, ExtensionQuery, IoError, Kind,
    ListCursors, Listing, OpenError, OpenMode, Opened, Opening, Records, Remove, Rename, RenameMode, SetStat,
    Stat, Tree, TreeDevice,
};

use crate::file::{Budget, Content, FileDevice, Place};

/// The names of a tree, by their paths. The folder of each name exists.
pub(crate) struct Names {
    all: Mutex<BTreeMap<Vec<u8>, Node>>,
    budget: Arc<Budget>,
}

#[derive(Clone)]
enum Node {
    Folder,
    File(Arc<Content>),
}

impl Names {
    fn new(room: u64) -> Arc<Self> {
        Arc::new(Self { all: Mutex::default(), budget: Arc::new(Budget::new(room)) })
    }

    /// The tree of a name, which all that open it share until it is closed; without a name, a new tree.
    pub(crate) fn of(name: &str, room: u64) -> Result<Arc<Self>, OpenError> {
        static SHARED: OnceLock<Mutex<HashMap<String, Weak<Names>>>> = OnceLock::new();
        if name.is_empty() {
            return Ok(Self::new(room));
        }
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, names| names.strong_count() > 0);
        if let Some(names) = shared.get(name).and_then(Weak::upgrade) {
            let first = names.budget.room();
            return match first == room {
                true => Ok(names),
                false => Err(OpenError::invalid_input(format!(
                    "the tree '{name}' is open with size={first}; give it the same size, or another name"
                ))),
            };
        }
        let names = Self::new(room);
        shared.insert(name.to_owned(), Arc::downgrade(&names));
        Ok(names)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Node>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a name a content, in place of the one that it has.
    pub(crate) fn publish(&self, path: &[u8], content: Arc<Content>) -> Result<(), IoError> {
        let mut all = self.lock();
        refuse_without_folder(&all, path)?;
        match all.get(path) {
            Some(Node::Folder) => Err(IoError::from_code(Code::IS_DIRECTORY)),
            _ => {
                all.insert(path.to_owned(), Node::File(content));
                Ok(())
            }
        }
    }
}

fn refuse_without_folder(all: &BTreeMap<Vec<u8>, Node>, path: &[u8]) -> Result<(), IoError> {
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
    match all.get(&path[..slash]) {
        Some(Node::Folder) => Ok(()),
        Some(Node::File(_)) => Err(IoError::from_code(Code::NOT_DIRECTORY)),
        None => Err(IoError::from_code(Code::NOT_FOUND)),
    }
}

/// Whether a path lies in a folder.
fn is_in(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The paths in a folder, at any depth, in order.
fn inside<'a>(
    all: &'a BTreeMap<Vec<u8>, Node>,
    folder: &'a [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Node)> {
    // Between the folder and the names in it are those with a byte below the slash, such as 'folder!'.
    let first = if folder.is_empty() { Vec::new() } else { [folder, b"/"].concat() };
    all.range(first..).take_while(move |(path, _)| is_in(path, folder))
}

/// An open folder.
pub(crate) struct Folder {
    names: Arc<Names>,
    path: Vec<u8>,
    /// The names in it may be changed.
    may_change: bool,
    cursors: ListCursors<Entry>,
}

impl Folder {
    pub(crate) fn new(names: Arc<Names>, path: Vec<u8>, mode: OpenMode) -> Self {
        Self { names, path, may_change: mode.contains(OpenMode::WRITE), cursors: ListCursors::default() }
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        match (&self.path[..], name) {
            (b"", name) => name.to_owned(),
            (folder, b"") => folder.to_owned(),
            (folder, name) => [folder, b"/", name].concat(),
        }
    }

    fn entries(&self, folder: &[u8]) -> Result<Vec<Entry>, IoError> {
        let all = self.names.lock();
        match all.get(folder) {
            Some(Node::Folder) => {}
            None if folder.is_empty() => {}
            _ => return Err(IoError::from_code(Code::NOT_FOUND)),
        }
        let front = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let direct = inside(&all, folder).filter(|(path, _)| !path[front..].contains(&b'/'));
        Ok(direct
            .map(|(path, node)| match node {
                Node::Folder => Entry::new(&path[front..], Stat::of(Kind::FOLDER)),
                Node::File(content) => Entry::new(&path[front..], content.stat()),
            })
            .collect())
    }
}

impl Tree for Folder {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        if self.may_change {
            query.offer::<dyn Remove>(self).offer::<dyn Rename>(self).offer::<dyn CreateFolder>(self);
            query.offer::<dyn CopyFile>(self).offer::<dyn SetStat>(self);
            query.offer::<dyn CreateFile>(self);
        }
    }
}

impl Listing for Folder {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        let path = self.path_of(folder);
        self.cursors.answer_with(folder.to_owned(), from, entries, |_| Ok(self.entries(&path)?));
    }
}

impl Opening for Folder {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let path = self.path_of(name);
        let error = |code, text: &str| Err(OpenError::new(IoError::from_code(code), text.to_owned()));
        let (writes, names) = (mode.contains(OpenMode::WRITE), &self.names);
        let file = |content, place| Ok(Opened::new(FileDevice::new(content, place, mode)));
        let mut all = names.lock();
        if refuse_without_folder(&all, &path).is_err() {
            return error(Code::NOT_FOUND, "the folder that it should be in does not exist");
        }
        match all.get(&path) {
            Some(Node::Folder) if mode.contains(OpenMode::CREATE) => {
                error(Code::IS_DIRECTORY, "it is a folder; name a file in it")
            }
            Some(Node::Folder) => Ok(Opened::new(TreeDevice(Self::new(names.clone(), path, mode)))),
            None if !writes || !mode.contains(OpenMode::CREATE) => {
                error(Code::NOT_FOUND, "there is no such file")
            }
            // The name keeps its content until the new one is published.
            _ if writes && mode.contains(OpenMode::REPLACE) => {
                let content = Arc::new(Content::new(names.budget.clone()));
                file(content, Some(Place { names: names.clone(), path }))
            }
            Some(Node::File(content)) => {
                if writes && mode.contains(OpenMode::TRUNCATE) {
                    content.clear();
                }
                file(content.clone(), None)
            }
            None => {
                let content = Arc::new(Content::new(names.budget.clone()));
                all.insert(path, Node::File(content.clone()));
                file(content, None)
            }
        }
    }
}

impl Remove for Folder {
    fn remove(&self, name: &[u8], answer: Answer) {
        let path = self.path_of(name);
        let mut all = self.names.lock();
        let removed = match all.get(&path) {
            None => Err(IoError::from_code(Code::NOT_FOUND)),
            Some(Node::Folder) if inside(&all, &path).next().is_some() => {
                Err(IoError::from_code(Code::NOT_EMPTY))
            }
            Some(_) => Ok(all.remove(&path)),
        };
        drop(all);
        answer.result(removed.map(drop));
    }
}

impl Folder {
    /// Makes a name that does not exist.
    fn create(&self, name: &[u8], answer: Answer, node: Node) {
        let path = self.path_of(name);
        let mut all = self.names.lock();
        let made = match all.contains_key(&path) {
            true => Err(IoError::from_code(Code::ALREADY_EXISTS)),
            false => refuse_without_folder(&all, &path),
        };
        if made.is_ok() {
            all.insert(path, node);
        }
        drop(all);
        answer.result(made);
    }
}

impl CreateFile for Folder {
    fn create_file(&self, name: &[u8], answer: Answer) {
        let content = Arc::new(Content::new(self.names.budget.clone()));
        self.create(name, answer, Node::File(content));
    }
}

impl CreateFolder for Folder {
    fn create_folder(&self, name: &[u8], answer: Answer) {
        self.create(name, answer, Node::Folder);
    }
}

impl Rename for Folder {
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let (from, to) = (self.path_of(from), self.path_of(to));
        let mut all = self.names.lock();
        let renamed = rename(&mut all, &from, to, mode);
        drop(all);
        answer.result(renamed);
    }
}

impl CopyFile for Folder {
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        answer.result(self.copy(self.path_of(from), self.path_of(to), mode));
    }
}

impl Folder {
    /// Copies a file. The names are not locked while the bytes are copied.
    fn copy(&self, from: Vec<u8>, to: Vec<u8>, mode: RenameMode) -> Result<(), IoError> {
        let content = {
            let all = self.names.lock();
            refuse_copy(&all, &to, mode)?;
            match all.get(&from) {
                None => return Err(IoError::from_code(Code::NOT_FOUND)),
                Some(Node::Folder) => return Err(IoError::from_code(Code::IS_DIRECTORY)),
                Some(Node::File(_)) if from == to => return Ok(()),
                Some(Node::File(content)) => content.clone(),
            }
        };
        let copy = Arc::new(content.copy()?);
        let mut all = self.names.lock();
        // The names may have changed.
        refuse_copy(&all, &to, mode)?;
        let replaced = all.insert(to, Node::File(copy));
        drop(all);
        drop(replaced);
        Ok(())
    }
}

impl SetStat for Folder {
    fn set_stat(&self, name: &[u8], stat: Stat, answer: Answer) {
        let path = self.path_of(name);
        let mut settable = Stat::default();
        settable.modified = stat.modified;
        let found = self.names.lock().get(&path).cloned();
        match (found, stat.modified) {
            (None, _) => answer.error(IoError::from_code(Code::NOT_FOUND)),
            (Some(Node::File(content)), modified) if stat == settable => {
                if let Some(modified) = modified {
                    content.set_modified(modified);
                }
                answer.done();
            }
            _ => {
                let text = "only the time of the last change of a file can be set";
                answer.fail(&Cause::new(IoError::UNSUPPORTED, text));
            }
        }
    }
}

/// Refuses a name that a copy cannot have.
fn refuse_copy(all: &BTreeMap<Vec<u8>, Node>, to: &[u8], mode: RenameMode) -> Result<(), IoError> {
    refuse_without_folder(all, to)?;
    match all.get(to) {
        Some(_) if mode == RenameMode::Keep => Err(IoError::from_code(Code::ALREADY_EXISTS)),
        Some(Node::Folder) => Err(IoError::from_code(Code::IS_DIRECTORY)),
        _ => Ok(()),
    }
}

/// Renames as the system does: a folder takes the names in it along, and replaces an empty folder only.
fn rename(
    all: &mut BTreeMap<Vec<u8>, Node>,
    from: &[u8],
    to: Vec<u8>,
    mode: RenameMode,
) -> Result<(), IoError> {
    let error = |code| Err(IoError::from_code(code));
    let Some(node) = all.get(from).cloned() else { return error(Code::NOT_FOUND) };
    refuse_without_folder(all, &to)?;
    if *from == *to {
        return if mode == RenameMode::Keep { error(Code::ALREADY_EXISTS) } else { Ok(()) };
    }
    if is_in(&to, from) {
        return error(Code::INVALID_INPUT);
    }
    match (all.get(&to), &node) {
        (None, _) => {}
        _ if mode == RenameMode::Keep => return error(Code::ALREADY_EXISTS),
        (Some(Node::Folder), Node::File(_)) => return error(Code::IS_DIRECTORY),
        (Some(Node::File(_)), Node::Folder) => return error(Code::NOT_DIRECTORY),
        (Some(Node::Folder), Node::Folder) if inside(all, &to).next().is_some() => {
            return error(Code::NOT_EMPTY);
        }
        _ => {}
    }
    let moved: Vec<_> = match node {
        Node::File(_) => Vec::new(),
        Node::Folder => inside(all, from).map(|(path, node)| (path.clone(), node.clone())).collect(),
    };
    for (path, node) in moved {
        all.remove(&path);
        all.insert([&to, &path[from.len()..]].concat(), node);
    }
    all.remove(from);
    all.insert(to, node);
    Ok(())
}
