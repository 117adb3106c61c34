//! Any pattern is refused with a text, or has a finite number of matches, in order, within the bytes.
#![no_main]
#![allow(dead_code)]

#[path = "../../../host/command/src/pattern.rs"]
mod pattern;

use libfuzzer_sys::fuzz_target;
use pattern::{Pattern, Text};

fuzz_target!(|input: (&str, &[u8])| {
    let (text, bytes) = input;
    let patterns = [
        Pattern::hex(text),
        Pattern::bytes(text.as_bytes()),
        Pattern::value(text, false),
        Pattern::value(text, true),
        Pattern::regex(text, 64),
    ];
    for pattern in patterns {
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(error) => {
                assert!(!error.is_empty());
                continue;
            }
        };
        let mut from = 0;
        while let Some(found) = pattern.find(Text { bytes, ends: true }, from) {
            assert!(found.start >= from && found.end <= bytes.len(), "{found:?} from {from}");
            let next = pattern.next(&found);
            assert!(next > from || next > found.start, "the search goes on");
            from = next;
            if from > bytes.len() {
                break;
            }
        }
    }
});
