//! Opens objects, and folders of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pactio_sdk::{Backend, Code, IoError, OpenError, OpenMode, OpenRequest, Opened, TreeDevice};

use crate::device::ObjectDevice;
use crate::failure::{self, cannot_open};
use crate::folder::{Folder, is_folder};
use crate::retries::opening;
use crate::runtime::runtime;
use crate::store::{Place, Store, path, place};
use crate::upload::Upload;

/// The backend. Its runtime starts with the first device.
pub(crate) struct Objects;

impl Backend for Objects {
    type Device = ObjectDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<ObjectDevice, OpenError> {
        contained(|| {
            let Place { store, key } = place(request)?;
            ObjectDevice::open(&store, &key)
        })
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        contained(|| {
            let Place { store, key } = place(request)?;
            open(store, &key, request.mode())
        })
    }
}

/// Turns a panic of the client into an error: the client panics on some options that make no sense to it. No state of this plugin
/// is affected, so other devices continue.
fn contained<T>(open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
        Err(OpenError::invalid_input(format!("the client of the store does not take these options: {text}")))
    })
}

/// Opens the object of a key, or else the folder.
pub(crate) fn open(store: Store, key: &str, mode: OpenMode) -> Result<Opened, OpenError> {
    let is_folder_by_name = key.is_empty() || key.ends_with('/');
    if store.version.is_some() && (is_folder_by_name || mode.contains(OpenMode::WRITE)) {
        let what = if is_folder_by_name {
            "a folder has no versions"
        } else {
            "a version of an object cannot be written"
        };
        return Err(OpenError::invalid_input(format!("{what}; leave version= out")));
    }
    let folder = |store| Ok(Opened::new(TreeDevice(Folder::new(store, key, mode))));
    if is_folder_by_name {
        return folder(store);
    }
    // The new content takes the place of all bytes, so the object need not be looked up.
    if mode.contains(OpenMode::TRUNCATE) || mode.contains(OpenMode::REPLACE) {
        return Upload::begin(store, key).map(Opened::new);
    }
    if mode.contains(OpenMode::WRITE) {
        if exists(&store, key)? {
            let text = "objects are not changed in place; open it to be emptied or replaced, as cp does; to remove or rename it, \
                        open its folder";
            return Err(OpenError::new(IoError::from_code(Code::UNSUPPORTED), text));
        }
        return match mode.contains(OpenMode::CREATE) {
            true => Upload::begin(store, key).map(Opened::new),
            // A folder is opened for writing to change its names.
            false if is_folder(&store, key)? => folder(store),
            false => Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), "there is no such object")),
        };
    }
    if let Some(versions) = store.versions.clone() {
        let folder = Folder::of_versions(store, &versions, key)?;
        return Ok(Opened::new(TreeDevice(folder)));
    }
    match ObjectDevice::open(&store, key) {
        Err(error)
            if error.error().code() == Code::NOT_FOUND
                && store.version.is_none()
                && is_folder(&store, key)? =>
        {
            folder(store)
        }
        opened => opened.map(Opened::new),
    }
}

fn exists(store: &Store, key: &str) -> Result<bool, OpenError> {
    use object_store::ObjectStoreExt;
    match runtime()?.block_on(opening(store.objects.head(&path(key)?))) {
        Ok(_) => Ok(true),
        Err(error) if failure::error(&error).code() == Code::NOT_FOUND => Ok(false),
        Err(error) => Err(cannot_open(&error)),
    }
}
