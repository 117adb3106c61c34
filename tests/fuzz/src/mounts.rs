//! Any file of a mount gives sources in the order in which they are looked up, or an error with a text that names the file.
#![no_main]
#![allow(dead_code, reason = "the parser is compiled in, and only its entry is used")]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../../plugins/mount/src/plan.rs"]
mod plan;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| std::env::temp_dir().join(format!("pactio-fuzz-mount-{}.toml", std::process::id())))
}

fuzz_target!(|input: (bool, &[u8])| {
    let (is_file, bytes) = input;
    let target = if is_file {
        std::fs::write(file(), bytes).unwrap();
        file().display().to_string()
    } else {
        // A list of URLs. The scheme in front prevents that a file of the machine is read.
        format!("memory:{}", String::from_utf8_lossy(bytes))
    };
    match plan::of(&target) {
        Ok(sources) => {
            assert!(!sources.is_empty(), "'{target}'");
            assert!(sources.is_sorted_by(|first, second| first.priority >= second.priority), "{sources:?}");
            for source in sources {
                assert!(!source.url.is_empty() && !source.name.is_empty(), "{source:?}");
                assert!(!source.at.starts_with('/') && !source.at.ends_with('/'), "{source:?}");
                assert!(source.at.split('/').all(|part| part != ".."), "{source:?}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
