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

fuzz_target!(|bytes: &[u8]| {
    for physical in [false, true] {
        if let Ok(parsed) = elf::parse(Cursor::new(bytes), physical) {
            check(parsed, bytes.len() as u64);
        }
    }
    if let Ok(parsed) = lime::parse(Cursor::new(bytes)) {
        check(parsed, bytes.len() as u64);
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
