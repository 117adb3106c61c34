//! The written bytes, by position.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeMap;

/// Pieces that do not overlap.
pub(crate) struct Overlay {
    pieces: RangeMap<u64, Piece>,
    /// Number of written bytes that no later write has hidden.
    used: u64,
    limit: u64,
}

/// Bytes that were written in one request, of which a later write may have hidden a part.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    bytes: Arc<[u8]>,
    /// The position of the first byte.
    at: u64,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) && self.at == other.at
    }
}

impl Eq for Piece {}

impl Piece {
    /// The bytes of a range of the piece.
    pub(crate) fn bytes(&self, range: &Range<u64>) -> &[u8] {
        &self.bytes[(range.start - self.at) as usize..(range.end - self.at) as usize]
    }
}

impl Overlay {
    pub(crate) fn new(limit: u64) -> Self {
        Self { pieces: RangeMap::new(), used: 0, limit }
    }

    /// The pieces in a range, clipped to it, in order.
    pub(crate) fn pieces(&self, range: &Range<u64>) -> Vec<(Range<u64>, Piece)> {
        if range.is_empty() {
            return Vec::new();
        }
        let clipped = |found: &Range<u64>| found.start.max(range.start)..found.end.min(range.end);
        self.pieces.overlapping(range).map(|(found, piece)| (clipped(found), piece.clone())).collect()
    }

    /// Writes bytes over those that are there; returns `false`, and changes nothing, if that exceeds the limit.
    pub(crate) fn write(&mut self, at: u64, bytes: Arc<[u8]>) -> bool {
        let range = at..at + bytes.len() as u64;
        if range.is_empty() {
            return true;
        }
        let hidden: u64 = self.pieces(&range).iter().map(|(range, _)| range.end - range.start).sum();
        let used = self.used - hidden + bytes.len() as u64;
        if used > self.limit {
            return false;
        }
        self.used = used;
        self.pieces.insert(range, Piece { bytes, at });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_writes_are_those_of_a_plain_buffer() {
        const LEN: usize = 200;
        let mut random = 1u64;
        let mut next = |most: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % most
        };
        let mut model: [Option<u8>; LEN] = [None; LEN];
        let mut overlay = Overlay::new(LEN as u64);
        for round in 0..2000usize {
            let (start, len) = (next(LEN), next(40));
            let len = len.min(LEN - start);
            let value = round as u8;
            assert!(overlay.write(start as u64, vec![value; len].into()));
            model[start..start + len].fill(Some(value));
            let (start, len) = (next(LEN), next(80));
            let range = start as u64..(start + len.min(LEN - start)) as u64;
            let mut seen = [None; LEN];
            for (range, piece) in overlay.pieces(&range) {
                for (index, byte) in piece.bytes(&range).iter().enumerate() {
                    seen[range.start as usize + index] = Some(*byte);
                }
            }
            let range = range.start as usize..range.end as usize;
            assert_eq!(seen[range.clone()], model[range]);
            assert_eq!(overlay.used, model.iter().flatten().count() as u64);
        }
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let mut overlay = Overlay::new(10);
        assert!(overlay.write(0, vec![1; 8].into()));
        assert!(!overlay.write(8, vec![2; 3].into()));
        assert!(overlay.write(6, vec![3; 4].into()), "what it hides makes room");
        assert_eq!(overlay.used, 10);
        assert!(overlay.write(3, Vec::new().into()));
    }
}
