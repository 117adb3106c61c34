//! Copies of a state at places in a long file. Their number is bounded.

use std::collections::BTreeMap;

/// Maximum number of copies.
const MAX_CHECKPOINTS: usize = 256;

/// Copies by the number of the block that follows them.
pub(crate) struct Checkpoints<T> {
    /// The copies are at multiples of this number of blocks.
    distance: u64,
    by_block: BTreeMap<u64, T>,
}

impl<T> Default for Checkpoints<T> {
    fn default() -> Self {
        Self { distance: 4, by_block: BTreeMap::new() }
    }
}

impl<T> Checkpoints<T> {
    /// Keeps a copy, if none is there yet. If there are too many copies, every second one is removed.
    pub(crate) fn add(&mut self, block: u64, copy: impl FnOnce() -> Option<T>) {
        if !block.is_multiple_of(self.distance) || self.by_block.contains_key(&block) {
            return;
        }
        let Some(copy) = copy() else { return };
        self.by_block.insert(block, copy);
        if self.by_block.len() > MAX_CHECKPOINTS {
            self.distance *= 2;
            self.by_block.retain(|block, _| block.is_multiple_of(self.distance));
        }
    }

    /// The last copy at or before a block.
    pub(crate) fn at_or_before(&self, block: u64) -> Option<(u64, &T)> {
        self.by_block.range(..=block).next_back().map(|(block, copy)| (*block, copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_many_and_they_are_spread_over_the_file() {
        let mut marks = Checkpoints::default();
        for block in 1..=100_000 {
            marks.add(block, || Some(block));
            assert!(marks.by_block.len() <= MAX_CHECKPOINTS);
        }
        assert!(marks.by_block.len() >= MAX_CHECKPOINTS / 2, "{}", marks.by_block.len());
        for block in [1000, 50_000, 100_000] {
            let (at, copy) = marks.at_or_before(block).unwrap();
            assert!(at == *copy && at <= block && block - at < marks.distance, "{block}: {at}");
        }
        assert!(marks.at_or_before(marks.distance - 1).is_none());
        // A copy that cannot be made is left out, and an existing one is not made again.
        marks.add(marks.distance * 1_000_000, || None);
        marks.add(marks.distance, || unreachable!("it is there"));
    }
}
