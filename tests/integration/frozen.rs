//! Plugins of earlier versions of the ABI, built from the sdk as it was then.

use std::fs;
use std::path::Path;
use std::process::Command;

use pactio::{OpenOptions, parse_size};
use pactio_sdk::abi::{ABI_MAJOR, ABI_MINOR};
use pactio_tests::{host_of, plain_cargo};

/// Builds the plugin `memory` of a frozen sdk; gives the folder that it is in.
fn build(archive: &Path) -> std::path::PathBuf {
    let name = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = folder.join("source");
    fs::create_dir_all(&source).unwrap();
    assert!(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&source).status().unwrap().success());
    let target = folder.join("target");
    let status = plain_cargo("cargo")
        .args(["build", "--quiet", "--locked", "-p", "pactio-plugin-memory", "--target-dir"])
        .arg(&target)
        .current_dir(&source)
        .status()
        .unwrap();
    assert!(status.success(), "{name} cannot be built");
    target.join("debug")
}

#[test]
fn the_plugin_of_each_frozen_abi_loads_and_works() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("frozen");
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(version) = path.to_str().and_then(|path| path.strip_suffix(".tar.gz")?.split_once("/abi-"))
        else {
            continue;
        };
        versions.push(version.1.to_owned());
        let host = host_of(&build(&path));
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
    let own = format!("{ABI_MAJOR}.{ABI_MINOR}");
    assert!(
        versions.contains(&own),
        "the ABI {own} is not frozen: is it another one on purpose? Then run tests/frozen/freeze.sh ({versions:?})"
    );
}
