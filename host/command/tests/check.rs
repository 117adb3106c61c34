//! `pactio check`: correct plugins pass, and each mistake is found by the case that is for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The library of a crate, which cargo has built beside this test.
fn library(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().join(format!("lib{name}.so"));
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

fn check(name: &str, arguments: &[&str]) -> (Output, String) {
    let folder = library(name).parent().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_pactio"))
        .args(["--no-default-plugin-paths", "--plugin-path"])
        .arg(folder)
        .arg("check")
        .arg(library(name))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn all_plugins_of_this_repository_pass() {
    for (name, result) in [
        ("memory", "13 ok, 0 wrong, 3 do not apply\n"),
        ("file", "13 ok, 0 wrong, 3 do not apply\n"),
        ("cache", "14 ok, 0 wrong, 2 do not apply\n"),
        ("cow", "14 ok, 0 wrong, 2 do not apply\n"),
        ("crypt", "14 ok, 0 wrong, 2 do not apply\n"),
        ("delay", "14 ok, 0 wrong, 2 do not apply\n"),
        ("fault", "14 ok, 0 wrong, 2 do not apply\n"),
        ("limit", "14 ok, 0 wrong, 2 do not apply\n"),
        ("object", "13 ok, 0 wrong, 3 do not apply\n"),
        ("retry", "14 ok, 0 wrong, 2 do not apply\n"),
        ("stats", "14 ok, 0 wrong, 2 do not apply\n"),
        ("verify", "13 ok, 0 wrong, 3 do not apply\n"),
        // These are trees.
        ("archive", "13 ok, 0 wrong, 3 do not apply\n"),
        ("mount", "13 ok, 0 wrong, 3 do not apply\n"),
    ] {
        let (output, text) = check(&format!("pactio_{name}"), &[]);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(text.ends_with(result), "{name}: {text}");
    }
}

/// Runs the suite over a plugin beside the plugins of this repository.
fn check_file(plugin: &std::path::Path) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pactio"))
        .args(["--no-default-plugin-paths", "--plugin-path"])
        .arg(library("pactio_memory").parent().unwrap())
        .arg("check")
        .arg(plugin)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Binaries of earlier builds, which are never built again.
#[test]
fn plugins_that_were_built_before_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for version in std::fs::read_dir(root().join("tests/frozen")).unwrap() {
        let version = version.unwrap().path();
        if !version.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(version).unwrap() {
            let file = file.unwrap().path();
            let plugin = folder.path().join(file.file_stem().unwrap());
            let unpacked = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
            assert!(unpacked.status.success());
            std::fs::write(&plugin, unpacked.stdout).unwrap();
            let (output, text) = check_file(&plugin);
            assert!(output.status.success() && text.contains(" 0 wrong"), "{}: {text}", file.display());
            count += 1;
        }
    }
    assert!(count >= 5, "only {count} plugins were found");
}

#[test]
fn plugins_in_c_and_cpp_and_zig_pass() {
    let folder = tempfile::tempdir().unwrap();
    let include = format!("-I{}", root().join("sdk/include").display());
    let built = |compiler: &str, flags: &[&str], source: &str| {
        let plugin = folder.path().join(source.replace('/', "-")).with_extension("so");
        let output = Command::new(compiler)
            .args(flags)
            .args(["-fPIC", "-shared", "-pthread", "-Wall", "-Wextra", "-Werror", &include, "-o"])
            .arg(&plugin)
            .arg(root().join("examples").join(source))
            .output()
            .unwrap_or_else(|error| panic!("{compiler} is needed: {error}"));
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        plugin
    };
    let mut plugins = Vec::new();
    for level in ["-O0", "-O3"] {
        plugins.push((built("cc", &["-std=gnu11", level], "c/ramp.c"), "13 ok, 0 wrong, 3 do not apply"));
        plugins.push((built("cc", &["-std=gnu11", level], "c/invert.c"), "14 ok, 0 wrong, 2 do not apply"));
        plugins
            .push((built("c++", &["-std=c++17", level], "cpp/later.cpp"), "12 ok, 0 wrong, 4 do not apply"));
        plugins.drain(..).for_each(|(plugin, result)| {
            let (_, text) = check_file(&plugin);
            assert!(text.contains(result), "{level} {}: {text}", plugin.display());
        });
    }
    // The plugin of the book.
    let page = std::fs::read_to_string(root().join("docs/c-plugins.md")).unwrap();
    let program = page.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let source = folder.path().join("block.c");
    std::fs::write(&source, program).unwrap();
    let (_, text) = check_file(&built("cc", &["-std=c11"], source.to_str().unwrap()));
    assert!(text.contains("12 ok, 0 wrong, 4 do not apply"), "{text}");
    // The compiler of the Python package `ziglang`, in the folder that the variable names.
    let Ok(python) = std::env::var("PACTIO_TEST_ZIG") else {
        return println!("skipped for Zig: PACTIO_TEST_ZIG names no Python with the package ziglang");
    };
    let status = Command::new(root().join("examples/zig/build.sh"))
        .env("ZIG", format!("{python} -m ziglang"))
        .env("PACTIO_ZIG_OUT", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let (_, text) = check_file(&folder.path().join("libsquares.so"));
    assert!(text.contains("12 ok, 0 wrong, 4 do not apply"), "{text}");
}

/// The check URL of the template of a filter is `memory:?size=100KiB | xor`.
#[test]
fn the_templates_pass() {
    for (name, result) in [
        ("template_backend", "13 ok, 0 wrong, 3 do not apply\n"),
        ("template_filter", "14 ok, 0 wrong, 2 do not apply\n"),
    ] {
        let (output, text) = check(name, &[]);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(text.ends_with(result), "{name}: {text}");
    }
}

#[test]
fn each_case_finds_what_it_is_for() {
    for (way, what) in [
        ("contents", "is 0, but should be "),
        ("edges", "the bytes 0..1 of a read lie past the end, but fail with 'input/output error' (IO)"),
        ("splits", ", but should be "),
        ("memory", "is 165, but should be "),
        ("many", ", but should be "),
        ("threads", "on one of four threads was not done: "),
        ("cancel", " that was given up was not answered within 5s"),
        ("drops", " whose device was closed was not answered within 5s"),
        (
            "honest",
            "it says that it can flush, but: cannot flush 'liar:honest' (plugin 'fixture-liar'): not supported",
        ),
        ("names", "it lists 'gone', but: cannot open 'gone' in 'liar:names'"),
        ("writers", "before it was published: byte 0 is 0, but should be "),
        ("again", "after 50 more devices there are "),
    ] {
        let (output, text) =
            check("fixture_liar", &["--url", &format!("liar:{way}"), "--case", way, "--reproduce", "1"]);
        assert_eq!(output.status.code(), Some(1), "{way}: {text}");
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with(&format!("WRONG  {way:<13} ")) && line.contains(what), "{way}: {text}");
        assert!(text.ends_with("0 ok, 1 wrong, 0 do not apply\n"), "{text}");
    }
    let (output, text) = check("fixture_liar", &[]);
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn a_device_that_makes_no_zeros_of_a_range_is_found() {
    let given = ["--url", "liar:zeros", "--case", "honest", "--reproduce", "1"];
    let (output, text) = check("fixture_liar", &given);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("WRONG  honest") && text.contains(", but should be 0"), "{text}");
}

#[test]
fn a_filter_that_forgets_an_answer_or_a_cancellation_is_found() {
    for (way, what) in [
        ("none", None),
        ("early", Some(("faults", "dropped by the device without an answer"))),
        ("panic", Some(("faults", "dropped by the device without an answer"))),
        ("deaf", Some(("cancel", "on a device that can cancel, was not answered within 5s"))),
    ] {
        let url = format!("memory:?size=100KiB | careless?way={way}");
        let (output, text) = check("fixture_careless", &["--url", &url, "--reproduce", "1"]);
        match what {
            None => assert_eq!(output.status.code(), Some(0), "{text}"),
            Some((case, what)) => {
                let line = text.lines().find(|line| line.starts_with("WRONG")).unwrap_or_default();
                assert!(line.starts_with(&format!("WRONG  {case} ")) && line.contains(what), "{way}: {text}");
                assert!(text.ends_with("13 ok, 1 wrong, 2 do not apply\n"), "{way}: {text}");
            }
        }
    }
}

#[test]
fn bytes_that_are_others_on_one_path_are_found() {
    for (library, url, what) in [
        ("fixture_xor", "memory:?size=100KiB | xor", None),
        ("fixture_xor", "memory:?size=100KiB | leaky?clear=nothing", None),
        ("fixture_xor", "memory:?size=100KiB | leaky?clear=exchange", Some(("an exchange of ", " is "))),
        (
            "fixture_xor",
            "memory:?size=100KiB | leaky?clear=read_batch",
            Some(("a vectored read of ", " is ")),
        ),
        (
            "fixture_xor",
            "memory:?size=100KiB | leaky?clear=write_batch",
            Some(("after a vectored write of ", " is ")),
        ),
        ("fixture_liar", "liar:regions", Some(("byte ", "but lies in none of its regions"))),
        ("fixture_liar", "liar:hand", Some(("a read of ", " at once: "))),
        ("fixture_liar", "liar:end", Some(("it says that it read bytes past its end", "at once"))),
    ] {
        let (output, text) = check(library, &["--url", url, "--case", "paths", "--reproduce", "1"]);
        match what {
            None => assert_eq!(output.status.code(), Some(0), "{url}: {text}"),
            Some((front, what)) => {
                let wrong = text.lines().nth(1).unwrap();
                let said =
                    wrong.strip_prefix("WRONG  paths         ").unwrap_or_else(|| panic!("{url}: {text}"));
                assert!(said.starts_with(front) && said.contains(what), "{url}: {text}");
            }
        }
    }
    // All cases through a filter that changes every byte.
    let (output, text) = check("fixture_xor", &[]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("14 ok, 0 wrong, 2 do not apply\n"), "{text}");
}

#[test]
fn what_is_not_answered_is_found_before_all_else() {
    for (library, url, what) in [
        (
            "fixture_forgetful",
            "forgetful:drop",
            "a read at 0: the bytes 0..131072: dropped by the device without an answer",
        ),
        (
            "fixture_forgetful",
            "forgetful:half",
            "a read at 0: the bytes 65536..131072: dropped by the device without an answer",
        ),
        ("fixture_forgetful", "forgetful:leak", "a read at 0 was not answered within 5s"),
        (
            "fixture_panic_open",
            "panic-open:",
            "cannot open 'panic-open:' with plugin 'fixture-panic-open': the plugin panicked while it opened the device: fixture: open of ''",
        ),
    ] {
        let (output, text) = check(library, &["--url", url]);
        assert_eq!(output.status.code(), Some(1));
        let wanted = format!("WRONG  opens         {what}\n0 ok, 1 wrong, 0 do not apply\n");
        assert!(text.ends_with(&wanted), "{text}");
    }
}

#[test]
fn what_happens_at_random_can_be_had_again_and_results_are_written_for_machines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    let arguments = ["--url", "liar:contents", "--reproduce", "7", "--junit", file.to_str().unwrap()];
    let (_, first) = check("fixture_liar", &arguments);
    let wrong = |text: &str| text.lines().nth(2).unwrap().to_owned();
    assert!(wrong(&first).starts_with("WRONG  contents"), "{first}");
    assert_eq!(wrong(&first), wrong(&check("fixture_liar", &arguments).1));
    let xml = std::fs::read_to_string(&file).unwrap();
    assert!(xml.contains("<testsuite name=\"fixture-liar\" tests=\"16\""), "{xml}");
    assert!(xml.contains("name=\"contents\"") && xml.contains("<failure message=\"byte "), "{xml}");
}

#[test]
fn authors_name_a_sample_a_range_and_a_tree() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("device"), &bytes).unwrap();
    std::fs::write(path("sample"), &bytes).unwrap();
    let url = format!("file:{}", path("device"));
    let (output, text) = check("pactio_file", &["--url", &url, "--sample", &path("sample")]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(std::fs::read(path("device")).unwrap() == bytes, "a device with a sample is only read");
    let mut other = bytes.clone();
    other[777] ^= 1;
    std::fs::write(path("sample"), &other).unwrap();
    let (output, text) =
        check("pactio_file", &["--url", &url, "--sample", &path("sample"), "--case", "opens"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("byte 777 is 24, but should be 25"), "{text}");
    std::fs::write(path("sample"), &bytes[..10]).unwrap();
    let (_, text) = check("pactio_file", &["--url", &url, "--sample", &path("sample"), "--case", "opens"]);
    assert!(text.contains("it has 100000 bytes, but the sample has 10"), "{text}");
    // A part of a device: only its bytes are written.
    let (output, text) = check("pactio_file", &["--url", &url, "--range", "0x1000:50000"]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let after = std::fs::read(path("device")).unwrap();
    assert!(after[..0x1000] == bytes[..0x1000] && after[0x1000 + 50_000..] == bytes[0x1000 + 50_000..]);
    assert!(after[0x1000..0x1000 + 50_000] != bytes[0x1000..0x1000 + 50_000]);
    let (output, text) = check("pactio_file", &["--tree", "file:{folder}", "--case", "names"]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("1 ok, 0 wrong, 0 do not apply\n"), "{text}");
}

#[test]
fn a_check_of_nothing_is_no_success() {
    let (output, text) = check("pactio_memory", &["--case", "names"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.contains("nothing was checked")), (Some(1), true), "{text}{said}");
}

#[test]
fn a_device_may_be_named_by_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my profiles.toml");
    std::fs::write(&file, "[scratch]\nscheme = \"memory\"\noptions = { size = \"64KiB\" }\n").unwrap();
    let options = ["--url", "profile:scratch", "--case", "contents", "--profiles", file.to_str().unwrap()];
    let (output, text) = check("pactio_memory", &options);
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("1 ok, 0 wrong, 0 do not apply\n"), "{text}");
}

#[test]
fn what_hangs_is_ended_and_what_makes_no_sense_is_said() {
    let (output, text) =
        check("fixture_forgetful", &["--url", "forgetful:leak", "--limit", "500ms", "--case", "opens"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("WRONG  opens         it has not ended after 500ms\n"), "{text}");
    let errors = |arguments: &[&str]| {
        let (output, _) = check("fixture_forgetful", arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(
        errors(&[]),
        (
            Some(1),
            "pactio: the plugin 'fixture-forgetful' does not say which device to check\n\
             hint: give one: --url 'forgetful:...', or `check: \"forgetful:...\"` in `export_plugin!`\n"
                .to_owned()
        )
    );
    let (code, text) = errors(&["--case", "content"]);
    assert!(code == Some(1) && text.contains("there is no case 'content'; there are\n  opens "), "{text}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_pactio")).args(["check", "/etc/hostname"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_manifest_is_embedded_into_a_library_without_sections() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let pactio = env!("CARGO_BIN_EXE_pactio");
    let source = root().join("examples/c/ramp.c").display().to_string();
    // The same plugin with its manifest in its section, and among its other constants.
    let include = root().join("sdk/include/pactio");
    std::fs::create_dir_all(path("other/pactio")).unwrap();
    let header = std::fs::read_to_string(include.join("plugin.h")).unwrap();
    let header = header.replace("section(\".pactio\")", "section(\".rodata.pactio\")");
    std::fs::write(path("other/pactio/plugin.h"), header).unwrap();
    for (include, name) in
        [(include.join("..").display().to_string(), "with.so"), (path("other"), "without.so")]
    {
        let flags = [
            "-std=gnu11",
            "-fPIC",
            "-shared",
            "-pthread",
            &format!("-I{include}"),
            &source,
            "-o",
            &path(name),
        ];
        assert_eq!(run("cc", &flags), (Some(0), String::new()));
    }
    let section = ["-O", "binary", "--only-section=.pactio", &path("with.so"), &path("text")];
    assert_eq!(run("objcopy", &section).0, Some(0));
    let text = std::fs::read(path("text")).unwrap();
    std::fs::write(
        path("manifest.json"),
        [text.trim_ascii_end().strip_suffix(b"\0").unwrap_or(&text), b"\n"].concat(),
    )
    .unwrap();
    let without = std::fs::read(path("without.so")).unwrap();
    assert_eq!(run(pactio, &["inspect", &path("without.so")]).0, Some(4));
    // Neither a manifest that is none, nor one of another plugin door, changes the file.
    std::fs::write(path("bad.json"), "{}").unwrap();
    let (code, said) = run(pactio, &["manifest", "embed", &path("without.so"), &path("bad.json")]);
    assert!(code == Some(4) && said.contains("would be refused"), "{said}");
    assert!(std::fs::read(path("without.so")).unwrap() == without);
    assert_eq!(
        run(
            pactio,
            &["manifest", "embed", &path("without.so"), &path("manifest.json"), "-o", &path("new.so")]
        ),
        (Some(0), String::new())
    );
    assert!(std::fs::read(path("without.so")).unwrap() == without);
    let (output, text) = check_file(Path::new(&path("new.so")));
    assert!(output.status.success() && text.contains("13 ok, 0 wrong, 3 do not apply"), "{text}");
    // Others still read the file; a second manifest is refused.
    assert_eq!(
        run(
            "objcopy",
            &["--dump-section", &format!(".pactio={}", path("again")), &path("new.so"), &path("copy.so")]
        )
        .0,
        Some(0)
    );
    assert_eq!(
        std::fs::read(path("again")).unwrap(),
        std::fs::read(path("manifest.json")).unwrap().trim_ascii_end()
    );
    assert_eq!(run("strip", &[&path("new.so"), "-o", &path("stripped.so")]).0, Some(0));
    assert_eq!(run(pactio, &["inspect", &path("stripped.so")]), (Some(0), String::new()));
    let (code, said) = run(pactio, &["manifest", "embed", &path("new.so"), &path("manifest.json")]);
    assert!(code == Some(1) && said.contains("has a manifest already"), "{said}");
}
