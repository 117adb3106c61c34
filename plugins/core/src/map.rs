//! Maps of raw images: the addresses of ranges of the file.

use std::sync::Arc;

use crate::segments::{MAX_SEGMENTS, Segment};

/// Lines `START-END OFFSET [NAME]`, numbers in hexadecimal; a line that begins with `#` is a comment.
///
/// # Errors
///
/// The invalid line.
pub(crate) fn parse(text: &str) -> Result<Vec<Segment>, String> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        // One segment too many is refused, and the rest is not read.
        .take(MAX_SEGMENTS + 1)
        .map(|(number, line)| {
            segment(line).ok_or_else(|| {
                format!("line {number} is not START-END OFFSET [NAME], in hexadecimal: '{line}'")
            })
        })
        .collect()
}

/// All of an image of `size` bytes, from an address on.
pub(crate) fn whole(at: &str, size: u64) -> Option<Segment> {
    let start = u64::from_str_radix(at.trim_start_matches("0x"), 16).ok()?;
    Some(Segment {
        start,
        size,
        offset: 0,
        dumped: size,
        lost: false,
        writable: false,
        executable: false,
        name: Arc::default(),
        file_offset: None,
        file: None,
    })
}

fn segment(line: &str) -> Option<Segment> {
    let (range, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (offset, name) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let start = number(start)?;
    let size = number(end)?.checked_sub(start)?;
    Some(Segment {
        start,
        size,
        offset: number(offset)?,
        dumped: size,
        lost: false,
        writable: false,
        executable: false,
        name: name.trim().into(),
        file_offset: None,
        file: None,
    })
}
