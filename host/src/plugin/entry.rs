//! The first bytes of a plugin's entry, read from the file before it is loaded, and from memory afterwards.

use std::mem::offset_of;

use object::{Object, ObjectSection, ObjectSymbol, ReadRef};
use pactio_sdk::abi::{ENTRY_SYMBOL, FINGERPRINT, MAGIC, PluginEntry};

use super::refusal::REBUILD;
use super::version::AbiVersion;
use super::{Manifest, Refusal, RefusalKind};

/// Number of bytes that are read before the rest of the entry is trusted: magic, size, version, fingerprint.
pub(super) const PREFIX: usize = offset_of!(PluginEntry, layout);
const _: () = assert!(PREFIX == 24);

/// Size of the entry in the first minor version. Later ones add fields behind it.
const MIN_SIZE: usize = 64;
const _: () = assert!(MIN_SIZE <= size_of::<PluginEntry>());

/// Checks the entry in a file.
pub(super) fn check_file<'data, R: ReadRef<'data>>(
    library: &object::File<'data, R>,
    data: R,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let damaged = |what: String| Refusal::new(RefusalKind::Damaged, what).with_remedy(REBUILD);
    let symbol = library
        .dynamic_symbols()
        .find(|symbol| symbol.name() == Ok(ENTRY_SYMBOL) && symbol.is_definition())
        .ok_or_else(|| damaged(format!("it has a manifest, but does not export {ENTRY_SYMBOL}")))?;
    // Only these bytes are read, and not the whole section, which may be all of the plugin's code.
    let prefix = library
        .sections()
        .find_map(|section| {
            let before =
                symbol.address().checked_sub(section.address()).filter(|_| section.address() != 0)?;
            let (offset, size) = section.file_range()?;
            let there = before.checked_add(PREFIX as u64).is_some_and(|end| end <= size);
            if there { data.read_bytes_at(offset.checked_add(before)?, PREFIX as u64).ok() } else { None }
        })
        .and_then(|bytes| <&[u8; PREFIX]>::try_from(bytes).ok())
        .ok_or_else(|| damaged(format!("{ENTRY_SYMBOL} does not point to {PREFIX} bytes of data")))?;
    check(prefix, manifest)
}

/// Checks the first bytes of an entry against this host.
pub(super) fn check(prefix: &[u8; PREFIX], manifest: &Manifest) -> Result<(), Refusal> {
    fn bytes<const N: usize>(prefix: &[u8; PREFIX], at: usize) -> [u8; N] {
        std::array::from_fn(|index| prefix[at + index])
    }
    let magic = u64::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, magic)));
    let size = u32::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, size)));
    let major = u16::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, abi_major)));
    let minor = u16::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, abi_minor)));
    let fingerprint = u64::from_ne_bytes(bytes(prefix, offset_of!(PluginEntry, fingerprint)));
    let differs = |kind, field, found: String, expected: String| {
        Err(Refusal::differs(kind, field, found, expected)
            .with_remedy(format!("the manifest says otherwise, so the file is damaged; {REBUILD}")))
    };
    if magic != MAGIC {
        return differs(
            RefusalKind::Damaged,
            "entry's magic",
            format!("{magic:#018x}"),
            format!("{MAGIC:#018x}"),
        );
    }
    let version = AbiVersion(major, minor);
    if Some(version) != AbiVersion::parse(&manifest.abi) {
        let (found, expected) = (version.to_string(), manifest.abi.clone());
        return differs(RefusalKind::AbiVersion, "entry's ABI version", found, expected);
    }
    if (size as usize) < MIN_SIZE {
        let (found, expected) = (size.to_string(), format!("at least {MIN_SIZE}"));
        return differs(RefusalKind::Damaged, "entry's size", found, expected);
    }
    if fingerprint != FINGERPRINT {
        let own = format!("{FINGERPRINT:016x}");
        return differs(RefusalKind::Fingerprint, "entry's fingerprint", format!("{fingerprint:016x}"), own);
    }
    Ok(())
}
