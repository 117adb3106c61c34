//! Any bytes as a memory dump give regions in the order of their addresses, or are refused.
#![no_main]
// The targets use only a part of the plugins' code.
#![allow(dead_code)]

#[path = "../../../plugins/core/src/elf.rs"]
mod elf;
#[path = "../../../plugins/core/src/lime.rs"]
mod lime;
#[path = "../../../plugins/core/src/map.rs"]
mod map;
#[path = "../../../plugins/core/src/segments.rs"]
mod segments;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use segments::{Segment, Segments};

fn check(parsed: Vec<Segment>) {
    let Ok(segments) = Segments::new(parsed) else { return };
    let mut end = 0;
    for region in segments.regions(0) {
        assert!(region.range.start >= end && !region.range.is_empty(), "{region:?}");
        end = region.range.end;
        // Bytes that exist have a position in the file and a length; a gap has a length.
        for at in [region.range.start, region.range.start + (end - region.range.start) / 2, end - 1] {
            match segments.at(at) {
                Ok((offset, there)) => assert!(there > 0 && offset.checked_add(there).is_some(), "{at:#x}"),
                Err(there) => assert!(there > 0, "{at:#x}"),
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    for physical in [false, true] {
        if let Ok(parsed) = elf::parse(Cursor::new(bytes), physical) {
            check(parsed);
        }
    }
    if let Ok(parsed) = lime::parse(Cursor::new(bytes)) {
        check(parsed);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(parsed) = map::parse(text) {
            check(parsed);
        }
        if let Some(parsed) = map::whole(text, 100) {
            check(vec![parsed]);
        }
    }
});
