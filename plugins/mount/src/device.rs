//! A mount: trees that are seen as one.

use std::sync::Arc;

use async_task::Runnable;
use pactio_plugin_pool::Pool;
use pactio_sdk::{
    Code, Entry, IoError, Listing, OpenError, OpenMode, Opened, Opening, Origin, Provenance, Records, Rests,
    Tree,
};

use crate::sources::{self, Found, Mounted};

/// See the [crate](crate).
pub(crate) struct Mount {
    /// In the order in which they are looked up.
    sources: Arc<Vec<Mounted>>,
    pool: Arc<Pool>,
    rests: Rests,
}

impl Mount {
    pub(crate) fn new(sources: Vec<Mounted>, pool: Arc<Pool>) -> Self {
        Self { sources: Arc::new(sources), pool, rests: Rests::default() }
    }
}

impl Tree for Mount {
    fn provenance(&self) -> Option<&dyn Provenance> {
        Some(self)
    }
}

impl Listing for Mount {
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
        // A source that never answers must not keep itself open by what waits for it.
        let sources = Arc::downgrade(&self.sources);
        let (rests, folder) = (self.rests.clone(), folder.to_owned());
        let list = async move {
            if let Some(rest) = rests.take(&folder, from) {
                return rests.answer(folder, from, rest, entries);
            }
            match sources::list(&sources, &folder).await {
                Ok(all) => rests.answer_all(folder, from, all, entries),
                Err(error) => entries.error(error),
            }
        };
        // Sources may be mounts, whose lists need the same threads: one is used while there is work, never to wait.
        let pool = self.pool.clone();
        let run = move |list: Runnable| pool.submit(move || _ = list.run());
        let (list, task) = async_task::spawn(list, run);
        list.schedule();
        task.detach();
    }
}

impl Provenance for Mount {
    fn provenance(&self, name: &str, from: u64, origins: Records<Origin>) {
        let (sources, name) = (self.sources.clone(), name.to_owned());
        self.pool.submit(move || match sources::origins(&sources, &name) {
            Ok(all) => origins.complete_from(from, all),
            Err(error) => origins.error(error),
        });
    }
}

impl Opening for Mount {
    fn open(&self, name: &str, mode: OpenMode) -> Result<Opened, OpenError> {
        if mode.contains(OpenMode::WRITE) {
            let text = "mounts are only read; open the source to write to it";
            return Err(OpenError::new(IoError::from_code(Code::READ_ONLY), text));
        }
        match sources::find(&self.sources, name)? {
            Some(Found::File(device)) => Ok(Opened::handed_on(device)),
            Some(Found::Folder) => {
                let text = "it is a folder; name a file in it";
                Err(OpenError::new(IoError::from_code(Code::IS_DIRECTORY), text))
            }
            None => Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), "no source has such a file")),
        }
    }
}
