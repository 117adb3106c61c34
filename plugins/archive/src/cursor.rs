//! A place in a compressed file, and the blocks that are decompressed from there on. A cursor reads no input: the caller passes
//! the compressed bytes.

use crc32fast::Hasher;

use crate::block::Block;
use crate::codec::{Codec, Corrupt, Steps};

/// The directory's data about a compressed file.
#[derive(Clone, Copy)]
pub(crate) struct Coded {
    pub(crate) codec: Codec,
    pub(crate) packed: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
}

/// A place in a file: the beginning of a block, except while a block is being made.
pub(crate) struct Cursor {
    steps: Steps,
    block: u64,
    position: u64,
    crc: Hasher,
    ended: bool,
    /// The block that is being made, and the number of bytes in it.
    begun: Option<(Block, usize)>,
}

impl Cursor {
    /// A cursor at the front of the file.
    pub(crate) fn new(codec: Codec) -> Result<Self, Corrupt> {
        let steps = Steps::new(codec)?;
        Ok(Self { steps, block: 0, position: 0, crc: Hasher::new(), ended: false, begun: None })
    }

    /// The next block's number.
    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// The position of the next compressed byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// A copy of the cursor, if the codec can make one.
    pub(crate) fn fork(&self) -> Option<Self> {
        let (steps, crc) = (self.steps.fork()?, self.crc.clone());
        Some(Self { steps, block: self.block, position: self.position, crc, ended: self.ended, begun: None })
    }

    /// Makes the next block of `unit` bytes from `packed`, which begins at [`position`](Self::position); `None`, if more input is
    /// needed. The last block is complete only when the codec has reported the end as well.
    pub(crate) fn make(&mut self, coded: &Coded, unit: u64, packed: &[u8]) -> Result<Option<Block>, Corrupt> {
        let len = (coded.size - self.block * unit).min(unit) as usize;
        let last = (self.block + 1) * unit >= coded.size;
        let (mut block, mut filled) = self.begun.take().unwrap_or_else(|| (Block::zeroed(len), 0));
        let mut rest = packed;
        while filled < len || (last && !self.ended) {
            if self.ended {
                // The file is shorter than its recorded size.
                return Err(Corrupt);
            }
            // At the end of the compressed bytes, the codec may still hold output: it is then called with no input.
            if rest.is_empty() && self.position < coded.packed {
                self.begun = Some((block, filled));
                return Ok(None);
            }
            // In a full last block, the codec gets room for one byte more: with it, a file that is too long is found.
            let mut beyond = [0];
            let out = if filled < len { &mut block.bytes_mut()[filled..] } else { &mut beyond[..] };
            let step = self.steps.step(rest, out)?;
            if filled == len && step.produced > 0 {
                // The file is longer than its recorded size.
                return Err(Corrupt);
            }
            self.position += step.consumed as u64;
            rest = &rest[step.consumed..];
            filled += step.produced;
            // Deflate ends once. A frame of zstd may be followed by another one, at any place in a block.
            self.ended = step.ended && (coded.codec == Codec::Deflate || self.position == coded.packed);
            if step.consumed == 0 && step.produced == 0 && !self.ended {
                // No progress is possible: the compressed bytes were cut or are invalid. Unchecked, the loop would not end.
                return Err(Corrupt);
            }
        }
        self.crc.update(block.bytes());
        if last && self.crc.clone().finalize() != coded.crc {
            return Err(Corrupt);
        }
        self.block += 1;
        Ok(Some(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 1000;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * index / 7) as u8).collect()
    }

    /// Decompresses `packed`; the cursor gets `at_once` compressed bytes at a time.
    fn made(codec: Codec, packed: &[u8], bytes: &[u8], at_once: usize) -> Result<Vec<u8>, Corrupt> {
        let (len, size) = (packed.len() as u64, bytes.len() as u64);
        let coded = Coded { codec, packed: len, size, crc: crc32fast::hash(bytes) };
        let (mut cursor, mut out) = (Cursor::new(codec)?, Vec::new());
        let mut begin = 0;
        while cursor.block() * UNIT < size {
            let end = packed.len().min(begin + at_once);
            match cursor.make(&coded, UNIT, &packed[cursor.position() as usize..end])? {
                Some(block) => {
                    out.extend_from_slice(block.bytes());
                    cursor = cursor.fork().unwrap_or(cursor);
                }
                None => begin = cursor.position() as usize,
            }
        }
        Ok(out)
    }

    fn framed(lens: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let (all, mut packed, mut from) = (bytes(lens.iter().sum()), Vec::new(), 0);
        for len in lens {
            packed.extend(zstd::bulk::compress(&all[from..from + len], 1).unwrap());
            from += len;
        }
        (all, packed)
    }

    #[test]
    fn frames_may_end_anywhere_in_a_block_and_at_its_end() {
        for lens in [&[1000; 7][..], &[500; 13], &[1001; 5], &[1, 999, 0, 0, 1000, 3000, 0], &[2500]] {
            let (all, packed) = framed(lens);
            for at_once in [1, 10, 1 << 20] {
                assert!(made(Codec::Zstd, &packed, &all, at_once) == Ok(all.clone()), "{lens:?}, {at_once}");
            }
        }
    }

    #[test]
    fn what_is_longer_or_shorter_than_it_should_be_is_corrupt() {
        let (all, packed) = framed(&[1000; 3]);
        let deflated = miniz_oxide::deflate::compress_to_vec(&all, 6);
        assert!(made(Codec::Deflate, &deflated, &all, 100) == Ok(all.clone()));
        for (codec, packed) in [(Codec::Zstd, packed), (Codec::Deflate, deflated)] {
            for len in [1, 999, 1000, 2000, 2999] {
                assert_eq!(made(codec, &packed, &all[..len], 100), Err(Corrupt), "{codec:?}, {len}");
            }
            let longer = bytes(4000);
            for len in [3001, 4000] {
                assert_eq!(made(codec, &packed, &longer[..len], 100), Err(Corrupt), "{codec:?}, {len}");
            }
            assert_eq!(made(codec, &packed[..packed.len() - 1], &all, 100), Err(Corrupt), "{codec:?}");
        }
    }
}
