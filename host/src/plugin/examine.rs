//! Examines a file without running any of its code.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use object::read::ReadCache;
use object::{Object, ObjectSection, ReadRef};
use pactio_sdk::MANIFEST_SECTION;

use super::manifest::MAX_BYTES;
use super::{Manifest, Refusal, RefusalKind, entry};

/// The shared libraries of a folder, in the order of their names. A folder that does not exist has none.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION))
        // Opening a pipe would wait for its other end.
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// The data that was read from a file.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) manifest: Manifest,
    /// The bytes of the section, to be compared with those of the loaded library.
    pub(super) raw: Vec<u8>,
    /// The stamp of the file, where the system supports it.
    pub(super) stamp: Option<Stamp>,
}

/// Values that change when a file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([u64; 5]);

impl Stamp {
    /// The stamp of the file that is at a path now.
    pub(super) fn at(path: &Path) -> Option<Self> {
        Self::of(&fs::metadata(path).ok()?)
    }

    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let changed = |seconds: i64, nanoseconds: i64| {
            (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
        };
        Some(Self([
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            changed(metadata.mtime(), metadata.mtime_nsec()),
            changed(metadata.ctime(), metadata.ctime_nsec()),
        ]))
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Option<Self> {
        None
    }
}

/// Files that were read before, so that the next host of this process need not read them again.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

type Known = HashMap<PathBuf, (Stamp, Result<Described, Refusal>)>;

/// Number of files that are remembered.
const MAX_KNOWN: usize = 4096;

/// Reads the manifest of a file, and refuses a file that cannot be a plugin for this host.
pub(super) fn describe(path: &Path) -> Result<Described, Refusal> {
    let unreadable = |error| Refusal::new(RefusalKind::Unreadable, format!("it cannot be read: {error}"));
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Refusal::new(RefusalKind::NotALibrary, "it is not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stamp) = stamp
        && let Some((earlier, described)) = known().as_ref().and_then(|files| files.get(path))
        && *earlier == stamp
    {
        return described.clone();
    }
    let described = read(&ReadCache::new(file), stamp);
    if let Some(stamp) = stamp {
        let mut files = known();
        let files = files.get_or_insert_default();
        if files.len() >= MAX_KNOWN {
            files.clear();
        }
        files.insert(path.to_owned(), (stamp, described.clone()));
    }
    described
}

/// Reads the manifest from the bytes of a file, and refuses a file that cannot be a plugin for this host.
pub(super) fn read_bytes(bytes: &[u8], stamp: Option<Stamp>) -> Result<Described, Refusal> {
    read(bytes, stamp)
}

fn read<'data>(bytes: impl ReadRef<'data>, stamp: Option<Stamp>) -> Result<Described, Refusal> {
    let not_a_library =
        |error| Refusal::new(RefusalKind::NotALibrary, format!("it is not a shared library: {error}"));
    let library = object::File::parse(bytes).map_err(not_a_library)?;
    let (found, expected) = (library.architecture(), host_architecture());
    if found != expected {
        let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
        return Err(Refusal::differs(RefusalKind::NotALibrary, "architecture", found, expected)
            .with_remedy("use a plugin that was built for this machine"));
    }
    let Some(section) = library.section_by_name(MANIFEST_SECTION) else {
        return Err(Refusal::new(
            RefusalKind::NoManifest,
            format!("it is not a pactio plugin: it has no section {MANIFEST_SECTION}"),
        )
        .with_remedy("in Rust, `export_plugin!` makes one; in C, `PACTIO_EXPORT` of plugin.h"));
    };
    let damaged = |error: &dyn std::fmt::Display| {
        Refusal::new(RefusalKind::Damaged, format!("its manifest cannot be read: {error}"))
    };
    if section.size() > MAX_BYTES {
        return Err(damaged(&format_args!("its section has {} bytes", section.size())));
    }
    let raw = text_of(section.data().map_err(|error| damaged(&error))?).to_owned();
    let manifest = Manifest::parse(&raw)?;
    entry::check_file(&library, bytes, &manifest)?;
    Ok(Described { manifest, raw, stamp })
}

/// The manifest in a section or a static, without the bytes behind it: sanitizers, for example, pad the data that they watch with
/// zeros.
pub(super) fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The architecture that this host was built for.
fn host_architecture() -> object::Architecture {
    match std::env::consts::ARCH {
        "x86_64" => object::Architecture::X86_64,
        "aarch64" => object::Architecture::Aarch64,
        "x86" => object::Architecture::I386,
        "arm" => object::Architecture::Arm,
        "riscv64" => object::Architecture::Riscv64,
        "powerpc64" => object::Architecture::PowerPc64,
        "s390x" => object::Architecture::S390x,
        _ => object::Architecture::Unknown,
    }
}
