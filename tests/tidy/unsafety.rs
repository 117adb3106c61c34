//! Plugins and their libraries forbid unsafe code, unless they need it.

use std::fs;
use std::path::Path;

/// The plugins with unsafe code: calls of the system, and memory that is shared with the kernel.
const WITH_UNSAFE_CODE: [&str; 3] = ["file", "memory", "process"];

#[test]
fn plugins_forbid_unsafe_code_where_they_need_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for folder in ["plugins", "sdk/kit"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let library = fs::read_to_string(entry.path().join("src/lib.rs")).unwrap();
            let name = entry.file_name().into_string().unwrap();
            let forbids = library.contains("#![forbid(unsafe_code)]");
            let needs = WITH_UNSAFE_CODE.contains(&name.as_str());
            assert_ne!(forbids, needs, "{folder}/{name} forbids unsafe code: {forbids}");
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} crates were found");
}
