//! Any file is refused as a plugin with a text, or has a manifest; none of its code runs.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pactio::Candidate;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("pactio-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join("plugin.so")
    })
}

fuzz_target!(|bytes: &[u8]| {
    // The host keeps its result for an unchanged file, so the file is a new one each time.
    let _ = fs::remove_file(file());
    fs::write(file(), bytes).unwrap();
    let candidate = Candidate::of_file(file());
    match candidate.refusal() {
        Some(refusal) => assert!(!refusal.to_string().is_empty()),
        None => assert!(!candidate.plugin().unwrap().manifest().id.is_empty()),
    }
});
