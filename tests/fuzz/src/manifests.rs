//! The content of a file's section is a manifest or is refused, and a manifest can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio::Manifest;
use pactio_sdk::abi::{ABI_MAJOR, ABI_MINOR, FINGERPRINT};

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(bytes).map_err(|refusal| refusal.to_string());
    // The bytes follow the fields that are checked first.
    let mut manifest = format!(
        r#"{{"pactio":1,"abi":"{ABI_MAJOR}.{ABI_MINOR}","fingerprint":"{FINGERPRINT:016x}","id":"a","version":"1",
            "description":"","schemes":["a"],"options":[{{"name":"n","type":"#
    )
    .into_bytes();
    manifest.extend_from_slice(bytes);
    for end in ["", "}]}", "]}", "}"] {
        let mut whole = manifest.clone();
        whole.extend_from_slice(end.as_bytes());
        match Manifest::parse(&whole) {
            Ok(manifest) => assert!(!manifest.id.is_empty() && !format!("{manifest:?}").is_empty()),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
});
