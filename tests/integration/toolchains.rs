//! A plugin that was built by another compiler.

use std::path::Path;
use std::process::Command;

use pactio_tests::{host_of, plain_cargo};

/// Another toolchain than the one that built this test, if rustup knows one.
fn other_toolchain() -> Result<String, String> {
    let list = Command::new("rustup")
        .args(["toolchain", "list"])
        .output()
        .map_err(|error| format!("rustup does not run: {error}"))?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let own = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .arg("--version")
        .output()
        .map_err(|error| format!("rustc does not run: {error}"))?;
    for toolchain in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let version = Command::new("rustup").args(["run", toolchain, "rustc", "--version"]).output();
        if version.is_ok_and(|version| version.status.success() && version.stdout != own.stdout) {
            return Ok(toolchain.to_owned());
        }
    }
    Err(format!(
        "there is only one toolchain; install another with `rustup toolchain install nightly`\n{list}"
    ))
}

#[test]
fn a_plugin_of_another_compiler_loads_and_works() {
    let toolchain = match other_toolchain() {
        Ok(toolchain) => toolchain,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other-toolchain");
    let mut cargo = plain_cargo("rustup");
    cargo
        .args(["run", &toolchain, "cargo", "build", "--quiet", "--locked", "--release"])
        .args(["-p", "pactio-plugin-memory-cdylib", "-p", "fixture-queued", "--target-dir"])
        .arg(&target)
        .current_dir(workspace);
    let status = cargo.status().unwrap();
    assert!(status.success(), "{toolchain} cannot build the plugins");
    println!("built with {toolchain}");

    let host = host_of(&target.join("release"));
    let plugins = host.plugins();
    let loaded: Vec<&str> = plugins.iter().map(|plugin| plugin.manifest().id.as_str()).collect();
    assert_eq!(loaded, ["fixture-queued", "memory"]);
    let memory = host.open("memory:?size=8KiB&fill=4").unwrap();
    let queued = host.open("queued:8192").unwrap();
    host.block_on(async {
        memory.write_all_at(100, b"other").await.unwrap();
        assert_eq!(memory.read_exact_at(98, vec![0; 8]).await.unwrap(), b"\x04\x04other\x04");
        assert_eq!(queued.read_exact_at(250, vec![0; 3]).await.unwrap(), [250, 0, 1]);
        assert_eq!(queued.read_at(8190, vec![0; 3]).await.unwrap().0.done(), 2);
    });
    assert!(host.open("memory:?size=x").unwrap_err().to_string().contains("must be a size"));
}
