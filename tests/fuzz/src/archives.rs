//! Any archive directory is a tree of names within the archive or is refused; and both ways to decompress agree.
#![no_main]
// The targets use only a part of the plugins' code.
#![allow(dead_code)]

#[path = "../../../plugins/archive/src/codec.rs"]
mod codec;
#[path = "../../../plugins/archive/src/content.rs"]
mod content;
#[path = "../../../plugins/archive/src/failure.rs"]
mod failure;
#[path = "../../../plugins/archive/src/names.rs"]
mod names;
#[path = "../../../plugins/archive/src/pak.rs"]
mod pak;
#[path = "../../../plugins/archive/src/reader.rs"]
mod reader;
#[path = "../../../plugins/archive/src/vpk.rs"]
mod vpk;
#[path = "../../../plugins/archive/src/zip.rs"]
mod zip;

use codec::{Codec, Steps};
use content::Content;
use libfuzzer_sys::fuzz_target;
use names::{Child, Names};

/// All names can be found, and no name lies outside of the archive.
fn check(names: &Names, file: impl Fn(&str, &Content)) {
    let mut folders = vec![String::new()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert!(matches!(names.find(&folder), Some(Child::Folder)), "'{folder}'");
        let mut all = names.list(&folder, 0).expect("it is a folder");
        let mut cursor = 0;
        while let Some(entry) = all.next() {
            let name = entry.name.to_str().expect("names of archives are text");
            assert!(!matches!(name, "" | "." | "..") && !name.contains('/'), "{name:?}");
            assert_eq!(names.list(&folder, cursor).and_then(|mut rest| rest.next()).as_ref(), Some(&entry));
            cursor = all.cursor();
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            match names.find(&path).expect("it was listed") {
                Child::Folder => {
                    assert!(entry.is_folder(), "{entry:?}");
                    folders.push(path);
                }
                Child::File(number) => {
                    files += 1;
                    let content = names.content(number);
                    assert!(
                        !entry.is_folder() && entry.size().is_some() && entry.stat == content.stat(),
                        "{entry:?}"
                    );
                    file(&path, content);
                }
            }
        }
    }
    assert_eq!(files, names.count());
    assert_eq!(names.refused(0).count(), names.refused_count());
}

/// Decompresses all of it in one call, and step by step.
fn decompress(codec: Codec, packed: &[u8]) {
    let mut stepped = vec![0; 1 << 16];
    let mut steps = Steps::new(codec).expect("there is memory");
    let (mut consumed, mut produced) = (0, 0);
    let ended = loop {
        // The input is cut into pieces, and a copy of the state continues.
        let end = packed.len().min(consumed + 7);
        if let Some(fork) = steps.fork() {
            steps = fork;
        }
        let room = stepped.len().min(produced + 100);
        match steps.step(&packed[consumed..end], &mut stepped[produced..room]) {
            Err(_) => return,
            Ok(step) => {
                consumed += step.consumed;
                produced += step.produced;
                if step.ended {
                    break true;
                }
                if step.consumed == 0
                    && step.produced == 0
                    && (end == packed.len() || produced == stepped.len())
                {
                    break false;
                }
            }
        }
    };
    if !ended {
        return;
    }
    let mut whole = vec![0; produced];
    let crc = crc32fast::hash(&stepped[..produced]);
    if codec.whole(&packed[..consumed], &mut whole, crc).is_ok() {
        assert_eq!(whole, stepped[..produced]);
    } else {
        // The steps accept a deflate stream with a wrong code that no byte uses, but never produce other bytes.
        assert!(codec == Codec::Deflate || produced == 0, "{codec:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let size = bytes.len() as u64;
    if let Ok(Some((zip, names))) = zip::Zip::parse(bytes, size, false) {
        assert_eq!(zip::Zip::parse(bytes, size, true).is_ok(), names.refused_count() == 0);
        check(&names, |_, content| {
            if let Content::Zip(file) = content
                && let Ok(start) = zip.locate(file)
            {
                assert!(start + file.packed <= size, "{start} + {} > {size}", file.packed);
            }
        });
    }
    for names in [pak::parse(&bytes, size, false), vpk::parse(&bytes, size, false)].into_iter().flatten() {
        check(&names, |_, content| {
            if let Content::Stored { extents, .. } = content {
                assert!(
                    extents.iter().all(|extent| extent.part.is_some() || extent.offset + extent.len <= size)
                );
            }
        });
    }
    decompress(Codec::Deflate, bytes);
    decompress(Codec::Zstd, bytes);
});
