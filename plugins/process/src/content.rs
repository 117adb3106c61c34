//! The content of a process's pages, found without making them present.
//!
//! ```text
//!  mapping: none ─► missing
//!  page:    held ─► read by process_vm_readv, or through /proc/PID/mem if the process itself may not read it
//!           untouched ─┬─ private, without a file ─► zeros
//!                      ├─ of a regular file that can be opened ─► the file's bytes
//!                      └─ other, such as shared memory or a page that a handler makes ─► read as a held one
//!           guarded ─► missing
//! ```

use std::fs::{self, File, Metadata};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pactio_sdk::Region;

use crate::files::ProcFiles;
use crate::maps::{Mapping, Maps};
use crate::pages::{Look, PAGE, State, scan};
use crate::target::Target;

/// Where the bytes of a range are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In memory that the process may read.
    Memory,
    /// In memory that only a debugger reads.
    Forced,
    /// Nowhere: the first access would make zeros.
    Zeros,
    /// In a file, at this offset. Its memory behind the end of the file is zeros, up to the next page.
    File(Arc<File>, u64),
    /// Nowhere.
    Missing,
}

/// Most files that are kept open.
const MAX_FILES: usize = 16;

/// A look at the pages covers at most this number of bytes.
const MAX_LOOK_BYTES: u64 = 64 << 20;

/// The magic numbers of overlayfs, FUSE and NFS.
const REPLACING_FILE_SYSTEMS: [rustix::fs::FsWord; 3] = [0x794c_7630, 0x6573_5546, 0x6969];

/// The ranges with handlers of missing pages are looked up again after this time.
const MAX_HANDLERS_AGE: Duration = Duration::from_secs(1);

/// Finds content. Files stay open between polls; the state of pages is looked up again in each poll.
#[derive(Default)]
pub(crate) struct Finder {
    pub(crate) maps: Maps,
    looked: Option<Look>,
    opened: Vec<Opened>,
    handlers: Option<(Instant, Vec<Range<u64>>)>,
}

/// A file behind a mapping.
struct Opened {
    /// Device and inode.
    id: (u64, u64),
    /// `None`, if the file cannot be used.
    file: Option<Arc<File>>,
}

impl Finder {
    /// Forgets the map and the state of pages, which may change.
    pub(crate) fn begin(&mut self) {
        (self.maps, self.looked) = (Maps::default(), None);
    }

    /// The content at `address`, and the end of the range with this content, at most `end`.
    pub(crate) fn at(
        &mut self,
        files: &ProcFiles,
        target: &Target,
        address: u64,
        end: u64,
    ) -> (Content, u64) {
        let Some(mapping) = self.maps.at_or_behind(files, target, address) else {
            return (Content::Missing, end);
        };
        if mapping.range.start > address {
            return (Content::Missing, end.min(mapping.range.start));
        }
        let mapping = mapping.clone();
        let end = end.min(mapping.range.end);
        let read = if mapping.readable { Content::Memory } else { Content::Forced };
        let Some((state, end)) = self.state(files, target, address, end) else { return (read, end) };
        match state {
            State::Held => (read, end),
            State::Guarded => (Content::Missing, end),
            State::Untouched
                if self.handlers(target).iter().any(|range| range.start < end && range.end > address) =>
            {
                (read, end)
            }
            State::Untouched if mapping.is_anonymous() => (Content::Zeros, end),
            State::Untouched => match self.file(target, &mapping) {
                Some(file) => {
                    let offset = mapping.offset + (address - mapping.range.start);
                    let size = file.metadata().map_or(0, |metadata| metadata.len());
                    // A page that begins behind the end of the file cannot be accessed.
                    let behind = size.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
                    if offset >= behind {
                        (Content::Missing, end)
                    } else {
                        (Content::File(file, offset), end.min(address.saturating_add(behind - offset)))
                    }
                }
                None => (read, end),
            },
        }
    }

    /// The state of the page of an address, and the end of the range with this state, at most `end`; `None` if it is unknown.
    fn state(&mut self, files: &ProcFiles, target: &Target, address: u64, end: u64) -> Option<(State, u64)> {
        if self.looked.as_ref().is_none_or(|looked| !looked.range.contains(&address)) {
            let range = address & !(PAGE - 1)..end.min(address.saturating_add(MAX_LOOK_BYTES));
            self.looked = Some(scan(files.pagemap(target).ok()?, range).ok()?);
        }
        let (state, until) = self.looked.as_ref()?.at(address);
        Some((state, end.min(until)))
    }

    /// The file behind a mapping, if it is a regular file that can be opened and is still the one that is mapped.
    fn file(&mut self, target: &Target, mapping: &Mapping) -> Option<Arc<File>> {
        let id = mapping.file?;
        if let Some(opened) = self.opened.iter().find(|opened| opened.id == id) {
            return opened.file.clone();
        }
        let is_meant = |metadata: &Metadata| metadata.is_file() && (metadata.dev(), metadata.ino()) == id;
        // The path is one of the process, which may have another root.
        let path = mapping.name.as_bytes().strip_prefix(b"/")?;
        let path = Path::new(&format!("/proc/{}/root", target.pid()))
            .join(Path::new(std::ffi::OsStr::from_bytes(path)));
        let open = || {
            // Devices and pipes are not opened: that may have effects.
            fs::symlink_metadata(&path).ok().filter(is_meant)?;
            let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
            let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
            file.metadata().ok().filter(is_meant)?;
            // These give the same number to a file whose bytes are others than those that are mapped.
            let kind = rustix::fs::fstatfs(&file).ok()?.f_type;
            (!REPLACING_FILE_SYSTEMS.contains(&kind)).then(|| Arc::new(file))
        };
        let file = open();
        if self.opened.len() >= MAX_FILES {
            self.opened.remove(0);
        }
        self.opened.push(Opened { id, file: file.clone() });
        file
    }

    /// The ranges whose missing pages a handler makes (`userfaultfd`).
    fn handlers(&mut self, target: &Target) -> &[Range<u64>] {
        let is_old = self.handlers.as_ref().is_none_or(|(since, _)| since.elapsed() > MAX_HANDLERS_AGE);
        if is_old {
            let text = fs::read(format!("/proc/{}/smaps", target.pid()));
            // If the system does not say, every page may have one.
            let all = 0..u64::MAX;
            let ranges = text.map_or_else(|_| vec![all], |text| handled(&text));
            self.handlers = Some((Instant::now(), ranges));
        }
        self.handlers.as_ref().map_or(&[], |(_, ranges)| ranges)
    }
}

/// A region, divided by whether a debugger reads bytes there, if the process itself may not.
pub(crate) fn by_content(mut region: Region, pagemap: Option<&File>) -> Vec<Region> {
    if region.name.starts_with(b"[v") && &*region.name != b"[vdso]" {
        // Pages of the kernel that only code of the process can read.
        region.has_bytes = Some(false);
        return vec![region];
    }
    let Some(pagemap) = pagemap.filter(|_| !region.readable) else { return vec![region] };
    let Range { mut start, end } = region.range;
    let part = |range: Range<u64>, has_bytes| {
        let mut part = region.clone();
        part.file_offset = region.file_offset.map(|offset| offset + (range.start - region.range.start));
        (part.range, part.has_bytes) = (range, has_bytes);
        part
    };
    let mut parts: Vec<Region> = Vec::new();
    while start < end {
        let Ok(look) = scan(pagemap, start..end) else { break };
        let until = look.range.end.min(end);
        while start < until {
            let (state, behind) = look.at(start);
            let (has_bytes, behind) = (state == State::Held, behind.min(until));
            match parts.last_mut() {
                Some(last) if last.has_bytes == Some(has_bytes) => last.range.end = behind,
                _ => parts.push(part(start..behind, Some(has_bytes))),
            }
            start = behind;
        }
    }
    if start < end {
        // The system does not say.
        parts.push(part(start..end, None));
    }
    parts
}

/// The ranges of `/proc/PID/smaps` with the flags of handlers: `um` and `ui`.
fn handled(smaps: &[u8]) -> Vec<Range<u64>> {
    let (mut ranges, mut current) = (Vec::new(), 0..0);
    for line in smaps.split(|byte| *byte == b'\n') {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if flags.split(u8::is_ascii_whitespace).any(|flag| flag == b"um" || flag == b"ui") {
                ranges.push(current.clone());
            }
        } else if let Some(range) = range_of(line) {
            current = range;
        }
    }
    ranges
}

/// The range of a line `55d0c8f6a000-55d0c8f6c000 r-xp ...`; `None` for the lines in between.
fn range_of(line: &[u8]) -> Option<Range<u64>> {
    let (start, end) = str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_with_handlers_are_found() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \nSize: 8 kB\nVmFlags: rd wr mr um ac \n\
                     5000-6000 r--p 00000000 fe:01 7 /a-b c\nVmFlags: rd mr sd\n7000-8000 rw-p 0 0:0 0\nVmFlags: ui\n";
        assert_eq!(handled(text), [0x1000..0x3000, 0x7000..0x8000]);
    }
}
