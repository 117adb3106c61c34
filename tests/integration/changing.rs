//! The case `changes` of the conformance suite finds each mistake of a tree whose names can be changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pactio::check::{CASES, Finding, Plan, Subject};
use pactio::{Host, RenameMode};
use pactio_sdk::{
    Answer, Backend, BackendDevice, BoundPacketView, Cause, Change, ChangeKind, ChangeLog, Code, CopyFile,
    CreateFile, CreateFolder, Describe, DeviceInfo, Entry, ExtensionQuery, IoError, Kind, Listing, OpenError,
    OpenMode, OpenRequest, Opened, Opening, Read, Records, Remove, Rename, SetStat, Stat, Tree, TreeDevice,
    Watch, Write,
};
use pactio_tests::in_time;

/// The mistake of a tree: the target of its URL.
type Mistake = String;

#[derive(Clone)]
struct File {
    bytes: Arc<Mutex<Vec<u8>>>,
    modified: Arc<Mutex<SystemTime>>,
}

#[derive(Clone, Default)]
struct Names {
    /// `None` for a folder.
    all: Arc<Mutex<BTreeMap<Vec<u8>, Option<File>>>>,
    log: ChangeLog,
    mistake: Mistake,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Mutex::new(bytes)), modified: Arc::new(Mutex::new(SystemTime::now())) }
    }
}

impl Names {
    fn is(&self, mistake: &str) -> bool {
        self.mistake == mistake
    }

    fn told(&self, kind: ChangeKind, name: &[u8]) {
        if !self.is("tells nothing") {
            self.log.add(Change::new(kind, name));
        }
    }

    fn answer(answer: Answer, result: Result<(), Code>) {
        answer.result(result.map_err(IoError::from_code));
    }
}

struct Backends;

impl Backend for Backends {
    type Device = File;

    fn open(&self, _: &OpenRequest<'_>) -> Result<File, OpenError> {
        Ok(File::new(vec![0; 100]))
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        Ok(match request.target() {
            "" => Opened::new(File::new(vec![0; 100])),
            mistake => {
                Opened::new(TreeDevice(Names { mistake: mistake.replace('-', " "), ..Names::default() }))
            }
        })
    }
}

impl BackendDevice for File {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(lock(&self.bytes).len() as u64)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let bytes = lock(&self.bytes).clone();
        view.transfer_data(bytes.get(position as usize..).unwrap_or_default()).complete();
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let mut new = vec![0; view.len()];
        if let Err(error) = view.copy_to(&mut new) {
            return view.error(error);
        }
        let mut bytes = lock(&self.bytes);
        let end = position as usize + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[position as usize..end].copy_from_slice(&new);
        view.accept().complete();
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self);
    }
}

impl Describe for File {
    fn stat(&self, answer: Records<Stat>) {
        let stat = Stat::of(Kind::FILE).with_size(lock(&self.bytes).len() as u64);
        answer.complete_one(Ok::<_, IoError>(stat.with_modified(*lock(&self.modified))));
    }
}

impl Tree for Names {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Remove>(self).offer::<dyn Rename>(self).offer::<dyn CreateFile>(self);
        query.offer::<dyn CreateFolder>(self).offer::<dyn CopyFile>(self).offer::<dyn SetStat>(self);
        query.offer::<dyn Watch>(self);
    }
}

impl Listing for Names {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        let all = lock(&self.all);
        let front = if folder.is_empty() { Vec::new() } else { [folder, b"/"].concat() };
        let names = all.keys().filter_map(|name| name.strip_prefix(&*front));
        entries.complete_from(from, names.map(|name| Entry::file(name, None)).collect::<Vec<_>>());
    }
}

impl Opening for Names {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let mut all = lock(&self.all);
        if mode.contains(OpenMode::CREATE) {
            let file = File::new(Vec::new());
            if all.insert(name.to_vec(), Some(file.clone())).is_none() {
                self.told(ChangeKind::Made, name);
            }
            return Ok(Opened::new(file));
        }
        match all.get(name) {
            Some(Some(file)) => Ok(Opened::new(file.clone())),
            _ => Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), "there is no such file")),
        }
    }
}

impl Remove for Names {
    fn remove(&self, name: &[u8], answer: Answer) {
        let mut all = lock(&self.all);
        let inside = [name, b"/"].concat();
        let result = match all.get(name) {
            None => Err(Code::NOT_FOUND),
            Some(None)
                if !self.is("removes full folders") && all.keys().any(|name| name.starts_with(&inside)) =>
            {
                Err(Code::NOT_EMPTY)
            }
            Some(_) => {
                if !self.is("removes nothing") {
                    all.retain(|other, _| other != name && !other.starts_with(&inside));
                }
                self.told(ChangeKind::Removed, name);
                Ok(())
            }
        };
        Self::answer(answer, result);
    }
}

impl CreateFile for Names {
    fn create_file(&self, name: &[u8], answer: Answer) {
        let mut all = lock(&self.all);
        let exists = all.contains_key(name);
        if self.is("empties existing files") || !exists {
            all.insert(name.to_vec(), Some(File::new(Vec::new())));
        }
        let fails = exists && !self.is("creates for all");
        Self::answer(answer, if fails { Err(Code::ALREADY_EXISTS) } else { Ok(()) });
    }
}

impl CreateFolder for Names {
    fn create_folder(&self, name: &[u8], answer: Answer) {
        let made = lock(&self.all).insert(name.to_vec(), None).is_none() || self.is("makes folders again");
        Self::answer(answer, if made { Ok(()) } else { Err(Code::ALREADY_EXISTS) });
    }
}

impl Names {
    fn give(
        &self,
        from: &[u8],
        to: &[u8],
        mode: RenameMode,
        give: impl FnOnce(&File) -> File,
    ) -> Result<(), Code> {
        let mut all = lock(&self.all);
        let Some(Some(file)) = all.get(from) else { return Err(Code::NOT_FOUND) };
        let file = give(file);
        if mode == RenameMode::Keep && all.contains_key(to) && !self.is("replaces a kept name") {
            return Err(Code::ALREADY_EXISTS);
        }
        all.insert(to.to_vec(), Some(file));
        Ok(())
    }
}

impl Rename for Names {
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let result = self.give(from, to, mode, File::clone);
        if result.is_ok() && !self.is("keeps the old name") {
            lock(&self.all).remove(from);
        }
        Self::answer(answer, result);
    }
}

impl CopyFile for Names {
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let shares = self.is("shares copies");
        let copy = |file: &File| if shares { file.clone() } else { File::new(lock(&file.bytes).clone()) };
        let mode = if self.is("copies over a kept name") { RenameMode::Replace } else { mode };
        Self::answer(answer, self.give(from, to, mode, copy));
    }
}

impl SetStat for Names {
    fn set_stat(&self, name: &[u8], stat: Stat, answer: Answer) {
        let Some(Some(file)) = lock(&self.all).get(name).cloned() else {
            return answer.error(IoError::from_code(Code::NOT_FOUND));
        };
        let refused = stat.size.is_some() && !self.is("sets all");
        if !refused || self.is("sets before it refuses") {
            *lock(&file.modified) = stat.modified.unwrap();
        }
        match refused {
            true => answer.fail(&Cause::new(IoError::UNSUPPORTED, "no size")),
            false => answer.done(),
        }
    }
}

impl Watch for Names {
    fn watch(&self, from: u64, changes: Records<Change>) {
        self.log.answer(from, changes);
    }
}

pactio_sdk::plugin! {
    id: "changing",
    description: "trees that make mistakes",
    schemes: ["changing"],
    backend: Backends,
}

fn check(host: &Host, url: &str, tree: &str) -> Result<(), Finding> {
    let case = CASES.iter().find(|case| case.name() == "changes").unwrap();
    case.run(&Subject::of(host, Plan::new(url, 7).with_tree(tree))?)
}

#[test]
fn each_mistake_is_found() {
    in_time(|| {
        let host = Host::builder().default_search_paths(false).plugin(PLUGIN).build().unwrap();
        assert_eq!(check(&host, "changing:", "changing:none"), Ok(()));
        for (mistake, said) in [
            ("removes nothing", "after a removal, "),
            ("removes full folders", "the removal of a folder with a file in it was reported as done"),
            ("creates for all", "of 16 tasks that made one file at the same time, 16 succeeded"),
            ("empties existing files", "has other bytes"),
            ("makes folders again", "making a folder that exists was reported as done"),
            ("replaces a kept name", "a renaming that keeps an existing name was reported as done"),
            ("keeps the old name", "after a renaming that replaces, "),
            ("shares copies", "after a change of its source"),
            ("copies over a kept name", "a copy that keeps an existing name was reported as done"),
            ("sets all", "setting a size, which is no metadata was reported as done"),
            ("sets before it refuses", "was refused, but its time has changed"),
        ] {
            let tree = format!("changing:{}", mistake.replace(' ', "-"));
            match check(&host, "changing:", &tree) {
                Err(Finding::Wrong(text)) if text.contains(said) => {}
                other => panic!("{mistake}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_watch_that_tells_nothing_is_found() {
    in_time(|| {
        let host = Host::builder().default_search_paths(false).plugin(PLUGIN).build().unwrap();
        let found = check(&host, "changing:", "changing:tells-nothing");
        assert!(matches!(&found, Err(Finding::Wrong(text)) if text.contains("was not told")), "{found:?}");
    });
}

#[test]
fn the_trees_of_the_plugins_make_none() {
    in_time(|| {
        let host = pactio_tests::host(&["pactio_file", "pactio_memory", "pactio_object"]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [path, store] = [0, 1].map(|index| folders[index].path().display().to_string());
        let trees = [
            format!("file:{path}"),
            "memory:changing/?size=1MiB".to_owned(),
            format!("local:{store}/?poll=100ms"),
        ];
        for tree in trees {
            assert_eq!(check(&host, "memory:?size=1KiB", &tree), Ok(()), "{tree}");
        }
        for folder in folders {
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "names are left");
        }
    });
}
