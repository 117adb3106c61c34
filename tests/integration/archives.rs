//! The archive filter, against archives of another maker, archives made here byte by byte, and archives that lie.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use pactio::{Code, Device, Host};
use pactio_tests::{host, in_time, random};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn archive_host() -> Host {
    host(&["pactio_archive", "pactio_core", "pactio_delay", "pactio_fault", "pactio_file", "pactio_stats"])
}

/// Text that can be compressed, as words can.
fn words(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..300)
        .map(|_| (0..random.usize(2..9)).map(|_| random.u8(b'a'..=b'z')).chain([b' ']).collect())
        .collect();
    let mut text = Vec::with_capacity(len + 10);
    while text.len() < len {
        text.extend_from_slice(random.choice(&words).unwrap());
    }
    text.truncate(len);
    text
}

/// A zip archive of files.
fn zipped(files: &[(&str, CompressionMethod, &[u8])], large: bool) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, method, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(*method).large_file(large);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    format!("file:{}", path.display())
}

fn read_all(host: &Host, device: &Device) -> Result<Vec<u8>, pactio::Error> {
    host.block_on(device.read_exact_at(0, vec![0; device.size().unwrap() as usize]))
}

fn figure(host: &Host, device: &Device, name: &str) -> u64 {
    let figures = host.block_on(device.statistics()).unwrap();
    figures.iter().find(|figure| figure.name == name).map_or(0, |figure| figure.value)
}

#[test]
fn files_of_every_method_and_size_are_what_went_in() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let (short, long) = (words(&mut random, 300_000), words(&mut random, 11_000_123));
        let all = [
            ("stored", CompressionMethod::Stored, &short[..]),
            ("deflated", CompressionMethod::Deflated, &short),
            ("zstd", CompressionMethod::Zstd, &short),
            ("long/stored", CompressionMethod::Stored, &long),
            ("long/deflated", CompressionMethod::Deflated, &long),
            ("long/zstd", CompressionMethod::Zstd, &long),
            ("empty", CompressionMethod::Deflated, &[]),
            ("one", CompressionMethod::Deflated, b"1"),
        ];
        for (large, cache) in [(false, "64MiB"), (true, "0"), (true, "1MiB")] {
            let file = write(folder.path(), "all.zip", &zipped(&all, large));
            let archive = host.open(&format!("{file} | archive?cache={cache}")).unwrap();
            let listed = host.block_on(archive.list("long")).unwrap();
            let names: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, ["deflated", "stored", "zstd"]);
            assert!(listed.iter().all(|entry| entry.size == Some(long.len() as u64)));
            for (name, method, bytes) in all {
                let device = archive.open(name).unwrap();
                assert_eq!(device.size(), Some(bytes.len() as u64), "{name}");
                assert!(read_all(&host, &device).unwrap() == bytes, "{name}, {method}");
                if bytes.is_empty() {
                    continue;
                }
                // At random, forwards, backwards, over the end; with many at once.
                let mut tasks = Vec::new();
                for _ in 0..if bytes.len() > 1 << 20 { 12 } else { 60 } {
                    let position = random.usize(0..bytes.len() + 10);
                    let len = if random.bool() { random.usize(1..300) } else { random.usize(1..2_500_000) };
                    let device = device.clone();
                    let task = host
                        .spawn(async move { device.read_at(position as u64, vec![7; len]).await.unwrap() });
                    tasks.push((position, len, task));
                }
                for (position, len, task) in tasks {
                    let (report, read) = host.block_on(task);
                    let there = bytes.len().saturating_sub(position).min(len);
                    assert_eq!(report.done(), there, "{name}: {position} {len}: {report}");
                    assert!(
                        read[..there] == bytes[position.min(bytes.len())..][..there],
                        "{name}: {position}"
                    );
                    let rest = report.failed_ranges().map(|(_, error)| error.code()).next();
                    assert_eq!(rest, (there < len).then_some(Code::End));
                }
            }
        }
    });
}

#[test]
fn many_readers_of_one_file_cost_one_decompression() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let (short, long) = (words(&mut random, 1_000_000), words(&mut random, 9_000_000));
        let all = [
            ("short", CompressionMethod::Deflated, &short[..]),
            ("long", CompressionMethod::Deflated, &long),
        ];
        let file = write(folder.path(), "a.zip", &zipped(&all, false));
        let archive = host.open(&format!("{file} | delay?latency=20ms | archive")).unwrap();
        for (name, bytes, blocks) in [("short", &short, 1), ("long", &long, 9)] {
            let before = figure(&host, &archive, "decoded");
            let tasks: Vec<_> = (0..64)
                .map(|index| {
                    // Each opens it anew.
                    let (device, at) = (archive.open(name).unwrap(), index * bytes.len() / 64);
                    (at, host.spawn(async move { device.read_exact_at(at as u64, vec![0; 5000]).await }))
                })
                .collect();
            for (at, task) in tasks {
                assert!(host.block_on(task).unwrap() == bytes[at..at + 5000], "{name} at {at}");
            }
            assert_eq!(figure(&host, &archive, "decoded") - before, blocks, "{name}");
        }
    });
}

#[test]
fn stored_files_are_handed_on_and_what_is_below_is_asked_for_no_more_than_that() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 100_000);
        let file = write(folder.path(), "a.zip", &zipped(&[("x", CompressionMethod::Stored, &bytes)], false));
        let archive = host.open(&format!("{file} | stats | archive")).unwrap();
        let below = archive.below().unwrap().clone();
        let device = archive.open("x").unwrap();
        let before = ["reads", "bytes read"].map(|name| figure(&host, &below, name));
        assert!(host.block_on(device.read_exact_at(70_000, vec![0; 123])).unwrap() == bytes[70_000..70_123]);
        let after = ["reads", "bytes read"].map(|name| figure(&host, &below, name));
        assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 123]);
    });
}

#[test]
fn an_archive_may_lie_in_an_archive_and_a_dump_in_that() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let image = vec![0xab; 8192];
        let inner = zipped(&[("dumps/image", CompressionMethod::Deflated, &image)], false);
        let outer = zipped(&[("in.zip", CompressionMethod::Zstd, &inner)], false);
        let file = write(folder.path(), "out.zip", &outer);
        let url = format!("{file} | archive | /in.zip | archive | /dumps/image | core?at=0x400000");
        let device = host.open(&url).unwrap();
        assert_eq!(device.url(), url);
        assert_eq!(host.block_on(device.read::<u32>(0x40_1000)).unwrap(), 0xabab_abab);
        // A folder is a tree as it is, and an archive in it is named.
        let folder = folder.path().display();
        let same = host.open(&format!("file:{folder} | archive | /out.zip | archive | /in.zip")).unwrap();
        assert!(read_all(&host, &same).unwrap() == inner);
        let named = host.open(&format!("file:{folder} | archive?file=out.zip | /in.zip")).unwrap();
        assert!(read_all(&host, &named).unwrap() == inner);
    });
}

#[test]
fn quake_and_valve_archives() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 3000);
        // PAK: a file, then the table.
        let mut pak = b"PACK".to_vec();
        pak.extend(3012u32.to_le_bytes());
        pak.extend(128u32.to_le_bytes());
        pak.extend(&bytes);
        for (name, offset, len) in [("maps/e1m1.bsp", 12u32, 2000u32), ("progs\\x.mdl", 2012, 1000)] {
            let mut entry = name.as_bytes().to_vec();
            entry.resize(56, 0);
            pak.extend(entry);
            pak.extend(offset.to_le_bytes());
            pak.extend(len.to_le_bytes());
        }
        let archive = host.open(&format!("{} | archive", write(folder.path(), "pak0.pak", &pak))).unwrap();
        for (name, range) in [("maps/e1m1.bsp", 0..2000), ("progs/x.mdl", 2000..3000)] {
            assert!(read_all(&host, &archive.open(name).unwrap()).unwrap() == bytes[range], "{name}");
        }
        // VPK: a directory with a bit of each file, and the rest in it or beside it.
        for version in [1u32, 2] {
            let mut tree = Vec::new();
            let mut file =
                |ext: &str, folder: &str, name: &str, preload: &[u8], part: u16, at: u32, len: u32| {
                    for text in [ext, folder, name] {
                        tree.extend(text.as_bytes());
                        tree.push(0);
                    }
                    tree.extend(0u32.to_le_bytes());
                    tree.extend((preload.len() as u16).to_le_bytes());
                    tree.extend(part.to_le_bytes());
                    tree.extend(at.to_le_bytes());
                    tree.extend(len.to_le_bytes());
                    tree.extend(0xffffu16.to_le_bytes());
                    tree.extend(preload);
                    tree.extend([0, 0]);
                };
            file("vmt", "materials/a", "wall", &bytes[..100], 0x7fff, 0, 500);
            file(" ", " ", "readme", &bytes[..7], 0, 0, 0);
            file("vtf", "materials/b", "sky", &[], 3, 10, 1500);
            tree.push(0);
            let mut vpk = 0x55aa_1234u32.to_le_bytes().to_vec();
            vpk.extend(version.to_le_bytes());
            vpk.extend((tree.len() as u32).to_le_bytes());
            vpk.resize(if version == 2 { 28 } else { 12 }, 0);
            vpk.extend(tree);
            vpk.extend(&bytes[100..600]);
            let directory = write(folder.path(), "pak01_dir.vpk", &vpk);
            write(folder.path(), "pak01_003.vpk", &bytes[..1510]);
            let alone = host.open(&format!("{directory} | archive")).unwrap();
            let of_folder = format!("file:{} | archive?file=pak01_dir.vpk", folder.path().display());
            let archive = host.open(&of_folder).unwrap();
            for (name, range) in
                [("materials/a/wall.vmt", 0..600), ("readme", 0..7), ("materials/b/sky.vtf", 10..1510)]
            {
                let device = archive.open(name).unwrap();
                assert!(read_all(&host, &device).unwrap() == bytes[range.clone()], "{name}");
                let position = range.len() as u64 / 2;
                let (report, _) = host.block_on(device.read_at(position, vec![0; 1000])).unwrap();
                assert_eq!(report.done(), (range.len() - range.len() / 2).min(1000), "{name}");
            }
            assert!(read_all(&host, &alone.open("materials/a/wall.vmt").unwrap()).unwrap() == bytes[..600]);
            let error = alone.open("materials/b/sky.vtf").unwrap_err().to_string();
            assert!(
                error.ends_with(
                    "number 003; open the archive in its folder: file:FOLDER | archive?file=NAME_dir.vpk"
                ),
                "{error}"
            );
        }
    });
}

/// The places in a zip archive where a signature stands.
fn find(bytes: &[u8], signature: &[u8]) -> Vec<usize> {
    (0..bytes.len() - signature.len()).filter(|&at| bytes[at..].starts_with(signature)).collect()
}

#[test]
fn archives_that_lie_are_refused() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let text = vec![b'x'; 5000];
        let two = [("aa", CompressionMethod::Deflated, &text[..]), ("bb", CompressionMethod::Stored, &text)];
        let good = zipped(&two, false);
        let open = |bytes: &[u8]| host.open(&format!("{} | archive", write(folder.path(), "x.zip", bytes)));
        let entries = find(&good, b"PK\x01\x02");
        let change = |at: usize, to: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        let refused = |bytes: &[u8], what: &str| {
            let error = open(bytes).unwrap_err();
            assert_eq!(error.code(), Some(Code::Corrupt), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        };
        refused(&change(entries[1] + 46, b"aa"), "it has 'aa' twice; which of them is meant is not clear");
        refused(&change(entries[1] + 46, b".."), "it has a file named '..', which is no name within it");
        refused(&change(entries[1] + 46, b"/b"), "it has a file named '/b', which is no name within it");
        refused(&change(entries[1] + 42, &0u32.to_le_bytes()), "files in it overlap at 0");
        refused(&change(entries[1] + 42, &u32::MAX.to_le_bytes()), "directory");
        refused(&change(entries[1] + 20, &0x1000_0000u32.to_le_bytes()), "'bb' reaches into its directory");
        for len in [0, 1, 22, 100, good.len() - 1, good.len() - 23] {
            assert_eq!(open(&good[..len]).unwrap_err().code(), Some(Code::Corrupt), "{len}");
        }
        // What is only seen when a file is opened or read.
        let fails = |bytes: &[u8], name: &str| {
            let archive = open(bytes).unwrap();
            match archive.open(name) {
                Err(error) => error.code(),
                Ok(device) => {
                    let size = device.size().unwrap().min(1 << 20) as usize;
                    let error = host.block_on(device.read_exact_at(0, vec![0; size])).unwrap_err();
                    // It stays so, and in all ways to read it.
                    let (report, _) = host.block_on(device.read_at(1, vec![0; 3])).unwrap();
                    assert_eq!(report.min_error().map(|(_, error)| error.code()), error.code());
                    error.code()
                }
            }
        };
        // The check sum, the size in both directions (a bomb, and one that is said to be huge), the method, the header.
        assert_eq!(fails(&change(entries[0] + 16, &[0; 4]), "aa"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[0] + 24, &100u32.to_le_bytes()), "aa"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[0] + 24, &5001u32.to_le_bytes()), "aa"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[0] + 24, &0xffff_0000u32.to_le_bytes()), "aa"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[1] + 24, &4999u32.to_le_bytes()), "bb"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[0] + 10, &12u16.to_le_bytes()), "aa"), Some(Code::Unsupported));
        assert_eq!(fails(&change(entries[0] + 10, &93u16.to_le_bytes()), "aa"), Some(Code::Corrupt));
        assert_eq!(fails(&change(entries[0] + 8, &[1]), "aa"), Some(Code::Unsupported));
        assert_eq!(fails(&change(0, b"XX"), "aa"), Some(Code::Corrupt));
        let error = open(&good).unwrap().open("cc").unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound));
    });
}

#[test]
fn whatever_is_changed_in_an_archive_gives_the_right_bytes_or_an_error() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let (short, long) = (words(&mut random, 20_000), words(&mut random, 9_000_000));
        let all = [
            ("a", CompressionMethod::Deflated, &short[..]),
            ("b", CompressionMethod::Zstd, &short),
            ("c/d", CompressionMethod::Deflated, &long),
        ];
        let good = zipped(&all, false);
        let (mut right, mut wrong) = (0, 0);
        for round in 0..150 {
            let mut bytes = good.clone();
            // Half of them where headers and the short ones are.
            let edge = 30_000.min(bytes.len());
            for _ in 0..random.usize(1..4) {
                let at = if random.bool() {
                    random.usize(0..edge)
                } else {
                    bytes.len() - 1 - random.usize(0..300)
                };
                bytes[at] = random.u8(..);
            }
            if random.u8(..4) == 0 {
                bytes.truncate(random.usize(0..bytes.len()));
            }
            let url = format!("{} | archive", write(folder.path(), &format!("{round}.zip"), &bytes));
            let Ok(archive) = host.open(&url) else {
                wrong += 1;
                continue;
            };
            for (name, _, bytes) in all {
                if name == "c/d" && round % 30 > 0 {
                    continue;
                }
                let Ok(device) = archive.open(name) else {
                    wrong += 1;
                    continue;
                };
                let Some(size) = device.size().filter(|size| *size <= 1 << 25) else { continue };
                match host.block_on(device.read_exact_at(0, vec![0; size as usize])) {
                    Ok(read) => {
                        assert!(read == bytes, "round {round}: '{name}' is not what it was");
                        right += 1;
                    }
                    Err(_) => wrong += 1,
                }
            }
            drop(archive);
            fs::remove_file(folder.path().join(format!("{round}.zip"))).unwrap();
        }
        assert!(right > 10 && wrong > 10, "{right} right, {wrong} wrong");
    });
}

#[test]
fn what_fails_below_for_a_while_can_be_read_later_and_closing_leaves_nothing() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let (short, long) = (words(&mut random, 200_000), words(&mut random, 9_000_000));
        let all = [
            ("short", CompressionMethod::Deflated, &short[..]),
            ("long", CompressionMethod::Deflated, &long),
        ];
        let file = write(folder.path(), "a.zip", &zipped(&all, false));
        // A third of what is read below fails.
        let mut failed = 0;
        for seed in 0..20 {
            let Ok(archive) = host.open(&format!("{file} | fault?read=30&seed={seed} | archive?cache=0"))
            else {
                continue;
            };
            for (name, bytes) in [("short", &short), ("long", &long)] {
                let Some(device) = (0..20).find_map(|_| archive.open(name).ok()) else { continue };
                let read = (0..40).find_map(|_| {
                    let read = host.block_on(device.read_exact_at(100_000, vec![0; 1000]));
                    failed += usize::from(read.is_err());
                    assert_ne!(read.as_ref().err().and_then(pactio::Error::code), Some(Code::Corrupt));
                    read.ok()
                });
                assert!(read.unwrap() == bytes[100_000..101_000]);
            }
        }
        assert!(failed > 0);
        for round in 0..20 {
            let archive = host.open(&format!("{file} | delay?latency=5ms | archive")).unwrap();
            let device = archive.open(if round % 2 == 0 { "short" } else { "long" }).unwrap();
            let tasks: Vec<_> = (0..20)
                .map(|index| {
                    let device = device.clone();
                    host.spawn(async move { device.read_at(index * 400_000, vec![0; 100]).await })
                })
                .collect();
            drop((archive, device));
            if round % 4 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(round / 2));
            }
            // Some are dropped on their way.
            for (index, task) in tasks.into_iter().enumerate() {
                if index % 3 > 0 {
                    let _ = host.block_on(task);
                }
            }
        }
    });
}
