//! A valid URL parses again from its printed text, and its debug output shows no values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio::{Url, parse_size};

fuzz_target!(|text: &str| {
    let _ = parse_size(text);
    match text.parse::<Url>() {
        Ok(url) => {
            assert_eq!(url.reveal().parse::<Url>().unwrap(), url);
            assert!(url.options().is_empty() || format!("{url:?}").contains("=***"), "{url:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
