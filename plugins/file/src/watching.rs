//! Changes below a folder, as the system tells them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pactio_sdk::{Cause, Change, ChangeKind, ChangeLog, Code, IoError, Records, RequestId};

/// Watches a folder from the first request on.
#[derive(Default)]
pub(crate) struct Watching(Mutex<Option<Watch>>);

struct Watch {
    log: ChangeLog,
    /// Tells the log of changes until it is dropped.
    _watcher: RecommendedWatcher,
}

impl Watching {
    fn log(&self) -> Option<ChangeLog> {
        let watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch.as_ref().map(|watch| watch.log.clone())
    }

    /// Answers with the changes behind a cursor.
    pub(crate) fn go_on(&self, from: u64, changes: Records<Change>) {
        match self.log() {
            Some(log) => log.answer(from, changes),
            None => changes.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    /// Answers when the folder is watched. May block.
    pub(crate) fn begin(&self, folder: &Path, changes: Records<Change>) {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match &*watch {
            Some(watch) if !watch.log.has_ended() => Ok(watch.log.clone()),
            _ => Watch::begin(folder).map(|new| watch.insert(new).log.clone()),
        };
        drop(watch);
        match begun {
            Ok(log) => log.answer(0, changes),
            Err(error) => changes.fail(&cause(error)),
        }
    }

    pub(crate) fn cancel(&self, request: RequestId) {
        if let Some(log) = self.log() {
            log.cancel(request);
        }
    }
}

impl Watch {
    fn begin(folder: &Path) -> notify::Result<Self> {
        // Events have the path that is given here.
        let folder = std::path::absolute(folder)?;
        let log = ChangeLog::default();
        let (told, root) = (log.clone(), folder.clone());
        let mut watcher = notify::recommended_watcher(move |event| tell(&told, &root, event))?;
        watcher.watch(&folder, RecursiveMode::Recursive)?;
        Ok(Self { log, _watcher: watcher })
    }
}

/// Adds an event of the system to the log.
fn tell(log: &ChangeLog, folder: &Path, event: notify::Result<Event>) {
    let event = match event {
        Ok(event) => event,
        // Such as too many folders for the system: changes in some of them are not told.
        Err(error) => return log.end(cause(error)),
    };
    if event.need_rescan() {
        return log.add(Change::missed());
    }
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    for path in &event.paths {
        let kind = match event.kind {
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => ChangeKind::Made,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                ChangeKind::Removed
            }
            // Both names were told.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => continue,
            EventKind::Modify(ModifyKind::Name(_)) if is_there(path) => ChangeKind::Made,
            EventKind::Modify(ModifyKind::Name(_)) => ChangeKind::Removed,
            EventKind::Modify(_) => ChangeKind::Modified,
            EventKind::Any | EventKind::Other => ChangeKind::Missed,
        };
        let name = path.strip_prefix(folder).unwrap_or(Path::new(""));
        log.add(Change::new(kind, name.as_os_str().as_bytes()));
        if name.as_os_str().is_empty() && kind == ChangeKind::Removed {
            log.end(Cause::new(IoError::from_code(Code::NOT_FOUND), "the folder is gone"));
        }
    }
}

fn cause(error: notify::Error) -> Cause {
    let text = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "the system watches no more folders for this user".to_owned(),
        _ => error.to_string(),
    };
    let code = match error.kind {
        notify::ErrorKind::Io(error) => error.into(),
        notify::ErrorKind::PathNotFound => IoError::from_code(Code::NOT_FOUND),
        notify::ErrorKind::MaxFilesWatch => IoError::from_code(Code::NO_SPACE),
        _ => IoError::from_code(Code::FAILED),
    };
    Cause::new(code, text)
}
