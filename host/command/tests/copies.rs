//! `pactio cp`: nothing is lost, whatever fails or is interrupted.

mod place;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use place::Place;

#[test]
fn cp_copies_and_replaces() {
    let place = Place::new();
    for len in [0, 1, 4097, 5 << 20] {
        let content = place.file("from", len);
        fs::write(place.path("to"), b"something longer that was there before").unwrap();
        let (_, said) = place.check(&["cp", "file:from", "file:to", "--block-size", "64KiB"], 0);
        assert_eq!(said, "", "it is quiet in a pipe");
        assert!(fs::read(place.path("to")).unwrap() == content, "{len} bytes");
    }
    place.check(&["cp", "file:/proc/version", "file:version"], 0);
    assert_eq!(fs::read(place.path("version")).unwrap(), fs::read("/proc/version").unwrap());
    place.check(&["cp", "file:from", "memory:?size=5MiB"], 0);
}

#[test]
fn cp_loses_nothing_and_says_what_is_left() {
    let place = Place::new().with("object");
    let content = place.file("x", 5000);
    symlink("x", place.path("link")).unwrap();
    let local = format!("local:{}", place.path("x").display());
    let (_, output) = place.check(&["cp", &local, "file:x"], 1);
    assert!(output.contains("reads the storage that 'file:x' would replace"), "{output}");
    assert!(fs::read(place.path("x")).unwrap() == content);
    let same = "pactio: 'file:x' reads the storage that 'file:link' would replace\nhint: nothing was written; copy to another name\n";
    place.says(&["cp", "file:x", "file:link"], 1, same);
    assert_eq!(fs::read(place.path("x")).unwrap(), content);
    place.says(
        &["cp", "file:x", "memory:?size=10"],
        1,
        "pactio: 'memory:?size=10' has room for 10 bytes, but 5000 are to be copied\nhint: nothing was written; give it a \
         larger size\n",
    );
    place.says(
        &["cp", "file:x", "file:/dev/full"],
        1,
        "pactio: cannot write 5000 bytes at 0x0 of 'file:/dev/full' (plugin 'file'): 0 of 5000 bytes; 0..5000: no space \
         left\n'file:/dev/full' is not finished: 0 of 5000 bytes were copied to it\n",
    );
    let none = "pactio: cannot open 'file:none' with plugin 'file': there is no such file\n";
    place.says(&["cp", "file:none", "file:y"], 1, none);
    assert!(!place.path("y").exists(), "a destination was made for a source that does not exist");
}

#[test]
fn cp_reads_the_source_before_it_touches_the_destination() {
    let place = Place::new().with("fault").with("object").with("cow");
    let content = place.file("a", 588_895);
    fs::create_dir(place.path("folder")).unwrap();
    symlink(place.path("a"), place.path("link")).unwrap();
    fs::hard_link(place.path("a"), place.path("twin")).unwrap();
    for source in
        ["file:a", "file:. | /a", "file:folder/../a", "file:link", "file:twin", "local:a", "file:a | cow"]
    {
        let (_, said) = place.check(&["cp", source, "file:a"], 1);
        assert!(said.contains("reads the storage that 'file:a' would replace"), "{source}: {said}");
        assert!(fs::read(place.path("a")).unwrap() == content, "cp {source} file:a changed the file");
    }
    place.file("b", 10);
    for source in ["file:folder", "file:b | fault?read=100", "file:absent", "file:. | /absent"] {
        let (_, said) = place.check(&["cp", source, "file:a"], 1);
        assert!(fs::read(place.path("a")).unwrap() == content, "cp {source} file:a changed the file: {said}");
    }
}

/// The names in the folder, without the folder of plugins.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.0.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "plugins").collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_when_the_copy_is_complete() {
    let place = Place::new().with("fault");
    let new = place.file("new", 3_000_000);
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("folder/old"), "old").unwrap();
    fs::set_permissions(place.path("folder/old"), Permissions::from_mode(0o751)).unwrap();
    symlink("folder/old", place.path("link")).unwrap();
    symlink("link", place.path("link to link")).unwrap();
    let before = fs::metadata(place.path("folder/old")).unwrap();
    // Some reads of the source fail after its first byte was read.
    for seed in 1..20 {
        let source = format!("file:new | fault?read=20&seed={seed}");
        let (_, said) = place.check(&["cp", &source, "file:link to link", "--block-size", "64KiB"], 1);
        let untouched = said.contains("'file:link to link' is as it was before");
        assert!(untouched || said.contains("the destination was not touched"), "{said}");
        assert_eq!(fs::read(place.path("folder/old")).unwrap(), b"old");
        assert_eq!(fs::read_dir(place.path("folder")).unwrap().count(), 1, "a temporary file is left");
    }
    // A record says that the written bytes were discarded.
    let mut command =
        place.command(&["cp", "file:new | fault?read=20&seed=1", "file:link", "--block-size", "64KiB"]);
    let output = command.env("RUST_LOG", "pactio=warn").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("WARN 'folder/old' keeps its content: the new one was not published"), "{said}");
    let held = File::open(place.path("folder/old")).unwrap();
    place.says(&["cp", "file:new", "file:link to link", "--flush", "--verify"], 0, "");
    assert!(fs::read(place.path("folder/old")).unwrap() == new);
    let after = fs::metadata(place.path("folder/old")).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid()),
        "mode and owner are kept"
    );
    assert!(fs::symlink_metadata(place.path("link to link")).unwrap().is_symlink());
    let mut first = [0; 3];
    held.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(&first, b"old", "an open handle keeps the file that was replaced");
    // A link that leads nowhere is followed.
    symlink("folder/made", place.path("dangling")).unwrap();
    place.says(&["cp", "file:new", "file:dangling"], 0, "");
    assert!(fs::read(place.path("folder/made")).unwrap() == new);
    assert_eq!(fs::metadata(place.path("folder/made")).unwrap().mode() & 0o777 & !0o666, 0);
    assert_eq!(names(&place), ["dangling", "folder", "link", "link to link", "new"]);
}

#[test]
fn the_longest_name_and_names_that_are_no_text_are_replaced() {
    let place = Place::new();
    let new = place.file("new", 1000);
    for name in ["n".repeat(255), "ä".repeat(127), " .new\n".to_owned()] {
        place.says(&["cp", "file:new", &format!("file:{name}")], 0, "");
        place.says(&["cp", "file:new", &format!("file:{name}")], 0, "");
        assert!(fs::read(place.path(&name)).unwrap() == new);
    }
}

#[test]
fn extended_attributes_and_access_lists_are_kept() {
    let place = Place::new();
    let new = place.file("new", 1000);
    place.file("old", 10);
    let file = File::open(place.path("old")).unwrap();
    let value = vec![7; 3000];
    let set = rustix::fs::fsetxattr(&file, "user.pactio", &value, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        return println!("skipped: the file system has no extended attributes");
    }
    // user::rw-, user:1:r--, group::r--, mask::r--, other::---
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, none),
        entry(2, 4, 1),
        entry(4, 4, none),
        entry(16, 4, none),
        entry(32, 0, none),
    ]
    .concat();
    let name = "system.posix_acl_access";
    let has_list = rustix::fs::fsetxattr(&file, name, &list, rustix::fs::XattrFlags::empty()).is_ok();
    place.says(&["cp", "file:new", "file:old"], 0, "");
    assert!(fs::read(place.path("old")).unwrap() == new);
    let file = File::open(place.path("old")).unwrap();
    let get = |name: &str| {
        let mut buffer = vec![0; 4000];
        let len = rustix::fs::fgetxattr(&file, name, &mut buffer[..]).unwrap();
        buffer.truncate(len);
        buffer
    };
    assert_eq!(get("user.pactio"), value);
    if has_list {
        assert_eq!(get(name), list);
    }
}

#[test]
fn a_file_that_must_not_be_written_is_not_replaced() {
    let place = Place::new();
    place.file("new", 10);
    fs::write(place.path("old"), "old").unwrap();
    fs::set_permissions(place.path("old"), Permissions::from_mode(0o444)).unwrap();
    if File::options().write(true).open(place.path("old")).is_ok() {
        // Root may do anything: another user tries.
        fs::set_permissions(place.0.path(), Permissions::from_mode(0o777)).unwrap();
        let mut command = place.command(&["cp", "file:new", "file:old"]);
        let Ok(output) = command.uid(65534).gid(65534).output() else { return };
        if output.status.code() == Some(1) {
            assert!(String::from_utf8_lossy(&output.stderr).contains("permission to write it is denied"));
            assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
        }
        return;
    }
    let (_, said) = place.check(&["cp", "file:new", "file:old"], 1);
    assert!(said.contains("permission to write it is denied"), "{said}");
    assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
}

#[test]
fn special_files_are_written_and_never_replaced() {
    let place = Place::new();
    place.file("new", 10);
    symlink("/dev/null", place.path("null")).unwrap();
    place.says(&["cp", "file:new", "file:null"], 0, "");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(fs::symlink_metadata(place.path("null")).unwrap().is_symlink());
    assert_eq!(names(&place), ["new", "null"]);
}

#[test]
fn in_place_the_file_stays_the_same_file() {
    let place = Place::new().with("fault");
    let new = place.file("new", 100_000);
    fs::write(place.path("old"), vec![7; 200_000]).unwrap();
    fs::hard_link(place.path("old"), place.path("twin")).unwrap();
    place.says(&["cp", "--inplace", "file:new", "file:old"], 0, "");
    assert!(fs::read(place.path("twin")).unwrap() == new, "all names of a file have the copy");
    let (_, said) = place.check(&["cp", "--inplace", "file:new | fault?read=100", "file:old"], 1);
    assert!(said.contains("the destination was not touched"), "{said}");
    assert!(fs::read(place.path("old")).unwrap() == new);
    let (_, said) = place.check(&["cp", "--inplace", "file:twin", "file:old"], 1);
    assert!(said.contains("reads the storage that"), "{said}");
    assert!(fs::read(place.path("old")).unwrap() == new);
    // A folder that takes no new names.
    place.says(&["cp", "file:new", "file:old"], 0, "");
    assert_ne!(
        fs::metadata(place.path("old")).unwrap().ino(),
        fs::metadata(place.path("twin")).unwrap().ino(),
        "replaced under this name alone"
    );
}

#[test]
fn a_part_is_copied_and_what_does_not_exist_is_said_before() {
    let place = Place::new();
    let new = place.file("new", 3_000_000);
    fs::write(place.path("old"), "old").unwrap();
    let part = ["--offset", "1MiB", "--length", "1000001", "--block-size", "64KiB", "--verify"];
    place.says(&[&["cp", "file:new", "file:part"], &part[..]].concat(), 0, "");
    assert!(fs::read(place.path("part")).unwrap() == new[1 << 20..][..1_000_001]);
    place.says(&["cp", "file:new", "file:part", "--length", "0"], 0, "");
    assert_eq!(fs::read(place.path("part")).unwrap(), b"");
    let short = "pactio: only 1951424 of 2097152 bytes at 0x100000 of 'file:new' exist\n";
    place.says(&["cp", "file:new", "file:old", "--offset", "1MiB", "--length", "2MiB"], 3, short);
    let behind = "pactio: there is nothing at 0x400000 of 'file:new'; it ends at 0x2dc6c0\n";
    place.says(&["cp", "file:new", "file:old", "--offset", "4MiB"], 3, behind);
    assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
    place.says(&["cp", "file:/dev/zero", "file:zeros", "--length", "5000"], 0, "");
    assert_eq!(fs::read(place.path("zeros")).unwrap(), vec![0; 5000]);
}

#[test]
fn holes_are_neither_read_nor_written() {
    let place = Place::new();
    let len = 1u64 << 33;
    let file = File::create(place.path("sparse")).unwrap();
    for (position, byte) in [(1 << 20, 1), (1 << 32, 2), (len - (1 << 20), 3)] {
        file.write_all_at(&vec![byte; 70_000], position).unwrap();
    }
    file.set_len(len).unwrap();
    let blocks = |name: &str| fs::metadata(place.path(name)).unwrap().blocks();
    if blocks("sparse") > 2000 {
        return println!("skipped: the file system has no holes");
    }
    place.says(&["cp", "file:sparse", "file:copy"], 0, "");
    assert_eq!(fs::metadata(place.path("copy")).unwrap().len(), len);
    assert!(blocks("copy") <= blocks("sparse") + 64, "{} {}", blocks("copy"), blocks("sparse"));
    let copy = File::open(place.path("copy")).unwrap();
    for (position, byte) in [(1 << 20, 1), (1 << 32, 2), (len - (1 << 20), 3)] {
        let mut there = vec![0; 70_000];
        copy.read_exact_at(&mut there, position).unwrap();
        assert_eq!(there, vec![byte; 70_000]);
    }
    // A part that begins and ends in holes.
    let part = ["--offset", "1000000", "--length", "1000000", "--verify"];
    place.says(&[&["cp", "file:sparse", "file:part"], &part[..]].concat(), 0, "");
    let mut expected = vec![0; 1_000_000];
    file_at(&place, "sparse").read_exact_at(&mut expected, 1_000_000).unwrap();
    assert!(fs::read(place.path("part")).unwrap() == expected);
    // Where there was something before, the holes are zeros.
    fs::write(place.path("full"), vec![9; 3_000_000]).unwrap();
    place.says(&[&["cp", "--inplace", "file:sparse", "file:full"], &part[..]].concat(), 0, "");
    assert!(fs::read(place.path("full")).unwrap() == expected);
}

fn file_at(place: &Place, name: &str) -> File {
    File::open(place.path(name)).unwrap()
}

/// Starts a copy that takes long, and waits until it has written something.
fn begin_slow(
    place: &Place,
    rate: &str,
    destination: &str,
    more: &[&str],
    written: impl Fn() -> bool,
) -> Child {
    let source = format!("file:new | limit?rate={rate}");
    let arguments = ["cp", &source, destination, "--block-size", "64KiB"];
    let mut command = place.command(&[&arguments[..], more].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !written() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// This process was started to ignore a signal, as by `nohup` or in the background of a script, and so are the commands that it
/// starts.
fn is_ignored(signal: &str) -> bool {
    let bit = match signal {
        "-HUP" => 1,
        "-INT" => 1 << 1,
        "-TERM" => 1 << 14,
        _ => unreachable!(),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let is_ignored = mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & bit != 0);
    if is_ignored {
        println!("{signal} is not tried: it is ignored here");
    }
    is_ignored
}

/// Something besides the names from before is in the folder.
fn has_more(place: &Place, count: usize) -> bool {
    names(place).len() > count
}

#[test]
fn signals_leave_the_destination_as_it_was_and_nothing_beside_it() {
    let place = Place::new().with("limit").with("object");
    place.file("new", 100 << 20);
    fs::write(place.path("old"), "old").unwrap();
    let before = names(&place);
    let local = format!("local:{}?part=5MiB", place.path("old").display());
    for (destination, more, signal, code) in [
        ("file:old", "--flush", "-INT", 130),
        ("file:old", "--verify", "-TERM", 143),
        (&local, "--flush", "-HUP", 129),
    ] {
        if is_ignored(signal) {
            continue;
        }
        // A temporary file, or the first part of the object, which a folder as a store keeps beside it.
        let child = begin_slow(&place, "8MiB", destination, &[more], || has_more(&place, before.len()));
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let shown = destination.replace("part=5MiB", "part=***");
        let expected = format!("pactio: interrupted: '{shown}' is as it was before\n");
        assert!(said == expected || said == expected.replace("***", "5MiB"), "{said}");
        assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
        assert_eq!(names(&place), before);
    }
    // After an end without a warning, the destination is as it was.
    let mut child = begin_slow(&place, "8MiB", "file:old", &[], || has_more(&place, before.len()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
}

#[test]
fn a_signal_that_the_command_was_started_to_ignore_stays_ignored() {
    let place = Place::new().with("limit");
    let new = place.file("new", 2 << 20);
    let mut command = Command::new("sh");
    let inner = place.command(&["cp", "file:new | limit?rate=1MiB", "file:copy"]);
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let child = command.current_dir(place.0.path()).stderr(Stdio::piped()).spawn().unwrap();
    while !has_more(&place, 1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    send("-HUP", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(place.path("copy")).unwrap() == new);
}

#[test]
fn a_source_that_changes_meanwhile_is_an_error_and_one_that_grows_is_not() {
    let place = Place::new().with("limit");
    fs::write(place.path("old"), "old").unwrap();
    let change = |how: &dyn Fn(&File)| {
        place.file("new", 2 << 20);
        let child = begin_slow(&place, "512KiB", "file:old", &[], || has_more(&place, 2));
        how(&File::options().write(true).open(place.path("new")).unwrap());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = change(&|file| file.write_all_at(b"other", 100).unwrap());
    assert_eq!(code, Some(1));
    assert!(said.contains("has changed while it was copied: it was written"), "{said}");
    assert!(said.contains("'file:old' is as it was before"), "{said}");
    let (code, said) = change(&|file| file.set_len(1 << 20).unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
    let (code, said) = change(&|file| file.write_all_at(b"more", 2 << 20).unwrap());
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(fs::metadata(place.path("old")).unwrap().len(), 2 << 20, "the bytes from before");
}

#[test]
fn a_full_disk_leaves_the_destination_as_it_was() {
    let place = Place::new();
    place.file("new", 3_000_000);
    fs::write(place.path("old"), "old").unwrap();
    let before = names(&place);
    let inner = place.command(&["cp", "file:new", "file:old"]);
    let mut command = Command::new("sh");
    // The limit for the size of a file, in units of 512 bytes or 1 KiB.
    command
        .args(["-c", "ulimit -f 1000; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let output = command.current_dir(place.0.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("'file:old' is as it was before"), "{said}");
    assert_eq!((fs::read(place.path("old")).unwrap(), names(&place)), (b"old".to_vec(), before));
}

#[test]
fn sameness_is_seen_through_trees_profiles_and_mounts() {
    let place = Place::new().with("mount").with("object");
    let content = place.file("a", 5000);
    let folder = place.0.path().display();
    fs::write(place.path("profiles.toml"), "[mine]\nscheme = \"file\"\ntarget = \"a\"\n").unwrap();
    fs::write(place.path("plan.toml"), "[[source]]\nurl = \"file:.\"\nat = \"\"\n").unwrap();
    symlink("a", place.path("link")).unwrap();
    fs::hard_link(place.path("a"), place.path("twin")).unwrap();
    let local = format!("local:{folder}/a");
    let all = ["file:a", "profile:mine", "file:. | /link", "mount:plan.toml | /a", &local, "file:twin"];
    for source in all {
        for destination in all {
            let arguments = ["--profiles", "profiles.toml", "cp", source, destination];
            let (_, said) = place.check(&arguments, 1);
            let refused = said.contains("reads the storage that") || said.contains("mounts are only read");
            assert!(refused, "{source} {destination}: {said}");
            assert!(fs::read(place.path("a")).unwrap() == content);
        }
    }
}

#[test]
fn a_refused_destination_leaves_no_temporary_file() {
    let place = Place::new();
    place.file("a", 5000);
    for _ in 0..40 {
        place.check(&["cp", "file:a", "file:a"], 1);
        assert_eq!(names(&place), ["a"]);
    }
    let (_, said) = place.check(&["cp", "file:a", "file:/proc/self/comm"], 1);
    assert!(said.contains("no file can be made in its folder") && said.contains("cp --inplace"), "{said}");
}

#[test]
fn verify_finds_what_was_written_wrong() {
    let place = Place::new().with("object");
    let new = place.file("new", 300_000);
    place.says(&["cp", "file:new", "file:copy", "--verify"], 0, "");
    assert!(fs::read(place.path("copy")).unwrap() == new);
    let local = format!("local:{}", place.path("object").display());
    place.says(&["cp", "file:new", &local, "--verify"], 0, "");
    assert!(fs::read(place.path("object")).unwrap() == new);
    // What takes everything and keeps nothing.
    let (_, said) = place.check(&["cp", "file:new", "file:/dev/null", "--verify"], 3);
    assert!(said.contains("'file:/dev/null' was written, but is not verified"), "{said}");
    let (_, said) = place.check(&["cp", "file:new", "memory:?size=300000", "--verify"], 1);
    assert!(said.contains("opening it again gives another device"), "{said}");
}

/// Whether the command handles a signal by now, of which this is the bit.
fn handles(child: &Child, bit: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & bit != 0
}

#[test]
fn a_pipe_is_written_in_place_and_waits_for_its_reader() {
    let place = Place::new();
    let content = place.file("from", 3 << 20);
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let begun = place.command(&["cp", "file:from", "file:pipe"]).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(fs::read(place.path("pipe")).unwrap(), content, "the reader got other bytes");
    let output = begun.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::metadata(place.path("pipe")).unwrap().file_type().is_fifo(), "the pipe was replaced");

    // Standard output, by its name.
    let (out, _) = place.check(&["cp", "file:from", "file:/dev/stdout", "--block-size", "100000"], 0);
    assert!(out == content, "standard output got other bytes");

    // A reader that goes away.
    let begun = place.command(&["cp", "file:/dev/zero", "file:pipe"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = File::open(place.path("pipe")).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    let output = begun.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("disconnected"), "{said}");

    // Without a reader, and with one that takes nothing, a signal ends it.
    for with_reader in [false, true].into_iter().filter(|_| !is_ignored("-INT")) {
        let mut begun =
            place.command(&["cp", "file:/dev/zero", "file:pipe"]).stderr(Stdio::piped()).spawn().unwrap();
        let reader = with_reader.then(|| File::open(place.path("pipe")).unwrap());
        while !handles(&begun, 1 << 1) {
            assert!(begun.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        send("-INT", &begun);
        let output = begun.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        drop(reader);
    }
    let (_, said) = place.check(&["cp", "file:from", "file:pipe", "--verify"], 1);
    assert!(said.contains("cannot be verified: it is a stream"), "{said}");
}

/// A tree of folders and files; gives the content of each file.
fn make_tree(place: &Place, root: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in ["", "deep/", "deep/er/", "a b/"] {
        fs::create_dir_all(place.path(&format!("{root}/{folder}"))).unwrap();
        for (number, len) in [0, 1, 4096, 3 << 20].into_iter().enumerate() {
            let name = format!("{folder}{number} %20 \u{fc}");
            let content: Vec<u8> = (0..len).map(|byte| (byte * 7 + number) as u8).collect();
            fs::write(place.path(&format!("{root}/{name}")), &content).unwrap();
            files.push((name, content));
        }
    }
    fs::create_dir(place.path(&format!("{root}/empty"))).unwrap();
    files
}

#[test]
fn cp_r_copies_all_files_of_a_tree() {
    let place = Place::new().with("object").with("archive");
    let files = make_tree(&place, "tree");
    let same = |root: &str| {
        for (name, content) in &files {
            let path = place.path(&format!("{root}/{name}"));
            assert!(fs::read(&path).is_ok_and(|read| read == *content), "{}", path.display());
        }
    };
    // To a folder that is made, again over its files, and with other files that stay.
    let (_, said) = place.check(&["cp", "-r", "file:tree", "file:copy"], 0);
    assert_eq!(said, "", "it is quiet in a pipe");
    same("copy");
    assert!(place.path("copy/empty").is_dir());
    fs::write(place.path("copy/other"), "stays").unwrap();
    fs::write(place.path("copy/deep/0 %20 \u{fc}"), "replaced").unwrap();
    place.check(&["cp", "-r", "--verify", "--flush", "file:tree", "file:copy"], 0);
    same("copy");
    assert_eq!(fs::read(place.path("copy/other")).unwrap(), b"stays");
    // Through a store and back, and out of an archive.
    fs::create_dir(place.path("store")).unwrap();
    let store = format!("local:{}/", place.path("store").display());
    place.check(&["cp", "-r", "file:tree", &store], 0);
    place.check(&["cp", "-r", &store, "file:back/"], 0);
    same("back");
    let zip = File::create(place.path("tree.zip")).unwrap();
    let mut zip = zip::ZipWriter::new(zip);
    for (name, content) in &files {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, content).unwrap();
    }
    zip.finish().unwrap();
    place.check(&["cp", "-r", "file:tree.zip | archive", "file:unpacked"], 0);
    same("unpacked");
    // No temporary file is left.
    let count = |root: &str| {
        let mut left = vec![place.path(root)];
        let mut files = 0;
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() { left.push(entry.path()) } else { files += 1 }
            }
        }
        files
    };
    assert_eq!(
        (count("copy"), count("back"), count("unpacked")),
        (files.len() + 1, files.len(), files.len())
    );
}

#[test]
fn cp_r_reports_each_name_that_fails_and_copies_the_others() {
    let place = Place::new();
    let files = make_tree(&place, "tree");
    // A folder and a file of one name, a file that cannot be opened, and a link back.
    fs::create_dir_all(place.path("copy/deep/1 %20 \u{fc}")).unwrap();
    fs::write(place.path("copy/empty"), "a file").unwrap();
    symlink("nowhere", place.path("tree/dangling")).unwrap();
    symlink("..", place.path("tree/deep/back")).unwrap();
    let (_, said) = place.check(&["cp", "-r", "file:tree", "file:copy"], 1);
    for expected in [
        "pactio: deep/back: it is a link back to a folder that it is in\n",
        "pactio: deep/1 %2520 \u{fc}: ",
        "pactio: dangling: ",
        "pactio: empty: ",
        "4 names failed; 15 of 17 files, ",
    ] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    assert_eq!(said.lines().count(), 5, "{said}");
    let (name, content) = &files[3];
    assert!(fs::read(place.path(&format!("copy/{name}"))).unwrap() == *content);
    assert_eq!(fs::read(place.path("copy/empty")).unwrap(), b"a file");
    // Copies that make no sense.
    let (_, said) = place.check(&["cp", "-r", "file:tree", "file:tree"], 1);
    assert!(said.contains("is the source itself"), "{said}");
    fs::remove_file(place.path("tree/dangling")).unwrap();
    fs::remove_file(place.path("tree/deep/back")).unwrap();
    place.check(&["cp", "-r", "file:tree", "file:tree/deep/inner"], 0);
    assert!(
        place.path("tree/deep/inner/deep/er").is_dir() && !place.path("tree/deep/inner/deep/inner").exists()
    );
    for (source, destination, expected) in [
        ("file:tree/0 %2520 \u{fc}", "file:new", "is no tree"),
        ("file:tree", "file:copy/empty", "is no tree"),
        ("file:tree", "memory:?size=1", "is no tree"),
        ("file:tree", "file:none/deep", "no such file"),
        ("file:none", "file:new", "no such file"),
    ] {
        let (_, said) = place.check(&["cp", "-r", source, destination], 1);
        assert!(said.contains(expected), "{source} {destination}: {said}");
    }
    assert!(!place.path("new").exists());
    place.check(&["cp", "-r", "--length", "1", "file:tree", "file:copy"], 2);
}

#[test]
fn a_signal_ends_cp_r_and_leaves_whole_files() {
    let place = Place::new();
    let files = make_tree(&place, "tree");
    fs::create_dir(place.path("copy")).unwrap();
    for _ in 0..20 {
        let mut child = place.command(&["cp", "-r", "--block-size", "512", "file:tree", "file:copy"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while !handles(&child, 1 << 14) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        send("-TERM", &child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // A copy may end before the signal comes.
        assert!(matches!(output.status.code(), Some(0 | 143)), "{said}");
        assert!(output.status.success() || said.contains("pactio: interrupted: "), "{said}");
        let mut left = vec![place.path("copy")];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                    continue;
                }
                let name = path.strip_prefix(place.path("copy")).unwrap().to_str().unwrap();
                let (_, content) =
                    files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}: {said}"));
                assert!(fs::read(&path).unwrap() == *content, "{name}: {said}");
            }
        }
        fs::remove_dir_all(place.path("copy")).unwrap();
        fs::create_dir(place.path("copy")).unwrap();
    }
}

#[test]
fn cp_r_leaves_pipes_and_devices_alone() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    fs::create_dir(place.path("copy")).unwrap();
    for name in ["file", "other"] {
        fs::write(place.path(&format!("tree/{name}")), name).unwrap();
    }
    symlink("/dev/zero", place.path("tree/zero")).unwrap();
    let mkfifo =
        |name: &str| assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
    mkfifo("tree/pipe");
    mkfifo("copy/file");
    let (_, said) = place.check(&["cp", "-r", "file:tree", "file:copy"], 1);
    for expected in [
        "pactio: zero: it is a character device, and not a file\n",
        "pactio: pipe: it is a pipe, and not a file\n",
        "pactio: file: the name there is no file, but a pipe or a device\n",
        "pactio: 3 names failed; 1 of 2 files, 5 bytes, were copied to 'file:copy'\n",
    ] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    assert_eq!(fs::read(place.path("copy/other")).unwrap(), b"other");
}

#[test]
fn a_large_hole_does_not_hold_up_a_signal() {
    let place = Place::new();
    let file = File::create(place.path("big")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"end", (1 << 40) - 3).unwrap();
    for arguments in
        [&["cp", "--verify", "file:big", "file:out"][..], &["cp", "-r", "--verify", "file:.", "file:out/"]]
    {
        if arguments[1] == "-r" {
            fs::create_dir(place.path("sub")).unwrap();
        }
        let mut child = place.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        while !handles(&child, 1 << 14) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(300));
        // Twice, as `timeout` does.
        send("-TERM", &child);
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(143) && said.contains("interrupted"),
            "{:?} {said}",
            output.status
        );
        let left = names(&place).into_iter().filter(|name| name.starts_with('.')).collect::<Vec<_>>();
        assert!(left.is_empty(), "{left:?}");
    }
}
