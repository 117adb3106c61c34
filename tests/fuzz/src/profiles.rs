//! Any file of profiles gives devices, or an error with a text.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pactio::Host;

/// A host without plugins, and its file of profiles.
fn host() -> &'static (Host, std::path::PathBuf) {
    static HOST: OnceLock<(Host, std::path::PathBuf)> = OnceLock::new();
    HOST.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("pactio-fuzz-profiles-{}", std::process::id()));
        let host = Host::builder().default_search_paths(false).profiles(&file).worker_threads(1).build().unwrap();
        (host, file)
    })
}

fuzz_target!(|input: (&str, &[u8])| {
    let (name, content) = input;
    let (host, file) = host();
    fs::write(file, content).unwrap();
    let Err(error) = host.open(&format!("profile:{}", name.replace(['|', '?', '%'], ""))) else {
        panic!("a device was opened without a plugin")
    };
    assert!(!error.to_string().is_empty());
});
