//! Files that are plugins, files that are not, and what is said of them.

use std::fs;
use std::path::Path;

use pactio::{Candidate, ErrorKind, RefusalKind};
use pactio_tests::{folder_of, host_of, library};

fn refused(name: &str) -> (RefusalKind, String) {
    let folder = folder_of(&[name, "pactio_memory"]);
    let host = host_of(folder.path());
    // One bad file never hides the others.
    assert!(host.open("memory:?size=1").is_ok());
    let candidate = host.candidates().iter().find(|candidate| candidate.refusal().is_some()).unwrap();
    let refusal = candidate.refusal().unwrap();
    (refusal.kind(), refusal.to_string())
}

#[test]
fn a_library_without_an_entry_is_no_plugin() {
    let (kind, message) = refused("fixture_no_entry");
    assert_eq!(kind, RefusalKind::NoEntry);
    assert_eq!(
        message,
        "is not a pactio plugin: it does not export PACTIO_PLUGIN (pactio_sdk::export_plugin! does)"
    );
}

#[test]
fn another_abi_version_is_refused_with_both_versions() {
    let (kind, message) = refused("fixture_abi_version");
    assert_eq!(kind, RefusalKind::AbiVersion);
    assert_eq!(
        message,
        "is built for ABI 7.3, this host for 0.1: rebuild it with the pactio-sdk of this host"
    );
}

#[test]
fn another_fingerprint_is_refused_with_both_values() {
    let (kind, message) = refused("fixture_fingerprint");
    assert_eq!(kind, RefusalKind::Fingerprint);
    let own = format!("{:016x}", pactio_sdk::abi::FINGERPRINT);
    assert!(message.contains("123456789abcdef0") && message.contains(&own), "{message}");
}

#[test]
fn another_layout_is_refused_with_the_type() {
    let (kind, message) = refused("fixture_layout");
    assert_eq!(kind, RefusalKind::Layout);
    assert_eq!(
        message,
        "lays out a type that both sides share differently: mismatched type Expected: CGlueTraitObj<'a> Found: \
         BackendObj; rebuild it with the pactio-sdk of this host"
    );
}

#[test]
fn a_plugin_that_panics_in_its_setup_is_refused() {
    let (kind, message) = refused("fixture_panic_create");
    assert_eq!(kind, RefusalKind::Setup);
    assert_eq!(message, "failed while it was set up: the plugin panicked");
}

fn of_bytes(bytes: &[u8]) -> Candidate {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.so"), bytes).unwrap();
    let candidate = Candidate::of_file(folder.path().join("x.so"));
    assert!(candidate.plugin().is_none(), "{} bytes were loaded as a plugin", bytes.len());
    candidate
}

#[test]
fn what_is_no_library_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 4096]] {
        assert_eq!(of_bytes(bytes).refusal().unwrap().kind(), RefusalKind::NotALibrary);
    }
    let missing = Candidate::of_file("/nowhere/at/all.so");
    assert_eq!(missing.refusal().unwrap().kind(), RefusalKind::Unreadable);
    assert!(missing.refusal().unwrap().to_string().contains("No such file"));
}

#[test]
fn truncated_plugins_are_refused_at_any_length() {
    let whole = fs::read(library("pactio_memory")).unwrap();
    // The head of the file and the tables at its end are where a cut changes what is read.
    for cut in (0..200).map(|step| step * step * whole.len() / 40_000) {
        let refusal = of_bytes(&whole[..cut]);
        assert!(!refusal.refusal().unwrap().to_string().is_empty());
    }
}

#[test]
fn a_plugin_of_another_architecture_is_refused() {
    let mut bytes = fs::read(library("pactio_memory")).unwrap();
    // e_machine: AArch64.
    bytes[18..20].copy_from_slice(&183u16.to_le_bytes());
    let candidate = of_bytes(&bytes);
    assert_eq!(candidate.refusal().unwrap().to_string(), "is built for Aarch64, this host for X86_64");
}

#[test]
fn without_its_library_a_scheme_is_unknown_and_the_error_says_what_was_found() {
    let folder = folder_of(&["pactio_file", "fixture_abi_version", "fixture_no_entry"]);
    let copy = folder.path().join("libpactio_memory.so");
    fs::copy(library("pactio_memory"), &copy).unwrap();
    assert!(host_of(folder.path()).open("memory:?size=1").is_ok());

    fs::remove_file(&copy).unwrap();
    let error = host_of(folder.path()).open("memory:?size=1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScheme);
    let expected = format!(
        "no plugin has the scheme 'memory'; those that exist are: file\nsearched:\n  {}: libfixture_abi_version.so \
         refused: is built for ABI 7.3, this host for 0.1: rebuild it with the pactio-sdk of this host; \
         libpactio_file.so (file); 1 other libraries",
        folder.path().display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("PACTIO_PLUGIN_PATH"));
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = host_of(Path::new("/nowhere/at/all")).open("memory:").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no plugin has the scheme 'memory'; no plugin is loaded\nsearched:\n  /nowhere/at/all: does not exist"
    );
}

#[test]
fn the_first_of_two_plugins_with_one_id_wins() {
    let folder = folder_of(&["pactio_memory"]);
    let copy = folder.path().join("zzz.so");
    fs::copy(library("pactio_memory"), &copy).unwrap();
    let host = host_of(folder.path());
    assert_eq!(host.plugins().count(), 1);
    let refusal = host.candidates()[1].refusal().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::Duplicate);
    let message = refusal.to_string();
    assert!(message.contains("'memory'") && message.contains("libpactio_memory.so"), "{message}");
}

#[test]
fn a_plugin_says_what_it_is() {
    let candidate = Candidate::of_file(library("pactio_file"));
    let info = candidate.plugin().unwrap().info();
    assert_eq!((info.id.as_str(), info.schemes.as_slice()), ("file", &["file".to_owned()][..]));
    assert_eq!(info.sdk_version, env!("CARGO_PKG_VERSION"));
}
