//! The pages of a process that hold bytes: those that are present, or swapped out. To look at a page does not make it present.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::files::control;

/// Bytes per page: the smallest page of any system, so that no page is taken for a part of another.
pub(crate) const PAGE: u64 = 4096;

/// Pages of the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Present or swapped out.
    Held,
    /// Never used, or given back: the next access makes it.
    Untouched,
    /// Marked by its process so that every access fails.
    Guarded,
}

/// The states of the pages of a range, as they were at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The range that was looked at.
    pub(crate) range: Range<u64>,
    /// The pages in it that are not [`State::Untouched`], in order.
    pub(crate) states: Vec<(Range<u64>, State)>,
}

impl Look {
    /// The state of the page of an address in the range, and the end of the pages with this state.
    pub(crate) fn at(&self, address: u64) -> (State, u64) {
        let index = self.states.partition_point(|(range, _)| range.end <= address);
        match self.states.get(index) {
            Some((range, state)) if range.start <= address => (*state, range.end),
            Some((range, _)) => (State::Untouched, range.start),
            None => (State::Untouched, self.range.end),
        }
    }
}

/// The argument of the call `PAGEMAP_SCAN` (Linux 6.7).
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Adjacent pages with the same categories.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Since Linux 6.15.
const PAGE_IS_GUARD: u64 = 1 << 8;

/// Ranges that one call gives.
const MAX_FOUND: usize = 128;

/// Bytes of an entry of the file `pagemap`.
const ENTRY: u64 = 8;

/// Most entries that are read at once where the call does not exist.
const MAX_ENTRIES: u64 = 4096;

/// Looks at the pages of a range, or of the front of it.
///
/// # Errors
///
/// If the system does not say.
pub(crate) fn scan(pagemap: &File, range: Range<u64>) -> io::Result<Look> {
    let range = range.start & !(PAGE - 1)
        ..range.end.checked_next_multiple_of(PAGE).unwrap_or(range.end & !(PAGE - 1));
    let categories = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    // A kernel that does not know guards refuses the category.
    match call(pagemap, &range, categories | PAGE_IS_GUARD) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match call(pagemap, &range, categories) {
            Err(error) if is_unknown(&error) => entries(pagemap, range),
            scanned => scanned,
        },
        Err(error) if is_unknown(&error) => entries(pagemap, range),
        scanned => scanned,
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS))
}

fn call(pagemap: &File, range: &Range<u64>, categories: u64) -> io::Result<Look> {
    let mut found = [Found::default(); MAX_FOUND];
    let mut argument = Scan {
        size: size_of::<Scan>() as u64,
        flags: 0,
        start: range.start,
        end: range.end,
        walk_end: 0,
        vec: found.as_mut_ptr().expose_provenance() as u64,
        vec_len: MAX_FOUND as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: 0,
        category_anyof_mask: categories,
        return_mask: categories,
    };
    // SAFETY: the call takes this structure, and writes at most `vec_len` elements of `found`.
    let count = unsafe { control(pagemap, PAGEMAP_SCAN, &mut argument) }?;
    let states = found[..count].iter().map(|found| {
        let state = if found.categories & PAGE_IS_GUARD != 0 { State::Guarded } else { State::Held };
        (found.start..found.end, state)
    });
    let range = range.start..argument.walk_end.max(range.start + PAGE);
    Ok(Look { range, states: states.collect() })
}

/// The same from the entries of the file, one for each page.
fn entries(pagemap: &File, range: Range<u64>) -> io::Result<Look> {
    let count = ((range.end - range.start) / PAGE).min(MAX_ENTRIES);
    let mut bytes = vec![0; (count * ENTRY) as usize];
    let read = pagemap.read_at(&mut bytes, range.start / PAGE * ENTRY)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut states: Vec<(Range<u64>, State)> = Vec::new();
    let mut at = range.start;
    for entry in bytes[..read].chunks_exact(ENTRY as usize) {
        let entry = u64::from_le_bytes(entry.try_into().expect("chunks of eight bytes"));
        let state = match entry {
            // The entry of a guard looks like that of a swapped page.
            entry if entry >> 58 & 1 != 0 => Some(State::Guarded),
            entry if entry >> 62 != 0 => Some(State::Held),
            _ => None,
        };
        if let Some(state) = state {
            match states.last_mut() {
                Some((last, same)) if last.end == at && *same == state => last.end += PAGE,
                _ => states.push((at..at + PAGE, state)),
            }
        }
        at += PAGE;
    }
    // Addresses behind those of the process have no entries.
    let end = if read < bytes.len() { range.end } else { at };
    Ok(Look { range: range.start..end, states })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_were_used_hold_bytes_and_both_ways_agree() {
        let pages = 40;
        let rights = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        // SAFETY: new memory at an address that the system chooses.
        let start = unsafe {
            let len = pages * PAGE as usize;
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, rights, rustix::mm::MapFlags::PRIVATE)
                .unwrap()
        };
        let start = start.cast::<u8>();
        // No large page, which would hold its neighbours, too.
        // SAFETY: the advice changes no content.
        unsafe {
            let advice = rustix::mm::Advice::LinuxNoHugepage;
            let _ = rustix::mm::madvise(start.cast(), pages * PAGE as usize, advice);
        }
        for page in [3, 4, 9] {
            // SAFETY: the page is in the new memory.
            unsafe { start.add(page * PAGE as usize).write(1) };
        }
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let first = start.addr() as u64;
        let range = first..first + pages as u64 * PAGE;
        let at = |page: u64| first + page * PAGE;
        let expected = vec![(at(3)..at(5), State::Held), (at(9)..at(10), State::Held)];
        let expected = Look { range: range.clone(), states: expected };
        assert_eq!(entries(&pagemap, range.clone()).unwrap(), expected);
        assert_eq!(scan(&pagemap, range).unwrap(), expected);
        assert_eq!(expected.at(at(2)), (State::Untouched, at(3)));
        assert_eq!(expected.at(at(4) + 1), (State::Held, at(5)));
        assert_eq!(expected.at(at(10)), (State::Untouched, at(40)));
        // SAFETY: the memory belongs to this test, and nothing uses it any more.
        unsafe { rustix::mm::munmap(start.cast(), pages * PAGE as usize) }.unwrap();
    }
}
