//! A mount: trees that are seen as one.

use std::sync::Arc;

use async_task::Runnable;
use pactio_pool::Pool;
use pactio_sdk::{
    Code, Entry, ExtensionQuery, IoError, ListCursors, Listing, OpenError, OpenMode, Opened, Opening, Origin,
    Provenance, Records, Tree,
};

use crate::case::Case;
use crate::sources::{self, Absent, Found, Mounted};

/// See the [crate](crate).
pub(crate) struct Mount {
    /// In the order in which they are looked up.
    sources: Arc<Vec<Mounted>>,
    /// The optional sources that could not be opened.
    absent: Arc<Vec<Absent>>,
    pool: Arc<Pool>,
    cursors: ListCursors<Entry>,
}

impl Mount {
    pub(crate) fn new(sources: Vec<Mounted>, absent: Vec<Absent>, pool: Arc<Pool>) -> Self {
        Self { sources: Arc::new(sources), absent: Arc::new(absent), pool, cursors: ListCursors::default() }
    }
}

impl Tree for Mount {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Provenance>(self);
    }
}

impl Listing for Mount {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        // The pending list must not keep the sources open: a source that never answers would stay open for ever.
        let sources = Arc::downgrade(&self.sources);
        let (cursors, folder) = (self.cursors.clone(), folder.to_owned());
        let list = async move {
            let Some(entries) = cursors.continue_list(&folder, from, entries) else { return };
            match sources::list(&sources, &folder).await {
                Ok(all) => cursors.answer_all(folder, all, entries),
                Err(cause) => entries.fail(&cause),
            }
        };
        // Sources may be mounts, whose lists need the same threads: a list occupies a thread only while there is work, never
        // while it waits.
        let pool = self.pool.clone();
        let run = move |list: Runnable| pool.submit(move || _ = list.run());
        let (list, task) = async_task::spawn(list, run);
        list.schedule();
        task.detach();
    }
}

impl Provenance for Mount {
    fn provenance(&self, name: &[u8], from: u64, origins: Records<Origin>) {
        let (sources, absent, name) = (self.sources.clone(), self.absent.clone(), name.to_owned());
        let answer = move || match sources::origins(&sources, &absent, &name) {
            Ok(all) => origins.complete_from(from, all),
            Err(error) => origins.error(error),
        };
        if self.sources.iter().all(|mounted| mounted.case == Case::Exact) {
            return self.pool.submit(answer);
        }
        // The lookup waits for lists, which need the pool's threads, so it runs on a thread of its own. If the thread cannot be
        // started, the answer is dropped, which fails the request.
        let _ = std::thread::Builder::new().name("pactio-mount-why".to_owned()).spawn(answer);
    }
}

impl Opening for Mount {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
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
