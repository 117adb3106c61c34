//! Bytes that any number of threads may read and write at once, without a lock.
//!
//! The bytes are kept in atomic words, which are copied one by one with relaxed ordering: there is no data race, and small
//! requests are as fast as with a plain copy. A word at the edge of a write is merged, so that its other bytes are not disturbed.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// A fixed number of bytes.
pub(crate) struct Cells {
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: `Cells` owns its words, which are atomic.
unsafe impl Send for Cells {}
// SAFETY: `&Cells` reaches the words only as atomics.
unsafe impl Sync for Cells {}

impl Cells {
    /// `None` if `len` bytes cannot be allocated.
    pub(crate) fn new(len: usize, fill: u8) -> Option<Self> {
        let layout = Self::layout(len)?;
        // Zeroed pages cost nothing until they are touched.
        // SAFETY: the layout has at least one word.
        let words = NonNull::new(unsafe { alloc_zeroed(layout) })?.cast();
        let cells = Self { words, len };
        if fill != 0 {
            let filled = u64::from_ne_bytes([fill; WORD]);
            cells.words().iter().for_each(|word| word.store(filled, Ordering::Relaxed));
        }
        Some(cells)
    }

    fn layout(len: usize) -> Option<Layout> {
        // At least one word, aligned to a cache line for faster copies.
        let layout = Layout::array::<AtomicU64>(len.div_ceil(WORD).max(1)).ok()?;
        layout.align_to(64).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: at least this number of words was allocated, zero is a valid word, and the words live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len.div_ceil(WORD)) }
    }

    /// Copies `len` bytes from `start` to `to`.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes.
    ///
    /// # Panics
    ///
    /// If the range does not exist.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, start: usize, to: *mut u8, len: usize) {
        assert!(start <= self.len && len <= self.len - start);
        let words = self.words();
        if start.is_multiple_of(WORD) && len.is_multiple_of(WORD) {
            // Whole words, as in most requests.
            let words = &words[start / WORD..][..len / WORD];
            let (chunks, rest) = words.as_chunks::<8>();
            let mut to = to.cast::<[u64; 8]>();
            for chunk in chunks {
                let values: [u64; 8] = std::array::from_fn(|index| chunk[index].load(Ordering::Relaxed));
                // SAFETY: the chunks and the rest together have `len` bytes, for which `to` is valid.
                unsafe {
                    to.write_unaligned(values);
                    to = to.add(1);
                }
            }
            for (index, word) in rest.iter().enumerate() {
                // SAFETY: the chunks and the rest together have `len` bytes, for which `to` is valid.
                unsafe { to.cast::<u64>().add(index).write_unaligned(word.load(Ordering::Relaxed)) };
            }
            return;
        }
        // SAFETY: the caller promises that `to` is valid for writes of `len` bytes, and the assertion has checked the range.
        unsafe { self.read_unaligned(start, to, len) };
    }

    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes, and the range exists.
    #[cold]
    unsafe fn read_unaligned(&self, start: usize, to: *mut u8, len: usize) {
        let words = self.words();
        let mut done = 0;
        // The first word, if the range begins inside of it.
        let offset = start % WORD;
        if offset != 0 {
            let bytes = words[start / WORD].load(Ordering::Relaxed).to_ne_bytes();
            done = len.min(WORD - offset);
            // SAFETY: `done` is at most `len`, for which `to` is valid, and at most the rest of the word behind `offset`.
            unsafe { std::ptr::copy_nonoverlapping(bytes[offset..].as_ptr(), to, done) };
        }
        let whole = (len - done) / WORD;
        let first = (start + done) / WORD;
        for word in &words[first..first + whole] {
            // SAFETY: the whole words together have at most the remaining `len - done` bytes, for which `to` is valid.
            unsafe { to.add(done).cast::<u64>().write_unaligned(word.load(Ordering::Relaxed)) };
            done += WORD;
        }
        if done < len {
            let bytes = words[(start + done) / WORD].load(Ordering::Relaxed).to_ne_bytes();
            // SAFETY: `len - done` bytes of `to` are left, and the word has more bytes than that.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(done), len - done) };
        }
    }

    /// Copies `from` to `start`.
    ///
    /// # Panics
    ///
    /// If the range does not exist.
    #[inline]
    pub(crate) fn write(&self, start: usize, from: &[u8]) {
        assert!(start <= self.len && from.len() <= self.len - start);
        let words = self.words();
        let (edge, rest) = from.split_at(from.len().min((WORD - start % WORD) % WORD));
        if !edge.is_empty() {
            merge(&words[start / WORD], start % WORD, edge);
        }
        let first = (start + edge.len()) / WORD;
        let (whole, tail) = rest.as_chunks::<WORD>();
        for (word, bytes) in words[first..].iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if !tail.is_empty() {
            merge(&words[first + whole.len()], 0, tail);
        }
    }
}

impl Cells {
    /// Makes `len` bytes from `start` zero.
    ///
    /// # Panics
    ///
    /// If the range does not exist.
    pub(crate) fn zero(&self, start: usize, len: usize) {
        static ZEROS: [u8; 4096] = [0; 4096];
        let mut at = start;
        while at < start + len {
            let part = (start + len - at).min(ZEROS.len());
            self.write(at, &ZEROS[..part]);
            at += part;
        }
    }

    /// Copies `bytes` to `start`, and the bytes that were there to `bytes`. Each word is exchanged atomically; the whole range is
    /// not.
    ///
    /// # Panics
    ///
    /// If the range does not exist.
    pub(crate) fn exchange(&self, start: usize, bytes: &mut [u8]) {
        assert!(start <= self.len && bytes.len() <= self.len - start);
        let mut at = start;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (word, offset) = (&self.words()[at / WORD], at % WORD);
            let (part, behind) = rest.split_at_mut(rest.len().min(WORD - offset));
            let old = merge(word, offset, part).to_ne_bytes();
            part.copy_from_slice(&old[offset..offset + part.len()]);
            at += part.len();
            rest = behind;
        }
    }
}

/// Replaces some bytes of a word, and returns the word's old value.
#[cold]
fn merge(word: &AtomicU64, offset: usize, from: &[u8]) -> u64 {
    let replaced = |old: u64| {
        let mut bytes = old.to_ne_bytes();
        bytes[offset..offset + from.len()].copy_from_slice(from);
        Some(u64::from_ne_bytes(bytes))
    };
    // `replaced` always returns a value, so the update succeeds.
    word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, replaced).unwrap_or_else(|old| old)
}

impl Drop for Cells {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: the words were allocated with this layout.
            unsafe { dealloc(self.words.as_ptr().cast(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cells: &Cells, start: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; len];
        // SAFETY: `bytes` has `len` bytes.
        unsafe { cells.read(start, bytes.as_mut_ptr(), len) };
        bytes
    }

    #[test]
    fn every_range_is_written_and_read_like_in_a_plain_buffer() {
        const LEN: usize = 37;
        let mut model = vec![9; LEN];
        let cells = Cells::new(LEN, 9).unwrap();
        let mut next = 0u8;
        for start in 0..=LEN {
            for len in 0..=LEN - start {
                let data: Vec<u8> = (0..len)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                cells.write(start, &data);
                model[start..start + len].copy_from_slice(&data);
                assert_eq!(read(&cells, 0, LEN), model);
                assert_eq!(read(&cells, start, len), data);
            }
        }
    }

    #[test]
    fn exchanges_move_bytes_both_ways_at_any_alignment() {
        let cells = Cells::new(37, 0).unwrap();
        for start in 0..20 {
            for len in 0..=17 {
                let before: Vec<u8> = (0..37).map(|index| index as u8).collect();
                cells.write(0, &before);
                let mut bytes: Vec<u8> = (100..100 + len as u8).collect();
                cells.exchange(start, &mut bytes);
                assert_eq!(bytes, before[start..start + len]);
                assert_eq!(read(&cells, start, len), (100..100 + len as u8).collect::<Vec<_>>());
                assert_eq!(read(&cells, 0, start), before[..start]);
                assert_eq!(read(&cells, start + len, 37 - start - len), before[start + len..]);
            }
        }
    }

    #[test]
    fn neighbouring_writers_do_not_disturb_each_other() {
        let cells = Cells::new(64, 0).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let cells = &cells;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        cells.write(3 * usize::from(thread), &[thread + 1; 3]);
                    }
                });
            }
        });
        assert_eq!(read(&cells, 0, 13), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0]);
    }

    #[test]
    fn an_impossible_size_is_refused_and_none_is_fine() {
        assert!(Cells::new(usize::MAX, 0).is_none());
        assert!(Cells::new(isize::MAX as usize, 0).is_none());
        assert!(read(&Cells::new(0, 1).unwrap(), 0, 0).is_empty());
    }
}
