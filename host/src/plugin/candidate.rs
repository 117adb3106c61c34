//! What can be said of a file without running any of its code.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Object, ObjectSection, ObjectSymbol};
use pactio_sdk::abi::{ABI_MAJOR, ABI_MINOR, ENTRY_SYMBOL, FINGERPRINT, MAGIC, PluginEntry};

use super::{Refusal, RefusalKind};

/// The shared libraries of a folder, in the order of their names. A folder that does not exist has none.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        // Opening a pipe would wait for its other end.
        .filter(|path| path.is_file())
        .filter(|path| path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION))
        .collect();
    files.sort();
    files
}

/// Reads the start of the entry from the file, and refuses what cannot be a plugin for this host.
pub(super) fn check(path: &Path) -> Result<(), Refusal> {
    let file = File::open(path)
        .map_err(|error| Refusal::new(RefusalKind::Unreadable, format!("cannot be read: {error}")))?;
    let cache = ReadCache::new(file);
    let library = object::File::parse(&cache).map_err(|error| {
        Refusal::new(RefusalKind::NotALibrary, format!("is not a shared library: {error}"))
    })?;
    let (found, expected) = (library.architecture(), host_architecture());
    if found != expected {
        return Err(Refusal::new(
            RefusalKind::NotALibrary,
            format!("is built for {found:?}, this host for {expected:?}"),
        ));
    }
    let Some(symbol) =
        library.dynamic_symbols().find(|symbol| symbol.name() == Ok(ENTRY_SYMBOL) && symbol.is_definition())
    else {
        return Err(Refusal::new(
            RefusalKind::NoEntry,
            format!(
                "is not a pactio plugin: it does not export {ENTRY_SYMBOL} (pactio_sdk::export_plugin! does)"
            ),
        ));
    };
    let prefix = library
        .sections()
        // Sections that are not loaded have no address.
        .filter(|section| section.address() != 0)
        .find_map(|section| section.data_range(symbol.address(), PREFIX as u64).ok().flatten())
        .and_then(|bytes| <&[u8; PREFIX]>::try_from(bytes).ok())
        .ok_or_else(|| {
            Refusal::new(
                RefusalKind::Damaged,
                format!("{ENTRY_SYMBOL} does not point to {PREFIX} bytes of data"),
            )
        })?;
    check_prefix(prefix)
}

/// Length of what is read before the rest of the entry is trusted: magic, size, version, fingerprint.
pub(super) const PREFIX: usize = std::mem::offset_of!(PluginEntry, layout);
const _: () = assert!(PREFIX == 24);

/// Holds the first bytes of an entry against this host.
pub(super) fn check_prefix(prefix: &[u8; PREFIX]) -> Result<(), Refusal> {
    fn bytes<const N: usize>(prefix: &[u8; PREFIX], at: usize) -> [u8; N] {
        std::array::from_fn(|index| prefix[at + index])
    }
    let magic = u64::from_ne_bytes(bytes(prefix, std::mem::offset_of!(PluginEntry, magic)));
    let size = u32::from_ne_bytes(bytes(prefix, std::mem::offset_of!(PluginEntry, size)));
    let major = u16::from_ne_bytes(bytes(prefix, std::mem::offset_of!(PluginEntry, abi_major)));
    let minor = u16::from_ne_bytes(bytes(prefix, std::mem::offset_of!(PluginEntry, abi_minor)));
    let fingerprint = u64::from_ne_bytes(bytes(prefix, std::mem::offset_of!(PluginEntry, fingerprint)));
    if magic != MAGIC {
        return Err(Refusal::new(
            RefusalKind::Damaged,
            format!(
                "{ENTRY_SYMBOL} begins with {magic:#018x} and not with {MAGIC:#018x}: it is not the entry of a pactio plugin"
            ),
        ));
    }
    // Until a first release, minor versions do not promise anything to each other.
    if (major, minor) != (ABI_MAJOR, ABI_MINOR) {
        return Err(Refusal::new(
            RefusalKind::AbiVersion,
            format!(
                "is built for ABI {major}.{minor}, this host for {ABI_MAJOR}.{ABI_MINOR}: rebuild it with the pactio-sdk of this host"
            ),
        ));
    }
    if size as usize != size_of::<PluginEntry>() {
        return Err(Refusal::new(
            RefusalKind::Damaged,
            format!(
                "its entry says that it has {size} bytes, but those of ABI {major}.{minor} have {}",
                size_of::<PluginEntry>()
            ),
        ));
    }
    if fingerprint != FINGERPRINT {
        return Err(Refusal::new(
            RefusalKind::Fingerprint,
            format!(
                "has the ABI fingerprint {fingerprint:016x}, this host {FINGERPRINT:016x}: types that both sides share \
                 differ; rebuild it with the pactio-sdk of this host"
            ),
        ));
    }
    Ok(())
}

fn host_architecture() -> object::Architecture {
    use object::Architecture;
    match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        "x86" => Architecture::I386,
        "arm" => Architecture::Arm,
        "riscv64" => Architecture::Riscv64,
        "powerpc64" => Architecture::PowerPc64,
        "s390x" => Architecture::S390x,
        _ => Architecture::Unknown,
    }
}
