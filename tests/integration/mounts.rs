//! The mount plugin, and folders as trees.

use std::fs;
use std::io::{Cursor, Write};

use futures_util::future::join_all;
use pactio::{Code, Device, Host, OpenOptions};
use pactio_tests::{host, in_time};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn mount_host() -> Host {
    host(&["pactio_archive", "pactio_file", "pactio_memory", "pactio_mount"])
}

fn text(host: &Host, device: &Device) -> String {
    let bytes = host.block_on(device.read_exact_at(0, vec![0; device.size().unwrap() as usize])).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn names(host: &Host, device: &Device, folder: &str) -> Vec<String> {
    let name = |entry: pactio::Entry| format!("{}{}", entry.name, if entry.is_folder() { "/" } else { "" });
    host.block_on(device.list(folder)).unwrap().into_iter().map(name).collect()
}

/// A base archive, a folder of patches, and mods.
fn game() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["maps/e1", "maps/e2", "sounds/door", "readme", "clash/inner"] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(format!("base {name}").as_bytes()).unwrap();
    }
    fs::write(folder.path().join("base.zip"), zip.finish().unwrap().into_inner()).unwrap();
    for (source, name) in [
        ("patch", "maps/e2"),
        ("patch", "clash"),
        ("mods", "maps/e2"),
        ("mods", "maps/e3"),
        ("hats", "red"),
        ("hats", "deep/blue"),
    ] {
        let path = folder.path().join(source).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{source} {name}")).unwrap();
    }
    let plan = r#"
        [[source]]
        name = "mods"
        url = "file:{folder}/mods"
        priority = 10

        [[source]]
        name = "base"
        url = "file:{folder}/base.zip | archive"

        [[source]]
        name = "patch"
        url = "file:{folder}/patch"

        [[source]]
        name = "hats"
        url = "file:{folder}/hats"
        at = "textures/hats"
    "#;
    fs::write(folder.path().join("game.toml"), plan).unwrap();
    folder
}

#[test]
fn the_highest_source_that_has_a_name_serves_it() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let mount = host.open(&format!("mount:{}/game.toml", folder.path().display())).unwrap();
        for (name, wanted) in [
            ("maps/e1", "base maps/e1"),
            ("maps/e2", "mods maps/e2"),
            ("maps/e3", "mods maps/e3"),
            ("textures/hats/red", "hats red"),
            ("textures/hats/deep/blue", "hats deep/blue"),
            // Of two sources with equal priority, the later one serves the name.
            ("clash", "patch clash"),
            ("readme", "base readme"),
        ] {
            assert_eq!(text(&host, &mount.open(name).unwrap()), wanted);
        }
        assert_eq!(names(&host, &mount, ""), ["clash", "maps/", "readme", "sounds/", "textures/"]);
        assert_eq!(names(&host, &mount, "maps"), ["e1", "e2", "e3"]);
        assert_eq!(names(&host, &mount, "textures"), ["hats/"]);
        assert_eq!(names(&host, &mount, "textures/hats/deep"), ["blue"]);
        // A file hides a folder, but not the names in it.
        assert_eq!(names(&host, &mount, "clash"), ["inner"]);
        assert_eq!(text(&host, &mount.open("clash/inner").unwrap()), "base clash/inner");
        let long = "x".repeat(300);
        for missing in ["nope", "textures/red", "maps/e1/x", &long] {
            assert_eq!(mount.open(missing).unwrap_err().code(), Some(Code::NOT_FOUND), "{missing}");
            let listed = host.block_on(mount.list(missing)).unwrap_err();
            assert_eq!(listed.code(), Some(Code::NOT_FOUND), "{missing}: {listed}");
        }
        for a_folder in ["maps", "textures", "textures/hats", "textures/hats/deep"] {
            assert_eq!(mount.open(a_folder).unwrap_err().code(), Some(Code::IS_DIRECTORY), "{a_folder}");
        }
        let origins = |name: &str| {
            let origins = host.block_on(mount.provenance(name)).unwrap();
            origins
                .into_iter()
                .map(|origin| (origin.source, origin.priority, origin.stat.size))
                .collect::<Vec<_>>()
        };
        let origin = |source: &str, priority, size| (source.to_owned(), priority, size);
        assert_eq!(
            origins("maps/e2"),
            [origin("mods", 10, Some(12)), origin("patch", 0, Some(13)), origin("base", 0, Some(12))]
        );
        assert_eq!(origins("clash"), [origin("patch", 0, Some(11)), origin("base", 0, None)]);
        assert_eq!(origins("textures"), [origin("hats", 0, None)]);
        // A change in a source is visible.
        fs::write(folder.path().join("mods/readme"), "new").unwrap();
        assert_eq!(text(&host, &mount.open("readme").unwrap()), "new");
        let error = mount.open_with("readme", OpenOptions::new().read(true).write(true)).unwrap_err();
        assert_eq!(error.code(), Some(Code::READ_ONLY));
    });
}

#[test]
fn a_source_that_cannot_give_what_it_has_does_not_let_the_hidden_be_seen() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let path = folder.path().display();
        let mut bytes = fs::read(folder.path().join("base.zip")).unwrap();
        // The compression method in the directory is unknown.
        let entry = (0..bytes.len()).find(|&at| bytes[at..].starts_with(b"PK\x01\x02")).unwrap();
        bytes[entry + 10] = 99;
        fs::write(folder.path().join("bad.zip"), bytes).unwrap();
        let url = format!("mount:file:{path}/base.zip%7Carchive;file:{path}/bad.zip%7C archive");
        let mount = host.open(&url).unwrap();
        let error = mount.open("maps/e1").unwrap_err();
        assert_eq!(error.code(), Some(Code::UNSUPPORTED));
        assert!(error.to_string().contains(": the source 'file:"), "{error}");
        assert_eq!(text(&host, &mount.open("maps/e2").unwrap()), "base maps/e2");
    });
}

#[test]
fn what_cannot_be_mounted_is_said_with_its_source() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let path = folder.path().display().to_string();
        let fails = |url: &str, what: &str| {
            let error = host.open(&url.replace("{}", &path)).unwrap_err().to_string().replace(&path, "{}");
            assert!(error.ends_with(what), "{error}");
        };
        fails(
            "mount:file:{}/base.zip",
            "the source 'file:{}/base.zip': it is not a tree; mount a folder or an archive, as in file:x.zip | archive",
        );
        fails(
            "mount:file:{}/nope",
            "the source 'file:{}/nope': cannot open 'file:{}/nope' with plugin 'file': there is no such file",
        );
        fails(
            "mount:memory:%3Fsize=4",
            "the source 'memory:?size=4': it is not a tree; mount a folder or an archive, as in file:x.zip | archive",
        );
    });
}

#[test]
fn an_optional_source_may_be_absent_and_is_named() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let plan = |more: &str| {
            let text = format!(
                "[[source]]\nname = \"base\"\nurl = \"file:{{folder}}/base.zip | archive\"\n\
                 [[source]]\nname = \"season\"\nurl = \"file:{{folder}}/season.zip | archive\"\npriority = 5\n{more}"
            );
            fs::write(folder.path().join("o.toml"), text).unwrap();
            host.open(&format!("mount:{}/o.toml", folder.path().display()))
        };
        let error = plan("").unwrap_err().to_string();
        assert!(
            error.contains("the source 'season': ") && error.ends_with("there is no such file"),
            "{error}"
        );
        let mount = plan("optional = true").unwrap();
        assert_eq!(text(&host, &mount.open("readme").unwrap()), "base readme");
        let origins = host.block_on(mount.provenance("readme")).unwrap();
        assert_eq!(origins.len(), 2);
        assert_eq!((origins[0].source.as_str(), &origins[0].absent), ("base", &None));
        assert_eq!((origins[1].source.as_str(), origins[1].priority), ("season", 5));
        assert!(
            origins[1].absent.as_ref().unwrap().ends_with("there is no such file"),
            "{:?}",
            origins[1].absent
        );
        // An optional source that exists serves names.
        fs::copy(folder.path().join("base.zip"), folder.path().join("season.zip")).unwrap();
        let mount = plan("optional = true").unwrap();
        let origins = host.block_on(mount.provenance("readme")).unwrap();
        assert_eq!(
            origins.iter().map(|origin| origin.source.as_str()).collect::<Vec<_>>(),
            ["season", "base"]
        );
    });
}

#[test]
fn sources_are_opened_side_by_side() {
    in_time(|| {
        let host = host(&["pactio_archive", "pactio_delay", "pactio_file", "pactio_mount"]);
        let folder = game();
        let slow = "[[source]]\nurl = \"file:{folder}/base.zip | delay?latency=150ms | archive\"\n";
        fs::write(folder.path().join("one.toml"), slow).unwrap();
        fs::write(folder.path().join("many.toml"), slow.repeat(12)).unwrap();
        let time = |name: &str| {
            let began = std::time::Instant::now();
            host.open(&format!("mount:{}/{name}", folder.path().display())).unwrap();
            began.elapsed()
        };
        let (one, many) = (time("one.toml"), time("many.toml"));
        // If the sources were opened one after the other, the time would be twelve times as long.
        assert!(many < one * 9, "{many:?}, {one:?}");
    });
}

#[test]
fn the_case_of_letters_can_be_ignored() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let other = folder.path().join("other/Maps/Deep");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("Größe.TXT"), "other").unwrap();
        fs::write(folder.path().join("other/Maps/E1"), "other e1").unwrap();
        let path = folder.path().display();
        let url = format!("mount:file:{path}/base.zip%7Carchive;file:{path}/other");
        let exact = host.open(&url).unwrap();
        assert_eq!(exact.open("MAPS/e2").unwrap_err().code(), Some(Code::NOT_FOUND));
        let mount = host.open(&format!("{url}?ignore-case=true")).unwrap();
        for (name, wanted) in [
            ("maps/e2", "base maps/e2"),
            ("MAPS/E2", "base maps/e2"),
            ("maps/deep/GRÖßE.txt", "other"),
            // The later source hides the earlier one, regardless of case.
            ("maps/e1", "other e1"),
        ] {
            assert_eq!(text(&host, &mount.open(name).unwrap()), wanted, "{name}");
        }
        assert_eq!(mount.open("maps/e9").unwrap_err().code(), Some(Code::NOT_FOUND));
        assert_eq!(mount.open("MAPS").unwrap_err().code(), Some(Code::IS_DIRECTORY));
        assert_eq!(names(&host, &mount, ""), ["clash/", "Maps/", "readme", "sounds/"]);
        assert_eq!(names(&host, &mount, "mAPS"), ["Deep/", "E1", "e2"]);
        let origins = host.block_on(mount.provenance("MAPS/e1")).unwrap();
        assert_eq!(origins.len(), 2);
        // Case is also ignored in the folder at which a source is mounted.
        let plan = "[[source]]\nurl = \"file:{folder}/hats\"\nat = \"Textures/Hats\"\n";
        fs::write(folder.path().join("at.toml"), plan).unwrap();
        let mount = host.open(&format!("mount:{path}/at.toml?ignore-case=true")).unwrap();
        assert_eq!(text(&host, &mount.open("textures/HATS/Red").unwrap()), "hats red");
        assert_eq!(names(&host, &mount, "textures"), ["Hats/"]);
    });
}

#[test]
fn mounts_that_mount_each_other_come_to_an_end() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), mount_host());
        for (one, other) in [("a", "b"), ("b", "a")] {
            let plan = format!("[[source]]\nurl = \"mount:{{folder}}/{other}.toml\"");
            fs::write(folder.path().join(format!("{one}.toml")), plan).unwrap();
        }
        let path = folder.path().display();
        let error = host.open(&format!("mount:{path}/a.toml")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot open 'mount:{path}/a.toml' with plugin 'mount': the source 'mount:{path}/b.toml': sixteen \
                 devices open each other, one inside the other: they go round in a circle"
            )
        );
    });
}

#[test]
fn mounts_of_mounts_list_however_deep_and_many_at_once() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        // More names than fit into one answer.
        for index in 0..1000 {
            let name = format!("mods/a rather long name of a file with the number {index:05}");
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut inner = "game".to_owned();
        for level in 0..6 {
            let plan = format!("[[source]]\nurl = \"mount:{{folder}}/{inner}.toml\"\n");
            inner = format!("m{level}");
            // Two equal sources below the outermost mount: their lists are in progress together.
            let plan = if level == 5 { plan.repeat(2) } else { plan };
            fs::write(folder.path().join(format!("{inner}.toml")), plan).unwrap();
        }
        let mount = host.open(&format!("mount:{}/{inner}.toml", folder.path().display())).unwrap();
        assert_eq!(names(&host, &mount, "maps"), ["e1", "e2", "e3"]);
        let lists = host.block_on(join_all((0..16).map(|_| mount.list(""))));
        for list in lists {
            let list = list.unwrap();
            assert_eq!(list.len(), 1005);
            assert!(list.is_sorted_by_key(|entry| &entry.name));
        }
        let origins = host.block_on(join_all((0..16).map(|_| mount.provenance("maps/e1"))));
        assert!(origins.into_iter().all(|origins| origins.unwrap().len() == 2));
        assert_eq!(host.block_on(mount.list("none")).unwrap_err().code(), Some(Code::NOT_FOUND));
    });
}

#[test]
fn a_folder_is_a_tree_that_can_be_written_to() {
    in_time(|| {
        let (folder, host) = (game(), mount_host());
        let tree = host.open(&format!("file:{}", folder.path().display())).unwrap();
        assert_eq!(names(&host, &tree, ""), ["base.zip", "game.toml", "hats/", "mods/", "patch/"]);
        let options = OpenOptions::new().read(true).write(true).create(true);
        let device = tree.open_with("mods/maps/new", options).unwrap();
        host.block_on(device.write_all_at(0, b"new".to_vec())).unwrap();
        assert_eq!(fs::read(folder.path().join("mods/maps/new")).unwrap(), b"new");
        assert_eq!(tree.open("mods/none").unwrap_err().code(), Some(Code::NOT_FOUND));
        assert_eq!(tree.open("mods").unwrap().open("maps/e3").unwrap().size(), Some(12));
        for outside in ["../x", "mods/../../x", ".", "a//b"] {
            assert_eq!(tree.open(outside).unwrap_err().code(), Some(Code::INVALID_INPUT), "{outside}");
        }
        // There is no folder at these names.
        for nowhere in ["base.zip/x", "base.zip", &"x".repeat(300)] {
            let error = host.block_on(tree.list(nowhere)).unwrap_err();
            assert_eq!(error.code(), Some(Code::NOT_FOUND), "{nowhere}: {error}");
        }
        let error = tree.open("x".repeat(300)).unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_FOUND));
        assert!(error.to_string().ends_with("the system has no names as long as this"), "{error}");
        // More names than fit into one answer, and one of them is not UTF-8.
        let many = folder.path().join("many");
        fs::create_dir(&many).unwrap();
        for index in 0..3000 {
            fs::write(many.join(format!("a rather long name of a file with the number {index:05}")), "")
                .unwrap();
        }
        use std::os::unix::ffi::OsStrExt;
        fs::write(many.join(std::ffi::OsStr::from_bytes(b"not \xff text")), "bytes").unwrap();
        let listed = names(&host, &tree, "many");
        assert_eq!(listed.len(), 3001);
        assert!(listed.is_sorted());
        assert_eq!(listed.last().unwrap(), "not %FF text");
        // A listed name opens, by its bytes and by its text in a URL.
        let by_bytes = tree.open(b"many/not \xff text").unwrap();
        let by_text = host.open(&format!("file:{} | /many/not %FF text", folder.path().display())).unwrap();
        for device in [by_bytes, by_text] {
            let mut bytes = [0; 5];
            host.block_on(device.read_exact_at(0, &mut bytes)).unwrap();
            assert_eq!(&bytes, b"bytes");
        }
    });
}
