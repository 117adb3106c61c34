//! Compares the bytes of a stored file with its check sum, also when the file is read in blocks.
//!
//! The check sums of adjacent ranges are combined, in whatever order the ranges are read. When they cover the file, the result is
//! compared; if it differs, the part that was read last fails, and so does every read after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;
use pactio_sdk::{Cause, Code, IoError, ReturnedPart, Write};

/// Most ranges that are kept. A file that is read in more pieces at random is not checked.
const MAX_RANGES: usize = 256;

/// The check of a file.
pub(crate) struct Checked {
    size: u64,
    crc: u32,
    corrupt: AtomicBool,
    /// `None` after the file was compared, or after the check was given up.
    covered: Mutex<Option<Covered>>,
}

/// The ranges that were read: start to end and check sum. No two of them overlap or touch.
#[derive(Default)]
struct Covered(BTreeMap<u64, (u64, u32)>);

impl Covered {
    /// Adds a range that overlaps no other one.
    fn add(&mut self, start: u64, end: u64, crc: u32) {
        let (mut start, mut end, mut crc) = (start, end, crc);
        if let Some((&before, &(touches, first))) = self.0.range(..start).next_back()
            && touches == start
        {
            crc = joined(first, crc, end - start);
            start = before;
        }
        if let Some((behind, last)) = self.0.remove(&end) {
            crc = joined(crc, last, behind - end);
            end = behind;
        }
        self.0.insert(start, (end, crc));
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.0.range(..end).next_back().is_some_and(|(_, &(behind, _))| behind > start)
    }
}

/// The check sum of two ranges, of which the second has `len` bytes.
fn joined(first: u32, second: u32, len: u64) -> u32 {
    let mut hasher = Hasher::new_with_initial(first);
    hasher.combine(&Hasher::new_with_initial_len(second, len));
    hasher.finalize()
}

impl Checked {
    pub(crate) fn new(size: u64, crc: u32) -> Self {
        Self { size, crc, corrupt: AtomicBool::new(false), covered: Mutex::new(Some(Covered::default())) }
    }

    /// The failure of all reads, if the file was found corrupt.
    pub(crate) fn corrupt(&self) -> Option<Cause> {
        // Ordering: Relaxed. The flag guards no data.
        self.corrupt.load(Ordering::Relaxed).then(corrupt)
    }

    /// Adds the bytes of a part, and answers the part. The part begins at `position` plus its own start.
    pub(crate) fn answer(&self, position: u64, part: ReturnedPart<Write>) {
        let start = position + part.range().start as u64;
        // Bytes that are not in memory cannot be added: the file is then never covered.
        if part.bytes().is_none_or(|bytes| self.add(start, bytes)) {
            return part.complete();
        }
        // Ordering: Relaxed. The flag guards no data.
        self.corrupt.store(true, Ordering::Relaxed);
        part.fail(&corrupt());
    }

    /// Adds bytes; `false` if these bytes complete the file and the check sum of the file is wrong.
    fn add(&self, start: u64, bytes: &[u8]) -> bool {
        let lock = || self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let end = start + bytes.len() as u64;
        let wanted =
            |covered: &Option<Covered>| covered.as_ref().is_some_and(|covered| !covered.overlaps(start, end));
        if bytes.is_empty() || !wanted(&lock()) {
            return true;
        }
        // Without the lock, since it takes long.
        let crc = crc32fast::hash(bytes);
        let mut guard = lock();
        // Another thread may have added the same range meanwhile.
        let Some(covered) = guard.as_mut().filter(|covered| !covered.overlaps(start, end)) else {
            return true;
        };
        covered.add(start, end, crc);
        match covered.0.first_key_value() {
            Some((0, &(end, crc))) if end == self.size => {
                *guard = None;
                crc == self.crc
            }
            _ => {
                // The file is read in too many places, and is not checked.
                if covered.0.len() > MAX_RANGES {
                    *guard = None;
                }
                true
            }
        }
    }
}

fn corrupt() -> Cause {
    Cause::new(
        IoError::from_code(Code::CORRUPT),
        "its bytes do not have the check sum of the archive's directory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_are_compared_when_they_are_complete() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let bytes: Vec<u8> = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
            let is_right = random.bool();
            let crc = crc32fast::hash(&bytes) ^ u32::from(!is_right);
            let checked = Checked::new(bytes.len() as u64, crc);
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min(at + random.usize(1..60));
                pieces.push(at..end);
                // Some bytes are read again, or twice.
                if random.u8(..4) == 0 {
                    pieces.push(at..end);
                    at = end.saturating_sub(random.usize(0..3)).max(at + 1);
                } else {
                    at = end;
                }
            }
            random.shuffle(&mut pieces);
            let results: Vec<bool> =
                pieces.iter().map(|piece| checked.add(piece.start as u64, &bytes[piece.clone()])).collect();
            let covered = checked.covered.lock().unwrap().is_none();
            if covered {
                assert_eq!(results.iter().all(|right| *right), is_right);
            }
            // Without pieces that overlap in part, the file is covered.
            let apart = pieces.iter().all(|one| {
                pieces.iter().all(|two| one == two || one.end <= two.start || two.end <= one.start)
            });
            assert!(covered || !apart);
        }
    }

    #[test]
    fn a_file_in_too_many_pieces_is_not_checked_and_takes_no_more_memory() {
        let checked = Checked::new(10_000, 1);
        for at in 0..5000 {
            assert!(checked.add(at * 2, &[0]));
        }
        assert!(checked.covered.lock().unwrap().is_none());
    }
}
