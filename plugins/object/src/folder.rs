//! A folder: keys with a common prefix.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Attributes, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use pactio_sdk::{
    Answer, Cancellation, Cause, Change, Code, CopyFile, CreateFile, Entry, ExtensionQuery, IoError,
    ListCursors, Listing, OpenError, OpenMode, Opened, Opening, Records, Refusals, Refused, Remove, Rename,
    RenameMode, RequestId, Tree, Watch, Watching,
};

use crate::backend;
use crate::device::stat;
use crate::failure::{self, cannot_open, failed};
use crate::local;
use crate::odd::{listing, reason};
use crate::retries::opening;
use crate::runtime::runtime;
use crate::store::{Store, path};
use crate::versions::{self, Versions};
use crate::watching::{self, Lister};

/// An open folder.
pub(crate) struct Folder {
    store: Store,
    /// The common prefix of the keys, without a slash at its end.
    prefix: String,
    /// The one object whose versions are listed.
    only: Option<String>,
    /// The names in it may be changed.
    may_change: bool,
    cursors: ListCursors<Entry>,
    watching: Arc<Watching<Lister>>,
}

impl Folder {
    pub(crate) fn new(store: Store, key: &str, mode: OpenMode) -> Self {
        let prefix = key.trim_end_matches('/').to_owned();
        let may_change = mode.contains(OpenMode::WRITE) && store.web.is_none() && store.versions.is_none();
        Self {
            store,
            prefix,
            only: None,
            may_change,
            cursors: ListCursors::default(),
            watching: Arc::default(),
        }
    }

    /// Passes the object of a name to `change`, and answers with the result. The object is looked up before, since stores
    /// report success for the removal of an object that does not exist.
    fn change<F>(
        &self,
        name: &[u8],
        answer: Answer,
        change: impl FnOnce(Arc<dyn ObjectStore>, Path, ObjectMeta) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), Cause>> + Send + 'static,
    {
        let key = self.key(name);
        let (Ok(runtime), Some(Ok(path))) = (runtime(), key.as_deref().map(path)) else {
            return answer.error(IoError::from_code(Code::INVALID_INPUT));
        };
        let store = self.store.clone();
        runtime.spawn(async move {
            let changed = match store.objects.head(&path).await {
                Ok(found) => change(store.objects, path, found).await,
                Err(error) => Err(lookup_failure(&*store.objects, &path, &error).await),
            };
            answer.result(changed);
        });
    }

    /// The versions of an object, as a folder. A key without versions is taken for that of a folder.
    ///
    /// # Errors
    ///
    /// If the store cannot list versions.
    pub(crate) fn of_versions(store: Store, versions: &Versions, key: &str) -> Result<Self, OpenError> {
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        let listed = runtime()?.block_on(opening(listing(versions.list(&path(folder)?, Some(name))))).0;
        match listed.map_err(|error| cannot_open(&error))? {
            (entries, _) if entries.is_empty() => Ok(Self::new(store, key, OpenMode::READ)),
            _ => Ok(Self { only: Some(name.to_owned()), ..Self::new(store, folder, OpenMode::READ) }),
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
    if store.is_local() {
        return Ok(local::is_folder(&path));
    }
    if let Some(web) = &store.web {
        return Ok(runtime()?.block_on(opening(web.entries(&path))).is_ok_and(|entries| !entries.is_empty()));
    }
    let first = listing(async { store.objects.list(Some(&path)).next().await.transpose() });
    match runtime()?.block_on(opening(first)) {
        (Ok(first), odd) => Ok(first.is_some() || !odd.is_empty()),
        (Err(error), _) => Err(cannot_open(&error)),
    }
}

/// The content of a folder.
#[derive(Default)]
struct Content {
    entries: Vec<Entry>,
    /// Keys that are not listed, with the reasons.
    hidden: Vec<(String, &'static str)>,
    /// An object with the name of the folder exists. Some tools make one for a folder without other keys.
    is_marked: bool,
}

/// The reason why the object of a key that is also a folder is not listed.
const IS_FOLDER_TOO: &str = "the key is also a folder of other keys; its own URL opens it";

impl Content {
    fn is_missing(&self) -> bool {
        self.entries.is_empty() && self.hidden.is_empty() && !self.is_marked
    }

    /// Adds keys that are no names.
    fn hide(&mut self, odd: Vec<String>) {
        self.hidden.extend(odd.into_iter().map(|key| {
            let reason = reason(&key);
            (key, reason)
        }));
    }

    /// Sorts the entries. A key may also be a folder of other keys: it is listed once, as the folder.
    fn sort(&mut self, folder: &Path) {
        self.entries
            .sort_by(|one, other| one.name.cmp(&other.name).then(other.is_folder().cmp(&one.is_folder())));
        let hidden = &mut self.hidden;
        self.entries.dedup_by(|later, earlier| {
            let is_same = later.name == earlier.name;
            if is_same && let Some(name) = later.name.to_str() {
                hidden.push((folder.clone().join(name).to_string(), IS_FOLDER_TOO));
            }
            is_same
        });
    }
}

/// The content of a folder; with `only`, the versions of one object in it.
async fn list(store: &Store, folder: &Path, only: Option<&str>) -> object_store::Result<Content> {
    let (listed, odd) = listing(async {
        match (&store.web, &store.versions) {
            (Some(web), _) => {
                let mut content = Content { entries: web.entries(folder).await?, ..Content::default() };
                content.sort(folder);
                Ok::<_, object_store::Error>(content)
            }
            (None, Some(versions)) => {
                // In the order of the store: for each object, the newest version first.
                let (entries, odd) = versions.list(folder, only).await?;
                let mut content = Content { entries, ..Content::default() };
                content.hide(odd);
                Ok(content)
            }
            (None, None) if store.is_local() => {
                let folder = folder.clone();
                let listed = locally(move || local::list(&folder)).await?;
                // The folder exists even without entries: otherwise the list would have failed.
                let mut content = Content { entries: listed.entries, hidden: listed.hidden, is_marked: true };
                content.entries.sort_by(|one, other| one.name.cmp(&other.name));
                Ok(content)
            }
            (None, None) => {
                let mut content = content(&*store.objects, folder).await?;
                content.sort(folder);
                Ok(content)
            }
        }
    })
    .await;
    let mut content: Content = listed?;
    content.hide(odd);
    Ok(content)
}

/// Calls the system on a thread that may block.
async fn locally<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    let store = "LocalFileSystem";
    match tokio::task::spawn_blocking(call).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(object_store::Error::NotFound { path: String::new(), source: error.into() })
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(object_store::Error::AlreadyExists { path: String::new(), source: error.into() })
        }
        Ok(done) => done.map_err(|error| object_store::Error::Generic { store, source: error.into() }),
        Err(error) => Err(object_store::Error::Generic { store, source: error.into() }),
    }
}

/// Lists a folder of a store in the cloud. An object with the key of the folder itself is no entry: it marks the folder.
async fn content(store: &dyn ObjectStore, folder: &Path) -> object_store::Result<Content> {
    let listed = store.list_with_delimiter(Some(folder)).await?;
    let is_marked = listed.objects.iter().any(|object| object.location == *folder);
    let folders = listed.common_prefixes.iter().filter_map(Path::filename).map(Entry::folder);
    let files = listed.objects.iter().filter(|object| object.location != *folder);
    let files = files
        .filter_map(|object| Some(Entry::new(object.location.filename()?, stat(object, &Attributes::new()))));
    let entries = folders.chain(files).filter(|entry| !entry.name.contains(&b'/')).collect();
    Ok(Content { entries, hidden: Vec::new(), is_marked })
}

/// The keys of a folder and of all folders in it that are not listed, with the reasons. One list of all keys takes fewer requests
/// than one of each folder. With `only`, the versions of one object. For web servers and versions, only the folder itself is
/// looked at.
async fn hidden(
    store: &Store,
    folder: &Path,
    only: Option<&str>,
) -> object_store::Result<Vec<(String, &'static str)>> {
    if store.web.is_some() || store.versions.is_some() {
        return list(store, folder, only).await.map(|content| content.hidden);
    }
    if store.is_local() {
        let folder = folder.clone();
        return locally(move || local::hidden(&folder)).await;
    }
    let mut found = Content::default();
    let (listed, odd) = listing(async {
        let mut keys = store.objects.list(Some(folder));
        // Keys come in the order of their bytes: `a`, then keys such as `a!`, then those below `a/`. A key that has come
        // without the folder `a/` after it is forgotten as soon as a key is past `a/`.
        let mut may_be_folders: Vec<String> = Vec::new();
        while let Some(object) = keys.next().await {
            let ObjectMeta { location, size, .. } = object?;
            let key = location.to_string();
            // The client gives `a` for the key `a/`, too.
            let byte_after = |earlier: &str| key.as_bytes().get(earlier.len()).copied();
            may_be_folders.retain(|earlier| {
                key.starts_with(earlier) && byte_after(earlier).is_none_or(|byte| byte <= b'/')
            });
            let is_folder = |earlier: &&String| byte_after(earlier) == Some(b'/');
            if let Some(earlier) = may_be_folders.iter().find(is_folder).cloned() {
                may_be_folders.retain(|other| *other != earlier);
                found.hidden.push((earlier, IS_FOLDER_TOO));
            }
            // An object without bytes may only mark a folder.
            if size > 0 && location != *folder {
                may_be_folders.push(key);
            }
        }
        Ok::<_, object_store::Error>(())
    })
    .await;
    listed?;
    found.hide(odd);
    Ok(found.hidden)
}

impl Tree for Folder {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Refusals>(self);
        if self.store.web.is_none() && self.store.versions.is_none() {
            query.offer::<dyn Watch>(self).offer::<dyn Cancellation>(self);
        }
        if self.may_change {
            query.offer::<dyn Remove>(self).offer::<dyn Rename>(self).offer::<dyn CreateFile>(self);
            query.offer::<dyn CopyFile>(self);
        }
    }
}

/// The error for an object that a look-up did not find: it is not there, or it is a folder.
async fn lookup_failure(store: &dyn ObjectStore, path: &Path, error: &object_store::Error) -> Cause {
    let cause = failed("the object", error);
    if cause.error().code() != Code::NOT_FOUND {
        return cause;
    }
    match has_keys_below(store, path).await {
        Ok(false) => Cause::new(cause.error(), "there is no such object"),
        Ok(true) => Cause::new(
            IoError::from_code(Code::IS_DIRECTORY),
            "it is a folder, and exists as long as keys begin with its name: only objects are removed or renamed",
        ),
        Err(_) => cause,
    }
}

/// Whether a name is a folder: keys begin with it and a slash, among them those that are no names.
async fn has_keys_below(store: &dyn ObjectStore, path: &Path) -> object_store::Result<bool> {
    let (first, odd) = listing(async { store.list(Some(path)).next().await.transpose() }).await;
    Ok(first?.is_some() || !odd.is_empty())
}

impl Watch for Folder {
    fn watch(&self, from: u64, changes: Records<Change>) {
        if from > 0 {
            return self.watching.go_on(from, changes);
        }
        let (Ok(runtime), Ok(path)) = (runtime(), path(&self.prefix)) else {
            return changes.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (watching, store) = (self.watching.clone(), self.store.clone());
        runtime.spawn(async move { watching::begin(&watching, store, path, changes).await });
    }
}

impl Cancellation for Folder {
    fn cancel(&self, request: RequestId) {
        self.watching.cancel(request);
    }
}

impl Remove for Folder {
    fn remove(&self, name: &[u8], answer: Answer) {
        self.change(name, answer, |store, path, _| async move {
            store.delete(&path).await.map_err(|error| failed("the removal", &error))
        });
    }
}

impl CreateFile for Folder {
    /// Puts an object without bytes, on the condition that there is none of the name. Some servers ignore the condition, so that
    /// the name is looked up before.
    fn create_file(&self, name: &[u8], answer: Answer) {
        let key = self.key(name);
        let (Ok(runtime), Some(Ok(path))) = (runtime(), key.as_deref().map(path)) else {
            return answer.error(IoError::from_code(Code::INVALID_INPUT));
        };
        let store = self.store.objects.clone();
        runtime.spawn(async move { answer.result(create(&*store, &path).await) });
    }
}

/// Puts an object without bytes, if its name is neither an object nor a folder.
async fn create(store: &dyn ObjectStore, path: &Path) -> Result<(), Cause> {
    match store.head(path).await {
        Ok(_) => return Err(IoError::from_code(Code::ALREADY_EXISTS).into()),
        Err(error) if failure::error(&error).code() != Code::NOT_FOUND => {
            return Err(failed("the look-up of the name", &error));
        }
        Err(_) => {}
    }
    if has_keys_below(store, path).await.map_err(|error| failed("the look-up of the name", &error))? {
        return Err(Cause::new(IoError::from_code(Code::IS_DIRECTORY), "the name is a folder"));
    }
    // The condition is for objects that have appeared since the look-up.
    let put = store.put_opts(path, PutPayload::default(), PutMode::Create.into()).await;
    put.map(drop).map_err(|error| failed("the new object", &error))
}

/// Removes an object that was copied, unless it was written since then: the copy lacks those bytes.
async fn remove_unchanged(store: &dyn ObjectStore, path: &Path, copied: &ObjectMeta) -> Result<(), Cause> {
    let current = store.head(path).await.map_err(|error| failed("the old name", &error))?;
    if (&current.e_tag, current.last_modified) != (&copied.e_tag, copied.last_modified) {
        let text = "the old object was written since it was copied; both exist";
        return Err(Cause::new(IoError::from_code(Code::CHANGED), text));
    }
    let removed = store.delete(path).await;
    removed.map_err(|error| failed("the removal of the old name; the new one exists, too", &error))
}

impl Rename for Folder {
    /// Copies the object in the store, and removes the old one. If the removal fails, both exist.
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let Some(Ok(to)) = self.key(to).as_deref().map(path) else {
            return answer.error(IoError::from_code(Code::INVALID_INPUT));
        };
        self.change(from, answer, move |store, from, found| async move {
            // As rename(2): renaming a name to itself changes nothing.
            if from == to && mode == RenameMode::Replace {
                return Ok(());
            }
            copy(&*store, &from, &to, mode, &found, ", so the old name stays").await?;
            remove_unchanged(&*store, &from, &found).await
        });
    }
}

impl CopyFile for Folder {
    /// Copies the object in the store.
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        let Some(Ok(to)) = self.key(to).as_deref().map(path) else {
            return answer.error(IoError::from_code(Code::INVALID_INPUT));
        };
        let is_local = self.store.is_local();
        let most = if self.store.is_s3() { MAX_S3_COPY } else { u64::MAX };
        self.change(from, answer, move |store, from, found| async move {
            if from == to && mode == RenameMode::Replace {
                return Ok(());
            }
            if found.size > most {
                let text = "S3 copies objects of at most 5 GiB; read and write this one instead";
                return Err(Cause::new(IoError::from_code(Code::UNSUPPORTED), text));
            }
            if is_local {
                // The client's copy is another link to the same file.
                let copied = locally(move || local::copy_file(&from, &to, mode)).await;
                return copied.map_err(|error| failed("the copy", &error));
            }
            copy(&*store, &from, &to, mode, &found, "").await
        });
    }
}

/// Size of the largest object that S3 copies in one request.
const MAX_S3_COPY: u64 = 5 << 30;

/// Copies an object that was found to another name in the store, and looks at the copy. `then` is what follows for the old name
/// if that fails.
async fn copy(
    store: &dyn ObjectStore,
    from: &Path,
    to: &Path,
    mode: RenameMode,
    found: &ObjectMeta,
    then: &str,
) -> Result<(), Cause> {
    if has_keys_below(store, to).await.map_err(|error| failed("the new name", &error))? {
        return Err(Cause::new(IoError::from_code(Code::IS_DIRECTORY), "the new name is a folder"));
    }
    let copied = match mode {
        RenameMode::Replace => store.copy(from, to).await,
        // The condition of the copy is for objects that appear meanwhile; some servers ignore it.
        RenameMode::Keep => match store.head(to).await {
            Ok(_) => return Err(IoError::from_code(Code::ALREADY_EXISTS).into()),
            Err(error) if failure::error(&error).code() != Code::NOT_FOUND => Err(error),
            Err(_) => store.copy_if_not_exists(from, to).await,
        },
    };
    copied.map_err(|error| failed(&format!("the copy in the store is not confirmed{then}"), &error))?;
    let copy = store.head(to).await.map_err(|error| failed(&format!("the new object{then}"), &error))?;
    if copy.size != found.size {
        let text = format!("the copy has {} bytes, but the object {}; both exist", copy.size, found.size);
        return Err(Cause::new(IoError::from_code(Code::CHANGED), text));
    }
    Ok(())
}

impl Refusals for Folder {
    /// The keys below this folder that are not listed.
    fn refused(&self, from: u64, entries: Records<Refused>) {
        let (Ok(runtime), Ok(path)) = (runtime(), path(&self.prefix)) else {
            return entries.error(IoError::from_code(Code::NOT_FOUND));
        };
        let (store, only) = (self.store.clone(), self.only.clone());
        runtime.spawn(async move {
            match hidden(&store, &path, only.as_deref()).await {
                Ok(hidden) => {
                    // As names in this folder.
                    let front = if path.as_ref().is_empty() { String::new() } else { format!("{path}/") };
                    let name = |key: &str| {
                        key.strip_prefix(&*front).filter(|name| !name.is_empty()).unwrap_or(key).to_owned()
                    };
                    let refused = hidden.iter().map(|(key, reason)| Refused::new(name(key), *reason));
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
            // A caller that continues gets the rest of the list it began with.
            let Some(entries) = cursors.continue_list(&folder, from, entries) else { return };
            match list(&store, &path, only.as_deref()).await {
                // An empty bucket is a folder.
                Ok(content) if content.is_missing() && !path.as_ref().is_empty() && store.web.is_none() => {
                    entries.error(IoError::from_code(Code::NOT_FOUND));
                }
                Ok(content) => {
                    if let Some((first, reason)) = content.hidden.first() {
                        // A program shows errors of plugins to its user, who would miss these objects.
                        let (count, others) = (content.hidden.len(), content.hidden.len() - 1);
                        let keys = if count == 1 { "key is" } else { "keys are" };
                        tracing::error!("{count} {keys} not listed: {first:?}: {reason}; {others} more");
                    }
                    cursors.answer_all(folder, content.entries, entries);
                }
                Err(error) => entries.fail(&failed("the list", &error)),
            }
        });
    }
}

impl Opening for Folder {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let key = self.key(name).ok_or_else(|| {
            let text = "keys are UTF-8, and this name is not";
            let code = if mode.contains(OpenMode::WRITE) { Code::INVALID_INPUT } else { Code::NOT_FOUND };
            OpenError::new(IoError::from_code(code), text)
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
