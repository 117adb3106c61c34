//! A folder: keys that begin alike.

use futures_util::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use pactio_sdk::{Code, Entry, IoError, Listing, OpenError, OpenMode, Opened, Opening, Records, Rests, Tree};

use crate::backend;
use crate::failure::{cannot_open, failed};
use crate::runtime::runtime;
use crate::store::{Store, path};

/// An open folder.
pub(crate) struct Folder {
    store: Store,
    /// What keys begin with, without a slash at its end.
    prefix: String,
    rests: Rests,
}

impl Folder {
    pub(crate) fn new(store: Store, key: &str) -> Self {
        Self { store, prefix: key.trim_end_matches('/').to_owned(), rests: Rests::default() }
    }

    fn key(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        }
    }
}

/// Whether there are keys that go on behind this one.
///
/// # Errors
///
/// If the store does not say.
pub(crate) fn is_folder(store: &Store, key: &str) -> Result<bool, OpenError> {
    let path = path(key)?;
    let first = async { store.objects.list(Some(&path)).next().await.transpose() };
    match runtime()?.block_on(first) {
        Ok(first) => Ok(first.is_some()),
        Err(_) if store.is_web => Ok(false),
        Err(error) => Err(cannot_open(&error)),
    }
}

async fn list(store: &dyn ObjectStore, folder: &Path) -> object_store::Result<Vec<Entry>> {
    let listed = store.list_with_delimiter(Some(folder)).await?;
    let name = |path: &Path| path.filename().map(str::to_owned);
    let folders = listed.common_prefixes.iter().filter_map(name);
    let folders = folders.map(|name| Entry { name, is_folder: true, size: None });
    // Some tools make an object with the name of the folder, so that it exists.
    let files = listed.objects.iter().filter(|object| object.location != *folder);
    let files = files.filter_map(|object| Some((name(&object.location)?, object.size)));
    let files = files.map(|(name, size)| Entry { name, is_folder: false, size: Some(size) });
    let mut all: Vec<Entry> = folders.chain(files).filter(|entry| !entry.name.contains('/')).collect();
    // A key may also be a folder of others: that is listed once, as the folder.
    all.sort_by(|one, other| one.name.cmp(&other.name).then(other.is_folder.cmp(&one.is_folder)));
    all.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(all)
}

impl Tree for Folder {}

impl Listing for Folder {
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
        let (Ok(runtime), Ok(path)) = (runtime(), path(&self.key(folder))) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (store, rests, folder) = (self.store.clone(), self.rests.clone(), folder.to_owned());
        runtime.spawn(async move {
            if let Some(rest) = rests.take(&folder, from) {
                return rests.answer(folder, from, rest, entries);
            }
            match list(&*store.objects, &path).await {
                Ok(all) if all.is_empty() && !folder.is_empty() => {
                    entries.error(IoError::from_code(Code::NOT_FOUND));
                }
                Ok(all) => rests.answer_all(folder, from, all, entries),
                Err(error) => entries.error(failed("the list", &error)),
            }
        });
    }
}

impl Opening for Folder {
    fn open(&self, name: &str, mode: OpenMode) -> Result<Opened, OpenError> {
        backend::open(self.store.clone(), &self.key(name), mode)
    }
}
