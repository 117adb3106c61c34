//! Any bytes as a memory dump give regions in the order of their addresses, or are refused.
#![no_main]
// The targets use only a part of the plugins' code.
#![allow(dead_code)]

#[path = "../../../plugins/core/src/avml.rs"]
mod avml;
#[path = "../../../plugins/core/src/blocks.rs"]
mod blocks;
#[path = "../../../plugins/core/src/elf.rs"]
mod elf;
#[path = "../../../plugins/core/src/kdump.rs"]
mod kdump;
#[path = "../../../plugins/core/src/lime.rs"]
mod lime;
#[path = "../../../plugins/core/src/map.rs"]
mod map;
#[path = "../../../plugins/core/src/segments.rs"]
mod segments;

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use blocks::{Packed, ReadAt};
use libfuzzer_sys::fuzz_target;
use segments::{Place, Segment, Segments};

/// Checks the parts of a dump, as they are and cut off at a size.
fn check(parsed: Vec<Segment>, size: u64) {
    let mut short = parsed.clone();
    let lost = segments::cut(&mut short, size);
    if let Ok(segments) = Segments::new(parsed) {
        consistent(&segments, u64::MAX);
        // The parts of a dump that is cut off lie in the same order.
        if let Ok(segments) = Segments::new(short) {
            consistent(&segments, if lost > 0 { size } else { u64::MAX });
        }
    }
}

fn consistent(segments: &Segments, size: u64) {
    let mut end = 0;
    for region in segments.regions(0) {
        assert!(region.range.start >= end && !region.range.is_empty(), "{region:?}");
        end = region.range.end;
        // Bytes that exist have a position in the file and a length; a gap has a length.
        for at in [region.range.start, region.range.start + (end - region.range.start) / 2, end - 1] {
            let (place, there) = segments.at(at);
            assert!(there > 0, "{at:#x}");
            if let Place::File(offset) = place {
                assert!(offset.checked_add(there).is_some_and(|end| end <= size), "{at:#x}");
            }
        }
    }
}

struct Input<'a>(Cursor<&'a [u8]>);

impl ReadAt for Input<'_> {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = *self.0.get_ref();
        let start = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        Ok(bytes[start..bytes.len().min(start.saturating_add(len))].to_vec())
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// The first and the last byte of each part lie in a block, which has as many bytes as it says.
fn unpack(dump: Packed, bytes: &[u8]) {
    let input = Input(Cursor::new(bytes));
    for part in dump.segments.iter().filter(|part| part.dumped > 0).take(16) {
        for offset in [part.offset, part.offset + part.dumped - 1] {
            let block = dump.blocks.find(offset).expect("bytes of a part are in a block");
            assert!(block.contains(&offset), "{offset} in {block:?}");
            let unpacked = dump.blocks.unpack(&input, &block).expect("the input can be read");
            assert_eq!(unpacked.bytes.len() as u64, block.end - block.start);
            let mut end = 0;
            for damaged in &unpacked.damaged {
                assert!(damaged.start >= end && damaged.end > damaged.start, "{damaged:?}");
                end = damaged.end;
            }
            assert!(end <= unpacked.bytes.len());
        }
    }
    let lost: u64 = dump.segments.iter().filter(|part| part.lost).map(|part| part.size).sum();
    assert_eq!(lost, dump.lost);
    if let Ok(segments) = Segments::new(dump.segments) {
        consistent(&segments, u64::MAX);
    }
}

fuzz_target!(|bytes: &[u8]| {
    for physical in [false, true] {
        if let Ok(parsed) = elf::parse(Cursor::new(bytes), physical) {
            check(parsed, bytes.len() as u64);
        }
    }
    if let Ok(parsed) = lime::parse(Cursor::new(bytes)) {
        check(parsed, bytes.len() as u64);
    }
    if let Ok(packed) = avml::parse(Cursor::new(bytes)) {
        unpack(packed, bytes);
    }
    if let Ok(packed) = kdump::parse(Input(Cursor::new(bytes)), Some(bytes.len() as u64)) {
        unpack(packed, bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(parsed) = map::parse(text) {
            check(parsed, bytes.len() as u64);
        }
        if let Some(parsed) = map::whole(text, 100) {
            check(vec![parsed], bytes.len() as u64);
        }
    }
});
