//! Look-ups in the map of a process: the mapping at an address, or the next one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::makedev;

use crate::files::{ProcFiles, control};
use crate::regions;
use crate::target::Target;

/// A mapping of a process.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) shared: bool,
    /// The file behind the mapping: device and inode.
    pub(crate) file: Option<(u64, u64)>,
    /// The offset of the mapping in the file.
    pub(crate) offset: u64,
    /// The path of the file, or a name such as `[heap]`.
    pub(crate) name: OsString,
}

impl Mapping {
    /// Private memory without a file, whose untouched pages are zeros. Mappings that the kernel makes for itself are none.
    pub(crate) fn is_anonymous(&self) -> bool {
        let name = self.name.as_encoded_bytes();
        let is_ordinary =
            |name: &[u8]| name == b"[heap]" || name.starts_with(b"[stack") || name.starts_with(b"[anon:");
        !self.shared && self.file.is_none() && (name.is_empty() || is_ordinary(name))
    }
}

/// The map, for the duration of one poll.
#[derive(Default)]
pub(crate) struct Maps {
    /// All mappings, where the system cannot be asked for single ones.
    all: Option<Vec<Mapping>>,
    /// The last answer, and the addresses for which it is the answer: those of the mapping, and unmapped ones before it.
    last: Option<(Range<u64>, Option<Mapping>)>,
}

/// The argument of the call `PROCMAP_QUERY` (Linux 6.11).
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
const VMA_READABLE: u64 = 1;
const VMA_WRITABLE: u64 = 2;
const VMA_SHARED: u64 = 8;
const COVERING_OR_NEXT: u64 = 0x10;

/// Bytes of the longest path.
const PATH_BYTES: usize = 4096;

impl Maps {
    /// The mapping at an address, or else the next one; `None` if there is none.
    pub(crate) fn at_or_behind(
        &mut self,
        files: &ProcFiles,
        target: &Target,
        address: u64,
    ) -> Option<&Mapping> {
        if self.last.as_ref().is_none_or(|(range, _)| !range.contains(&address)) {
            let found = self.find(files, target, address, COVERING_OR_NEXT, |_| true);
            let end = found.as_ref().map_or(u64::MAX, |mapping| mapping.range.end);
            self.last = Some((address..end, found));
        }
        self.last.as_ref()?.1.as_ref()
    }

    /// The first address that its process may read, at or behind an address.
    pub(crate) fn readable_from(&mut self, files: &ProcFiles, target: &Target, address: u64) -> u64 {
        let flags = COVERING_OR_NEXT | VMA_READABLE;
        let found = self.find(files, target, address, flags, |mapping| mapping.readable);
        found.map_or(u64::MAX, |mapping| mapping.range.start.max(address))
    }

    fn find(
        &mut self,
        files: &ProcFiles,
        target: &Target,
        address: u64,
        flags: u64,
        is_meant: impl Fn(&Mapping) -> bool,
    ) -> Option<Mapping> {
        if self.all.is_none() {
            match query(files, target, address, flags) {
                Ok(found) => return found,
                Err(_) => self.all = Some(all(target)),
            }
        }
        let all = self.all.as_deref().unwrap_or_default();
        let first = all.partition_point(|mapping| mapping.range.end <= address);
        all[first..].iter().find(|mapping| is_meant(mapping)).cloned()
    }
}

/// Asks the kernel for one mapping.
///
/// # Errors
///
/// If the kernel cannot be asked.
fn query(files: &ProcFiles, target: &Target, address: u64, flags: u64) -> io::Result<Option<Mapping>> {
    let maps = files.maps(target)?;
    let mut name = [0u8; PATH_BYTES];
    let mut query = Query {
        size: size_of::<Query>() as u64,
        query_flags: flags,
        query_addr: address,
        vma_name_size: PATH_BYTES as u32,
        vma_name_addr: name.as_mut_ptr().expose_provenance() as u64,
        ..Query::default()
    };
    // SAFETY: the call takes this structure, and writes at most `vma_name_size` bytes of `name`.
    let mut result = unsafe { control(maps, PROCMAP_QUERY, &mut query) };
    if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENAMETOOLONG)) {
        (query.vma_name_size, query.vma_name_addr) = (0, 0);
        // SAFETY: the call takes this structure, and writes nothing else.
        result = unsafe { control(maps, PROCMAP_QUERY, &mut query) };
    }
    match result {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    }
    // The size counts the zero at the end.
    let len = (query.vma_name_size as usize).saturating_sub(1).min(PATH_BYTES);
    let device = makedev(query.dev_major, query.dev_minor);
    Ok(Some(Mapping {
        range: query.vma_start..query.vma_end,
        readable: query.vma_flags & VMA_READABLE != 0,
        writable: query.vma_flags & VMA_WRITABLE != 0,
        shared: query.vma_flags & VMA_SHARED != 0,
        file: (query.inode != 0).then_some((device, query.inode)),
        offset: query.vma_offset,
        name: OsString::from_vec(name[..len].to_vec()),
    }))
}

/// All mappings, from the text of the map. If the map cannot be read, every page may exist.
fn all(target: &Target) -> Vec<Mapping> {
    let everything = Mapping {
        range: 0..u64::MAX,
        readable: true,
        writable: true,
        shared: true,
        file: None,
        offset: 0,
        name: OsString::new(),
    };
    let Ok(text) = fs::read(format!("/proc/{}/maps", target.pid())) else { return vec![everything] };
    let mappings = regions::parse(&text).map(|region| Mapping {
        range: region.range,
        readable: region.readable,
        writable: region.writable,
        shared: region.shared == Some(true),
        file: region.file,
        offset: region.file_offset.unwrap_or(0),
        name: OsString::from_vec(region.name.to_vec()),
    });
    mappings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_text_of_the_map_say_the_same() {
        let (files, target) =
            (ProcFiles::default(), Target::find("self").unwrap_or_else(|error| panic!("{error}")));
        let text = all(&target);
        let mut compared = 0;
        for expected in &text {
            let Ok(found) = query(&files, &target, expected.range.start, COVERING_OR_NEXT) else { return };
            let Some(found) = found else { continue };
            // Other tests map memory meanwhile.
            if found.range == expected.range {
                let rights =
                    |mapping: &Mapping| (mapping.readable, mapping.writable, mapping.shared, mapping.file);
                assert_eq!(rights(&found), rights(expected), "{expected:?}");
                assert_eq!(found.name, expected.name);
                assert!(found.file.is_none() || found.offset == expected.offset, "{expected:?}");
                compared += 1;
            }
        }
        assert!(compared > 3, "{compared} of {}", text.len());
    }
}
