//! The guide names only files and tests that exist.

use std::fs;
use std::path::Path;

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, all);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(entry).unwrap());
        }
    }
}

#[test]
fn what_the_guide_names_exists() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in ["src", "tests", "../tests/integration"] {
        sources(&sdk.join(folder), &mut all);
    }
    let guide = fs::read_to_string(sdk.join("docs/guide.md")).unwrap();
    let (mut tests, mut files) = (0, 0);
    for name in guide.split('`').skip(1).step_by(2) {
        if name.ends_with(".rs") {
            files += 1;
            assert!(sdk.join("src").join(name).is_file(), "the guide names the file {name}");
        } else if name.matches('_').count() >= 3 && !name.contains(char::is_whitespace) {
            tests += 1;
            assert!(all.contains(&format!("fn {name}(")), "the guide names the test {name}");
        }
    }
    assert!(tests > 70 && files > 30, "{tests} tests and {files} files were found in the guide");
    for rule in 1..=24 {
        assert!(guide.contains(&format!("\n| {rule} ")), "the guide does not name rule {rule}");
    }
}
