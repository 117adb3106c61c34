//! Plugins that come through the door for other languages, and entries of both doors with one field changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};
use pactio::{Candidate, Code, Host, RefusalKind};
use pactio_sdk::abi::PluginEntry;
use pactio_sdk::{ComplexPacket, Generated, IoError, PacketIo};
use pactio_tests::{host_of, in_time, library};

#[path = "../c/random.rs"]
mod random;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs a compiler, and shows its output if it fails.
fn compile(compiler: &str, arguments: &[&str]) {
    let output = Command::new(compiler)
        .arg(format!("-I{}", root().join("sdk/include").display()))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{compiler} is needed: {error}"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Builds a plugin in C.
fn plugin(folder: &Path, source: &str, flags: &[&str]) -> PathBuf {
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    let (library, source) = (folder.join(format!("lib{name}.so")), root().join(source));
    let mut arguments = vec!["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"];
    arguments.extend(flags);
    let (library_text, source) = (library.to_str().unwrap().to_owned(), source.to_str().unwrap().to_owned());
    arguments.extend([source.as_str(), "-o", library_text.as_str()]);
    compile("cc", &arguments);
    library
}

fn wrong() -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    plugin(folder.path(), "tests/c/wrong.c", &["-O1"]);
    let host = host_of(folder.path());
    (folder, host)
}

#[test]
fn the_header_is_c99_and_cpp17_and_has_the_structs_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("layout.c");
    let mut text = "#include <stdio.h>\n#include <pactio/plugin.h>\nint main(void) {\n".to_owned();
    let expected = pactio::door_layout();
    for (name, _) in &expected {
        text += &format!("printf(\"%zu\\n\", (size_t){name});\n");
    }
    fs::write(&source, text + "return 0;\n}\n").unwrap();
    let (source, program) = (source.to_str().unwrap(), folder.path().join("layout"));
    let strict = ["-pedantic", "-Wall", "-Wextra", "-Werror", source, "-o", program.to_str().unwrap()];
    compile("cc", &[&["-std=c99"][..], &strict].concat());
    let output = Command::new(&program).output().unwrap().stdout;
    let found: Vec<usize> =
        String::from_utf8(output).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    for ((name, size), found) in expected.iter().zip(&found) {
        assert_eq!(found, size, "{name}");
    }
    assert_eq!(found.len(), expected.len());
    compile("c++", &[&["-std=c++17", "-x", "c++"][..], &strict].concat());
    let unit = folder.path().join("unit.cpp");
    fs::write(&unit, "#include <pactio/plugin.hpp>\nint main() { return 0; }\n").unwrap();
    compile(
        "c++",
        &["-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", unit.to_str().unwrap()],
    );
    for (header, most) in [("plugin.h", 500), ("plugin.hpp", 300)] {
        let lines =
            fs::read_to_string(root().join("sdk/include/pactio").join(header)).unwrap().lines().count();
        assert!(lines <= most, "{header} has {lines} lines");
    }
}

#[test]
fn a_device_and_a_filter_in_c_work_with_those_in_rust() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        plugin(folder.path(), "examples/c/ramp.c", &["-O0"]);
        plugin(folder.path(), "examples/c/invert.c", &["-O3"]);
        for name in ["pactio_memory", "pactio_cow", "pactio_stats"] {
            let library = library(name);
            std::os::unix::fs::symlink(&library, folder.path().join(library.file_name().unwrap())).unwrap();
        }
        let host = host_of(folder.path());
        let read = |url: &str, at, len| {
            let device = host.open(url).unwrap_or_else(|error| panic!("{error}"));
            host.block_on(device.read_exact_at(at, vec![0; len])).unwrap()
        };
        let ramp: Vec<u8> = (0..=255).cycle().skip(100).take(1000).collect();
        let inverted: Vec<u8> = ramp.iter().map(|byte| !byte).collect();
        assert_eq!(read("ramp:5000", 100, 1000), ramp);
        // C over C, C over Rust over C, Rust over C over C, and the same filter twice.
        assert_eq!(read("ramp:5000 | invert", 100, 1000), inverted);
        assert_eq!(read("ramp:5000 | cow | invert", 100, 1000), inverted);
        assert_eq!(read("ramp:5000 | invert | stats | cow", 100, 1000), inverted);
        assert_eq!(read("ramp:5000 | invert | invert", 100, 1000), ramp);
        assert_eq!(read("memory:?size=10&fill=15 | invert", 2, 3), [240; 3]);
        // Writes, the end, and tasks at the same time.
        let options = pactio::OpenOptions::new().read(true).write(true);
        let device = host.open_with("ramp:5000 | invert", options).unwrap();
        host.block_on(device.write_all_at(10, vec![1, 2, 3])).unwrap();
        assert_eq!(host.block_on(device.read_exact_at(9, vec![0; 5])).unwrap(), [!9, 1, 2, 3, !13]);
        let (report, _) = host.block_on(device.read_at(4990, vec![0; 20])).unwrap();
        assert_eq!((report.done(), report.min_error().unwrap().1.code()), (10, Code::END));
        let tasks: Vec<_> = (0..100u64)
            .map(|index| {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(20 + index * 40, vec![0; 40]).await.unwrap() })
            })
            .collect();
        for (index, task) in tasks.into_iter().enumerate() {
            let expected: Vec<u8> = (0..40).map(|at| !((20 + index * 40 + at) as u8)).collect();
            assert_eq!(host.block_on(task), expected);
        }
        let error = host.open("ramp:many").unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_INPUT));
        assert!(error.to_string().contains("the target is no number of bytes; try ramp:4096"), "{error}");
    });
}

#[test]
fn what_breaks_the_contract_harms_no_other_request() {
    in_time(|| {
        let (_folder, host) = wrong();
        let read = |target: &str| {
            let device = host.open(&format!("wrong:{target}")).unwrap_or_else(|error| panic!("{error}"));
            let (report, bytes) = host.block_on(device.read_at(0, vec![0; 10])).unwrap();
            let error = report.min_cause().map(|(_, cause)| cause.to_string());
            (
                report.done(),
                report.min_error().map(|(_, error)| error.code()),
                error.unwrap_or_default(),
                bytes,
            )
        };
        let sevens = vec![7; 10];
        for target in ["right", "twice", "kept-and-answered", "kept-twice", "no-such-number"] {
            let (done, error, _, bytes) = read(target);
            assert_eq!((done, error, bytes), (10, None, sevens.clone()), "{target}");
        }
        for (target, code) in [
            ("not-kept", Code::UNANSWERED),
            ("too-long", Code::FAILED),
            ("too-long-later", Code::FAILED),
            ("completed-as-kept", Code::FAILED),
            ("huge-error", Code::FAILED),
            ("no-read", Code::UNSUPPORTED),
        ] {
            let (done, error, ..) = read(target);
            assert_eq!((done, error), (0, Some(code)), "{target}");
        }
        let (done, error, ..) = read("unknown-error");
        assert_eq!((done, error.unwrap().to_byte()), (0, 200));
        let (done, error, text, bytes) = read("in-part");
        assert_eq!((done, error, &bytes[..3]), (3, Some(Code::IO), &[7; 3][..]));
        assert!(text.contains("the disk is loud"), "{text}");
        // A request that is kept for ever fails with its device.
        for target in ["forgotten", "late"] {
            let device = host.open(&format!("wrong:{target}")).unwrap();
            let request = host.spawn({
                let device = device.clone();
                async move {
                    let mut request = Box::pin(device.read_at(0, vec![0; 10]));
                    let sent = futures_lite::future::poll_once(&mut request).await;
                    assert!(sent.is_none(), "it is kept");
                }
            });
            host.block_on(request);
            drop(device);
        }
    });
}

#[test]
fn tables_are_read_up_to_their_size() {
    in_time(|| {
        let (_folder, host) = wrong();
        let failure = |target: &str| host.open(&format!("wrong:{target}")).unwrap_err();
        for (target, text) in [
            ("no-table", "the device has no table of functions"),
            ("no-close", "lacks close or info"),
            ("no-info", "lacks close or info"),
            ("limits", "the device gives limits that contradict"),
            ("refused", "it is not here"),
        ] {
            assert!(failure(target).to_string().contains(text), "{}", failure(target));
        }
        assert_eq!(failure("refused").code(), Some(Code::NOT_FOUND));
        assert_eq!(failure("refused-without-text").code(), Some(Code::FAILED));
        assert!(failure("refused-endless").to_string().contains(&"x".repeat(1016)));
        let options = pactio::OpenOptions::new().read(true).write(true);
        for size in 0..200u32 {
            let opened = host.open_with(&format!("wrong:size-{size}"), options);
            // The functions up to `read`, which begin at 8.
            if size < 32 {
                let error = opened.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("the device's table of functions has {size} bytes")),
                    "{error}"
                );
                continue;
            }
            let device = opened.unwrap();
            assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 3])).unwrap(), [7; 3]);
            let written = host.block_on(device.write_at(0, vec![1; 3])).unwrap().0.done();
            assert_eq!(written, if size < 40 { 0 } else { 3 }, "size {size}");
        }
    });
}

#[test]
fn memory_is_aligned_and_bytes_that_cannot_be_produced_are_not_written() {
    in_time(|| {
        let (folder, host) = wrong();
        plugin(folder.path(), "examples/c/ramp.c", &["-O1"]);
        plugin(folder.path(), "examples/c/invert.c", &["-O1"]);
        let device = host.open("wrong:aligned").unwrap();
        let mut memory = vec![0u8; 2048];
        for skip in 0..64 {
            assert_eq!(device.blocking_read_exact_at(0, &mut memory[skip..skip + 100]).unwrap(), ());
            assert_eq!(memory[skip..skip + 100], [7; 100]);
        }
        // The plugin is set up once in a process, whichever host opens it.
        let other = host_of(folder.path());
        for host in [&host, &other] {
            let device = host.open("wrong:set-up").unwrap();
            assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 1])).unwrap(), [1]);
        }
        // A plugin in C sees what the requester tells, also behind a filter in C.
        let hour = std::time::Duration::from_secs(3600);
        let attributes = pactio::Attributes::new().with_urgency(-3).with_span(41.try_into().unwrap());
        for url in ["wrong:told", "wrong:told | invert"] {
            let host = host_of(folder.path());
            let device = host.open(url).unwrap();
            let told = |attributes: &pactio::Attributes| {
                let read = device.read_exact_at(0, vec![0; 32]).with_attributes(attributes);
                let bytes = host.block_on(read).unwrap();
                let number = |bytes: &[u8]| i64::from_ne_bytes(bytes.try_into().unwrap());
                let numbers: Vec<i64> = bytes.chunks(8).map(number).collect();
                if url.contains("invert") { numbers.iter().map(|number| !number).collect() } else { numbers }
            };
            assert_eq!(told(&pactio::Attributes::new()), [0, i64::MAX, 0, 0], "{url}");
            assert_eq!(told(&attributes), [-3, i64::MAX, 41, 0], "{url}");
            let left = told(&attributes.clone().with_deadline(std::time::Instant::now() + hour))[1];
            assert!(left > 0 && left <= hour.as_nanos() as i64, "{url}: {left}");
        }
        // Only the second half of the bytes can be produced.
        let options = pactio::OpenOptions::new().read(true).write(true);
        for url in ["ramp:1000", "ramp:1000 | invert"] {
            let device = other.open_with(url, options);
            let device = device.unwrap_or_else(|_| host_of(folder.path()).open_with(url, options).unwrap());
            let before = host.block_on(device.read_exact_at(0, vec![0; 100])).unwrap();
            let fails = Generated::new(100, |offset, bytes: &mut [u8]| {
                bytes.fill(99);
                if offset == 0 { Err(IoError::from_code(Code::IO)) } else { Ok(()) }
            });
            let mut packet = ComplexPacket::<_, pactio_sdk::Read>::new(fails).unwrap();
            device.send_io(0u64, packet.bind().unwrap());
            host.block_on(&mut packet);
            assert_eq!(
                packet.report().min_error().map(|(at, error)| (at, error.code())),
                Some((0, Code::IO)),
                "{url}"
            );
            assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 100])).unwrap(), before, "{url}");
        }
    });
}

/// The bytes of a library, with other bytes at an offset of an exported variable. Relocations of that place are left out.
fn patched(bytes: &[u8], symbol: &str, offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let file = object::File::parse(&*bytes).unwrap();
    let address =
        file.dynamic_symbols().find(|found| found.name() == Ok(symbol)).unwrap().address() + offset as u64;
    let section = file.sections().find(|section| {
        section.address() != 0 && (section.address()..section.address() + section.size()).contains(&address)
    });
    let section = section.unwrap();
    let place = (section.file_range().unwrap().0 + address - section.address()) as usize;
    let relocations = file.section_by_name(".rela.dyn").unwrap().file_range().unwrap();
    let relocations = relocations.0 as usize..(relocations.0 + relocations.1) as usize;
    let places: Vec<_> = relocations.step_by(24).collect();
    let is_here = |bytes: &[u8], at: usize| {
        let target = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (address..address + value.len() as u64).contains(&target)
    };
    let other = places.iter().copied().find(|at| !is_here(&bytes, *at)).unwrap();
    for at in places {
        if is_here(&bytes, at) {
            // The loader does another one twice instead.
            bytes.copy_within(other..other + 24, at);
        }
    }
    bytes[place..place + value.len()].copy_from_slice(value);
    bytes
}

/// The bytes of a library with another text of the same length in its manifest.
fn with_text(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (start, len) =
        object::File::parse(&*bytes).unwrap().section_by_name(".pactio").unwrap().file_range().unwrap();
    let section = start as usize..(start + len) as usize;
    let old = String::from_utf8(bytes[section.clone()].to_vec()).unwrap();
    let new = old.replacen(from, to, 1);
    assert!(new != old, "{from}");
    // The licence has room.
    let room = new.len() - old.len();
    let new = match room {
        0 => new,
        _ => {
            let at = new.find("MIT OR Apache-2.0").unwrap();
            format!("{}{}", &new[..at], &new[at + room..])
        }
    };
    bytes[section].copy_from_slice(new.as_bytes());
    bytes
}

/// Whether a library is refused: when it is examined, or when it is loaded.
fn outcome(folder: &Path, number: usize, bytes: &[u8]) -> Option<RefusalKind> {
    let path = folder.join(format!("lib{number}.so"));
    fs::write(&path, bytes).unwrap();
    let candidate = Candidate::of_file(&path);
    let refusal = match candidate.plugin() {
        Some(plugin) => plugin.load().err(),
        None => candidate.refusal().cloned(),
    };
    fs::remove_file(&path).unwrap();
    refusal.map(|refusal| {
        assert!(!refusal.to_string().is_empty());
        refusal.kind()
    })
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn each_field_of_an_entry_and_each_version_is_taken_or_refused() {
    use std::mem::offset_of;
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let c = fs::read(plugin(folder.path(), "tests/c/wrong.c", &["-O1"])).unwrap();
        let rust = fs::read(library("pactio_memory")).unwrap();
        let mut rows = 0;
        let mut row = |what: &str, bytes: &[u8], expected: Option<RefusalKind>| {
            assert_eq!(outcome(folder.path(), rows, bytes), expected, "{what}");
            rows += 1;
        };
        let (rust_name, c_name) = ("PACTIO_PLUGIN", "pactio_plugin_v1");
        row("rust", &rust, None);
        row("c", &c, None);
        use RefusalKind::{AbiVersion, Damaged, Fingerprint, Replaced};
        for (door, bytes, name) in [("rust", &rust, rust_name), ("c", &c, c_name)] {
            for bit in 0..64 {
                let byte = magic_of(door)[bit / 8] ^ 1 << (bit % 8);
                row(
                    &format!("{door}: magic, bit {bit}"),
                    &patched(bytes, name, bit / 8, &[byte]),
                    Some(Damaged),
                );
            }
            let own: u32 = if door == "rust" { 64 } else { 48 };
            for size in
                [0, 1, 2, 4, 7, 8, 15, 16, 24, 32, 40, 47, own - 1, own, own + 1, own + 8, 4096, u32::MAX]
            {
                let expected = if size < own { Some(Damaged) } else { None };
                row(&format!("{door}: size {size}"), &patched(bytes, name, 8, &size.to_le_bytes()), expected);
            }
            // The entry and the manifest name one version.
            for (major, minor) in [(0, 0), (0, 5), (1, 1), (1, 65535), (2, 0), (65535, 0)] {
                let version = [u16::to_le_bytes(major), u16::to_le_bytes(minor)].concat();
                row(
                    &format!("{door}: {major}.{minor}"),
                    &patched(bytes, name, 12, &version),
                    Some(AbiVersion),
                );
            }
        }
        let fingerprint = offset_of!(PluginEntry, fingerprint);
        for bit in 0..64 {
            let byte = pactio_sdk::abi::FINGERPRINT.to_le_bytes()[bit / 8] ^ 1 << (bit % 8);
            let bytes = patched(&rust, rust_name, fingerprint + bit / 8, &[byte]);
            row(&format!("rust: fingerprint, bit {bit}"), &bytes, Some(Fingerprint));
        }
        let null = [0; 8];
        for (what, offset, expected) in [
            ("layout", offset_of!(PluginEntry, layout), None),
            ("create", offset_of!(PluginEntry, create), Some(Damaged)),
            ("attach", offset_of!(PluginEntry, attach), None),
            ("length of the manifest", offset_of!(PluginEntry, manifest) + 8, Some(Replaced)),
        ] {
            row(&format!("rust: no {what}"), &patched(&rust, rust_name, offset, &null), expected);
        }
        for (what, offset, expected) in [
            ("manifest", 16, Some(Damaged)),
            ("length of the manifest", 24, Some(Replaced)),
            ("init", 32, None),
            ("open", 40, Some(Damaged)),
        ] {
            row(&format!("c: no {what}"), &patched(&c, c_name, offset, &null), expected);
        }
        // Versions in the manifest; those that the host takes must also be in the entry.
        for (door, bytes, name) in [("rust", &rust, rust_name), ("c", &c, c_name)] {
            for (abi, needs, expected) in [
                ("1.0", "1.0", None),
                ("1.1", "1.0", None),
                ("1.7", "1.0", None),
                ("1.7", "1.1", Some(AbiVersion)),
                ("1.7", "1.7", Some(AbiVersion)),
                ("1.0", "1.1", Some(AbiVersion)),
                ("1.0", "0.9", Some(AbiVersion)),
                ("1.0", "2.0", Some(AbiVersion)),
                ("1.0", "x.0", Some(AbiVersion)),
                ("1.0", "1.x", Some(AbiVersion)),
                ("1.0", "1,0", Some(AbiVersion)),
                ("1.0", "   ", Some(AbiVersion)),
                ("0.9", "1.0", Some(AbiVersion)),
                ("2.0", "1.0", Some(AbiVersion)),
                ("2.0", "2.0", Some(AbiVersion)),
                ("9.9", "9.9", Some(AbiVersion)),
                ("x.1", "1.0", Some(AbiVersion)),
                ("1.+", "1.0", Some(AbiVersion)),
                ("   ", "1.0", Some(AbiVersion)),
            ] {
                let other = |text: &str| format!("\"abi\":\"{abi}\",\"needs\":\"{text}\"");
                let bytes = if (abi, needs) == ("1.0", "1.0") {
                    bytes.clone()
                } else {
                    with_text(bytes, "\"abi\":\"1.0\",\"needs\":\"1.0\"", &other(needs))
                };
                let minor: u16 = abi.get(2..).and_then(|minor| minor.parse().ok()).unwrap_or_default();
                let bytes = patched(&bytes, name, 14, &minor.to_le_bytes());
                row(&format!("{door}: abi {abi:?}, needs {needs:?}"), &bytes, expected);
            }
            // Without a version that it needs, a plugin needs its own.
            for (abi, expected) in [("1.0", None), ("1.1", Some(AbiVersion)), ("0.5", Some(AbiVersion))] {
                let text = format!("\"abi\":\"{abi}\",\"nedes\":\"1.0\"");
                let bytes = with_text(bytes, "\"abi\":\"1.0\",\"needs\":\"1.0\"", &text);
                let minor: u16 = abi[2..].parse().unwrap();
                row(
                    &format!("{door}: abi {abi:?}"),
                    &patched(&bytes, name, 14, &minor.to_le_bytes()),
                    expected,
                );
            }
            for (text, expected) in
                [("\"needs\": 1   ", Damaged), ("\"needs\":[1,0]", Damaged), ("\"needs\": null", Damaged)]
            {
                row(&format!("{door}: {text}"), &with_text(bytes, "\"needs\":\"1.0\"", text), Some(expected));
            }
        }
        for (text, expected) in
            [("\"door\":\"d\"", RefusalKind::MissingFeature), ("\"door\": 1 ", RefusalKind::MissingFeature)]
        {
            row(&format!("c: {text}"), &with_text(&c, "\"door\":\"c\"", text), Some(expected));
        }
        // A plugin in C that says that it is one in Rust.
        row("c: no door", &with_text(&c, "\"door\":\"c\"", "\"dore\":\"c\""), Some(Damaged));
        println!("entry_mutations={rows}");
        assert!(rows >= 300, "{rows} rows");
    });
}

fn magic_of(door: &str) -> [u8; 8] {
    if door == "rust" { pactio_sdk::abi::MAGIC.to_le_bytes() } else { *b"pactioC\x01" }
}

#[test]
fn random_calls_and_answers_harm_no_other_device() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        plugin(folder.path(), "tests/c/random.c", &["-O1"]);
        fs::copy(library("pactio_memory"), folder.path().join("libpactio_memory.so")).unwrap();
        let host = host_of(folder.path());
        let healthy = host.open("memory:?size=4KiB&fill=3").unwrap();
        let mut numbers = pactio_tests::random();
        for _ in 0..if std::env::var_os("PACTIO_SLOW").is_some() { 100 } else { 400 } {
            let bytes: Vec<u8> = (0..numbers.usize(..80)).map(|_| numbers.u8(..)).collect();
            random::call(&host, &bytes);
            assert_eq!(host.block_on(healthy.read_exact_at(9, vec![0; 100])).unwrap(), [3; 100]);
        }
    });
}
