//! Compressed dumps of `makedumpfile` and QEMU: a bitmap with a bit per page of physical memory, a descriptor per dumped page,
//! and the pages.
//!
//! ```text
//!  block 0      1 ..              1 + sub headers ..                                  .. + bitmap
//!  ┌───────────┬─────────────────┬──────────────────────────┬────────────────────────┬──────────────────┬───────┐
//!  │ header    │ sub header      │ bitmap of pages that are │ bitmap of pages that   │ descriptors, one │ pages │
//!  │           │                 │ memory                   │ were dumped            │ per dumped page  │       │
//!  └───────────┴─────────────────┴──────────────────────────┴────────────────────────┴──────────────────┴───────┘
//! ```
//!
//! The format: `IMPLEMENTATION` of [makedumpfile](https://github.com/makedumpfile/makedumpfile).

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use pactio_sdk::OpenError;

use crate::blocks::{Blocks, Packed, ReadAt, Unpacked};
use crate::segments::{MAX_SEGMENTS, Segment, corrupt, too_many};

pub(crate) const MAGIC: [u8; 8] = *b"KDUMP   ";

/// Bytes of a header on a machine of 64 bits, as far as they are used.
const HEADER: usize = 464;
const SUB_HEADER: usize = 104;

/// Bytes of a descriptor: offset, size, flags, flags of the page.
const DESCRIPTOR: usize = 24;

/// Most bytes of a bitmap: 32 TiB of memory.
const MAX_BITMAP: u64 = 1 << 30;

/// Bytes of pages that are unpacked together, unless a page is larger.
const BLOCK: u64 = 64 << 10;

/// Descriptors that are read at once.
const MANY: u64 = 1 << 16;

/// Flags of a page.
const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;

/// The dump was stopped before its end, since the storage was full.
const INCOMPLETE: u32 = 8;

struct Pages {
    /// The offset of the descriptors in the file.
    descriptors: u64,
    count: u64,
    page: u64,
    is_big_endian: bool,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    offset: u64,
    size: u32,
    flags: u32,
}

/// Numbers of a header, in the byte order of the machine that was dumped.
struct Fields {
    bytes: Vec<u8>,
    is_big_endian: bool,
}

impl Fields {
    /// The header at an offset of the file.
    fn read(
        reader: &mut (impl Read + Seek),
        at: u64,
        len: usize,
        is_big_endian: bool,
    ) -> Result<Self, OpenError> {
        let mut bytes = Vec::with_capacity(len);
        reader.seek(SeekFrom::Start(at)).map_err(OpenError::from)?;
        reader.take(len as u64).read_to_end(&mut bytes).map_err(OpenError::from)?;
        if bytes.len() < len {
            return Err(corrupt("its header is cut off"));
        }
        Ok(Self { bytes, is_big_endian })
    }

    fn u32(&self, at: usize) -> u32 {
        number32(&self.bytes[at..], self.is_big_endian)
    }

    fn u64(&self, at: usize) -> u64 {
        number64(&self.bytes[at..], self.is_big_endian)
    }
}

fn number32(bytes: &[u8], is_big_endian: bool) -> u32 {
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn number64(bytes: &[u8], is_big_endian: bool) -> u64 {
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    if is_big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
}

/// The dump in a file of `size` bytes, if the size is known.
///
/// # Errors
///
/// If the headers are damaged or cut off, or those of a part of a dump. Pages that are cut off are lost.
pub(crate) fn parse(mut reader: impl Read + Seek + ReadAt, size: Option<u64>) -> Result<Packed, OpenError> {
    let mut header = Fields::read(&mut reader, 0, HEADER, false)?;
    let is_page = |size: u64| size.is_power_of_two() && (4096..=65536).contains(&size);
    if !is_page(header.u32(428).into()) {
        header.is_big_endian = true;
        if !is_page(header.u32(428).into()) {
            return Err(corrupt("it is a compressed dump of kdump, but not of a machine of 64 bits"));
        }
    }
    let version = header.u32(8);
    let page = u64::from(header.u32(428));
    let sub = Fields::read(&mut reader, page, SUB_HEADER, header.is_big_endian)?;
    if version >= 2 && sub.u32(12) != 0 {
        return Err(corrupt(
            "it is one part of a dump; `makedumpfile --reassemble` makes one file of all parts",
        ));
    }
    let pages = if version >= 6 { sub.u64(96) } else { header.u32(440).into() };
    // Before version 1, the dump had one bitmap.
    let bitmap_blocks = u64::from(header.u32(436));
    let needed = pages.div_ceil(8).div_ceil(page);
    let bitmap = bitmap_blocks * page;
    let bitmaps = if needed == bitmap_blocks { 1 } else { 2 };
    if needed * bitmaps > bitmap_blocks || pages.div_ceil(8) > MAX_BITMAP {
        return Err(corrupt(format!("its header places {pages} pages in {bitmap_blocks} blocks of bits")));
    }
    let bits = (1 + u64::from(header.u32(432))) * page;
    let descriptors = bits + bitmap;
    let mut read_bits = |at: u64| -> Result<Vec<u8>, OpenError> {
        let mut bytes = Vec::new();
        reader.seek(SeekFrom::Start(at)).map_err(OpenError::from)?;
        reader.by_ref().take(pages.div_ceil(8)).read_to_end(&mut bytes).map_err(OpenError::from)?;
        if (bytes.len() as u64) < pages.div_ceil(8) {
            return Err(corrupt("the bits of its pages are cut off"));
        }
        Ok(bytes)
    };
    let memory = read_bits(bits)?;
    let dumped = if bitmaps == 2 { read_bits(bits + bitmap / 2)? } else { memory.clone() };
    let count = (0..pages).filter(|number| bit(&dumped, *number)).count() as u64;
    let table = Pages { descriptors, count, page, is_big_endian: header.is_big_endian };
    let lost = table.lost(&reader, size).map_err(OpenError::from)?;
    if header.u32(424) & INCOMPLETE != 0 {
        tracing::error!("the dump is incomplete: makedumpfile had no space to write all of it");
    }
    let segments = segments(&memory, &dumped, pages, page, &lost)?;
    let lost = lost.iter().map(|lost| (lost.end - lost.start) * page).sum();
    Ok(Packed { segments, blocks: Box::new(table), lost })
}

fn bit(bits: &[u8], number: u64) -> bool {
    bits[(number / 8) as usize] >> (number % 8) & 1 == 1
}

/// Runs of pages of one kind: dumped ones, dumped ones that are lost, and memory that was not dumped.
fn segments(
    memory: &[u8],
    dumped: &[u8],
    pages: u64,
    page: u64,
    lost: &[Range<u64>],
) -> Result<Vec<Segment>, OpenError> {
    let name: Arc<str> = "System RAM".into();
    let mut segments = Vec::<Segment>::new();
    let mut rank = 0;
    for number in 0..pages {
        let is_dumped = bit(dumped, number);
        if !is_dumped && !bit(memory, number) {
            continue;
        }
        let after = lost.partition_point(|lost| lost.end <= rank);
        let is_lost = is_dumped && lost.get(after).is_some_and(|lost| lost.start <= rank);
        let has_bytes = is_dumped && !is_lost;
        let start =
            number.checked_mul(page).ok_or_else(|| corrupt("it has more pages than there are addresses"))?;
        let offset = rank * page;
        rank += u64::from(is_dumped);
        if let Some(last) = segments.last_mut()
            && last.start + last.size == start
            && (last.dumped > 0, last.lost) == (has_bytes, is_lost)
        {
            last.size += page;
            last.dumped += if has_bytes { page } else { 0 };
            continue;
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(corrupt(too_many("more than a million")));
        }
        segments.push(Segment::physical(start, page, has_bytes.then_some(offset), is_lost, &name));
    }
    Ok(segments)
}

impl Pages {
    /// Up to `count` descriptors from a page on; fewer at the end of the file.
    fn read(&self, file: &dyn ReadAt, first: u64, count: u64) -> io::Result<Vec<Descriptor>> {
        let len = count as usize * DESCRIPTOR;
        let mut bytes = Vec::with_capacity(len);
        let at = self.descriptors + first * DESCRIPTOR as u64;
        while bytes.len() < len {
            let more = file.read_at(at + bytes.len() as u64, len - bytes.len())?;
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        let descriptor = |bytes: &[u8]| Descriptor {
            offset: number64(bytes, self.is_big_endian),
            size: number32(&bytes[8..], self.is_big_endian),
            flags: number32(&bytes[12..], self.is_big_endian),
        };
        Ok(bytes.chunks_exact(DESCRIPTOR).map(descriptor).collect())
    }

    /// The dumped pages, by their number among these, that a file of `size` bytes does not have.
    fn lost(&self, file: &dyn ReadAt, size: Option<u64>) -> io::Result<Vec<Range<u64>>> {
        let Some(size) = size else { return Ok(Vec::new()) };
        // Pages are written in their order, so a file that is cut off lacks one of the last.
        let last = self.lost_from(self.count.saturating_sub(MANY), file, size)?;
        if last.is_empty() { Ok(last) } else { self.lost_from(0, file, size) }
    }

    fn lost_from(&self, mut first: u64, file: &dyn ReadAt, size: u64) -> io::Result<Vec<Range<u64>>> {
        let mut lost = Vec::<Range<u64>>::new();
        while first < self.count {
            let all = self.read(file, first, MANY.min(self.count - first))?;
            if all.is_empty() {
                lost.push(first..self.count);
                break;
            }
            for (number, page) in (first..).zip(&all) {
                if page.offset.checked_add(page.size.into()).is_some_and(|end| end <= size) {
                    continue;
                }
                match lost.last_mut().filter(|last| last.end == number) {
                    Some(last) => last.end += 1,
                    None => lost.push(number..number + 1),
                }
            }
            first += all.len() as u64;
        }
        Ok(lost)
    }
}

impl Blocks for Pages {
    fn find(&self, offset: u64) -> Option<Range<u64>> {
        let block = BLOCK.max(self.page);
        let start = offset - offset % block;
        (offset < self.count * self.page).then(|| start..(start + block).min(self.count * self.page))
    }

    fn unpack(&self, file: &dyn ReadAt, block: &Range<u64>) -> io::Result<Unpacked> {
        let count = (block.end - block.start) / self.page;
        let pages = self.read(file, block.start / self.page, count)?;
        let mut unpacked = Unpacked::default();
        let mut page = vec![0; self.page as usize];
        // Pages that lie one behind the other are read at once. Pages of zeros share one place.
        let is_valid = |page: &Descriptor| u64::from(page.size) <= self.page;
        let follows = |one: &Descriptor, next: &Descriptor| {
            let end = one.offset.checked_add(one.size.into());
            is_valid(one) && is_valid(next) && end == Some(next.offset)
        };
        for run in pages.chunk_by(follows) {
            let len: usize = run.iter().map(|descriptor| descriptor.size as usize).sum();
            let packed = if is_valid(&run[0]) { file.read_at(run[0].offset, len)? } else { Vec::new() };
            let mut rest = &packed[..];
            for descriptor in run {
                let bytes = rest.split_off(..descriptor.size as usize);
                let bytes = bytes.and_then(|bytes| decompress(bytes, descriptor.flags, &mut page));
                unpacked.push(bytes, self.page as usize);
            }
        }
        for _ in pages.len() as u64..count {
            unpacked.push(None, self.page as usize);
        }
        Ok(unpacked)
    }
}

/// The bytes of a page, which is as long as `page`.
fn decompress<'a>(bytes: &'a [u8], flags: u32, page: &'a mut [u8]) -> Option<&'a [u8]> {
    let len = match flags & (ZLIB | LZO | SNAPPY | ZSTD) {
        0 => return Some(bytes),
        ZLIB => {
            let mut decoder = flate2::Decompress::new(true);
            decoder.decompress(bytes, page, flate2::FlushDecompress::Finish).ok()?;
            decoder.total_out() as usize
        }
        LZO => lzo::decompress_into(bytes, page).ok()?,
        SNAPPY => snap::raw::Decoder::new().decompress(bytes, page).ok()?,
        ZSTD => zstd::bulk::decompress_to_buffer(bytes, page).ok()?,
        _ => return None,
    };
    page.get(..len)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    const PAGE: usize = 4096;

    impl ReadAt for Cursor<Vec<u8>> {
        fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let all = self.get_ref();
            let start = all.len().min(offset as usize);
            Ok(all[start..all.len().min(start + len)].to_vec())
        }
    }

    fn page(seed: u8) -> Vec<u8> {
        (0..PAGE).map(|at| if at % 7 == 0 { (at / 7) as u8 ^ seed } else { seed }).collect()
    }

    /// A page of LZO: four literals, and a match that repeats them to the end of the page.
    fn lzo(literals: [u8; 4]) -> (Vec<u8>, Vec<u8>) {
        // The length of the match less 33, the smallest of this form.
        let more = PAGE - 4 - 33;
        let length = [&vec![0; more / 255][..], &[(more % 255) as u8]].concat();
        let packed = [&[17 + 4][..], &literals, &[0x20], &length, &[3 << 2, 0], &[17, 0, 0]].concat();
        (literals.repeat(PAGE / 4), packed)
    }

    /// A dump of 100 pages: those from 8 to 19, of which 10 and 11 were not dumped, and page 90.
    fn dump(is_big_endian: bool) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
        let n32 = |value: u32| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let n64 = |value: u64| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut file = vec![0; 5 * PAGE];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &n32(6));
        put(428, &n32(PAGE as u32));
        put(432, &n32(1));
        put(436, &n32(2));
        put(PAGE + 96, &n64(100));
        let numbers: Vec<u64> = [8, 9].into_iter().chain(12..20).chain([90]).collect();
        for number in (8..20).chain([90]) {
            file[2 * PAGE + number / 8] |= 1 << (number % 8);
        }
        for number in &numbers {
            file[3 * PAGE + *number as usize / 8] |= 1 << (number % 8);
        }
        file.truncate(4 * PAGE);
        let zlib = |page: &[u8]| {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(page).unwrap();
            encoder.finish().unwrap()
        };
        let zeros = zlib(&[0; PAGE]);
        let base = file.len() + numbers.len() * DESCRIPTOR;
        let (mut data, mut pages) = (zeros.clone(), Vec::new());
        for (index, number) in numbers.iter().enumerate() {
            let mut content = page(*number as u8);
            let (flags, packed) = match index % 6 {
                0 => (ZLIB, zlib(&content)),
                1 => (SNAPPY, snap::raw::Encoder::new().compress_vec(&content).unwrap()),
                2 => (ZSTD, zstd::bulk::compress(&content, 1).unwrap()),
                3 => {
                    let packed;
                    (content, packed) = lzo([*number as u8, 1, 2, 3]);
                    (LZO, packed)
                }
                4 => (0, content.clone()),
                _ => (ZLIB, zeros.clone()),
            };
            let is_zero = index % 6 == 5;
            let offset = if is_zero { base } else { base + data.len() };
            file.extend([&n64(offset as u64)[..], &n32(packed.len() as u32), &n32(flags), &[0; 8]].concat());
            if !is_zero {
                data.extend(packed);
            }
            pages.push((number * PAGE as u64, if is_zero { vec![0; PAGE] } else { content }));
        }
        file.extend(data);
        (file, pages)
    }

    /// The unpacked bytes at an address.
    fn at(dump: &Packed, file: &Cursor<Vec<u8>>, address: u64) -> Option<Vec<u8>> {
        let part =
            dump.segments.iter().find(|part| part.start <= address && address - part.start < part.dumped)?;
        let offset = part.offset + (address - part.start);
        let block = dump.blocks.find(offset)?;
        let unpacked = dump.blocks.unpack(file, &block).unwrap();
        let start = (offset - block.start) as usize;
        assert_eq!(unpacked.bytes.len() as u64, block.end - block.start);
        let is_damaged =
            unpacked.damaged.iter().any(|damaged| damaged.start < start + PAGE && damaged.end > start);
        (!is_damaged).then(|| unpacked.bytes[start..start + PAGE].to_vec())
    }

    fn parsed(file: &[u8]) -> Result<(Packed, Cursor<Vec<u8>>), OpenError> {
        let file = Cursor::new(file.to_vec());
        let size = file.get_ref().len() as u64;
        Ok((parse(file.clone(), Some(size))?, file))
    }

    #[test]
    fn pages_of_each_compression_are_at_their_addresses_in_either_byte_order() {
        for is_big_endian in [false, true] {
            let (bytes, pages) = dump(is_big_endian);
            let (dump, file) = parsed(&bytes).unwrap();
            for (address, page) in pages {
                assert!(at(&dump, &file, address).as_ref() == Some(&page), "{address:#x}");
            }
            let parts: Vec<_> = dump
                .segments
                .iter()
                .map(|part| (part.start >> 12, part.size >> 12, part.dumped >> 12))
                .collect();
            assert_eq!(parts, [(8, 2, 2), (10, 2, 0), (12, 8, 8), (90, 1, 1)]);
            assert_eq!(dump.lost, 0);
        }
    }

    #[test]
    fn each_page_of_a_dump_that_is_cut_off_is_lost_or_whole() {
        let (bytes, pages) = dump(false);
        for size in (0..bytes.len()).rev().step_by(97) {
            let Ok((dump, file)) = parsed(&bytes[..size]) else {
                assert!(size < 4 * PAGE, "{size} bytes have all headers");
                continue;
            };
            let mut lost = 0;
            for (address, page) in &pages {
                let is_lost = dump
                    .segments
                    .iter()
                    .any(|part| part.lost && part.start <= *address && *address - part.start < part.size);
                lost += u64::from(is_lost) * PAGE as u64;
                let expected = (!is_lost).then_some(page);
                assert!(at(&dump, &file, *address).as_ref() == expected, "{address:#x} of {size} bytes");
            }
            assert_eq!(dump.lost, lost, "{size} bytes");
            assert!(lost > 0, "{size} bytes are not all");
        }
    }

    #[test]
    fn a_damaged_page_harms_no_other_one() {
        let (mut bytes, pages) = dump(false);
        // The third page, by zstd.
        let descriptor = 4 * PAGE + 2 * DESCRIPTOR;
        let offset = number64(&bytes[descriptor..], false) as usize;
        bytes[offset] ^= 0xff;
        let (dump, file) = parsed(&bytes).unwrap();
        for (index, (address, page)) in pages.iter().enumerate() {
            let expected = (index != 2).then_some(page);
            assert!(at(&dump, &file, *address).as_ref() == expected, "{address:#x}");
        }
        // A length that no page has, and an offset behind the end.
        bytes[descriptor + 8..][..4].copy_from_slice(&[0xff; 4]);
        bytes[descriptor..][..8].copy_from_slice(&[0xfe; 8]);
        let (dump, file) = parsed(&bytes).unwrap();
        assert!(at(&dump, &file, pages[2].0).is_none() && dump.lost == PAGE as u64);
        assert!(at(&dump, &file, pages[3].0).as_ref() == Some(&pages[3].1));
    }

    #[test]
    fn a_part_of_a_dump_and_a_header_of_32_bits_are_refused() {
        let (mut bytes, _) = dump(false);
        bytes[PAGE + 12] = 1;
        assert!(parsed(&bytes).err().unwrap().message().contains("--reassemble"));
        let (mut bytes, _) = dump(false);
        bytes[428..432].fill(0);
        assert!(parsed(&bytes).err().unwrap().message().contains("64 bits"));
        let (mut bytes, _) = dump(false);
        bytes[PAGE + 96..][..8].fill(0xff);
        assert!(parsed(&bytes).err().unwrap().message().contains("blocks of bits"));
    }
}
