//! Dumps of AVML: a header per block of physical memory, behind it the memory as frames of snappy, and the length of these.
//!
//! The format: [AVML](https://github.com/microsoft/avml), [frames](https://github.com/google/snappy/blob/main/framing_format.txt).

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use pactio_sdk::OpenError;

use crate::blocks::{Blocks, Packed, ReadAt, Unpacked};
use crate::segments::{MAX_SEGMENTS, Segment, corrupt};

pub(crate) const MAGIC: [u8; 4] = *b"AVML";

/// Bytes of a block's header, as in LiME: magic, version, first and last address, eight unused bytes.
const HEADER: u64 = 32;

/// Most unpacked bytes of a frame.
const FRAME: u64 = 64 << 10;

/// Most frames of a dump: 16 TiB of memory.
const MAX_FRAMES: usize = 1 << 28;

/// A part of the memory, which is unpacked as a whole.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Its first unpacked byte.
    start: u64,
    /// The place of its bytes in the file.
    offset: u64,
    packed: u32,
    unpacked: u32,
    is_compressed: bool,
    /// The check sum of its unpacked bytes.
    sum: u32,
}

struct Frames(Vec<Frame>);

/// # Errors
///
/// If a header is damaged or cut off. If frames are cut off, the memory from there to the end of their block is lost.
pub(crate) fn parse(mut reader: impl Read + Seek) -> Result<Packed, OpenError> {
    let (mut segments, mut frames) = (Vec::<Segment>::new(), Vec::new());
    let (mut at, mut unpacked, mut lost) = (0u64, 0u64, 0u64);
    while let Some(header) = bytes_at(&mut reader, at, HEADER as usize).map_err(OpenError::from)? {
        let damaged = |what: &str| corrupt(format!("the AVML header at {at:#x} {what}"));
        let field = |start: usize| header.get(start..start + 8).and_then(|bytes| bytes.try_into().ok());
        let (Some(_), Some(start), Some(last)) = (field(24), field(8), field(16)) else {
            return Err(damaged("is cut off"));
        };
        let (start, last) = (u64::from_le_bytes(start), u64::from_le_bytes(last));
        if header[..8] != [&MAGIC[..], &[2, 0, 0, 0]].concat() {
            return Err(damaged("is none of version 2"));
        }
        let size = last.checked_sub(start).and_then(|size| size.checked_add(1));
        let end = size.and_then(|size| unpacked.checked_add(size));
        let (Some(size), Some(end)) = (size, end) else { return Err(damaged("ends before it begins")) };
        let mut file = at + HEADER;
        while unpacked < end {
            let found = frame(&mut reader, file, unpacked, end).map_err(|why| match why {
                Some(error) => OpenError::from(error),
                None => corrupt(format!("the frame at {file:#x} is damaged")),
            })?;
            let Some((frame, next)) = found else { break };
            file = next;
            let Some(frame) = frame else { continue };
            if frames.len() == MAX_FRAMES {
                return Err(damaged("begins more memory than any machine has"));
            }
            frames.push(frame);
            unpacked += u64::from(frame.unpacked);
        }
        let dumped = size - (end - unpacked);
        add(&mut segments, start, dumped, unpacked - dumped, false);
        if unpacked < end {
            add(&mut segments, start + dumped, end - unpacked, 0, true);
            lost = end - unpacked;
            break;
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(damaged("is one too many"));
        }
        // The length of the frames.
        at = file.saturating_add(8);
    }
    Ok(Packed { segments, blocks: Box::new(Frames(frames)), lost })
}

/// Adds memory. Blocks of one range of addresses become one segment.
fn add(segments: &mut Vec<Segment>, start: u64, size: u64, offset: u64, lost: bool) {
    if size == 0 {
        return;
    }
    if let Some(last) = segments.last_mut()
        && !lost
        && last.start + last.size == start
        && last.offset + last.size == offset
    {
        (last.size, last.dumped) = (last.size + size, last.dumped + size);
        return;
    }
    let name = segments.first().map_or_else(|| "System RAM".into(), |first| first.name.clone());
    segments.push(Segment::physical(start, size, (!lost).then_some(offset), lost, &name));
}

/// Up to `len` bytes; `None` at the end of the file.
fn bytes_at(reader: &mut (impl Read + Seek), at: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(len);
    reader.seek(SeekFrom::Start(at))?;
    reader.take(len as u64).read_to_end(&mut bytes)?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// The frame at an offset of the file, if it has memory, and the offset of the next one; `None` at the end of the file. An error
/// without a cause is a damaged frame.
fn frame(
    reader: &mut (impl Read + Seek),
    at: u64,
    start: u64,
    end: u64,
) -> Result<Option<(Option<Frame>, u64)>, Option<io::Error>> {
    // Kind, length, check sum, and the length of the unpacked bytes.
    let front = bytes_at(reader, at, 4 + 4 + 5).map_err(Some)?.unwrap_or_default();
    let Some([kind, length @ ..]) = front.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]);
    let next = (at + 4).checked_add(length.into()).ok_or(None)?;
    // Names of the format, and padding.
    if *kind >= 0x80 {
        return Ok(Some((None, next)));
    }
    if length < 4 || *kind > 1 {
        return Err(None);
    }
    // The last byte tells whether the file has all of the frame.
    if bytes_at(reader, next - 1, 1).map_err(Some)?.is_none() {
        return Ok(None);
    }
    let (packed, is_compressed) = (length - 4, *kind == 0);
    let unpacked = match is_compressed {
        true => snap::raw::decompress_len(&front[8..]).map_err(|_| None)? as u64,
        false => packed.into(),
    };
    if unpacked == 0 || unpacked > FRAME || unpacked > end - start {
        return Err(None);
    }
    let sum = u32::from_le_bytes([front[4], front[5], front[6], front[7]]);
    let frame = Frame { start, offset: at + 8, packed, unpacked: unpacked as u32, is_compressed, sum };
    Ok(Some((Some(frame), next)))
}

/// The check sum of a frame's bytes.
fn masked(bytes: &[u8]) -> u32 {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

impl Blocks for Frames {
    fn find(&self, offset: u64) -> Option<Range<u64>> {
        let index = self.0.partition_point(|frame| frame.start <= offset).checked_sub(1)?;
        let frame = self.0[index];
        let block = frame.start..frame.start + u64::from(frame.unpacked);
        block.contains(&offset).then_some(block)
    }

    fn unpack(&self, file: &dyn ReadAt, block: &Range<u64>) -> io::Result<Unpacked> {
        let mut unpacked = Unpacked::default();
        let Ok(index) = self.0.binary_search_by_key(&block.start, |frame| frame.start) else {
            return Ok(unpacked);
        };
        let frame = self.0[index];
        let len = frame.unpacked as usize;
        let packed = file.read_at(frame.offset, frame.packed as usize)?;
        let bytes = match frame.is_compressed {
            true => snap::raw::Decoder::new().decompress_vec(&packed).ok(),
            false => Some(packed),
        };
        unpacked.push(bytes.as_deref().filter(|bytes| masked(bytes) == frame.sum), len);
        Ok(unpacked)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    struct File<'a>(&'a [u8]);

    impl ReadAt for File<'_> {
        fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let start = self.0.len().min(offset as usize);
            Ok(self.0[start..self.0.len().min(start + len)].to_vec())
        }
    }

    fn memory(len: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        // Frames of both kinds: bytes that compress and bytes that do not.
        (0..len).map(|at| if at / 70_000 % 2 == 0 { (at / 16) as u8 } else { random.u8(..) }).collect()
    }

    fn block(start: u64, memory: &[u8]) -> Vec<u8> {
        let mut frames = snap::write::FrameEncoder::new(Vec::new());
        frames.write_all(memory).unwrap();
        let frames = frames.into_inner().unwrap();
        let last = start + memory.len() as u64 - 1;
        let header = [start, last, 0].map(u64::to_le_bytes).concat();
        let length = (frames.len() as u64).to_le_bytes();
        [&MAGIC[..], &[2, 0, 0, 0], &header, &frames, &length].concat()
    }

    /// The unpacked bytes of a dump, and for each whether it is damaged.
    fn unpacked(dump: &Packed, file: &[u8]) -> Vec<Option<u8>> {
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some(block) = dump.blocks.find(at) {
            let unpacked = dump.blocks.unpack(&File(file), &block).unwrap();
            let is_damaged = |at: usize| unpacked.damaged.iter().any(|damaged| damaged.contains(&at));
            all.extend(
                unpacked.bytes.iter().enumerate().map(|(at, byte)| (!is_damaged(at)).then_some(*byte)),
            );
            at = block.end;
        }
        all
    }

    #[test]
    fn blocks_that_follow_each_other_are_one_part_and_lost_frames_are_told() {
        let (first, second, third) = (memory(200_000, 1), memory(65_536, 2), memory(4096, 3));
        let file =
            [block(0x1000, &first), block(0x1000 + 200_000, &second), block(0x10_0000, &third)].concat();
        let dump = parse(Cursor::new(&file)).unwrap();
        let parts: Vec<_> = dump.segments.iter().map(|part| (part.start, part.size, part.offset)).collect();
        assert_eq!(parts, [(0x1000, 265_536, 0), (0x10_0000, 4096, 265_536)]);
        let all: Vec<_> = [first, second, third].concat().into_iter().map(Some).collect();
        assert!(unpacked(&dump, &file) == all && dump.lost == 0);
        for size in (0..file.len()).rev().step_by(997) {
            let Ok(dump) = parse(Cursor::new(&file[..size])) else { continue };
            let there: u64 = dump.segments.iter().map(|part| part.dumped).sum();
            assert!(unpacked(&dump, &file[..size]) == all[..there as usize], "{size}");
            let lost: u64 = dump.segments.iter().filter(|part| part.lost).map(|part| part.size).sum();
            assert_eq!(dump.lost, lost, "{size}");
        }
    }

    #[test]
    fn a_flipped_bit_damages_its_frame_alone_and_one_in_a_header_is_refused() {
        let memory = memory(200_000, 1);
        let mut file = block(0x1000, &memory);
        let middle = file.len() / 2;
        file[middle] ^= 4;
        let found = unpacked(&parse(Cursor::new(&file)).unwrap(), &file);
        assert_eq!(found.iter().filter(|byte| byte.is_none()).count(), 65_536);
        assert!(found.iter().zip(&memory).all(|(found, byte)| found.is_none_or(|found| found == *byte)));
        file[4] = 3;
        assert!(parse(Cursor::new(&file)).err().unwrap().message().contains("version 2"));
    }
}
