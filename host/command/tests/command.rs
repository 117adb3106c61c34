//! The command, as a user or a script sees it: output, errors, exit codes.

mod place;

use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use place::{Ends, Place, plugin};
use tempfile::tempdir;

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn cat_gives_files_of_every_size() {
    let place = Place::new();
    for len in [0, 1, 4095, 4096, 4097, 3 << 20] {
        let content = place.file("x", len);
        assert!(place.check(&["cat", "file:x"], 0) == (content.clone(), String::new()), "{len} bytes");
        let (bytes, _) = place.check(&["cat", "file:x", "--block-size", "1000", "--in-flight", "3"], 0);
        assert!(bytes == content, "{len} bytes in small blocks");
    }
}

#[test]
fn cat_of_a_gibibyte_has_the_digest_of_the_file() {
    let place = Place::new();
    let path = place.path("large");
    let mut file = File::create(&path).unwrap();
    let mut block = vec![0; 1 << 20];
    for index in 0..1024u32 {
        for (at, byte) in block.iter_mut().enumerate().step_by(61) {
            *byte = (at as u32).wrapping_mul(index.wrapping_mul(2_654_435_761)) as u8;
        }
        file.write_all(&block).unwrap();
    }
    drop(file);
    let mut cat = place.command(&["cat", "file:large"]).stdout(Stdio::piped()).spawn().unwrap();
    let digest = Command::new("sha256sum").stdin(cat.stdout.take().unwrap()).output().unwrap();
    assert!(cat.wait().unwrap().success());
    assert_eq!(String::from_utf8(digest.stdout).unwrap()[..64], sha256sum(&path));
}

#[test]
fn ranges_give_the_bytes_there_are_and_an_account_of_the_rest() {
    let place = Place::new();
    let content = place.file("x", 4096);
    let (bytes, said) = place.check(&["cat", "file:x", "--offset", "4000", "--length", "200"], 3);
    assert_eq!(bytes, content[4000..]);
    assert_eq!(said, "pactio: 96 of 200 bytes at 0xfa0 of 'file:x'; 96..200: past the end of the device\n");
    place.says(
        &["cat", "file:x", "--offset", "5000"],
        3,
        "pactio: there is nothing at 0x1388 of 'file:x'; it ends at 0x1000\n",
    );
    let (bytes, _) = place.check(&["cat", "file:x", "--offset", "1KiB", "--length", "1K"], 0);
    assert_eq!(bytes, content[1024..2048]);
    assert_eq!(place.check(&["cat", "file:x", "--offset", "4096"], 0).0, b"");
    assert_eq!(place.check(&["cat", "file:x", "--length", "0"], 0).0, b"");
    let (bytes, _) = place.check(&["cat", "file:x", "--offset", "10", "--length", "100MiB"], 3);
    assert_eq!(bytes, content[10..]);
}

#[test]
fn files_that_are_made_when_they_are_read() {
    let place = Place::new();
    let (bytes, _) = place.check(&["cat", "file:/proc/version"], 0);
    assert_eq!(bytes, fs::read("/proc/version").unwrap());
    let (bytes, _) = place.check(&["cat", "file:/dev/zero", "--length", "100000"], 0);
    assert_eq!(bytes, vec![0; 100_000]);
}

#[test]
fn trees_are_listed_opened_by_name_and_explained() {
    let place = Place::new().with("mount");
    for (name, text) in [("base/maps/e1", "base"), ("base/readme", "old"), ("mods/readme", "newer")] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), text).unwrap();
    }
    let plan = "[[source]]\nname = \"base\"\nurl = \"file:{folder}/base\"\n\n\
                [[source]]\nname = \"mods\"\nurl = \"file:{folder}/mods\"\npriority = 5\n";
    fs::write(place.path("game.toml"), plan).unwrap();
    let text = |arguments: &[&str]| String::from_utf8(place.check(arguments, 0).0).unwrap();
    for (name, time) in [("base/maps/e1", 1_000_000_000), ("base/maps", 0), ("base/readme", 1_764_504_000)] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
        fs::File::open(place.path(name)).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(
        text(&["ls", "-lR", "file:base"]),
        "             - 1970-01-01T00:00:00Z maps/\n             4 2001-09-09T01:46:40Z maps/e1\n             \
         3 2025-11-30T12:00:00Z readme\n"
    );
    assert_eq!(text(&["ls", "mount:game.toml"]), "maps/\nreadme\n");
    assert_eq!(text(&["cat", "mount:game.toml | /readme"]), "newer");
    assert_eq!(
        text(&["why", "game.toml", "readme"]),
        "mods             priority 5      5 bytes          serves it\n\
         base             priority 0      3 bytes          hidden by 'mods'\n"
    );
    place.says(
        &["why", "game.toml", "none"],
        1,
        "pactio: cannot find 'none' in 'mount:game.toml' (plugin 'mount'): not found\n",
    );
    place.says(
        &["cat", "file:base | /none"],
        1,
        "pactio: cannot open 'none' in 'file:base' (plugin 'file'): there is no such file\n",
    );
}

#[test]
fn what_cannot_be_opened_is_explained() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    let cannot = |url: &str, why: &str| format!("pactio: cannot open '{url}' with plugin 'file': {why}\n");
    place.says(
        &["cat", "file:folder"],
        1,
        "pactio: 'file:folder' is a folder\nhint: `pactio ls` lists its names, and URL | /NAME opens one\n",
    );
    place.says(&["cat", "file:no"], 1, &cannot("file:no", "there is no such file"));
    place.says(&["info", "file:"], 1, &cannot("file:", "no path is given; write file:/path/to/file"));
    place.says(
        &["info", "file:x?a=b"],
        1,
        "pactio: 'file:x?a=***': 'file:' has no option 'a'\nhint: its options are: direct, io, map; `pactio help file` explains them\n",
    );
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let why = "it is a pipe, socket or terminal, which has no positions";
    place.says(&["cat", "file:pipe"], 1, &cannot("file:pipe", why));
    place.says(&["cat", "no"], 1, "pactio: 'no' has no scheme\nhint: for a file, write file:no\n");
}

#[test]
fn no_permission_is_said() {
    let place = Place::new();
    place.file("closed", 1);
    fs::set_permissions(place.path("closed"), Permissions::from_mode(0o000)).unwrap();
    let mut command = place.command(&["cat", "file:closed"]);
    // Root may read everything, so another user runs the command, with a copy of all files that it needs.
    let folder = tempdir().unwrap();
    if File::open(place.path("closed")).is_ok() {
        for folder in [place.0.path(), folder.path()] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        let program = folder.path().join("pactio");
        fs::copy(env!("CARGO_BIN_EXE_pactio"), &program).unwrap();
        fs::copy(plugin("file"), folder.path().join("libpactio_file.so")).unwrap();
        command = Command::new(&program);
        command
            .args(["cat", "file:closed"])
            .current_dir(place.0.path())
            .env("PACTIO_PLUGIN_PATH", folder.path())
            .gid(65534)
            .uid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "pactio: cannot open 'file:closed' with plugin 'file': permission to read it is denied\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_unknown_scheme_lists_what_was_searched() {
    let place = Place::new();
    let (_, said) = place.check(&["cat", "nothing:x"], 1);
    assert_eq!(
        said,
        "pactio: no plugin has the scheme 'nothing'; those that exist are: file, memory\nsearched:\n  plugins: \
         libpactio_file.so (file); libpactio_memory.so (memory)\nhint: put the plugin's .so into one of these folders, or \
         name its folder in PACTIO_PLUGIN_PATH\n"
    );
}

#[test]
fn output_that_cannot_be_written_is_said() {
    let place = Place::new();
    place.file("x", 3 << 20);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["cat", "file:x"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "pactio: cannot write to standard output after 0 bytes: No space left on device (os error 28)\n"
    );

    let mut cat =
        place.command(&["cat", "file:x"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    cat.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = cat.wait_with_output().unwrap();
    // As `cat` of the system, which SIGPIPE ends.
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0));
}

#[test]
fn watch_prints_changes_as_they_happen() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    for (more, expected) in [
        (&[][..], "made new 'name'\nremoved new 'name'\n"),
        (
            &["--json"],
            "{\"change\":\"made\",\"name\":\"new 'name'\"}\n{\"change\":\"removed\",\"name\":\"new 'name'\"}\n",
        ),
    ] {
        let arguments = [&["watch", "file:tree", "-n", "2"], more].concat();
        let mut watch =
            place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(watch.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "watching file:tree\n");
        File::create(place.path("tree/new 'name'")).unwrap();
        fs::remove_file(place.path("tree/new 'name'")).unwrap();
        let output = watch.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    place.says(
        &["watch", "memory:?size=1KiB"],
        1,
        "pactio: cannot watch 'memory:?size=1KiB': its plugin 'memory' does not support 'tell changes'\n",
    );
}

#[test]
fn sum_prints_what_sha256sum_prints() {
    let place = Place::new();
    place.file("a", 100_000);
    place.file("b", 0);
    let expected = format!("{}  a\n{}  b\n", sha256sum(&place.path("a")), sha256sum(&place.path("b")));
    assert_eq!(place.printed(&["sum", "file:a", "file:b"]), expected);
    assert_eq!(place.printed(&["sum", "--algorithm", "sha512", "file:b"]).len(), 128 + "  b\n".len());
}

#[test]
fn sums_are_read_by_sha256sum_and_go_on_after_a_failure() {
    let place = Place::new().with("crypt");
    let names = ["plain", "with space", "back\\slash", "line\nbreak", "question?", "per%cent"];
    for name in names {
        fs::write(place.path(name), name).unwrap();
    }
    let urls = names.map(|name| format!("file:{}", name.replace('%', "%25").replace('?', "%3F")));
    let mut arguments = vec!["sum", "file:absent"];
    arguments.extend(urls.iter().map(String::as_str));
    let (lines, said) = place.check(&arguments, 1);
    assert_eq!(said, "pactio: cannot open 'file:absent' with plugin 'file': there is no such file\n");
    fs::write(place.path("sums"), lines).unwrap();
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "sums"])
        .current_dir(place.path("."))
        .output()
        .unwrap();
    assert!(checked.status.success() && checked.stdout.is_empty(), "{checked:?}");

    // A failure is told also if the output fails behind it.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["sum", "file:absent", "file:plain"]).stdout(full).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.starts_with(&said), "{told}");
    assert!(
        told.ends_with("cannot write to standard output: No space left on device (os error 28)\n"),
        "{told}"
    );

    // A part of a file, or a device with a filter, has its URL, without secrets.
    assert!(place.printed(&["sum", "file:plain", "--length", "2"]).ends_with("  file:plain\n"));
    let key: String = (0..64).map(|byte| format!("{byte:02x}")).collect();
    fs::write(place.path("blocks"), [7; 8192]).unwrap();
    let line = place.printed(&["sum", &format!("file:blocks | crypt?key={key}")]);
    assert!(line.ends_with("  file:blocks | crypt?key=***\n"), "{line}");
}

#[test]
fn a_server_gets_the_password_and_no_output_shows_it() {
    let place = Place::new().with("object");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap();
    let url = format!("http://me:hunt%40er2@{host}/x");
    for verbose in [&[][..], &["-vv"]] {
        let running = place
            .command(&[&["info", &url], verbose].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut connection, _) = server.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        connection
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        drop(connection);
        let request = String::from_utf8(request).unwrap();
        // "me:hunt@er2"
        assert!(request.to_lowercase().contains("authorization: basic bwu6ahvudeblcji="), "{request}");
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("permission is denied"), "{said}");
        assert!(said.contains("me:***@") && !said.contains("er2") && !said.contains("bWU6"), "{said}");
    }
}

#[test]
fn scan_has_the_codes_of_a_search() {
    let place = Place::new().with("fault");
    fs::write(place.path("x"), "needle").unwrap();
    for (arguments, code) in [
        (&["file:x", "--text", "needle"][..], 0),
        (&["file:x", "--text", "straw"], 1),
        (&["file:x", "--text", "straw", "--count"], 1),
        (&["file:absent", "--text", "needle"], 2),
        (&["file:plugins", "--text", "needle"], 2),
        (&["file:x", "--text", "needle", "--align", "0"], 2),
        (&["file:x", "--text", "needle", "--length", "10"], 3),
        (&["file:x | fault?read=100&error=corrupt", "--text", "needle"], 3),
    ] {
        place.check(&[&["scan"], arguments].concat(), code);
    }
}

#[test]
fn a_pipe_is_no_plugin_and_nothing_waits_for_its_other_end() {
    let place = Place::new();
    let made = Command::new("mkfifo").arg(place.path("plugins").join("libpipe.so")).status().unwrap();
    assert!(made.success());
    let (_, said) = place.check(&["inspect", "plugins/libpipe.so"], 4);
    assert!(said.contains("it is not a regular file"), "{said}");
    assert!(place.printed(&["plugins"]).contains("file:"));
}

#[test]
fn records_are_asked_for_by_the_environment_too() {
    let place = Place::new();
    place.file("x", 10);
    let said = |variables: &[(&str, &str)]| {
        let output = place.command(&["cat", "file:x"]).envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said(&[("RUST_LOG", "")]), "");
    assert!(said(&[("RUST_LOG", "pactio=debug")]).contains("DEBUG"));
}

#[test]
fn hexdump_prints_what_hexdump_c_prints() {
    let place = Place::new();
    fs::write(place.path("x"), b"pactio\x00\xff").unwrap();
    assert_eq!(
        place.printed(&["hexdump", "file:x"]),
        "00000000  70 61 63 74 69 6f 00 ff                           |pactio..|\n00000008\n"
    );
    assert_eq!(
        place.printed(&["hexdump", "memory:?size=48&fill=65"]),
        "00000000  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|\n*\n00000030\n"
    );
}

#[test]
fn plugins_and_info_say_what_is_there() {
    let place = Place::new();
    let listed = place.printed(&["plugins"]);
    assert!(listed.contains("file:        0.1.0    file - files of the local system\n"), "{listed}");
    assert!(listed.contains("libpactio_memory.so\n"), "{listed}");
    let info = place.printed(&["info", "memory:?size=1KiB"]);
    assert!(
        info.starts_with(
            "url       memory:?size=1KiB\nsize      1024 bytes\nkind      memory\nreadable  yes\nwritable  yes\n"
        ),
        "{info}"
    );
}

#[test]
fn info_tells_whether_a_device_can_be_opened_to_be_written() {
    let place = Place::new().with("object").with("verify").with("archive");
    place.file("x", 1000);
    let writable = |url: &str| {
        let text = place.printed(&["info", url]);
        let line = text.lines().find(|line| line.starts_with("writable")).unwrap().to_owned();
        line.split_once("  ").unwrap().1.trim().to_owned()
    };
    assert_eq!(writable("file:x"), "yes");
    assert_eq!(writable("file:. | /x"), "yes");
    assert_eq!(writable(&format!("local:{}", place.path("x").display())), "as a whole");
    assert_eq!(writable("file:x | verify?hashes=h&make=true"), "no");
    assert_eq!(fs::metadata(place.path("x")).unwrap().len(), 1000);
    fs::set_permissions(place.path("x"), Permissions::from_mode(0o444)).unwrap();
    if File::options().write(true).open(place.path("x")).is_err() {
        assert_eq!(writable("file:x"), "no");
    }
    let names: Vec<_> = fs::read_dir(place.path(".")).unwrap().collect();
    assert_eq!(names.len(), 3, "nothing is left: {names:?}");
}

#[test]
fn every_command_that_prints_data_prints_json_too() {
    let place = Place::new().with("mount").with("archive").with("core");
    let content = place.file("x", 40);
    fs::create_dir(place.path("tree")).unwrap();
    fs::write(place.path("tree/odd\n%"), "1").unwrap();
    fs::write(
        place.path("plan.toml"),
        "[[source]]\nurl = \"file:{folder}/tree\"\n[[source]]\nurl = \"file:gone\"\noptional = true\n",
    )
    .unwrap();
    let lines = |arguments: &[&str], code: i32| -> Vec<Value> {
        let (printed, _) = place.check(&[arguments, &["--json"]].concat(), code);
        let text = String::from_utf8(printed).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{arguments:?}: {line}")))
            .collect()
    };
    let info = &lines(&["info", "file:x"], 0)[0];
    assert_eq!(
        (&info["size"], &info["kind"], &info["writable"]),
        (&40.into(), &"file".into(), &"yes".into())
    );
    let listed = lines(&["ls", "file:tree", "--url"], 0);
    assert_eq!((&listed[0]["name"], &listed[0]["size"]), (&"odd%0A%25".into(), &1.into()));
    assert_eq!(place.printed(&["cat", listed[0]["url"].as_str().unwrap()]), "1", "the URL opens the entry");
    let url = place.printed(&["ls", "file:tree", "--url"]);
    assert_eq!(place.printed(&["cat", url.trim_end_matches('\n')]), "1");
    let why = lines(&["why", "plan.toml", "odd\n%"], 0);
    assert_eq!(why[0]["how"], "serves it");
    assert!(why[1]["absent"].as_str().unwrap().contains("there is no such file"));
    assert_eq!(lines(&["maps", "file:x"], 0)[0]["end"], 40);
    let found = lines(&["scan", "file:x", "--hex", &format!("{:02x}", content[7])], 0);
    assert_eq!(found[0]["position"], 7);
    assert_eq!(lines(&["scan", "file:x", "--text", "none", "--count"], 1)[0]["matches"], 0);
    let sum = &lines(&["sum", "file:x"], 0)[0];
    assert_eq!((&sum["digest"], &sum["bytes"]), (&sha256sum(&place.path("x")).into(), &40.into()));
    let dump = lines(&["hexdump", "file:x", "--offset", "0x10"], 0);
    assert_eq!((dump.len(), &dump[1]["position"]), (2, &32.into()));
    assert_eq!(lines(&["verify", "file:tree"], 0)[0]["files"], 1);
}

/// A zip archive of stored files, with wrong check sums where the third value says so.
fn zip(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes, _) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    let mut archive = writer.finish().unwrap().into_inner();
    for (_, bytes, damaged) in files {
        if *damaged {
            let at = archive.windows(bytes.len()).position(|window| window == *bytes).unwrap();
            archive[at] ^= 1;
        }
    }
    archive
}

#[test]
fn verify_lists_what_is_wrong() {
    let place = Place::new().with("archive").with("fault");
    let good = zip(&[("a", b"first file", false), ("b/c", b"second file", false)]);
    fs::write(place.path("good.zip"), &good).unwrap();
    assert_eq!(
        place.printed(&["verify", "file:good.zip | archive"]),
        "2 files were read, 21 bytes: nothing is wrong\n"
    );
    let bad = zip(&[
        ("a", b"first file", true),
        ("b/c", b"second file", false),
        ("../CREDITS", b"third file", false),
    ]);
    fs::write(place.path("bad.zip"), &bad).unwrap();
    let (printed, _) = place.check(&["verify", "file:bad.zip | archive"], 1);
    let printed = String::from_utf8(printed).unwrap();
    assert!(
        printed.contains("a: ") && printed.contains("do not have the check sum of the archive's directory"),
        "{printed}"
    );
    assert!(printed.contains("../CREDITS: hidden: it would lie outside of the archive\n"), "{printed}");
    assert!(printed.ends_with("2 files were read: 2 entries are wrong\n"), "{printed}");
    assert_eq!(
        place.printed(&["ls", "--refused", "file:bad.zip | archive"]),
        "../CREDITS: it would lie outside of the archive\n"
    );
    // A device that is no tree.
    assert_eq!(
        place.printed(&["verify", "file:good.zip"]),
        format!("1 file was read, {} bytes: nothing is wrong\n", good.len())
    );
    place.check(&["verify", "file:good.zip | fault?read=100"], 1);
    let said = place.check(&["info", "file:bad.zip | archive?strict=true"], 1).1;
    assert!(said.contains("its entry '../CREDITS' is refused"), "{said}");
}

/// Secrets in every place where one can be given, and in no output.
#[test]
fn no_output_has_a_secret() {
    const SECRET: &str = "hunter2hunter2";
    let place = Place::new().with("object").with("crypt").with("limit").with("cache");
    place.file("x", 4096);
    // The text of this key is searched for.
    let key = format!("{}{}", "5ec4e7".repeat(10), "00".repeat(34));
    let secrets = [SECRET, &key, "aHVudGVyMg"];
    fs::write(
        place.path("profiles.toml"),
        format!(
            "[store]\nscheme = \"s3\"\ntarget = \"bucket/key\"\n\
             options = {{ endpoint = \"http://127.0.0.1:1\", region = \"r\", key-id = \"a\", key = \"{SECRET}\", retry-for = \"0s\" }}\n\
             [disk]\nscheme = \"file\"\ntarget = \"x\"\n"
        ),
    )
    .unwrap();
    fs::write(place.path("secret file"), SECRET).unwrap();
    let urls = [
        format!("file:x | crypt?key={key}"),
        format!("file:absent | crypt?key={key}"),
        format!("file:x | crypt?key={key}&block=7"),
        format!("file:x | crypt?kye={key}"),
        format!("file:x | crypt?key={SECRET}%"),
        format!("file:x | crypt?{SECRET}"),
        format!("file:x | nothing?key={SECRET}"),
        format!("nothing:x?key={SECRET}"),
        format!(
            "s3:bucket/key?endpoint=http://127.0.0.1:1&region=r&key-id=a&key={SECRET}&token={SECRET}&retry-for=0s"
        ),
        format!("http://me:{SECRET}@127.0.0.1:1/x?retry-for=0s"),
        format!("http://127.0.0.1:1/x?token={SECRET}&retry-for=0s"),
        format!("http://127.0.0.1:1/x%3Fsignature={SECRET}?retry-for=0s"),
        "profile:store".to_owned(),
        format!("profile:disk?key={SECRET}"),
        format!("profile:store?token={SECRET}"),
        "s3:bucket/key?endpoint=http://127.0.0.1:1&region=r&key-id=a&key=env:PACTIO_TEST_SECRET&retry-for=0s"
            .to_owned(),
        "s3:bucket/key?endpoint=http://127.0.0.1:1&region=r&key-id=a&key=file:secret file&retry-for=0s"
            .to_owned(),
        "s3:bucket/key?endpoint=http://127.0.0.1:1&region=r&retry-for=0s".to_owned(),
    ];
    let check = |url: &str| {
        for arguments in [
            &["cat", url][..],
            &["hexdump", url, "--json"],
            &["info", url],
            &["info", url, "--json"],
            &["stat", url],
            &["stat", url, "--json"],
            &["cp", "-r", url, "file:copies"],
            &["cp", "-r", "file:.", url],
            &["rm", url, "name"],
            &["mv", url, "name", "other"],
            &["mkdir", url, "name"],
            &["ls", url, "--url"],
            &["maps", url, "--json"],
            &["scan", url, "--text", "x"],
            &["sum", url],
            &["sum", url, "--json"],
            &["sum", url, "--length", "1MiB"],
            &["verify", url, "--json"],
            &["why", url, "name"],
            &["cp", url, "file:copy", "--length", "1GiB"],
            &["cp", "file:x", url, "--verify"],
            &["--stats", "cp", url, "file:copy"],
        ] {
            let all = [&["-vv", "--profiles", "profiles.toml"], arguments].concat();
            let mut command = place.command(&all);
            command.env("PACTIO_TEST_SECRET", SECRET).env("AWS_SECRET_ACCESS_KEY", SECRET);
            command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SESSION_TOKEN", SECRET);
            let output = command.output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            for secret in secrets {
                assert!(!said.contains(secret), "{arguments:?}: {said}");
            }
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        }
    };
    std::thread::scope(|scope| {
        for part in urls.chunks(5) {
            scope.spawn(|| part.iter().for_each(|url| check(url)));
        }
    });
    let plugin = plugin("crypt");
    let url = format!("file:x | crypt?key={key}");
    let output = place
        .command(&["-vv", "check", plugin.to_str().unwrap(), "--url", &url, "--case", "opens"])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(&key));
}

#[test]
fn plugins_names_folders_that_cannot_be_read() {
    let place = Place::new();
    fs::write(place.path("no folder"), "").unwrap();
    let printed = place.printed(&["plugins", "--plugin-path", "no folder", "--plugin-path", "absent"]);
    assert!(printed.contains("cannot read folder 'no folder': "), "{printed}");
    assert!(!printed.contains("absent"), "folders that do not exist are not searched: {printed}");
    let json = place.printed(&["plugins", "--json", "--plugin-path", "no folder"]);
    assert!(json.contains("\"folder\": \"no folder\""), "{json}");
}

#[test]
fn help_shows_the_options_of_a_subcommand_before_those_of_all() {
    let place = Place::new();
    let help = place.printed(&["help", "cp"]);
    let (own, global) = help.split_once("Options of every command:").unwrap_or_else(|| panic!("{help}"));
    assert!(own.contains("--verify") && own.contains("--block-size"), "{help}");
    assert!(global.contains("--plugin-path") && !global.contains("--verify"), "{help}");
}

#[test]
fn inspect_says_what_a_file_is_or_why_it_is_refused() {
    let place = Place::new();
    assert!(place.printed(&["inspect", plugin("file").to_str().unwrap()]).starts_with("id           file\n"));
    place.file("x.so", 100);
    let (_, said) = place.check(&["inspect", "x.so"], 4);
    assert!(
        said.starts_with("pactio: 'x.so' is refused (not-a-library): it is not a shared library: "),
        "{said}"
    );
    place.says(
        &["inspect", "none.so"],
        4,
        "pactio: 'none.so' is refused (unreadable): it cannot be read: No such file or directory (os error 2)\n",
    );
}

#[test]
fn what_is_known_of_plugins_can_be_read_by_programs() {
    let place = Place::new();
    place.file("plugins/broken.so", 100);
    let listed: Value = serde_json::from_str(&place.printed(&["plugins", "--json"])).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0]["file"], "plugins/broken.so");
    assert_eq!(listed[0]["refused"]["code"], "not-a-library");
    assert_eq!(listed[2]["manifest"]["id"], "memory");
    assert_eq!(listed[2]["manifest"]["options"][0]["name"], "size");

    let shown = place.printed(&["inspect", "--json", plugin("file").to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["manifest"]["schemes"][0], &shown["loaded"]), (&"file".into(), &false.into()));
    let shown = place.printed(&["inspect", "--json", "--load", plugin("file").to_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["loaded"], true);

    let (printed, said) = place.check(&["inspect", "--json", "plugins/broken.so"], 4);
    let refused: Value = serde_json::from_slice(&printed).unwrap();
    assert_eq!(refused["refused"]["code"], "not-a-library");
    assert!(said.contains("(not-a-library)"), "{said}");
}

#[test]
fn help_explains_subcommands_and_schemes() {
    let place = Place::new();
    assert_eq!(
        place.printed(&["help", "memory"]),
        "memory: - devices in memory (plugin 'memory' 0.1.0)\n\n\
         Options, as in memory:TARGET?name=value&name=value:\n  \
         size=SIZE    the size of the device [required]\n  \
         fill=NUMBER  the value of each byte [default: 0; 0 to 255]\n"
    );
    assert!(place.printed(&["help", "file:"]).contains("io=auto|ring|threads"));
    assert!(place.printed(&["help", "cp"]).starts_with("Copy one device to another\n"));
    assert!(place.printed(&["help"]).contains("Exit codes:"));
    place.says(
        &["help", "fiel"],
        1,
        "pactio: no plugin has the scheme 'fiel'; did you mean 'file'?\nthose that exist are: file, memory\n\
         hint: `pactio plugins` lists the plugins that were found\n",
    );
}

#[test]
fn profiles_are_devices_with_a_name() {
    let place = Place::new();
    fs::write(
        place.path("profiles.toml"),
        "[scratch]\nscheme = \"memory\"\noptions = { size = \"1KiB\", fill = 65 }\n",
    )
    .unwrap();
    let info = place.printed(&["info", "profile:scratch", "--profiles", "profiles.toml"]);
    assert!(info.starts_with("url       memory:?fill=65&size=1KiB\nsize      1024 bytes\n"), "{info}");
    let bytes = place.printed(&["cat", "profile:scratch?size=3", "--profiles", "profiles.toml"]);
    assert_eq!(bytes, "AAA");
    place.says(
        &["info", "profile:scrach", "--profiles", "profiles.toml"],
        1,
        "pactio: profiles.toml has no profile 'scrach'; did you mean 'scratch'?\nhint: its profiles are: scratch\n",
    );
}

#[test]
fn options_are_checked_before_a_plugin_is_loaded() {
    let place = Place::new();
    place.says(
        &["info", "memory:?sise=1"],
        1,
        "pactio: 'memory:?sise=***': 'memory:' has no option 'sise'; did you mean 'size'?\n\
         hint: its options are: size, fill; `pactio help memory` explains them\n",
    );
    place.says(
        &["info", "memory:"],
        1,
        "pactio: 'memory:': the option 'size' is missing: the size of the device\nhint: write memory:?size=64MiB\n",
    );
    place.says(
        &["info", "memory:?size=1&fill=256"],
        1,
        "pactio: 'memory:?size=1&fill=256': option 'fill' is 256, but must be 0 to 255\n\
         hint: `pactio help memory` lists the options\n",
    );
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    let place = Place::new();
    for arguments in [
        &["cat"][..],
        &["cat", "file:x", "--length", "much"],
        &["cat", "file:x", "--block-size", "0"],
        &["cat", "file:x", "--in-flight", "0"],
        &["copy", "a", "b"],
        &[],
    ] {
        let (printed, said) = place.check(arguments, 2);
        assert!(printed.is_empty() && !said.is_empty());
    }
    let (_, said) = place.check(&["cat", "file:x", "--length", "much"], 2);
    assert!(
        said.contains("positions and sizes are numbers, in hexadecimal or with an optional unit"),
        "{said}"
    );
}

#[test]
fn verbose_says_what_is_loaded_and_opened() {
    let place = Place::new();
    place.file("x", 1);
    let (_, said) = place.check(&["-v", "cat", "file:x"], 0);
    assert!(said.contains("loaded") && said.contains("opened"), "{said}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.printed(&["completions", shell]).contains("hexdump"), "{shell}");
    }
}

#[test]
fn names_in_a_tree_are_listed() {
    let place = Place::new();
    let library = plugin("file").with_file_name("libfixture_picky.so");
    symlink(&library, place.path("plugins/libfixture_picky.so")).unwrap();
    assert_eq!(
        place.printed(&["ls", "--long", "picky:1000", "/deep/"]),
        "             1                    - file 1\n"
    );
    let all = place.printed(&["ls", "picky:1000"]);
    assert!(all.starts_with("file 0\nfile 1\n") && all.ends_with("file 4999\ndeep/\n"), "{all}");
    place.file("plain", 1);
    let (_, said) = place.check(&["ls", "file:plain"], 1);
    assert_eq!(said, "pactio: cannot list 'file:plain': its plugin 'file' does not support 'list'\n");
    let info = place.printed(&["info", "picky:1000"]);
    assert!(
        info.contains(
            "can       flush, resize, zero, regions, list, statistics\n\
             limits    aligned to 512 bytes, at most 4096 bytes at once, wants 3 requests in flight\n"
        ),
        "{info}"
    );
}

#[test]
fn what_was_counted_is_printed_at_the_end() {
    let place = Place::new();
    place.file("a", 3_000_000);
    let (_, said) = place.check(&["--stats", "cp", "--flush", "file:a", "file:b"], 0);
    let figures = |url: &str| {
        let of = said.split_once(&format!("{url} (plugin 'file')\n")).unwrap().1;
        of.lines().take_while(|line| line.starts_with(' ')).map(str::trim).collect::<Vec<_>>()
    };
    let has = |figures: &[&str], name: &str, value: &str| {
        figures.iter().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim() == value))
    };
    let (read, written) = (figures("file:a"), figures("file:b"));
    // The first byte is read before the destination is opened.
    assert!(has(&read, "reads", "4") && has(&read, "bytes read", "2.86 MiB"), "{said}");
    assert!(has(&written, "writes", "3") && has(&written, "bytes written", "2.86 MiB"), "{said}");
    assert!(has(&written, "writes failed", "0") && has(&read, "in flight", "0"), "{said}");
    assert!(read.iter().any(|line| line.starts_with("read time p99 ")), "{said}");
    // Without the option, no statistics are printed.
    assert_eq!(place.check(&["sum", "file:a"], 0).1, "");
}

/// Positions in the output of `scan`.
fn matches(printed: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(printed).unwrap();
    let position =
        |line: &str| u64::from_str_radix(line.split(' ').next().unwrap().trim_start_matches("0x"), 16);
    text.lines().map(|line| position(line).unwrap()).collect()
}

#[test]
fn scan_finds_what_is_there_also_across_the_pieces_that_it_reads() {
    let place = Place::new();
    let mut content = place.file("x", (5 << 20) + 77);
    let planted = [0, 1, 700_001, (1 << 20) - 3, 2 << 20, (3 << 20) - 7, (3 << 20) - 4, (5 << 20) + 77 - 8];
    for at in planted {
        content[at..at + 8].copy_from_slice(b"\x00\x01needle");
    }
    fs::write(place.path("x"), &content).unwrap();
    let there: Vec<u64> = (0..content.len() - 7)
        .filter(|at| content[*at..].starts_with(b"\x00\x01needle"))
        .map(|at| at as u64)
        .collect();
    assert!(there.len() >= 6);
    let said = format!("{} matches in {} bytes; 0 bytes could not be read\n", there.len(), content.len());
    let value = format!("u64:{}", u64::from_le_bytes(*b"\x00\x01needle"));
    for what in [["--hex", "00 01 6e 65 65 64 6C 6?"], ["--regex", "\\x00\\x01needle"], ["--value", &value]] {
        let (printed, told) = place.check(&["scan", "file:x", what[0], what[1]], 0);
        assert_eq!((matches(&printed), &told), (there.clone(), &said), "{what:?}");
    }
    let (printed, _) = place.check(
        &["scan", "file:x", "--text", "needle", "--align", "2", "--offset", "0x100", "--length", "3MiB"],
        0,
    );
    let even: Vec<u64> = there
        .iter()
        .map(|at| at + 2)
        .filter(|at| at % 2 == 0 && (0x100..(3 << 20) + 0x100 - 5).contains(at))
        .collect();
    assert_eq!(matches(&printed), even);
    assert_eq!(place.printed(&["scan", "file:x", "--text", "needle", "--count", "--limit", "3"]), "3\n");
    assert_eq!(
        place.printed(&["scan", "file:x", "--text", "needle", "--length", "64"]).lines().next().unwrap(),
        "0x000000000003  6e 65 65 64 6c 65  |needle|"
    );
    // Matches that are longer than the shown bytes, and overlap.
    fs::write(place.path("zeros"), [0; 40]).unwrap();
    let (printed, _) = place.check(&["scan", "file:zeros", "--hex", &"00".repeat(38)], 0);
    assert_eq!(matches(&printed), [0, 1, 2]);
    assert!(String::from_utf8(printed).unwrap().lines().all(|line| line.contains(" ...  |....")));
}

#[test]
fn scan_says_what_makes_no_sense() {
    let place = Place::new();
    place.file("x", 10);
    let fails = |arguments: &[&str], expected: &str| {
        let (_, said) = place.check(&[&["scan", "file:x"], arguments].concat(), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    };
    fails(&["--hex", "1"], "bytes have two digits each");
    fails(&["--hex", "0x"], "'x' is no hexadecimal digit");
    fails(&["--text", ""], "there is nothing to look for");
    fails(&["--regex", "("], "unclosed group");
    fails(&["--regex", "a*"], "it matches nothing at all");
    fails(&["--value", "u8:300"], "'300' is no u8: number too large");
    fails(&["--text", "a", "--hex", "aa"], "cannot be used with");
    fails(&["--text", "a", "--align", "0"], "positions are multiples of 1 at least");
    fails(&["--regex", "a", "--longest", "2MiB"], "the longest match has between 1 byte and 1MiB");
    fails(&[], "required");
    let (_, said) = place.check(&["scan", "memory:?size=10", "--text", "a", "--region", "heap"], 2);
    assert!(said.contains("the device has no regions"), "{said}");
    // A device without a map is one region.
    assert_eq!(
        place.printed(&["maps", "memory:?size=10"]),
        "0x000000000000-0x00000000000a rw-           10\n"
    );
}

const MIB: usize = 1 << 20;

/// A text of `len` bytes, all `x` except for the texts of `put`.
fn text(len: usize, put: &[(usize, &str)]) -> Vec<u8> {
    let mut text = vec![b'x'; len];
    put.iter().for_each(|(at, what)| text[*at..at + what.len()].copy_from_slice(what.as_bytes()));
    text
}

#[test]
fn scan_of_an_expression_is_one_search_from_front_to_back() {
    let place = Place::new();
    let check = |text: &[u8], arguments: &[&str], expected: &[usize]| {
        fs::write(place.path("x"), text).unwrap();
        let scan = [&["scan", "file:x", "--regex"], arguments].concat();
        let (printed, _) = place.check(&scan, i32::from(expected.is_empty()));
        let expected: Vec<u64> = expected.iter().map(|at| *at as u64).collect();
        assert_eq!(matches(&printed), expected, "{arguments:?}");
    };
    // Pieces begin inside of a string, or before one.
    let strings = "\"w123\", ".repeat(400_000);
    for before in ["", "at: "] {
        let all: Vec<usize> = (0..400_000).map(|index| before.len() + index * 8).collect();
        check(format!("{before}{strings}").as_bytes(), &["\"[^\"]*\""], &all);
    }
    assert_eq!(place.printed(&["scan", "file:x", "--regex", "\"[^\"]*\"", "--count"]), "400000\n");
    check(&text(2 * MIB, &[(MIB - 2, "abababa")]), &["aba"], &[MIB - 2, MIB + 2]);
    // The search sees the bytes before a piece.
    let foo = text(2 * MIB, &[(MIB, "foo")]);
    check(&foo, &["^foo"], &[]);
    check(&foo, &["\\bfoo"], &[]);
    check(&foo, &["(?-u:\\B)foo"], &[MIB]);
    check(&foo, &["^foo", "--offset", "1MiB"], &[MIB]);
    check(&text(2 * MIB, &[(MIB - 2, "\u{e9}foo")]), &["(?u:\\b)foo"], &[]);
    check(&text(2 * MIB, &[(MIB - 1, "\nfoo")]), &["(?m)^foo"], &[MIB]);
    // The bytes that are read with a piece end somewhere, but the text goes on.
    let ends = "foo".repeat(5000);
    check(&text(2 * MIB, &[(MIB - 1, "y"), (MIB, &ends)]), &["y[fo]*\\z"], &[]);
    check(&text(2 * MIB, &[(2 * MIB - 4, "yfoo")]), &["y[fo]*\\z"], &[2 * MIB - 4]);
    // A match of the promised length is found from the last byte of a piece on; a longer match is found in parts.
    for (len, longest) in [(4096, "4096"), (MIB, "1MiB")] {
        let long = format!("y{}z", "a".repeat(len - 2));
        check(&text(3 * MIB, &[(MIB - 1, &long)]), &["y[^z]*z", "--longest", longest], &[MIB - 1]);
    }
    let (parts, behind) = (6, MIB + 4096 + 6);
    check(
        &vec![b'a'; parts * MIB],
        &["a+"],
        &[0, behind, MIB + behind, 2 * MIB + behind, 3 * MIB + behind, 4 * MIB + behind],
    );
    // Text at an unaligned position is no match, and hides no aligned match.
    check(b"xaaaxxaaaa", &["aa", "--align", "2"], &[2, 6, 8]);
    check(&text(2 * MIB, &[(MIB - 1, "aaaa")]), &["a+", "--align", "2"], &[MIB]);
}

/// Start and content of parts that have no hole between them.
type Runs = Vec<(usize, Vec<u8>)>;

/// A map for `core` of an image, with holes between its parts, and the runs that can be read.
fn holes(random: &mut fastrand::Rng, image: &[u8]) -> (String, Runs) {
    let (mut map, mut runs, mut at, mut offset) = (String::new(), Runs::new(), 0x7000, 0);
    while offset < image.len() {
        let lens = [random.usize(1..9), random.usize(1..5000), random.usize(MIB - 9..MIB + 9), MIB, 2 * MIB];
        let len = lens[random.usize(..lens.len())].min(image.len() - offset);
        match random.u8(..6) {
            0 => at += random.usize(1..4).pow(8),
            1 => at += len,
            _ => {
                map += &format!("{at:x}-{:x} {offset:x}\n", at + len);
                let bytes = &image[offset..offset + len];
                match runs.last_mut() {
                    Some((start, run)) if *start + run.len() == at => run.extend(bytes),
                    _ => runs.push((at, bytes.to_vec())),
                }
                (at, offset) = (at + len, offset + len);
            }
        }
    }
    (map, runs)
}

#[test]
fn scan_finds_what_a_search_of_each_run_of_bytes_finds() {
    let place = Place::new().with("core");
    let mut random = pactio_tests::random();
    for _ in 0..2 {
        let alphabet = [&b"ab\n"[..], b"aaab\"", b"\0\0\0\0a"][random.usize(..3)];
        let mut image: Vec<u8> = vec![b'-'; 2 * MIB + random.usize(..MIB)];
        // Runs of letters with `-` in between, so that there are some matches, not millions.
        while random.u16(..200) > 0 {
            let (at, len) = (random.usize(..image.len()), random.usize(1..2000));
            let some = image.iter_mut().skip(at).take(len);
            some.for_each(|byte| *byte = alphabet[random.usize(..alphabet.len())]);
        }
        let (map, runs) = holes(&mut random, &image);
        fs::write(place.path("image"), &image).unwrap();
        fs::write(place.path("map"), &map).unwrap();
        for (option, what, expression) in [
            ("--hex", "61 6?", "a[`-o]"),
            ("--hex", "00 00 00", "\0\0\0"),
            ("--regex", "a+", "a+"),
            ("--regex", "\"[^\"-]*\"", "\"[^\"-]*\""),
            ("--regex", "(?m)^ab+$|\\baa", "(?m)^ab+$|\\baa"),
            ("--regex", "\\b", "\\b"),
            ("--regex", "\\A[ab-]|[ab-]\\z", "\\A[ab-]|[ab-]\\z"),
        ] {
            let search = regex::bytes::RegexBuilder::new(expression).unicode(false).build().unwrap();
            let (overlaps, align) = (option == "--hex", [1, 1, 2, 7][random.usize(..4)]);
            let mut expected = Vec::new();
            for (start, run) in &runs {
                let mut from = 0;
                while from <= run.len()
                    && let Some(found) = search.find_at(run, from)
                {
                    let is_aligned = (start + found.start()) % align == 0;
                    if is_aligned {
                        expected.push((start + found.start()) as u64);
                    }
                    let next = found.start() + 1;
                    from = if overlaps || !is_aligned { next } else { found.end().max(next) };
                }
            }
            let align = align.to_string();
            let scan = ["scan", "file:image | core?map=map", option, what, "--align", &align];
            let code = i32::from(expected.is_empty());
            assert!(matches(&place.check(&scan, code).0) == expected, "{scan:?}\n{map}");
            let (count, _) = place.check(&[&scan[..], &["--count"]].concat(), code);
            assert_eq!(count, format!("{}\n", expected.len()).as_bytes(), "{scan:?}\n{map}");
            let limit = random.usize(..=expected.len());
            let code = i32::from(limit == 0);
            let (some, _) = place.check(&[&scan[..], &["--limit", &limit.to_string()]].concat(), code);
            assert!(matches(&some) == expected[..limit], "{limit} of {scan:?}\n{map}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn scan_needs_little_memory_and_ends_at_the_limit() {
    let place = Place::new();
    let check = |arguments: &[&str], expected: usize| {
        let scan = place.command(&[&["scan"], arguments, &["--value", "u32:0"]].concat());
        let mut limited = Command::new("sh");
        // 200 MiB.
        limited.args(["-c", "ulimit -d 204800; exec \"$@\"", "sh"]).arg(scan.get_program());
        let output = limited.args(scan.get_args()).current_dir(place.0.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        match std::str::from_utf8(&output.stdout).unwrap() {
            count if arguments.contains(&"--count") => assert_eq!(count.trim(), expected.to_string()),
            lines => assert_eq!(lines.lines().count(), expected),
        }
        // One match needs no more than one piece of the many.
        assert!(expected > 1 || said.ends_with(" 1048576 bytes; 0 bytes could not be read\n"), "{said}");
    };
    check(&["file:/dev/zero", "--length", "0x7fffffffffffffff", "--limit", "1"], 1);
    check(&["file:/dev/zero", "--length", "0x7fffffffffffffff", "--limit", "50000"], 50_000);
    check(&["file:/dev/zero", "--length", "6MiB", "--count"], 6 * MIB - 3);
}

#[test]
fn scan_reads_what_is_in_no_region_if_it_can_be_read() {
    let place = Place::new();
    let sparse = File::create(place.path("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(b"A", MIB as u64 - 1).unwrap();
    sparse.write_all_at(b"A", 3 * MIB as u64).unwrap();
    let scan = |more: &[&str]| matches(&place.check(&[&["scan", "file:sparse"], more].concat(), 0).0);
    assert_eq!(scan(&["--hex", "41 00"]), [MIB as u64 - 1, 3 * MIB as u64]);
    assert_eq!(scan(&["--hex", "00 41"]), [MIB as u64 - 2, 3 * MIB as u64 - 1]);
    // Without the holes, where the file system keeps any.
    let (_, said) = place.check(&["scan", "file:sparse", "--text", "A", "--region", ""], 0);
    let maps = place.printed(&["maps", "file:sparse"]);
    let size = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<usize>().unwrap();
    let data: usize = maps.lines().map(size).sum();
    assert_eq!(said, format!("2 matches in {data} bytes; 0 bytes could not be read\n"));
    // Neither size nor holes are known of these.
    for more in [&[][..], &["--region", ""]] {
        let (printed, _) =
            place.check(&[&["scan", "file:/proc/version", "--text", "Linux"], more].concat(), 0);
        assert_eq!(matches(&printed), [0]);
    }
    let (from, to) = ("0x000000000000", "0xffffffffffffffff");
    assert_eq!(place.printed(&["maps", "file:/proc/version"]), format!("{from}-{to} r-- {}\n", u64::MAX));
}

#[test]
fn scan_says_what_could_not_be_searched() {
    let place = Place::new().with("core").with("fault");
    let check = |arguments: &[&str], code: i32, found: &[u64], expected: &str| {
        let (printed, said) = place.check(&[&["scan"], arguments].concat(), code);
        assert_eq!(matches(&printed), found, "{arguments:?}");
        assert_eq!(
            said.lines().skip_while(|line| line.contains("cannot be")).collect::<Vec<_>>().join("\n"),
            expected
        );
    };
    fs::write(place.path("x"), text(3 * MIB, &[(7, "needle")])).unwrap();
    let (all, none) = (3 * MIB, "0 matches in 0 bytes");
    let fault = "file:x | fault?read=100&error=corrupt";
    check(
        &[fault, "--text", "needle"],
        3,
        &[],
        &format!(
            "{none}; {all} bytes could not be read\npactio: {all} bytes of '{fault}' could not be read: corrupt data"
        ),
    );
    let found = format!("1 match in {all} bytes; 0 bytes could not be read");
    check(&["file:x", "--text", "needle", "--length", "3MiB"], 0, &[7], &found);
    check(
        &["file:x", "--text", "needle", "--length", "4MiB"],
        3,
        &[7],
        &format!(
            "{found}\npactio: {all} of 4194304 bytes at 0x0 of 'file:x'; {all}..4194304: past the end of the device"
        ),
    );
    check(
        &["file:x", "--text", "needle", "--offset", "4MiB"],
        3,
        &[],
        &format!(
            "{none}; 0 bytes could not be read\npactio: there is nothing at 0x400000 of 'file:x'; it ends at {all:#x}"
        ),
    );
    // Enough was found before the end.
    let found = format!("1 match in {MIB} bytes; 0 bytes could not be read");
    check(&["file:x", "--text", "needle", "--length", "4MiB", "--limit", "1"], 0, &[7], &found);
    // A part that was cut off from a dump is counted, and does not end the other regions.
    fs::write(place.path("map"), "1000-2000 2ff000\n5000-7000 2ff000\n8000-9000 0\n").unwrap();
    let cut = "file:x | core?map=map";
    for arguments in [&[cut, "--text", "needle"][..], &[cut, "--text", "needle", "--length", "1MiB"]] {
        let (printed, said) = place.check(&[&["scan"], arguments].concat(), 3);
        assert!(String::from_utf8(printed).unwrap().starts_with("0x000000008007 "), "{arguments:?}");
        let expected = [
            "the dump is cut off: 4096 bytes",
            "0x6000-0x7000 cannot be read: corrupt data",
            "1 match in 12288 bytes; 4096 bytes could not be read",
            "pactio: 4096 bytes of 'file:x | core?map=map' could not be read: corrupt data",
        ];
        assert!(expected.iter().all(|line| said.contains(line)), "{said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn scan_finds_in_a_process_what_a_debugger_finds() {
    let place = Place::new().with("process").with("core");
    let marker = format!("pactio-marks-{}", std::process::id());
    let mut sleep = Command::new("/bin/sleep");
    let sleep = sleep.arg("600").env("MARKER", format!("{marker}{marker}")).stdout(Stdio::null());
    let child = Ends(sleep.stderr(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    // Wait until the process is that program, with its stack.
    while !fs::read(format!("/proc/{pid}/environ")).unwrap().windows(6).any(|text| text == b"MARKER")
        || !fs::read_link(format!("/proc/{pid}/exe")).unwrap().ends_with("sleep")
    {
        std::thread::yield_now();
    }
    let url = format!("process:{pid}");
    let maps = place.printed(&["maps", &url]);
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let (start, end) = stack.split(' ').next().unwrap().split_once('-').unwrap();
    let (printed, said) = place.check(&["scan", &url, "--text", &marker, "--region", "[stack]"], 0);
    let found = matches(&printed);
    assert_eq!(found.len(), 2, "{said}");
    assert_eq!(found[1] - found[0], marker.len() as u64);
    // The whole process has the same two matches, and possibly copies that the program made.
    let (everywhere, _) = place.check(&["scan", &url, "--regex", &marker], 0);
    assert!(found.iter().all(|at| matches(&everywhere).contains(at)));
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-p", &pid.to_string(), "-ex"])
        .arg(format!(
            "find /b {start}, {end}-1, {}",
            marker.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")
        ))
        .output();
    match gdb {
        Ok(gdb) => {
            let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
            let theirs: Vec<u64> = text
                .lines()
                .filter_map(|line| {
                    u64::from_str_radix(line.split_whitespace().next()?.strip_prefix("0x")?, 16).ok()
                })
                .filter(|at| found[0] <= *at && *at <= found[1])
                .collect();
            assert_eq!(theirs, found, "{text}");
        }
        // gdb is not installed everywhere, and the matches are checked above.
        Err(error) => println!("not compared with gdb: {error}"),
    }
    // A dump of the process has the same matches.
    let dumped = Command::new("gcore").args(["-o", "dump", &pid.to_string()]).current_dir(&place.0).output();
    if dumped.is_ok_and(|dumped| dumped.status.success()) {
        let dump = format!("file:dump.{pid} | core");
        let (printed, said) = place.check(&["scan", &dump, "--text", &marker], 0);
        assert_eq!(matches(&printed), matches(&everywhere), "{said}");
    } else {
        println!("not compared with a dump: there is no gcore, or it may not");
    }
}

#[test]
fn a_debugger_finds_the_symbols_of_a_plugin() {
    let place = Place::new();
    place.file("x", 10);
    // By its line: where lines are all the debug information, gdb knows the function by its mangled name alone.
    let source = include_str!("../../../plugins/file/src/job.rs");
    let line = 1 + source.lines().position(|line| line.contains("fn read(")).unwrap();
    let breakpoint = format!("break plugins/file/src/job.rs:{line}");
    let commands = ["set breakpoint pending on", &breakpoint, "run", "bt 1"];
    let mut gdb = Command::new("gdb");
    gdb.arg("-batch").args(commands.iter().flat_map(|command| ["-ex", command]));
    let cat = place.command(&["cat", "file:x"]);
    match gdb.arg("--args").arg(cat.get_program()).args(cat.get_args()).current_dir(place.0.path()).output() {
        Ok(gdb) => {
            let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
            assert!(text.contains("#0") && text.contains("at plugins/file/src/job.rs:"), "{text}");
        }
        // gdb is not installed everywhere.
        Err(error) => println!("not tried with gdb: {error}"),
    }
}

#[test]
fn what_plugins_print_is_no_data_and_their_exit_is_no_success() {
    let place = Place::new().with_fixture("fixture_loud");
    let (out, said) = place.check(&["cat", "loud:"], 0);
    assert_eq!(out, [b'x'; 100]);
    assert!(said.contains("fixture: open\n") && said.contains("fixture: read at 0\n"), "{said}");
    place.check(&["cp", "loud:", "file:y"], 0);
    assert_eq!(fs::read(place.path("y")).unwrap(), [b'x'; 100]);
    let (out, said) = place.check(&["cat", "loud:exit"], 70);
    assert!(out.is_empty());
    assert!(said.contains("pactio: the plugin of 'loud:exit' has ended the process"), "{said}");
    let (_, said) = place.check(&["sum", "loud:thread"], 70);
    assert!(said.contains("pactio: a plugin has ended the process"), "{said}");
}

#[test]
fn a_plugin_that_answers_twice_ends_the_process_and_is_named() {
    use std::os::unix::process::ExitStatusExt;

    let place = Place::new().with_fixture("fixture_forgetful");
    // The second answer comes while the packet is idle, or when it belongs to another request.
    for (url, length) in [("forgetful:twice", "4"), ("forgetful:late", "1GiB")] {
        let output = place.command(&["cat", url, "--length", length]).stdout(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.signal(), Some(6), "{url}: {said}");
        assert!(
            said.contains("pactio in the plugin 'fixture-forgetful': a view of a packet was answered twice"),
            "{url}: {said}"
        );
    }
}

#[test]
fn a_signal_shows_the_requests_in_flight() {
    use std::io::BufRead;

    let place = Place::new().with("delay");
    let mut cat = place.command(&["--stats", "cat", "memory:?size=100 | delay?latency=1h"]);
    let mut begun = cat.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", begun.id());
    let catches = || {
        let text = fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() & 1 << 9 != 0
    };
    while !catches() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut lines = std::io::BufReader::new(begun.stderr.take().unwrap()).lines();
    // The first signals may come before the request is sent.
    let line = loop {
        let sent = Command::new("kill").args(["-USR1", &begun.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let line = lines.next().unwrap().unwrap();
        if line.starts_with("  read of ") {
            break line;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(line.contains(" at memory:?size=100 | delay?latency=1h (plugin 'delay')"), "{line}");
    let of_threads = lines.find_map(|line| line.ok().filter(|line| line.contains(" threads, "))).unwrap();
    assert!(
        of_threads.ends_with(" threads, 0 of at most 256 hang; 0 of 256 helpers, 0 calls wait for one"),
        "{of_threads}"
    );
    begun.kill().unwrap();
    begun.wait().unwrap();
}

#[test]
fn names_of_a_tree_are_removed_renamed_and_made() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    fs::write(place.path("tree/a b"), "1").unwrap();
    place.check(&["mkdir", "file:tree", "sub", "sub/deep"], 0);
    place.check(&["mv", "file:tree", "a b", "sub/deep/c"], 0);
    assert_eq!(place.printed(&["ls", "-R", "file:tree"]), "sub/\nsub/deep/\nsub/deep/c\n");
    fs::write(place.path("tree/d"), "2").unwrap();
    let (_, said) = place.check(&["mv", "file:tree", "d", "sub/deep/c"], 1);
    assert!(said.contains("cannot rename 'd' to 'sub/deep/c' in 'file:tree'"), "{said}");
    place.check(&["mv", "--replace", "file:tree", "d", "sub/deep/c"], 0);
    let (_, said) = place.check(&["rm", "file:tree", "sub/deep/c", "sub", "sub/deep"], 1);
    assert!(said.contains("'sub' in 'file:tree'") && said.contains("not empty"), "{said}");
    place.check(&["rm", "file:tree", "sub"], 0);
    assert_eq!(place.printed(&["ls", "file:tree"]), "");
    place.check(&["rm", "file:tree"], 2);
    place.check(&["rm", "file:tree", "%zz"], 2);
}

#[test]
fn names_that_are_changed_are_those_that_were_meant() {
    let place = Place::new();
    fs::create_dir_all(place.path("tree/sub")).unwrap();
    for name in ["a b", "a%20b", "one", "two"] {
        fs::write(place.path("tree").join(name), "1").unwrap();
    }
    let (_, said) = place.check(&["rm", "file:tree", "a%20b"], 2);
    assert!(said.contains("'a b' for the decoded name") && said.contains("'a%2520b' for a name"), "{said}");
    assert_eq!(fs::read_dir(place.path("tree")).unwrap().count(), 5);
    place.check(&["rm", "file:tree", "a%2520b"], 0);
    assert!(place.path("tree/a b").exists() && !place.path("tree/a%20b").exists());
    // Slashes.
    for wrong in
        [&["rm", "file:tree", "/one"][..], &["mv", "file:tree", "one", "sub/"], &["mkdir", "file:tree", "/x"]]
    {
        place.check(wrong, 2);
    }
    let (_, said) = place.check(&["mv", "file:tree", "one", "sub/"], 2);
    assert!(said.contains("write 'sub/one'"), "{said}");
    let (_, said) = place.check(&["rm", "file:tree", "one/"], 1);
    assert!(said.contains("'one' is no folder"), "{said}");
    place.check(&["mv", "file:tree", "sub/", "other/"], 0);
    place.check(&["rm", "file:tree", "other/"], 0);
    // A name that fails does not stop the others, and each is reported.
    let (_, said) = place.check(&["rm", "file:tree", "none", "one", "nowhere", "two"], 1);
    assert!(
        said.contains("'none'") && said.contains("'nowhere'") && said.contains("2 of 4 names failed"),
        "{said}"
    );
    assert_eq!(place.printed(&["ls", "file:tree"]), "a b\n");
    // The system keeps both links to one file.
    fs::hard_link(place.path("tree/a b"), place.path("tree/link")).unwrap();
    let (_, said) = place.check(&["mv", "--replace", "file:tree", "a b", "link"], 1);
    assert!(said.contains("links to one file"), "{said}");
    assert!(place.path("tree/a b").exists());
    let long = "x".repeat(300);
    let (_, said) = place.check(&["mkdir", "file:tree", &long], 1);
    assert!(said.contains("too long"), "{said}");
}

#[test]
fn times_without_a_date_are_listed_as_seconds() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    let set = |name: &str, time: std::time::SystemTime| {
        let file = fs::File::create(place.path("tree").join(name)).unwrap();
        file.set_modified(time).unwrap();
    };
    let (epoch, second) = (std::time::UNIX_EPOCH, std::time::Duration::from_secs(1));
    set("early", epoch - second * 100);
    set("first", epoch);
    let listed = place.printed(&["ls", "-l", "file:tree"]);
    assert!(listed.contains("@-100 early\n") && listed.contains("1970-01-01T00:00:00Z first\n"), "{listed}");
    let listed = place.printed(&["ls", "--json", "file:tree"]);
    assert!(listed.contains("\"@-100\""), "{listed}");
}

#[test]
fn a_closed_or_full_standard_error_is_no_failure() {
    let place = Place::new();
    fs::write(place.path("one"), "1").unwrap();
    let code = |arguments: &[&str], redirected: &str| {
        let line = format!("exec \"$@\" {redirected} >/dev/null");
        let command = place.command(arguments);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.current_dir(place.path("."));
        shell.status().unwrap().code()
    };
    for redirected in ["2>/dev/full", "2>&-"] {
        assert_eq!(code(&["scan", "file:one", "--text", "1"], redirected), Some(0), "{redirected}");
        assert_eq!(code(&["--stats", "-v", "cat", "file:one"], redirected), Some(0), "{redirected}");
        assert_eq!(code(&["cat", "file:none"], redirected), Some(1), "{redirected}");
        assert_eq!(code(&["cp", "file:one", "file:two"], redirected), Some(0), "{redirected}");
    }
}

#[test]
fn metadata_of_several_devices_is_shown_and_each_failure_is_reported() {
    let place = Place::new();
    let size = place.file("one", 1234).len();
    let (shown, said) = place.check(&["stat", "file:one", "file:none", "file:.", "memory:?size=1KiB"], 1);
    let shown = String::from_utf8(shown).unwrap();
    assert!(said.contains("cannot open 'file:none'"), "{said}");
    for expected in [
        "file:one\n  kind         file\n  size         1234\n  modified     2",
        "\nfile:.\n  kind         folder\n",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(shown.contains("memory:?size=1KiB\n  kind         memory\n  size         1024\n"), "{shown}");
    let line = place.printed(&["stat", "--json", "file:one"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["size"].as_u64(), line["kind"].as_str()), (Some(size as u64), Some("file")));
}

#[test]
fn many_devices_need_few_descriptors() {
    let place = Place::new();
    let names: Vec<String> = (0..300).map(|number| format!("file:{number}")).collect();
    for number in 0..300 {
        fs::write(place.path(&number.to_string()), "1").unwrap();
    }
    let arguments: Vec<&str> = std::iter::once("stat").chain(names.iter().map(String::as_str)).collect();
    let command = place.command(&arguments);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "ulimit -n 100; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let output = shell.current_dir(place.path(".")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches("kind         file").count(), 300);
}
