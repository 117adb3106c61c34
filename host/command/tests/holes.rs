//! The command and memory with holes: around them, and into a dump.

mod place;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use place::{Ends, Place};

/// A raw image at three places, of which the second has a hole behind it, and the third is cut off.
fn image(place: &Place) -> Vec<u8> {
    let image = place.file("image", 0x3000);
    fs::write(place.path("map"), "1000-2000 0\n2000-3000 1000\n8000-9000 2000\n").unwrap();
    image
}

#[test]
fn cat_and_hexdump_get_around_holes() {
    let place = Place::new().with("core");
    let image = image(&place);
    let url = "file:image | core?map=map";
    place.check(&["cat", url, "--offset", "0x1000", "--length", "0x8000"], 1);
    let (padded, said) = place.check(&["cat", url, "--offset", "0x1000", "--length", "0x8000", "--pad"], 0);
    let expected = [&image[..0x2000], &[0; 0x5000], &image[0x2000..]].concat();
    assert!(padded == expected, "{said}");
    assert_eq!(said, "pactio: 0x3000-0x8000 cannot be read: not mapped\n");
    // Without a length, all regions are read.
    let (skipped, said) = place.check(&["cat", url, "--skip"], 0);
    assert!(skipped == image && said.is_empty(), "{said}");
    let range = ["--offset", "0x2ff8", "--length", "0x5010"];
    let (text, _) = place.check(&[&["hexdump", url, "--skip"][..], &range].concat(), 0);
    let text = String::from_utf8(text).unwrap();
    let positions: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(positions, ["00002ff8", "00008000", "00008008"], "{text}");
    let (lines, _) = place.check(&[&["hexdump", url, "--skip", "--json"][..], &range].concat(), 0);
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.contains("\"position\":12280") && lines.contains("\"position\":32768"), "{lines}");
    // Lost bytes of a dump are a failure, whatever is printed for them.
    fs::write(place.path("map"), "1000-2000 2800\n").unwrap();
    let (padded, said) = place.check(&["cat", url, "--offset", "0x1000", "--length", "0x1000", "--pad"], 3);
    assert!(padded == [&image[0x2800..], &[0; 0x800]].concat(), "{said}");
    assert!(
        said.contains("2048 bytes of 'file:image | core?map=map' could not be read: corrupt data"),
        "{said}"
    );
    // The end of a device is no hole.
    let (rest, _) = place.check(&["cat", "file:image", "--offset", "0x2ff0", "--pad"], 0);
    assert!(rest == image[0x2ff0..]);
    place.check(&["cat", url, "--pad"], 2);
    place.check(&["cat", url, "--pad", "--skip"], 2);
}

#[test]
fn a_dump_of_a_process_is_a_core_file_with_its_memory_and_names() {
    let place = Place::new().with("process").with("core");
    let marker = format!("pactio-dumps-{}", std::process::id());
    let mut sleep = Command::new("/bin/sleep");
    let sleep = sleep.arg("600").env("MARKER", &marker).stdout(Stdio::null());
    let child = Ends(sleep.stderr(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    while !fs::read_link(format!("/proc/{pid}/exe")).unwrap().ends_with("sleep")
        || !fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("[stack]")
    {
        std::thread::yield_now();
    }
    let url = format!("process:{pid}");
    fs::write(place.path("dump"), "what was here before").unwrap();
    let (_, said) = place.check(&["dump", &url, "dump"], 0);
    assert!(said.contains(" regions; 0 bytes could not be read"), "{said}");
    let dump = "file:dump | core";
    let there = place.printed(&["scan", &url, "--text", &marker]);
    assert!(there.contains("  [stack]+0x"), "{there}");
    let addresses = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(addresses(&place.printed(&["scan", dump, "--text", &marker])), addresses(&there));
    // The dump has the same regions with bytes, and the names and offsets of files.
    let maps = |url: &str| -> Vec<serde_json::Value> {
        let text = place.printed(&["maps", url, "--json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let is_file = |region: &serde_json::Value| {
        region["name"].as_str().unwrap().starts_with('/') && region["has_bytes"] == true
    };
    let files = |url: &str| -> Vec<_> {
        let regions = maps(url).into_iter().filter(is_file);
        regions
            .map(|region| ["start", "end", "rights", "name", "file_offset"].map(|key| region[key].clone()))
            .collect()
    };
    assert!(files(&url).len() > 3);
    assert_eq!(files(dump), files(&url));
    // Bytes of the program's own file, through the dump.
    let text = maps(&url).into_iter().find(|region| region["rights"] == "r-x" && is_file(region)).unwrap();
    let (start, offset) = (text["start"].as_u64().unwrap(), text["file_offset"].as_u64().unwrap());
    let (bytes, _) = place.check(&["cat", dump, "--offset", &start.to_string(), "--length", "4096"], 0);
    let file = fs::read(text["name"].as_str().unwrap()).unwrap();
    assert!(bytes == file[offset as usize..][..4096]);
    // Pages of zeros take no room.
    let stat = fs::metadata(place.path("dump")).unwrap();
    assert!(stat.blocks() * 512 <= stat.len() + 65536, "{} of {}", stat.blocks() * 512, stat.len());
    assert_eq!(stat.mode() & 0o077, 0, "a dump is private");
    let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".pactio")), "{left:?}");
    // A debugger reads it.
    let at = there.split(' ').next().unwrap();
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", &format!("x/s {at}"), "/bin/sleep", "dump"])
        .current_dir(&place.0)
        .output();
    match gdb {
        Ok(gdb) => {
            let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
            assert!(text.contains(&marker), "{text}{}", String::from_utf8_lossy(&gdb.stderr));
        }
        // gdb is not installed everywhere, and the bytes are compared above.
        Err(error) => println!("not read by gdb: {error}"),
    }
}

#[test]
fn what_has_no_addresses_or_no_place_is_not_dumped() {
    let place = Place::new().with("process");
    let (_, said) = place.check(&["dump", "memory:?size=4KiB", "dump"], 1);
    assert!(said.contains("has no regions") && said.contains("pactio cp copies it"), "{said}");
    fs::create_dir(place.path("folder")).unwrap();
    let sleep = Command::new("/bin/sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
    let child = Ends(sleep);
    let url = format!("process:{}", child.0.id());
    for destination in ["folder", "none/dump"] {
        let (_, said) = place.check(&["dump", &url, destination], 1);
        assert!(said.contains(&format!("cannot write '{destination}'")), "{said}");
    }
}
