//! The first bytes of a plugin's entry, read from the file before it is loaded, and from memory afterwards.

use std::mem::offset_of;

use object::{Object, ObjectSection, ObjectSymbol, ReadRef};
use pactio_sdk::abi::{ENTRY_SYMBOL, FINGERPRINT, MAGIC, PluginEntry};

use super::refusal::REBUILD;
use super::version::AbiVersion;
use super::{Door, Manifest, Refusal, RefusalKind};
use crate::door;

/// The first bytes of an entry, which both doors have: magic, size, version.
const HEAD: usize = offset_of!(PluginEntry, fingerprint);
const _: () = assert!(HEAD == 16 && HEAD == offset_of!(door::Plugin, manifest));

/// Number of bytes that are read before the rest of the entry of a Rust plugin is trusted: the head, and the fingerprint.
const PREFIX: usize = offset_of!(PluginEntry, layout);
const _: () = assert!(PREFIX == 24);

/// Sizes of the entries in the first minor version. The loader refers to an entry as a whole: it must read a field that a later
/// version adds only if the plugin's entry has it.
const MIN_SIZES: [usize; 2] = [64, 48];
const _: () = assert!(MIN_SIZES[0] == size_of::<PluginEntry>() && MIN_SIZES[1] == size_of::<door::Plugin>());

impl Door {
    /// The exported variable.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Rust => ENTRY_SYMBOL,
            Self::C => door::SYMBOL,
        }
    }

    pub(super) fn prefix(self) -> usize {
        match self {
            Self::Rust => PREFIX,
            Self::C => HEAD,
        }
    }

    fn magic(self) -> u64 {
        match self {
            Self::Rust => MAGIC,
            Self::C => door::MAGIC,
        }
    }

    fn min_size(self) -> usize {
        match self {
            Self::Rust => MIN_SIZES[0],
            Self::C => MIN_SIZES[1],
        }
    }
}

/// Checks the entry in a file.
pub(super) fn check_file<'data, R: ReadRef<'data>>(
    library: &object::File<'data, R>,
    data: R,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let damaged = |what: String| Refusal::new(RefusalKind::Damaged, what).with_remedy(REBUILD);
    let (name, len) = (manifest.door.symbol(), manifest.door.prefix());
    let symbol = library
        .dynamic_symbols()
        .find(|symbol| symbol.name() == Ok(name) && symbol.is_definition())
        .ok_or_else(|| damaged(format!("it has a manifest, but does not export {name}")))?;
    // Only these bytes are read, and not the whole section, which may be all of the plugin's code.
    let prefix = library
        .sections()
        .find_map(|section| {
            let before =
                symbol.address().checked_sub(section.address()).filter(|_| section.address() != 0)?;
            let (offset, size) = section.file_range()?;
            let there = before.checked_add(len as u64).is_some_and(|end| end <= size);
            if there { data.read_bytes_at(offset.checked_add(before)?, len as u64).ok() } else { None }
        })
        .ok_or_else(|| damaged(format!("{name} does not point to {len} bytes of data")))?;
    check(prefix, manifest)
}

/// Checks the first bytes of an entry against this host: as many as its door has in front.
pub(super) fn check(prefix: &[u8], manifest: &Manifest) -> Result<(), Refusal> {
    fn bytes<const N: usize>(prefix: &[u8], at: usize) -> [u8; N] {
        std::array::from_fn(|index| prefix[at + index])
    }
    let magic = u64::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, magic)));
    let size = u32::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, size)));
    let major = u16::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, abi_major)));
    let minor = u16::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, abi_minor)));
    let differs = |kind, field, found: String, expected: String| {
        Err(Refusal::differs(kind, field, found, expected)
            .with_remedy(format!("the manifest says otherwise, so the file is damaged; {REBUILD}")))
    };
    let door = manifest.door;
    if magic != door.magic() {
        return differs(
            RefusalKind::Damaged,
            "entry's magic",
            format!("{magic:#018x}"),
            format!("{:#018x}", door.magic()),
        );
    }
    let version = AbiVersion(major, minor);
    if Some(version) != AbiVersion::parse(&manifest.abi) {
        let (found, expected) = (version.to_string(), manifest.abi.clone());
        return differs(RefusalKind::AbiVersion, "entry's ABI version", found, expected);
    }
    if (size as usize) < door.min_size() {
        let (found, expected) = (size.to_string(), format!("at least {}", door.min_size()));
        return differs(RefusalKind::Damaged, "entry's size", found, expected);
    }
    if door == Door::C {
        return Ok(());
    }
    let fingerprint = u64::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, fingerprint)));
    if fingerprint != FINGERPRINT {
        let own = format!("{FINGERPRINT:016x}");
        return differs(RefusalKind::Fingerprint, "entry's fingerprint", format!("{fingerprint:016x}"), own);
    }
    Ok(())
}
