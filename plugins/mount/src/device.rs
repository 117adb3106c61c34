//! A mount: trees that are seen as one.

use std::sync::Arc;

use pactio_plugin_pool::Pool;
use pactio_sdk::{
    Code, Entry, Error, LastList, Listing, OpenError, OpenMode, Opened, Opening, Origin, Provenance, Records,
    Tree,
};

use crate::sources::{self, Found, Mounted};

/// See the [crate](crate).
pub(crate) struct Mount {
    /// In the order in which they are looked up.
    sources: Arc<Vec<Mounted>>,
    pool: Arc<Pool>,
    last: LastList,
}

impl Mount {
    pub(crate) fn new(sources: Vec<Mounted>, pool: Arc<Pool>) -> Self {
        Self { sources: Arc::new(sources), pool, last: LastList::default() }
    }
}

impl Tree for Mount {
    fn provenance(&self) -> Option<&dyn Provenance> {
        Some(self)
    }
}

impl Listing for Mount {
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
        let (sources, last, folder) = (self.sources.clone(), self.last.clone(), folder.to_owned());
        self.pool.submit(move || {
            last.answer_with(folder, from, entries, |folder| sources::list(&sources, folder));
        });
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
            return Err(OpenError::new(Error::from_code(Code::ReadOnly), text));
        }
        match sources::find(&self.sources, name)? {
            Some(Found::File(device)) => Ok(Opened::handed_on(device)),
            Some(Found::Folder) => {
                let text = "it is a folder; name a file in it";
                Err(OpenError::new(Error::from_code(Code::IsDirectory), text))
            }
            None => Err(OpenError::new(Error::from_code(Code::NotFound), "no source has such a file")),
        }
    }
}
