//! A folder: keys with a common prefix.

use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Attributes, ObjectStore};
use pactio_sdk::{
    Code, Entry, ExtensionQuery, IoError, ListCursors, Listing, OpenError, OpenMode, Opened, Opening,
    Records, Refusals, Refused, Tree,
};

use crate::backend;
use crate::connection::opening;
use crate::device::stat;
use crate::failure::{cannot_open, failed};
use crate::odd::{listing, reason};
use crate::runtime::runtime;
use crate::store::{Store, path};
use crate::versions::{self, Versions};

/// An open folder.
pub(crate) struct Folder {
    store: Store,
    /// The common prefix of the keys, without a slash at its end.
    prefix: String,
    /// The one object whose versions are listed.
    only: Option<String>,
    cursors: ListCursors<Entry>,
}

impl Folder {
    pub(crate) fn new(store: Store, key: &str) -> Self {
        let prefix = key.trim_end_matches('/').to_owned();
        Self { store, prefix, only: None, cursors: ListCursors::default() }
    }

    /// The versions of an object, as a folder.
    ///
    /// # Errors
    ///
    /// If there is no version of it, or if the store cannot list versions.
    pub(crate) fn of_versions(store: Store, versions: &Versions, key: &str) -> Result<Self, OpenError> {
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        let listed = runtime()?.block_on(opening(listing(versions.list(&path(folder)?, Some(name))))).0;
        match listed.map_err(|error| cannot_open(&error))? {
            (entries, _) if entries.is_empty() => Ok(Self::new(store, key)),
            _ => Ok(Self { only: Some(name.to_owned()), ..Self::new(store, folder) }),
        }
    }

    /// The key of a name. Keys are text: a name that is not UTF-8 has none.
    fn key(&self, name: &[u8]) -> Option<String> {
        let name = str::from_utf8(name).ok()?;
        Some(match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        })
    }
}

/// Whether there are keys below this one.
///
/// # Errors
///
/// If the store cannot list its keys; for a web server, that counts as no folder.
pub(crate) fn is_folder(store: &Store, key: &str) -> Result<bool, OpenError> {
    let path = path(key)?;
    if let Some(web) = &store.web {
        return Ok(runtime()?.block_on(opening(web.entries(&path))).is_ok_and(|entries| !entries.is_empty()));
    }
    let first = listing(async { store.objects.list(Some(&path)).next().await.transpose() });
    match runtime()?.block_on(opening(first)) {
        (Ok(first), odd) => Ok(first.is_some() || !odd.is_empty()),
        (Err(error), _) => Err(cannot_open(&error)),
    }
}

/// The entries of a folder, and the keys in it that are no names.
async fn list(
    store: &Store,
    folder: &Path,
    only: Option<&str>,
) -> object_store::Result<(Vec<Entry>, Vec<String>)> {
    let (listed, mut odd) = listing(async {
        match (&store.web, &store.versions) {
            (Some(web), _) => Ok((web.entries(folder).await?, Vec::new())),
            (None, Some(versions)) => versions.list(folder, only).await,
            (None, None) => Ok((entries(&*store.objects, folder).await?, Vec::new())),
        }
    })
    .await;
    let (mut all, mut more) = listed?;
    odd.append(&mut more);
    // A key may also be a folder of other keys: it is listed once, as the folder.
    all.sort_by(|one, other| one.name.cmp(&other.name).then(other.is_folder().cmp(&one.is_folder())));
    all.dedup_by(|later, earlier| later.name == earlier.name);
    Ok((all, odd))
}

async fn entries(store: &dyn ObjectStore, folder: &Path) -> object_store::Result<Vec<Entry>> {
    let listed = store.list_with_delimiter(Some(folder)).await?;
    let folders = listed.common_prefixes.iter().filter_map(Path::filename).map(Entry::folder);
    // Some tools make an object with the name of the folder, so that the folder exists.
    let files = listed.objects.iter().filter(|object| object.location != *folder);
    let files = files
        .filter_map(|object| Some(Entry::new(object.location.filename()?, stat(object, &Attributes::new()))));
    Ok(folders.chain(files).filter(|entry| !entry.name.contains(&b'/')).collect())
}

impl Tree for Folder {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Refusals>(self);
    }
}

impl Refusals for Folder {
    /// The keys of this folder that are no names. Folders in it report their own.
    fn refused(&self, from: u64, entries: Records<Refused>) {
        let (Ok(runtime), Ok(path)) = (runtime(), path(&self.prefix)) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (store, only) = (self.store.clone(), self.only.clone());
        runtime.spawn(async move {
            match list(&store, &path, only.as_deref()).await {
                Ok((_, odd)) => {
                    let refused = odd.iter().map(|key| Refused::new(key.as_str(), reason(key)));
                    entries.complete_from(from, refused.collect::<Vec<_>>());
                }
                Err(error) => entries.fail(&failed("the list", &error)),
            }
        });
    }
}

impl Listing for Folder {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        let key = self.key(folder);
        let (Ok(runtime), Some(Ok(path))) = (runtime(), key.as_deref().map(path)) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (store, cursors, folder) = (self.store.clone(), self.cursors.clone(), folder.to_owned());
        let only = self.only.clone();
        runtime.spawn(async move {
            if let Some(tail) = cursors.take(&folder, from) {
                return cursors.answer(folder, from, tail, entries, |at, _| at + 1);
            }
            match list(&store, &path, only.as_deref()).await {
                Ok((all, odd)) if all.is_empty() && odd.is_empty() && !folder.is_empty() => {
                    entries.error(IoError::from_code(Code::NOT_FOUND));
                }
                Ok((all, odd)) => {
                    if let Some(first) = odd.first() {
                        // A program shows errors of plugins to its user, who would miss these objects.
                        tracing::error!(
                            "{} keys are not listed, such as {first:?}: {}",
                            odd.len(),
                            reason(first)
                        );
                    }
                    cursors.answer_all(folder, from, all, entries);
                }
                Err(error) => entries.fail(&failed("the list", &error)),
            }
        });
    }
}

impl Opening for Folder {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let key = self.key(name).ok_or_else(|| {
            let text = "there is no such object: keys are UTF-8, and this name is not";
            OpenError::new(IoError::from_code(Code::NOT_FOUND), text)
        })?;
        let mut store = self.store.clone();
        if store.versions.is_some()
            && let (object, Some(id)) = versions::split(&key)
        {
            let object = object.to_owned();
            (store.version, store.versions) = (Some(id.to_owned()), None);
            return backend::open(store, &object, mode);
        }
        backend::open(store, &key, mode)
    }
}
