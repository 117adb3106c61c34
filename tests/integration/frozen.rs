//! Plugins of earlier versions of the ABI, built from the sdk as it was then.

use std::fs;
use std::path::Path;
use std::process::Command;

use pactio::{Candidate, OpenOptions, RefusalKind, parse_size};
use pactio_sdk::abi::{ABI_MAJOR, ABI_MINOR};
use pactio_tests::{host_of, plain_cargo};

/// Builds the plugin `memory` of a frozen sdk, and returns the folder of the plugin.
fn build(archive: &Path) -> std::path::PathBuf {
    let name = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    // An archive that was frozen again before its version was released gets another folder: its files have no times to tell them
    // apart.
    let len = fs::metadata(archive).unwrap().len();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{len}"));
    let source = folder.join("source");
    fs::create_dir_all(&source).unwrap();
    assert!(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&source).status().unwrap().success());
    let target = folder.join("target");
    let status = plain_cargo("cargo")
        .args(["build", "--quiet", "--locked", "--workspace", "--target-dir"])
        .arg(&target)
        .current_dir(&source)
        .status()
        .unwrap();
    assert!(status.success(), "{name} cannot be built");
    target.join("debug")
}

/// The plugin of the frozen sdk works in this host.
fn works(folder: &Path) {
    let host = host_of(folder);
    let options = OpenOptions::new().read(true).write(true);
    let device =
        host.open_with("memory:?size=8KiB&fill=4", options).unwrap_or_else(|error| panic!("{error}"));
    host.block_on(async {
        device.write_all_at(100, b"old and new").await.unwrap();
        let mut bytes = [0; 13];
        device.read_exact_at(99, &mut bytes).await.unwrap();
        assert_eq!(&bytes, b"\x04old and new\x04");
        // A part is past the end.
        let (report, _) = device.read_at(8190, vec![0; 10]).await.unwrap();
        assert_eq!(report.done(), 2);
    });
    assert_eq!(device.size(), parse_size("8KiB"));
}

/// The plugin of the frozen sdk is refused by its version, with both versions and a remedy.
fn is_refused(folder: &Path, version: &str) {
    let candidate = Candidate::of_file(folder.join("libpactio_memory.so"));
    let refusal = candidate.refusal().unwrap_or_else(|| panic!("the plugin of ABI {version} was taken"));
    assert_eq!(refusal.kind(), RefusalKind::AbiVersion);
    assert_eq!(
        refusal.to_string(),
        format!(
            "its ABI version is {version}, but must be {ABI_MAJOR}.{ABI_MINOR}: rebuild it with the pactio-sdk or the plugin.h of this host"
        )
    );
    let error = host_of(folder).open("memory:?size=1").unwrap_err();
    assert!(error.to_string().contains(&refusal.to_string()), "{error}");
}

#[test]
fn frozen_plugins_of_this_abi_work_and_older_ones_are_refused_with_the_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("frozen");
    let own = format!("{ABI_MAJOR}.{ABI_MINOR}");
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let version = path.to_str().and_then(|path| path.strip_suffix(".tar.gz")?.split_once("/abi-"));
        let Some((_, version)) = version else { continue };
        let built = build(&path);
        if version == own {
            works(&built)
        } else {
            is_refused(&built, version)
        }
        versions.push(version.to_owned());
    }
    assert!(
        versions.contains(&own),
        "the ABI {own} is not frozen: is it another one on purpose? Then run tests/frozen/freeze.sh ({versions:?})"
    );
    assert!(versions.len() > 1, "no older version is there: {versions:?}");
}
