//! Loads a plugin's library when it is first needed, and makes its backend.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cglue::arc::CArc;
use cglue::trait_group::Opaquable;
use pactio_sdk::abi::{
    self, BackendIo, BackendObj, DeviceObj, Library, PluginEntry, RawOpenRequest, RawOption,
};
use pactio_sdk::{Cause, IoError, LinkedPlugin, OpenMode};
use sha2::Digest as _;

use super::examine::{self, Described, Stamp, text_of};
use super::options::Options;
use super::refusal::REBUILD;
use super::sealed::{self, Digest, Sealed, loaded_by, remember};
use super::{Door, Manifest, Refusal, RefusalKind, entry, log};
use crate::{Error, ErrorKind, Url, door};

/// The layer that a plugin opens a device on.
#[derive(Default)]
pub(crate) struct Lower<'a> {
    /// The device, or the host if the plugin requires it.
    pub(crate) object: Option<Result<DeviceObj, IoError>>,
    /// The URL of the device.
    pub(crate) url: Option<&'a str>,
}

/// A plugin that was found in a file or linked into the program. Its library is loaded when the first device is opened.
pub struct Plugin {
    described: Described,
    source: Source,
    /// A file is loaded from a sealed copy.
    seal: bool,
    backend: OnceLock<Result<Backend, Refusal>>,
}

/// Where a plugin's code is.
enum Source {
    File(PathBuf),
    Linked(LinkedPlugin),
}

struct Backend {
    object: BackendObj,
    /// The digest of the file; `None` for a linked plugin.
    digest: Option<Digest>,
}

// SAFETY: `BackendObj` is only made by the sdk's `export_plugin!`, from a `Backend`, which is `Send` and `Sync`.
unsafe impl Send for Backend {}
// SAFETY: `BackendObj` is only made by the sdk's `export_plugin!`, from a `Backend`, which is `Send` and `Sync`.
unsafe impl Sync for Backend {}

/// The open library, which every object of a plugin keeps.
///
/// The library is never unloaded, since libraries with thread-local destructors cannot be unloaded: it is opened in such a way
/// that closing it leaves it mapped. The record tells the number of live objects of a plugin.
struct LibraryRecord {
    library: libloading::Library,
}

/// The record that every object of a linked plugin keeps.
struct LinkedRecord(
    #[allow(dead_code, reason = "leak checkers take a pointer to no bytes for one to the next allocation")]
    u8,
);

impl Plugin {
    pub(super) fn new(path: PathBuf, described: Described, seal: bool) -> Self {
        Self { described, source: Source::File(path), seal, backend: OnceLock::new() }
    }

    /// A plugin that is linked into this program.
    pub(super) fn linked(plugin: LinkedPlugin) -> Result<Self, Refusal> {
        // SAFETY: `StaticBytes::new` got the bytes from a static of this program, which is never unloaded.
        let raw = text_of(unsafe { plugin.entry().manifest.as_slice() }).to_owned();
        let described = Described { manifest: Manifest::parse(&raw)?, raw, stamp: None };
        Ok(Self { described, source: Source::Linked(plugin), seal: false, backend: OnceLock::new() })
    }

    /// The plugin's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.described.manifest
    }

    /// The file; `None` if the plugin is [linked](crate::HostBuilder::plugin) into the program.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Linked(_) => None,
        }
    }

    /// The place of the plugin's code, for people: the path of the file, or `linked into the program`.
    pub fn place(&self) -> String {
        self.path().map_or("linked into the program".to_owned(), |path| path.display().to_string())
    }

    /// Whether the file at the plugin's path is the file that this plugin was made from, or has the same bytes.
    pub(super) fn is_current(&self, described: &Described) -> bool {
        if self.backend.get().is_some_and(Result::is_err) {
            // The cause of the failure may be gone now.
            return false;
        }
        if described.stamp.is_some() && described.stamp == self.described.stamp {
            return true;
        }
        // The bytes are compared only if the library is loaded; otherwise the plugin is made anew.
        let digest = self.backend.get().and_then(|backend| backend.as_ref().ok()?.digest);
        described.raw == self.described.raw && digest.is_some() && digest == self.path().and_then(digest_of)
    }

    /// Whether the plugin is loaded.
    pub fn is_loaded(&self) -> bool {
        self.backend.get().is_some_and(Result::is_ok)
    }

    /// Loads the library, if it is not loaded yet. Opening a device does so too.
    ///
    /// # Errors
    ///
    /// If the plugin cannot be used; the refusal states the reason. The result stays the same for the life of this value.
    pub fn load(&self) -> Result<(), Refusal> {
        self.backend().map(drop)
    }

    fn backend(&self) -> Result<&Backend, Refusal> {
        let backend = self.backend.get_or_init(|| {
            let backend = match &self.source {
                Source::File(path) => load(path, &self.described, self.seal),
                Source::Linked(plugin) => {
                    let record = CArc::<LinkedRecord>::from(Arc::new(LinkedRecord(0))).into_opaque();
                    create(&plugin.entry(), record).map(|object| Backend { object, digest: None })
                }
            };
            let (plugin, path) = (self.manifest().id.as_str(), self.place());
            match &backend {
                Ok(_) => tracing::debug!(plugin, path, "loaded"),
                Err(refusal) => tracing::warn!(plugin, path, "refused: {refusal}"),
            }
            backend
        });
        backend.as_ref().map_err(Clone::clone)
    }

    /// Opens a device of the plugin.
    ///
    /// `url` is one layer of a stack; `below` is the layer under it.
    pub(crate) fn open(
        &self,
        url: &Url,
        mode: OpenMode,
        below: Lower<'_>,
    ) -> Result<(DeviceObj, String), Error> {
        let Options { values, shown } = Options::of(url, self.manifest())?;
        let shown = match below.url {
            None => shown,
            Some(below) => format!("{below} | {shown}"),
        };
        let id = &self.manifest().id;
        let backend = self.backend().map_err(|refusal| {
            let path = self.place();
            Error::new(
                ErrorKind::Refused(refusal.kind()),
                format!("cannot open '{shown}': the plugin '{id}' ({path}) cannot be used: {refusal}"),
            )
        })?;
        let options: Vec<RawOption<'_>> = values
            .iter()
            .map(|(key, value)| RawOption { key: key.as_bytes().into(), value: value.as_bytes().into() })
            .collect();
        let request = RawOpenRequest {
            scheme: url.scheme().as_bytes().into(),
            target: url.target().as_bytes().into(),
            options: options.as_slice().into(),
            mode: mode.bits(),
        };
        let below = below.object.transpose().map_err(|error| {
            Error::new(
                ErrorKind::Open(error.code()),
                format!("cannot open '{shown}': the device below is out of use: {error}"),
            )
            .with_cause(error)
        })?;
        let device = backend.object.open_device(&request, below.into()).map_err(|failure| {
            Error::new(
                ErrorKind::Open(failure.error.code()),
                format!("cannot open '{shown}' with plugin '{id}': {}", failure.message.to_text()),
            )
            .with_cause(Cause::new(failure.error, failure.message.to_text()))
        })?;
        Ok((device, shown))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("manifest", self.manifest())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

fn cannot_load(error: &libloading::Error) -> Refusal {
    // The text of the system, such as the name of a symbol that is missing, is the source of the error.
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    Refusal::new(RefusalKind::CannotLoad, format!("it cannot be loaded: {text}"))
}

fn replaced() -> Refusal {
    Refusal::new(RefusalKind::Replaced, "the file has changed since it was examined")
        .with_remedy("`Host::rescan` examines it again, and so does a new host")
}

/// Examines the file again, and then opens the library of the same bytes. Returns their digest.
fn open_library(
    path: &Path,
    described: &Described,
    seal: bool,
) -> Result<(libloading::Library, Digest), Refusal> {
    let unreadable =
        |error: io::Error| Refusal::new(RefusalKind::Unreadable, format!("it cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let stamp = || Ok(Stamp::of(&file.metadata().map_err(unreadable)?));
    if stamp()? != described.stamp {
        return Err(replaced());
    }
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).map_err(unreadable)?;
    // Another program may have written to the file in place while it was read.
    if stamp()? != described.stamp || examine::read_bytes(&bytes, described.stamp)?.raw != described.raw {
        return Err(replaced());
    }
    let digest = sha2::Sha256::digest(&bytes).into();
    if seal {
        let name = match loaded_by(digest) {
            Some(name) => Ok(name),
            None => Sealed::copy(&bytes, name_of(path)).map(Sealed::into_name),
        };
        match name {
            Ok(name) => {
                sealed::refuse_origin(&bytes)?;
                let library = open(&name).map_err(|error| cannot_load(&error))?;
                tracing::debug!(path = %path.display(), mapped = %name.display(), "its sealed copy is loaded");
                remember(digest, name);
                return Ok((library, digest));
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), "it is loaded without a sealed copy: {error}");
            }
        }
    }
    // The file can still be replaced between this check and the loader's access.
    if Stamp::at(path) != described.stamp {
        return Err(replaced());
    }
    Ok((open(&unheard_of(path)).map_err(|error| cannot_load(&error))?, digest))
}

/// The name of a file, cut to a length that the system accepts for the name of a copy.
fn name_of(path: &Path) -> &str {
    const LONGEST: usize = 200;
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("plugin");
    &name[..name.floor_char_boundary(LONGEST)]
}

/// Opens the library and makes its backend.
fn load(path: &Path, described: &Described, seal: bool) -> Result<Backend, Refusal> {
    let (library, digest) = open_library(path, described, seal)?;
    let manifest = &described.manifest;
    // SAFETY: the symbol is used only as an address here, and any address is a valid raw pointer.
    let entry =
        unsafe { library.get::<*const u8>(manifest.door.symbol()) }.map_err(|error| cannot_load(&error))?;
    let address: *const u8 = *entry;
    // SAFETY: `entry::check_file` has found these bytes of data there. The bytes are checked again, since a file without a sealed
    // copy could have been replaced meanwhile.
    entry::check(unsafe { std::slice::from_raw_parts(address, manifest.door.prefix()) }, manifest)?;
    let object = match manifest.door {
        Door::Rust => from_rust(path, described, address.cast(), library),
        Door::C => from_c(described, address.cast(), library),
    }?;
    Ok(Backend { object, digest: Some(digest) })
}

fn record_of(library: libloading::Library) -> Library {
    CArc::<LibraryRecord>::from(Arc::new(LibraryRecord { library })).into_opaque()
}

/// Compares the manifest in memory with that of the file.
fn check_loaded(loaded: &[u8], described: &Described) -> Result<(), Refusal> {
    if text_of(loaded) == described.raw {
        return Ok(());
    }
    let text = "the loaded library is not the file whose manifest was read";
    Err(Refusal::new(RefusalKind::Replaced, text).with_remedy(
        "the file was replaced meanwhile, or an older one of that name is loaded; make a new host",
    ))
}

/// The backend of a plugin in Rust.
fn from_rust(
    path: &Path,
    described: &Described,
    address: *const PluginEntry,
    library: libloading::Library,
) -> Result<BackendObj, Refusal> {
    // SAFETY: magic, major version and fingerprint are those of this host's `PluginEntry`, which is not longer than the plugin's,
    // and the library stays loaded.
    let entry: &'static PluginEntry = unsafe { &*address };
    check_layout(path, entry)?;
    // SAFETY: the entry passed all checks, so `StaticBytes::new` made the bytes, and the library stays loaded.
    check_loaded(unsafe { entry.manifest.as_slice() }, described)?;
    let record = record_of(library);
    if let Some(attach) = entry.attach {
        // SAFETY: the entry passed all checks, so the function has this signature; the table lives as long as the process.
        unsafe { attach(log::table(&described.manifest.id)) };
    }
    create(entry, record)
}

/// The backend of a plugin with the tables of the header.
fn from_c(
    described: &Described,
    address: *const door::Plugin,
    library: libloading::Library,
) -> Result<BackendObj, Refusal> {
    // SAFETY: magic and major version are those of the header, the plugin's struct is not shorter than this one, and the library
    // stays loaded. Any bytes are valid for its fields.
    let entry: &'static door::Plugin = unsafe { &*address };
    let damaged = |what: &str| Refusal::new(RefusalKind::Damaged, what.to_owned()).with_remedy(REBUILD);
    if entry.manifest.is_null() {
        return Err(damaged("its entry has no manifest"));
    }
    let open = entry.open.ok_or_else(|| damaged("its entry has no function that opens devices"))?;
    // SAFETY: the header has the plugin give the address and the length of bytes of the library.
    check_loaded(unsafe { std::slice::from_raw_parts(entry.manifest, entry.manifest_len) }, described)?;
    let manifest = &described.manifest;
    if let Some(init) = entry.init {
        let status = once(address.addr(), || {
            // SAFETY: the entry passed all checks, so the function has this signature; the table lives as long as the process.
            unsafe { init(door::host_table(&manifest.id)) }
        });
        if status != 0 {
            let error = door::error_of(status.into());
            return Err(Refusal::new(RefusalKind::Setup, format!("it failed while it was set up: {error}")));
        }
    }
    let backend = door::CBackend::new(open, &manifest.id, manifest.filter);
    Ok(pactio_sdk::__private::host_backend(backend, record_of(library)))
}

/// Sets a plugin up, unless another host of this process has done that: a library is mapped once.
fn once(entry: usize, init: impl FnOnce() -> u32) -> u32 {
    static DONE: Mutex<BTreeMap<usize, Arc<OnceLock<u32>>>> = Mutex::new(BTreeMap::new());
    let status = DONE.lock().unwrap_or_else(PoisonError::into_inner).entry(entry).or_default().clone();
    *status.get_or_init(init)
}

/// Compares the layouts of the types that both sides share, if the plugin has them.
fn check_layout(path: &Path, entry: &'static PluginEntry) -> Result<(), Refusal> {
    // SAFETY: both were made by `of_backend`, with the same fingerprint; this program and the library stay loaded.
    let layouts = unsafe { (abi::Layout::of_backend().describe(), entry.layout.describe()) };
    let (Some(ours), Some(theirs)) = layouts else {
        tracing::debug!(path = %path.display(), "it was built without the feature layout-check, so only its fingerprint was compared");
        return Ok(());
    };
    let compared = abi_stable::abi_stability::check_layout_compatibility(ours, theirs).into_result();
    compared.map_err(|error| {
        // The whole explanation is several pages.
        tracing::debug!(path = %path.display(), "layout check: {error}");
        let text = format!(
            "it lays out a type that both sides share differently: {}",
            difference(&error.to_string())
        );
        Refusal::new(RefusalKind::Layout, text).with_remedy(REBUILD)
    })
}

/// Makes the backend of an entry that was checked, or belongs to this program.
fn create(entry: &PluginEntry, record: Library) -> Result<BackendObj, Refusal> {
    let make = entry.create.ok_or_else(|| {
        Refusal::new(RefusalKind::Damaged, "its entry has no function that makes the backend")
            .with_remedy(REBUILD)
    })?;
    let mut backend = MaybeUninit::uninit();
    // SAFETY: `backend` is valid for a write. The entry was checked or belongs to this program, so the function has this
    // signature.
    let status = unsafe { make(record, &raw mut backend) };
    if let Some(error) = pactio_sdk::IoError::from_raw(status) {
        return Err(Refusal::new(RefusalKind::Setup, format!("it failed while it was set up: {error}")));
    }
    // SAFETY: `create` returned 0, so it wrote the object.
    Ok(unsafe { backend.assume_init() })
}

fn digest_of(path: &Path) -> Option<Digest> {
    std::fs::read(path).ok().map(|bytes| sha2::Sha256::digest(bytes).into())
}

/// The path, in a spelling that this process has not loaded before. For a file that is not loaded from a copy.
///
/// If a name was loaded before, glibc returns the library of that time, even if the name belongs to another file now. Two
/// spellings of a path are two names for glibc. It also compares the files themselves, so the same file is loaded only once.
fn unheard_of(path: &Path) -> PathBuf {
    static LOADED: Mutex<Option<HashMap<PathBuf, u32>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = loaded.get_or_insert_default().entry(path.to_owned()).or_default();
    let mut number = *times;
    *times += 1;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let mut written = folder.as_os_str().to_owned();
    // The number in binary: "/." is a one, "/" a zero.
    while number > 0 {
        written.push(if number & 1 == 1 { "/." } else { "/" });
        number >>= 1;
    }
    written.push("/");
    written.push(name);
    written.into()
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
    // SAFETY: loading runs the library's constructors, and no check can make that safe. The host trusts plugins completely, and
    // loads only files that export the entry of a plugin: those of the search paths, and those that the program names.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }.map(Into::into)
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: loading runs the library's constructors, and no check can make that safe. The host trusts plugins completely, and
    // loads only files that export the entry of a plugin.
    let library = unsafe { libloading::Library::new(path) }?;
    // SAFETY: the library is loaded already, so its constructors do not run again. The second handle is never closed, and keeps
    // the library mapped.
    std::mem::forget(unsafe { libloading::Library::new(path) }?);
    Ok(library)
}

impl fmt::Debug for LibraryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.library.fmt(f)
    }
}
