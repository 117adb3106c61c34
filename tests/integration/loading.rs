//! Files that are plugins, files that are not, and the messages about them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSection};
use pactio::{Candidate, ErrorKind, Host, Refusal, RefusalKind};
use pactio_tests::{folder_of, host_of, library};

/// The refusal of a library beside another one, found without loading it.
fn refused(name: &str) -> Refusal {
    let folder = folder_of(&[name, "pactio_memory"]);
    let host = host_of(folder.path());
    // One bad file never hides the others.
    assert!(host.open("memory:?size=1").is_ok());
    let candidate = host.candidates().into_iter().find(|candidate| candidate.refusal().is_some()).unwrap();
    candidate.refusal().unwrap().clone()
}

/// The error of a library when a device of it is opened.
fn refused_when_opened(name: &str, url: &str) -> (ErrorKind, String) {
    let folder = folder_of(&[name, "pactio_memory"]);
    let host = host_of(folder.path());
    let error = host.open(url).unwrap_err();
    assert!(host.open("memory:?size=1").is_ok());
    // A second open fails with the same error.
    assert_eq!(host.open(url).unwrap_err().to_string(), error.to_string());
    let real = library(name).canonicalize().unwrap();
    (error.kind(), error.to_string().replace(&real.display().to_string(), "FILE"))
}

#[test]
fn a_library_without_a_manifest_is_no_plugin() {
    let refusal = refused("fixture_no_entry");
    assert_eq!(refusal.kind(), RefusalKind::NoManifest);
    assert_eq!(
        refusal.to_string(),
        "it is not a pactio plugin: it has no section .pactio: in Rust, `export_plugin!` makes one; in C, `PACTIO_EXPORT` of plugin.h"
    );
}

#[test]
fn another_abi_version_is_refused_with_both_versions() {
    let refusal = refused("fixture_abi_version");
    assert_eq!((refusal.kind(), refusal.kind().code()), (RefusalKind::AbiVersion, "abi-version"));
    assert_eq!(
        refusal.to_string(),
        "its ABI version is 7.3, but must be 1.0: use it with a newer host, or rebuild it with the pactio-sdk or the plugin.h of this one"
    );
    let difference = refusal.difference().unwrap();
    let named = (difference.field, difference.found.as_str(), difference.expected.as_str());
    assert_eq!(named, ("ABI version", "7.3", "1.0"));
}

#[test]
fn another_fingerprint_is_refused_with_both_values() {
    let refusal = refused("fixture_fingerprint");
    assert_eq!(refusal.kind(), RefusalKind::Fingerprint);
    let own = format!("{:016x}", pactio_sdk::abi::FINGERPRINT);
    let message = refusal.to_string();
    assert!(message.contains("is 123456789abcdef0, but must be ") && message.contains(&own), "{message}");
    assert!(refusal.remedy().unwrap().contains("rebuild it"), "{:?}", refusal.remedy());
}

#[test]
fn another_layout_is_refused_with_the_type() {
    let (kind, message) = refused_when_opened("fixture_layout", "fixture-layout:");
    assert_eq!(kind, ErrorKind::Refused(RefusalKind::Layout));
    assert_eq!(
        message,
        "cannot open 'fixture-layout:': the plugin 'fixture-layout' (FILE) cannot be used: it lays \
         out a type that both sides share differently: mismatched type Expected: CGlueTraitObj<'a> Found: BackendObj: \
         rebuild it with the pactio-sdk or the plugin.h of this host"
    );
}

#[test]
fn a_plugin_that_panics_in_its_setup_is_refused() {
    let (kind, message) = refused_when_opened("fixture_panic_create", "panic-create:");
    assert_eq!(kind, ErrorKind::Refused(RefusalKind::Setup));
    assert!(
        message.ends_with("cannot be used: it failed while it was set up: the plugin panicked"),
        "{message}"
    );
}

#[test]
fn looking_at_a_plugin_runs_none_of_its_code() {
    const NAME: &str = "PACTIO_CONSTRUCTED";
    let folder = folder_of(&["fixture_constructor"]);
    let touched = folder.path().join("touched");
    // In a child, since the library may be loaded in this process.
    if let Some(touched) = std::env::var_os(NAME) {
        let candidate = Candidate::of_file(library("fixture_constructor"));
        assert_eq!(candidate.plugin().unwrap().manifest().id, "fixture-constructor");
        let host = host_of(folder.path());
        assert_eq!(host.plugins()[0].manifest().description, "runs code when it is loaded");
        // A wrong option is an error without loading, too.
        assert_eq!(host.open("constructor:?x=1").unwrap_err().kind(), ErrorKind::InvalidOption);
        assert!(!Path::new(&touched).exists(), "its constructor has run");
        assert!(!host.plugins()[0].is_loaded());
        host.open("constructor:").unwrap();
        assert!(host.plugins()[0].is_loaded());
        assert!(
            Path::new(&touched).exists(),
            "the constructor does not work, so that this test says nothing"
        );
        return;
    }
    let name = "loading::looking_at_a_plugin_runs_none_of_its_code";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(NAME, &touched)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(touched.exists(), "the child has not run this test");
}

/// The file of a plugin with another manifest, which is not longer than the old one.
fn with_manifest(change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut bytes = fs::read(library("pactio_memory")).unwrap();
    let (offset, len) = {
        let file = object::File::parse(&*bytes).unwrap();
        file.section_by_name(".pactio").unwrap().file_range().unwrap()
    };
    let section = offset as usize..(offset + len) as usize;
    let old = String::from_utf8(bytes[section.clone()].to_vec()).unwrap();
    let new = change(&old);
    assert!(new != old && new.len() <= old.len(), "{new}");
    bytes[section].copy_from_slice(format!("{new:<width$}", width = old.len()).as_bytes());
    bytes
}

#[test]
fn each_field_of_a_manifest_is_held_against_this_host() {
    let own = format!("{:016x}", pactio_sdk::abi::FINGERPRINT);
    let other = own.replace(own.chars().next().unwrap(), if own.starts_with('0') { "1" } else { "0" });
    let fingerprint = format!("its fingerprint is {other}, but must be {own}");
    for (from, to, kind, message) in [
        (
            r#"{"pactio""#,
            r#"("pactio""#,
            RefusalKind::Damaged,
            "its manifest is damaged: expected value at line 1",
        ),
        (
            r#""pactio":1"#,
            r#""pactio":9"#,
            RefusalKind::Damaged,
            "its manifest's form is 9, but must be 1: rebuild it",
        ),
        (
            r#""pactio":1"#,
            r#""pctio":1"#,
            RefusalKind::Damaged,
            "its manifest is damaged: it has no number 'pactio'",
        ),
        (
            r#""abi":"1.0""#,
            r#""abi":"2.6""#,
            RefusalKind::AbiVersion,
            "its ABI version is 2.6, but must be 1.0: use it with a newer",
        ),
        (
            r#""abi":"1.0""#,
            r#""abi":"0.1""#,
            RefusalKind::AbiVersion,
            "its ABI version is 0.1, but must be 1.0: rebuild it",
        ),
        (r#""abi":"1.0""#, r#""abi":"x""#, RefusalKind::AbiVersion, "its ABI version is x, but must be 1.0"),
        (
            r#""abi":"1.0""#,
            r#""abi":2"#,
            RefusalKind::Damaged,
            "its manifest is damaged: it has no text 'abi'",
        ),
        (own.as_str(), other.as_str(), RefusalKind::Fingerprint, fingerprint.as_str()),
        (r#""id":"memory""#, r#""id":"""#, RefusalKind::Damaged, r#"the id "" is not a name"#),
        (r#""id":"memory""#, r#""id":"me ory""#, RefusalKind::Damaged, r#"the id "me ory" is not a name"#),
        (r#""id":"memory","#, "", RefusalKind::Damaged, "missing field `id`"),
        (r#""version":"0.1.0","#, "", RefusalKind::Damaged, "missing field `version`"),
        (r#""description":"devices in memory","#, "", RefusalKind::Damaged, "missing field `description`"),
        (r#""schemes":["memory"]"#, r#""schemes":[]"#, RefusalKind::Damaged, "it has no schemes"),
        (
            r#""schemes":["memory"]"#,
            r#""schemes":["m/mory"]"#,
            RefusalKind::Damaged,
            r#""m/mory" is not a URL scheme"#,
        ),
        (
            r#""requires":[],"sdk":"0.1.0""#,
            r#""requires":["telepathy"]"#,
            RefusalKind::MissingFeature,
            "it requires the feature 'telepathy', which this host does not have: use it with a newer host",
        ),
        (r#""name":"size""#, r#""name":"fill""#, RefusalKind::Damaged, "there are two options 'fill'"),
        (
            r#""name":"size""#,
            r#""name":"s ze""#,
            RefusalKind::Damaged,
            r#""s ze" is not the name of an option"#,
        ),
        (r#""type":"size""#, r#""type":"sice""#, RefusalKind::Damaged, "unknown variant `sice`"),
        (
            r#""default":"0""#,
            r#""default":"x""#,
            RefusalKind::Damaged,
            "the default of option 'fill' is 'x', but must be a whole number",
        ),
        (
            r#""most":"255""#,
            r#""most":"2x5""#,
            RefusalKind::Damaged,
            "the option 'fill' has the bound '2x5', which is no value of its kind",
        ),
        (
            r#""required":true"#,
            r#""required":7"#,
            RefusalKind::Damaged,
            "invalid type: integer `7`, expected a boolean",
        ),
    ] {
        let candidate = of_bytes(&with_manifest(|manifest| manifest.replacen(from, to, 1)));
        let refusal = candidate.refusal().unwrap();
        assert_eq!(refusal.kind(), kind, "{from} -> {to}: {refusal}");
        assert!(refusal.to_string().contains(message), "{from} -> {to}: {refusal}");
    }
}

#[test]
fn what_a_manifest_says_beyond_this_version_is_ignored() {
    let bytes = with_manifest(|manifest| {
        manifest.replace(r#""license":"MIT OR Apache-2.0""#, r#""future":{"a":[1]}"#)
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.so"), bytes).unwrap();
    let candidate = Candidate::of_file(folder.path().join("x.so"));
    assert_eq!(candidate.plugin().unwrap().manifest().license, "");
    // But the loaded manifest must be the one that was read: here it is, since both come from the changed file.
    candidate.plugin().unwrap().load().unwrap();
}

#[test]
fn what_is_put_behind_a_manifest_is_no_part_of_it() {
    // AddressSanitizer appends such bytes.
    let bytes =
        with_manifest(|manifest| manifest.replace("\"license\":\"MIT OR Apache-2.0\",", "") + "\0\0\0");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.so"), bytes).unwrap();
    let candidate = Candidate::of_file(folder.path().join("x.so"));
    candidate.plugin().unwrap().load().unwrap();
}

#[test]
fn a_file_that_is_replaced_after_it_was_looked_at_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    fs::copy(library("pactio_memory"), &path).unwrap();
    let host = host_of(folder.path());
    fs::remove_file(&path).unwrap();
    fs::copy(library("pactio_file"), &path).unwrap();
    let error = host.open("memory:?size=1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(RefusalKind::Replaced));
    // A new host sees the new file.
    assert_eq!(host_of(folder.path()).plugins()[0].manifest().id, "file");
}

#[test]
fn a_file_that_everyone_can_write_is_refused() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("libplugin.so");
    fs::copy(library("pactio_memory"), &path).unwrap();
    let refusal = |strict| {
        let builder = Host::builder().default_search_paths(false).search_path(&folder);
        let host = builder.strict_owners(strict).build().unwrap();
        let refusal = host.candidates()[0].refusal().cloned();
        refusal.inspect(|refusal| assert_eq!(refusal.kind(), RefusalKind::Writable)).map(|r| r.to_string())
    };
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let everyone = "every user of the system can write";
    assert_eq!(refusal(false), None);
    for (at, bits, expected) in [
        (&path, 0o646, format!("{everyone} it (mode 0646): chmod o-w {}", path.display())),
        (&folder, 0o707, format!("{everyone} the folder {0} (mode 0707): chmod o-w {0}", folder.display())),
        // Other users cannot replace the file here, but they can put another plugin beside it.
        (&folder, 0o1777, format!("{everyone} the folder {0} (mode 1777): chmod o-w {0}", folder.display())),
    ] {
        mode(at, bits);
        assert_eq!(refusal(false), Some(expected));
        mode(at, 0o755);
    }
    // A folder further up is checked only in strict mode.
    mode(outer.path(), 0o777);
    assert_eq!(refusal(false), None);
    let expected = format!("{everyone} the folder {0} (mode 0777): chmod o-w {0}", outer.path().display());
    assert_eq!(refusal(true), Some(expected));
    mode(outer.path(), 0o1777);
    assert_eq!(refusal(true), None, "as in /tmp, others cannot replace the folder");
    mode(&path, 0o664);
    assert_eq!(refusal(false), None);
    assert!(refusal(true).unwrap().contains("every member of the group"), "{:?}", refusal(true));
    mode(&path, 0o644);
    assert_eq!(refusal(true), None);
    // Only root can change the owner of a file.
    if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
        assert!(
            refusal(true).unwrap().starts_with("the user 12345 can write it (mode 0644)"),
            "{:?}",
            refusal(true)
        );
        assert_eq!(refusal(false), None);
    }
}

#[test]
fn a_library_that_looks_beside_its_own_file_is_refused_with_advice() {
    let folder = folder_of(&["fixture_relative"]);
    let error = host_of(folder.path()).open("relative:").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(RefusalKind::CannotLoad));
    assert!(error.to_string().contains("('$ORIGIN/lib'), but is loaded from a sealed copy: link"), "{error}");
    let host =
        Host::builder().default_search_paths(false).search_path(folder.path()).seal(false).build().unwrap();
    assert_eq!(host.open("relative:").unwrap().size(), Some(0));
}

#[test]
fn without_a_sealed_copy_a_replaced_file_is_refused_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libunsealed.so");
    fs::copy(library("pactio_memory"), &path).unwrap();
    let unsealed = || {
        Host::builder().default_search_paths(false).search_path(folder.path()).seal(false).build().unwrap()
    };
    let host = unsealed();
    assert_eq!(host.open("memory:?size=7").unwrap().size(), Some(7));
    assert!(fs::read_to_string("/proc/self/maps").unwrap().contains(path.to_str().unwrap()));
    let other = unsealed();
    fs::copy(library("pactio_memory"), folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    let error = other.open("memory:?size=7").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(RefusalKind::Replaced));
    assert!(other.rescan());
    assert_eq!(other.open("memory:?size=7").unwrap().size(), Some(7));
}

#[test]
fn a_manifest_survives_strip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libstripped.so");
    let status =
        Command::new("strip").arg("--strip-all").arg("-o").arg(&path).arg(library("pactio_memory")).status();
    assert!(status.unwrap().success());
    let host = host_of(folder.path());
    assert_eq!(host.plugins()[0].manifest().id, "memory");
    assert_eq!(host.open("memory:?size=7").unwrap().size(), Some(7));
}

#[test]
fn a_secret_reaches_the_plugin_and_nobody_else() {
    let folder = folder_of(&["fixture_constructor"]);
    let host = host_of(folder.path());
    let key = folder.path().join("key");
    fs::write(&key, "open sesame\n").unwrap();
    let url = format!("constructor:?key=file:{}", key.display());
    let device = host.open(&url).unwrap();
    assert_eq!(device.url(), "constructor:?key=***");
    assert!(
        !format!("{device:?} {:?}", url.parse::<pactio::Url>().unwrap()).contains("key=file"),
        "{device:?}"
    );
    let error = host.open("constructor:?key=swordfish").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open 'constructor:?key=***' with plugin 'fixture-constructor': the key is wrong"
    );
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
    assert!(
        missing.refusal().unwrap().to_string().contains("No such file"),
        "{}",
        missing.refusal().unwrap()
    );
}

#[test]
fn truncated_plugins_are_refused_at_any_length() {
    let whole = fs::read(library("pactio_memory")).unwrap();
    // A cut changes the data that is read in the head of the file and in the tables at its end.
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
    assert_eq!(
        candidate.refusal().unwrap().to_string(),
        "its architecture is Aarch64, but must be X86_64: use a plugin that was built for this machine"
    );
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
        "no plugin has the scheme 'memory'; those that exist are: file\nsearched:\n  {}: libpactio_file.so (file); 1 other \
         library (`pactio plugins --all` names them)\n    libfixture_abi_version.so refused: its ABI version is 7.3, but must be 1.0: use it with a newer host, \
         or rebuild it with the pactio-sdk or the plugin.h of this one",
        folder.path().display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("PACTIO_PLUGIN_PATH"), "{:?}", error.hint());
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = host_of(Path::new("/nowhere/at/all")).open("memory:").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no plugin has the scheme 'memory'; no plugin was found\nsearched:\n  /nowhere/at/all: does not exist"
    );
}

#[test]
fn the_first_of_two_plugins_with_one_id_wins() {
    let folder = folder_of(&["pactio_memory"]);
    let copy = folder.path().join("zzz.so");
    fs::copy(library("pactio_memory"), &copy).unwrap();
    let host = host_of(folder.path());
    assert_eq!(host.plugins().len(), 1);
    let candidates = host.candidates();
    let refusal = candidates[1].refusal().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::Duplicate);
    let message = refusal.to_string();
    assert!(message.contains("'memory'") && message.contains("libpactio_memory.so"), "{message}");
}

#[test]
fn a_plugin_says_what_it_is() {
    let candidate = Candidate::of_file(library("pactio_file"));
    let info = candidate.plugin().unwrap().manifest();
    assert_eq!((info.id.as_str(), info.schemes.as_slice()), ("file", &["file".to_owned()][..]));
    assert_eq!(info.sdk, env!("CARGO_PKG_VERSION"));
}
