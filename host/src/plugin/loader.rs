//! Loads a file that [`candidate`](super::candidate) has let through, and makes its backend.

use std::fmt;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cglue::arc::CArc;
use cglue::trait_group::Opaquable;
use pactio_sdk::OpenMode;
use pactio_sdk::abi::{
    self, BackendIo, BackendObj, DeviceObj, ENTRY_SYMBOL, Library, OpenFailure, PluginEntry, RawOpenRequest,
    RawOption,
};

use super::candidate::{PREFIX, check_prefix};
use super::{Refusal, RefusalKind};
use crate::Url;

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// Short name, unique among plugins.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// URL schemes that its backend opens.
    pub schemes: Vec<String>,
    /// Version of `pactio-sdk` that it was built with.
    pub sdk_version: String,
}

/// A loaded plugin.
pub struct Plugin {
    info: PluginInfo,
    path: PathBuf,
    backend: Backend,
}

struct Backend(BackendObj);

// SAFETY: `BackendObj` is only made by the sdk's `export_plugin!`, from a `Backend`, which is `Send` and `Sync`.
unsafe impl Send for Backend {}
// SAFETY: as above.
unsafe impl Sync for Backend {}

/// What every object of a plugin keeps: the open library.
///
/// The library is never unloaded, since libraries with thread-local destructors cannot be: it is opened so that closing
/// it leaves it mapped. The record tells how many objects of a plugin are alive.
struct LibraryRecord {
    library: libloading::Library,
}

impl Plugin {
    /// What it says of itself.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a device of it.
    pub(crate) fn open(&self, url: &Url, mode: OpenMode) -> Result<DeviceObj, OpenFailure> {
        let options: Vec<RawOption<'_>> = url
            .options()
            .iter()
            .map(|(key, value)| RawOption { key: key.as_bytes().into(), value: value.as_bytes().into() })
            .collect();
        let request = RawOpenRequest {
            scheme: url.scheme().as_bytes().into(),
            target: url.target().as_bytes().into(),
            options: options.as_slice().into(),
            mode: mode.bits(),
        };
        self.backend.0.open_device(&request)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("info", &self.info).field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens the library and makes its backend.
pub(super) fn load(path: &Path) -> Result<Plugin, Refusal> {
    let cannot_load = |error: &dyn fmt::Display| {
        Refusal::new(RefusalKind::CannotLoad, format!("cannot be loaded: {error}"))
    };
    let path = path.canonicalize().map_err(|error| cannot_load(&error))?;
    let library = open(&path).map_err(|error| cannot_load(&error))?;
    // SAFETY: the symbol is only used as an address here.
    let entry =
        unsafe { library.get::<*const PluginEntry>(ENTRY_SYMBOL) }.map_err(|error| cannot_load(&error))?;
    let entry: *const PluginEntry = *entry;
    // SAFETY: `candidate::check` has seen that so many bytes of data are there. They are looked at again, since the file
    // could have been replaced meanwhile.
    check_prefix(unsafe { &*entry.cast::<[u8; PREFIX]>() })?;
    // SAFETY: magic, version, size and fingerprint are those of this host's `PluginEntry`.
    let entry: &'static PluginEntry = unsafe { &*entry };
    abi_stable::abi_stability::check_layout_compatibility(abi::layout(), entry.layout).into_result().map_err(|error| {
        // The whole explanation is several pages.
        tracing::debug!(path = %path.display(), "layout check: {error}");
        Refusal::new(
            RefusalKind::Layout,
            format!(
                "lays out a type that both sides share differently: {}; rebuild it with the pactio-sdk of this host",
                difference(&error.to_string())
            ),
        )
    })?;
    // SAFETY: the whole entry is right, so its texts are those of `Text::new`, and the library stays loaded.
    let info = unsafe {
        PluginInfo {
            id: entry.id.to_text(),
            version: entry.version.to_text(),
            description: entry.description.to_text(),
            schemes: entry.schemes.to_text().split_ascii_whitespace().map(str::to_owned).collect(),
            sdk_version: entry.sdk_version.to_text(),
        }
    };
    let record: Library = CArc::<LibraryRecord>::from(Arc::new(LibraryRecord { library })).into_opaque();
    let mut backend = MaybeUninit::uninit();
    // SAFETY: `backend` is valid for a write; the function belongs to an entry that was found right.
    let status = unsafe { (entry.create)(record, &raw mut backend) };
    if let Some(error) = pactio_sdk::Error::from_raw(status) {
        return Err(Refusal::new(RefusalKind::Setup, format!("failed while it was set up: {error}")));
    }
    // SAFETY: `create` returned 0, so it wrote the object.
    let backend = Backend(unsafe { backend.assume_init() });
    Ok(Plugin { info, path, backend })
}

/// The first difference in the text of the layout check, in one line; the whole text is several pages.
fn difference(text: &str) -> String {
    let first = text.split_once("\nError:").map_or(text, |(_, rest)| rest);
    let first = first.split_once("\nError:").map_or(first, |(first, _)| first);
    first.split_whitespace().take(40).collect::<Vec<_>>().join(" ")
}

#[cfg(unix)]
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    /// Keeps the library mapped for the life of the process.
    const RTLD_NODELETE: std::ffi::c_int = if cfg!(target_vendor = "apple") { 0x80 } else { 0x1000 };
    // SAFETY: loading runs the library's constructors. That cannot be made safe: a plugin is trusted with everything, and
    // only files from the search paths that export the entry of a plugin come here.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }.map(Into::into)
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: as above.
    let library = unsafe { libloading::Library::new(path) }?;
    // SAFETY: as above; a second handle that is never closed keeps the library mapped.
    std::mem::forget(unsafe { libloading::Library::new(path) }?);
    Ok(library)
}

impl fmt::Debug for LibraryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.library.fmt(f)
    }
}
