//! The regions in any text of `/proc/PID/maps` are those that its lines say.
#![no_main]

#[path = "../../../plugins/process/src/regions.rs"]
mod regions;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let lines = text.split(|byte| *byte == b'\n').count();
    assert!(regions::parse(text).count() <= lines);
    for region in regions::parse(text) {
        assert_eq!(region.file.is_some(), region.file_offset.is_some() || region.file.is_some());
        assert!(region.name.len() <= text.len());
    }
});
