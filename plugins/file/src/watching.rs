//! Changes below a folder, as the system tells them.
//!
//! ```text
//!  the system ──► the watcher's thread ──► our thread: watches new folders ──► log
//! ```
//!
//! The watcher tells of a new folder before it watches the folder. So our thread asks it to watch the folder, and tells of it
//! when that is done: a list that a caller makes then, and the changes told later, leave out no name.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use notify::event::{ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pactio_sdk::{Cause, Change, ChangeKind, ChangeLog, Code, IoError};

use crate::explained;

/// Adds the changes below a folder to a log, until it is dropped. Links in the folder are not followed.
pub(crate) struct Source {
    _watcher: Arc<Mutex<RecommendedWatcher>>,
}

/// The thread that adds the changes. It ends when the watcher is dropped.
struct Telling {
    log: ChangeLog,
    folder: PathBuf,
    watcher: Weak<Mutex<RecommendedWatcher>>,
}

impl Source {
    /// Changes are added from now on. May block.
    pub(crate) fn start(folder: &Path, log: ChangeLog) -> Result<Self, Cause> {
        // Events have the path that is given to the watcher.
        let folder = fs::canonicalize(folder).map_err(explained::cause)?;
        let (sender, events) = mpsc::channel();
        let tell = move |event: notify::Result<Event>| {
            if !event.as_ref().is_ok_and(|event| event.kind.is_access()) {
                let _ = sender.send(event);
            }
        };
        let mut watcher = RecommendedWatcher::new(tell, Config::default().with_follow_symlinks(false))
            .map_err(watch_cause)?;
        watcher.watch(&folder, RecursiveMode::Recursive).map_err(watch_cause)?;
        let watcher = Arc::new(Mutex::new(watcher));
        let telling = Telling { log, folder, watcher: Arc::downgrade(&watcher) };
        let thread = thread::Builder::new().name("pactio-watch".to_owned());
        thread.spawn(move || telling.run(events)).map_err(explained::cause)?;
        Ok(Self { _watcher: watcher })
    }
}

impl Telling {
    fn run(&self, events: Receiver<notify::Result<Event>>) {
        for event in events {
            match event {
                Ok(event) => self.tell(&event),
                // Such as too many folders for the system: changes in some of them are not told.
                Err(error) => self.log.end(watch_cause(error)),
            }
        }
    }

    /// Adds an event of the system to the log.
    fn tell(&self, event: &Event) {
        if event.need_rescan() {
            return self.log.add(Change::missed());
        }
        for path in &event.paths {
            let kind = match event.kind {
                EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                    ChangeKind::Made
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                    ChangeKind::Removed
                }
                // Both names were told.
                EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => continue,
                EventKind::Modify(ModifyKind::Name(_)) if path.symlink_metadata().is_ok() => ChangeKind::Made,
                EventKind::Modify(ModifyKind::Name(_)) => ChangeKind::Removed,
                EventKind::Modify(_) => ChangeKind::Modified,
                EventKind::Any | EventKind::Other => ChangeKind::Missed,
            };
            if kind == ChangeKind::Made
                && let Err(error) = self.watch_folder(path)
            {
                return self.log.end(watch_cause(error));
            }
            let name = path.strip_prefix(&self.folder).unwrap_or(Path::new(""));
            self.log.add(Change::new(kind, name.as_os_str().as_bytes()));
            if name.as_os_str().is_empty() && kind == ChangeKind::Removed {
                self.log.end(Cause::new(IoError::from_code(Code::NOT_FOUND), "the folder is gone"));
            }
        }
    }

    /// Returns when a new folder is watched.
    fn watch_folder(&self, path: &Path) -> notify::Result<()> {
        // Other systems watch all of a folder from the beginning.
        let is_folder =
            cfg!(target_os = "linux") && path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let Some(watcher) = self.watcher.upgrade().filter(|_| is_folder) else { return Ok(()) };
        let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        match watcher.watch(path, RecursiveMode::Recursive) {
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => Err(error),
            // Otherwise it is gone again, which is told.
            _ => Ok(()),
        }
    }
}

fn watch_cause(error: notify::Error) -> Cause {
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
