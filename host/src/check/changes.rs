//! The case of a tree whose names can be changed. All names are made by the case, and removed at its end.

use std::time::{Duration, SystemTime};

use pactio_sdk::{Capability, ChangeKind, Code, IoError, RenameMode, Stat};

use super::subject::{Finding, Subject, unexpected, wrong};
use crate::{Capabilities, Device, Error, OpenOptions, Task};

/// Number of tasks that make one name at the same time.
const RACERS: usize = 16;

/// Time in which a watched tree tells a change. Stores are asked again and again.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn changes(subject: &Subject) -> Result<(), Finding> {
    let does_not_apply = |reason: &str| Err(Finding::DoesNotApply(reason.to_owned()));
    let Some(url) = subject.tree.as_ref().filter(|_| !subject.only_read) else {
        return does_not_apply("there is no tree that may be changed");
    };
    let Ok(tree) = subject.host.open_with(url, OpenOptions::new().read(true).write(true)) else {
        return does_not_apply("the tree cannot be opened for writing");
    };
    let can = tree.capabilities();
    if !can.has(Capability::OPEN) || !can.has(Capability::REMOVE) {
        return does_not_apply("no names of the tree can be removed");
    }
    let checked = Checked { subject, tree: &tree, prefix: format!("pactio-check-{}", std::process::id()) };
    let found = checked.remove().and_then(|()| checked.others(&can));
    checked.clean();
    found
}

struct Checked<'s> {
    subject: &'s Subject,
    tree: &'s Device,
    /// The begin of all names.
    prefix: String,
}

impl Checked<'_> {
    fn name(&self, end: &str) -> String {
        format!("{}-{end}", self.prefix)
    }

    fn wait<T>(&self, action: &str, future: impl Future<Output = T>) -> Result<T, Finding> {
        self.subject.wait(action, future)
    }

    /// Expects that a declared operation works.
    fn works(&self, action: &str, future: impl Future<Output = Result<(), Error>>) -> Result<(), Finding> {
        match self.wait(action, future)? {
            Ok(()) => Ok(()),
            Err(error) => wrong!("{action} should work, but: {error}"),
        }
    }

    /// Expects that an operation is refused for this reason.
    fn refuses(
        &self,
        action: &str,
        code: Code,
        future: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Finding> {
        match self.wait(action, future)? {
            Ok(()) => {
                wrong!("{action} was reported as done, but should be refused: {}", IoError::from_code(code))
            }
            Err(error) if error.code() == Some(code) => Ok(()),
            Err(error) => {
                wrong!("{action} should be refused as '{}', but: {error}", IoError::from_code(code))
            }
        }
    }

    /// Gives a name its content.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Finding> {
        let options = OpenOptions::new().write(true).create(true).truncate(true);
        self.works(&format!("writing '{name}'"), async {
            let device = self.tree.opening(name, options).await?;
            device.write_all_at(0, bytes.to_vec()).await?;
            device.publish().await
        })
    }

    /// Changes a name's content in place, where the tree can do that, to other bytes of the same length.
    fn overwrite(&self, name: &str, bytes: &[u8]) -> Result<(), Finding> {
        let opened = self.wait("opening", self.tree.opening(name, OpenOptions::new().write(true)))?;
        let Ok(device) = opened else { return self.put(name, bytes) };
        self.works(&format!("writing '{name}'"), async {
            device.write_all_at(0, bytes.to_vec()).await?;
            device.publish().await
        })
    }

    /// Expects the content of a name; `None`: the name does not exist.
    fn has(&self, after: &str, name: &str, expected: Option<&[u8]>) -> Result<(), Finding> {
        let opened =
            self.wait(&format!("opening '{name}'"), self.tree.opening(name, OpenOptions::new().read(true)))?;
        match (opened, expected) {
            (Err(error), None) if error.code() == Some(Code::NOT_FOUND) => Ok(()),
            (Err(error), _) => wrong!("after {after}, '{name}' cannot be opened: {error}"),
            (Ok(_), None) => wrong!("after {after}, '{name}' should not exist, but can be opened"),
            (Ok(device), Some(expected)) => {
                // One byte more, to see that there is none.
                let read = self.wait("a read", device.read_at(0, vec![0; expected.len() + 1]))?;
                let (report, bytes) = read.map_err(unexpected)?;
                if report.done() != expected.len() || bytes[..expected.len()] != *expected {
                    wrong!("after {after}, '{name}' has other bytes than it should have");
                }
                Ok(())
            }
        }
    }

    fn remove(&self) -> Result<(), Finding> {
        let name = self.name("removed");
        self.put(&name, b"some")?;
        self.works("a removal", self.tree.remove(&name))?;
        self.has("a removal", &name, None)?;
        self.refuses("the removal of a name that does not exist", Code::NOT_FOUND, self.tree.remove(&name))
    }

    /// The changes that the tree declares besides removals.
    fn others(&self, can: &Capabilities) -> Result<(), Finding> {
        let declared = |capability, part: fn(&Self) -> Result<(), Finding>| {
            if can.has(capability) { part(self) } else { Ok(()) }
        };
        declared(Capability::CREATE_FILE, Self::create_file)?;
        declared(Capability::CREATE_FOLDER, Self::create_folder)?;
        declared(Capability::RENAME, Self::rename)?;
        declared(Capability::COPY_FILE, Self::copy_file)?;
        declared(Capability::SET_STAT, Self::set_stat)?;
        declared(Capability::WATCH, Self::watch)
    }

    fn create_file(&self) -> Result<(), Finding> {
        let name = self.name("made");
        let tasks: Vec<Task<_>> = (0..RACERS)
            .map(|_| {
                let (tree, name) = (self.tree.clone(), name.clone());
                self.subject.host.spawn(async move { tree.create_file(&name).await })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            match self.wait("making a file", task)? {
                Ok(()) => made += 1,
                Err(error) if error.code() == Some(Code::ALREADY_EXISTS) => {}
                Err(error) => wrong!("making a file failed: {error}"),
            }
        }
        if made != 1 {
            wrong!("of {RACERS} tasks that made one file at the same time, {made} succeeded");
        }
        self.has("it was made", &name, Some(b""))?;
        self.put(&name, b"content")?;
        let action = "making a file that exists";
        self.refuses(action, Code::ALREADY_EXISTS, self.tree.create_file(&name))?;
        self.has(action, &name, Some(b"content"))
    }

    fn create_folder(&self) -> Result<(), Finding> {
        let folder = self.name("folder");
        self.works("making a folder", self.tree.create_folder(&folder))?;
        let action = "making a folder that exists";
        self.refuses(action, Code::ALREADY_EXISTS, self.tree.create_folder(&folder))?;
        let listed = self.wait("a listing", self.tree.list(&folder))?;
        if !listed.map_err(unexpected)?.is_empty() {
            wrong!("a new folder has names in it");
        }
        let inner = format!("{folder}/file");
        self.put(&inner, b"in it")?;
        let action = "the removal of a folder with a file in it";
        self.refuses(action, Code::NOT_EMPTY, self.tree.remove(&folder))?;
        self.has(action, &inner, Some(b"in it"))?;
        self.works("a removal", self.tree.remove(&inner))?;
        self.works("the removal of an empty folder", self.tree.remove(&folder))
    }

    fn rename(&self) -> Result<(), Finding> {
        let [from, to] = ["old", "new"].map(|end| self.name(end));
        self.put(&from, b"first")?;
        self.put(&to, b"second")?;
        let rename = |mode| self.tree.rename(&from, &to, mode);
        let action = "a renaming that keeps an existing name";
        self.refuses(action, Code::ALREADY_EXISTS, rename(RenameMode::Keep))?;
        self.has(action, &from, Some(b"first"))?;
        self.has(action, &to, Some(b"second"))?;
        let action = "a renaming that replaces";
        self.works(action, rename(RenameMode::Replace))?;
        self.has(action, &from, None)?;
        self.has(action, &to, Some(b"first"))?;
        self.refuses(
            "the renaming of a name that does not exist",
            Code::NOT_FOUND,
            rename(RenameMode::Replace),
        )
    }

    fn copy_file(&self) -> Result<(), Finding> {
        let [from, to] = ["source", "copy"].map(|end| self.name(end));
        let copy = |mode| self.tree.copy_file(&from, &to, mode);
        self.refuses("the copy of a name that does not exist", Code::NOT_FOUND, copy(RenameMode::Replace))?;
        self.put(&from, b"first")?;
        self.works("a copy", copy(RenameMode::Keep))?;
        self.has("a copy", &to, Some(b"first"))?;
        self.overwrite(&from, b"FIRST")?;
        self.has("a change of its source", &to, Some(b"first"))?;
        let action = "a copy that keeps an existing name";
        self.refuses(action, Code::ALREADY_EXISTS, copy(RenameMode::Keep))?;
        self.has(action, &to, Some(b"first"))?;
        let action = "a copy that replaces";
        self.works(action, copy(RenameMode::Replace))?;
        self.has(action, &to, Some(b"FIRST"))?;
        self.has(action, &from, Some(b"FIRST"))
    }

    fn set_stat(&self) -> Result<(), Finding> {
        let name = self.name("stat");
        self.put(&name, b"bytes")?;
        let modified = || {
            self.wait("metadata", async {
                self.tree.opening(&name, OpenOptions::new().read(true)).await?.stat().await
            })
            .and_then(|stat| Ok(stat.map_err(unexpected)?.modified))
        };
        let hour = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        self.works("setting a time", self.tree.set_stat(&name, &Stat::default().with_modified(hour)))?;
        let now = modified()?;
        if now.is_some_and(|now| now != hour) {
            wrong!("after its time was set to {hour:?}, it is {now:?}");
        }
        let action = "setting a size, which is no metadata";
        let odd = Stat::default().with_modified(SystemTime::now()).with_size(3);
        self.refuses(action, Code::UNSUPPORTED, self.tree.set_stat(&name, &odd))?;
        if modified()? != now {
            wrong!("{action} was refused, but its time has changed");
        }
        self.has(action, &name, Some(b"bytes"))
    }

    fn watch(&self) -> Result<(), Finding> {
        let name = self.name("watched");
        let mut changes = match self.wait("the begin of a watch", self.tree.watch())? {
            Ok(changes) => changes,
            Err(error) => wrong!("it says that it tells changes, but: {error}"),
        };
        for expected in [ChangeKind::Made, ChangeKind::Removed] {
            match expected {
                ChangeKind::Made => self.put(&name, b"new")?,
                _ => self.works("a removal", self.tree.remove(&name))?,
            }
            let told = async {
                loop {
                    let told = changes.next().await?;
                    if told.iter().any(|change| {
                        change.kind == ChangeKind::Missed
                            || change.kind == expected && *change.name == *name.as_bytes()
                    }) {
                        return Ok::<_, Error>(());
                    }
                }
            };
            let late = async {
                async_io::Timer::after(PATIENCE).await;
                Ok(false)
            };
            let told = async { told.await.map(|()| true) };
            match self.subject.host.block_on(futures_lite::future::or(told, late)) {
                Ok(true) => {}
                Ok(false) => {
                    wrong!("'{name}' was {}, which was not told within {PATIENCE:?}", expected.text())
                }
                Err(error) => wrong!("the watch has ended: {error}"),
            }
        }
        Ok(())
    }

    /// Removes the names that are left.
    fn clean(&self) {
        let ends =
            ["removed", "made", "folder/file", "folder", "old", "new", "source", "copy", "stat", "watched"];
        for end in ends {
            let _ = self.wait("a removal", self.tree.remove(self.name(end)));
        }
    }
}
