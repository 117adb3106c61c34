//! The archive filter, against archives of another program, archives made here byte by byte, and archives with false contents.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use pactio::{Code, Device, Host};
use pactio_tests::{host, in_time, random};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn archive_host() -> Host {
    host(&["pactio_archive", "pactio_core", "pactio_delay", "pactio_fault", "pactio_file", "pactio_stats"])
}

/// Text that compresses like words.
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
            let names: Vec<&str> = listed.iter().map(|entry| entry.name.to_str().unwrap()).collect();
            assert_eq!(names, ["deflated", "stored", "zstd"]);
            assert!(listed.iter().all(|entry| entry.size() == Some(long.len() as u64)), "{listed:?}");
            for (name, method, bytes) in all {
                let device = archive.open(name).unwrap();
                assert_eq!(device.size(), Some(bytes.len() as u64), "{name}");
                assert!(read_all(&host, &device).unwrap() == bytes, "{name}, {method}");
                if bytes.is_empty() {
                    continue;
                }
                // At random, forwards, backwards, over the end; many at once.
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
                    assert_eq!(rest, (there < len).then_some(Code::END));
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
                    // Each task opens the file again.
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
        // The filter passes a folder on as a tree, and opens an archive in it by name.
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
        // VPK: a directory with the first bytes of each file, and the rest in the same file or beside it.
        for version in [1u32, 2] {
            let mut tree = Vec::new();
            let mut file = |all: &[u8], path: [&str; 3], preload: &[u8], part: u16, at: u32, len: u32| {
                for text in path {
                    tree.extend(text.as_bytes());
                    tree.push(0);
                }
                tree.extend(crc32(all).to_le_bytes());
                tree.extend((preload.len() as u16).to_le_bytes());
                tree.extend(part.to_le_bytes());
                tree.extend(at.to_le_bytes());
                tree.extend(len.to_le_bytes());
                tree.extend(0xffffu16.to_le_bytes());
                tree.extend(preload);
                tree.extend([0, 0]);
            };
            file(&bytes[..600], ["vmt", "materials/a", "wall"], &bytes[..100], 0x7fff, 0, 500);
            file(&bytes[..7], [" ", " ", "readme"], &bytes[..7], 0, 0, 0);
            file(&bytes[10..1510], ["vtf", "materials/b", "sky"], &[], 3, 10, 1500);
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

/// A file of a zip archive that is made here.
struct Member<'a> {
    name: &'a [u8],
    /// The name in its header.
    header_name: &'a [u8],
    /// The extra fields in its header, and in the directory.
    extra: [&'a [u8]; 2],
    comment: &'a [u8],
    method: u16,
    packed: &'a [u8],
    size: usize,
    crc: u32,
}

impl<'a> Member<'a> {
    /// A stored file.
    fn stored(name: &'a [u8], bytes: &'a [u8]) -> Self {
        let size = bytes.len();
        Self {
            name,
            header_name: name,
            extra: [b""; 2],
            comment: b"",
            method: 0,
            packed: bytes,
            size,
            crc: crc32(bytes),
        }
    }
}

/// The check sum of zip archives.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

/// A zip archive, with a comment at its end.
fn made(members: &[Member<'_>], comment: &[u8], disk: u16) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let half = |value: usize| (value as u16).to_le_bytes();
        let mut said = [0, 0, 0].map(half).concat();
        said[2..4].copy_from_slice(&member.method.to_le_bytes());
        said.extend([0; 2]);
        said.extend(member.crc.to_le_bytes());
        said.extend((member.packed.len() as u32).to_le_bytes());
        said.extend((member.size as u32).to_le_bytes());
        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        directory.extend(&said);
        directory
            .extend([member.name, member.extra[1], member.comment].map(|text| half(text.len())).concat());
        directory.extend([0; 8]);
        directory.extend((archive.len() as u32).to_le_bytes());
        directory.extend([member.name, member.extra[1], member.comment].concat());
        archive.extend(b"PK\x03\x04\x14\0");
        archive.extend(&said);
        archive.extend([member.header_name, member.extra[0]].map(|text| half(text.len())).concat());
        archive.extend([member.header_name, member.extra[0], member.packed].concat());
    }
    let (start, len, count) = (archive.len() as u32, directory.len() as u32, members.len() as u16);
    archive.extend(directory);
    archive.extend(b"PK\x05\x06");
    archive.extend([disk, disk, count, count].map(u16::to_le_bytes).concat());
    archive.extend([len, start].map(u32::to_le_bytes).concat());
    archive.extend((comment.len() as u16).to_le_bytes());
    archive.extend(comment);
    archive
}

/// The bytes as another program compresses them, and their check sum.
fn packed(method: CompressionMethod, bytes: &[u8]) -> (Vec<u8>, u32) {
    let archive = zipped(&[("x", method, bytes)], false);
    let directory = *find(&archive, b"PK\x01\x02").last().unwrap();
    let word = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap());
    let start = 30 + usize::from(u16::from_le_bytes([archive[28], archive[29]])) + 1;
    (archive[start..start + word(directory + 20) as usize].to_vec(), word(directory + 16))
}

/// Random bytes, their deflate stream of stored blocks, and their check sum.
fn deflated(random: &mut fastrand::Rng, len: usize) -> (Vec<u8>, Vec<u8>, u32) {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    let (_, crc) = packed(CompressionMethod::Stored, &bytes);
    let mut deflated = Vec::new();
    for piece in bytes.chunks(0xffff) {
        let len = piece.len() as u16;
        deflated.push(0);
        deflated.extend([len, !len].map(u16::to_le_bytes).concat());
        deflated.extend(piece);
    }
    deflated.extend([1, 0, 0, 0xff, 0xff]);
    (deflated, bytes, crc)
}

/// Sends requests, in this order.
fn begin<F: Future + Unpin>(host: &Host, reads: &mut [F]) {
    host.block_on(std::future::poll_fn(|context| {
        assert!(reads.iter_mut().all(|read| Pin::new(read).poll(context).is_pending()));
        Poll::Ready(())
    }));
}

/// A PAK of files, with any offsets and lengths.
fn pak(bytes: &[u8], files: &[(&str, u32, u32)]) -> Vec<u8> {
    let mut pak = b"PACK".to_vec();
    pak.extend((12 + bytes.len() as u32).to_le_bytes());
    pak.extend((files.len() as u32 * 64).to_le_bytes());
    pak.extend(bytes);
    for (name, offset, len) in files {
        let mut entry = name.as_bytes().to_vec();
        entry.resize(56, 0);
        pak.extend(entry);
        pak.extend(offset.to_le_bytes());
        pak.extend(len.to_le_bytes());
    }
    pak
}

/// The directory of a VPK of files: a name without folder and extension, a part, and the offset and length in that part.
fn vpk(files: &[(&str, u16, u32, u32)], behind: &[u8]) -> Vec<u8> {
    let mut tree = b" \0 \0".to_vec();
    for (name, part, offset, len) in files {
        tree.extend(name.as_bytes());
        tree.push(0);
        let here = behind.get(*offset as usize..).and_then(|rest| rest.get(..*len as usize));
        tree.extend(crc32(here.unwrap_or_default()).to_le_bytes());
        tree.extend([0; 2]);
        tree.extend(part.to_le_bytes());
        tree.extend(offset.to_le_bytes());
        tree.extend(len.to_le_bytes());
        tree.extend(0xffffu16.to_le_bytes());
    }
    tree.extend([0; 3]);
    let mut vpk = 0x55aa_1234u32.to_le_bytes().to_vec();
    vpk.extend(1u32.to_le_bytes());
    vpk.extend((tree.len() as u32).to_le_bytes());
    vpk.extend(tree);
    vpk.extend(behind);
    vpk
}

/// The positions in a zip archive at which a signature begins.
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
            assert_eq!(error.code(), Some(Code::CORRUPT), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        };
        refused(&change(entries[1] + 42, &0u32.to_le_bytes()), "files in it overlap at 0x0");
        refused(&change(entries[1] + 42, &u32::MAX.to_le_bytes()), "directory");
        refused(&change(entries[1] + 20, &0x1000_0000u32.to_le_bytes()), "'bb' reaches into its directory");
        for len in [0, 1, 22, 100, good.len() - 1, good.len() - 23] {
            assert_eq!(open(&good[..len]).unwrap_err().code(), Some(Code::CORRUPT), "{len}");
        }
        // Errors that are found only when a file is opened or read.
        let fails = |bytes: &[u8], name: &str| {
            let archive = open(bytes).unwrap();
            match archive.open(name) {
                Err(error) => error.code(),
                Ok(device) => {
                    let size = device.size().unwrap().min(1 << 20) as usize;
                    let error = host.block_on(device.read_exact_at(0, vec![0; size])).unwrap_err();
                    // Later reads fail with the same error, in all ways to read the file.
                    let (report, _) = host.block_on(device.read_at(1, vec![0; 3])).unwrap();
                    assert_eq!(report.min_error().map(|(_, error)| error.code()), error.code());
                    error.code()
                }
            }
        };
        refused(
            &change(good.len() - 12, &3u16.to_le_bytes()),
            "its directory has 2 entries, but its end says 3",
        );
        refused(
            &change(good.len() - 6, &(good.len() as u32 - 22).to_le_bytes()),
            "its directory is not where its end says",
        );
        // The check sum, the size in both directions (a bomb, and a size that is said to be huge), the method, the header.
        assert_eq!(fails(&change(entries[0] + 16, &[0; 4]), "aa"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[0] + 24, &100u32.to_le_bytes()), "aa"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[0] + 24, &5001u32.to_le_bytes()), "aa"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[0] + 24, &0xffff_0000u32.to_le_bytes()), "aa"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[1] + 24, &4999u32.to_le_bytes()), "bb"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[0] + 10, &12u16.to_le_bytes()), "aa"), Some(Code::UNSUPPORTED));
        assert_eq!(fails(&change(entries[0] + 10, &93u16.to_le_bytes()), "aa"), Some(Code::CORRUPT));
        assert_eq!(fails(&change(entries[0] + 8, &[1]), "aa"), Some(Code::UNSUPPORTED));
        assert_eq!(fails(&change(0, b"XX"), "aa"), Some(Code::CORRUPT));
        let error = open(&good).unwrap().open("cc").unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_FOUND));
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
            // Half of the changed bytes lie in headers and short files, the others at the end of the archive.
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
        // 30 % of the reads below fail.
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
                    assert_ne!(read.as_ref().err().and_then(pactio::Error::code), Some(Code::CORRUPT));
                    read.ok()
                });
                assert!(read.unwrap() == bytes[100_000..101_000], "{name}, seed {seed}");
            }
        }
        assert!(failed > 0, "no read failed below");
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
            // Some requests are dropped in flight.
            for (index, task) in tasks.into_iter().enumerate() {
                if index % 3 > 0 {
                    let _ = host.block_on(task);
                }
            }
        }
    });
}

#[test]
fn nothing_is_read_below_for_requests_that_were_cancelled_while_they_waited() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        // Four of these files are more than may be decompressed at once.
        let (deflated, bytes, crc) = deflated(&mut random, 8 << 20);
        let member = |name| Member { method: 8, size: bytes.len(), crc, ..Member::stored(name, &deflated) };
        let members = [&b"0"[..], b"1", b"2", b"3", b"4"].map(member);
        let file = write(folder.path(), "a.zip", &made(&members, b"", 0));
        let archive = host.open(&format!("{file} | stats | delay?latency=500ms | archive")).unwrap();
        let below = archive.below().unwrap().below().unwrap().clone();
        let devices: Vec<Device> = (0..4).map(|name| archive.open(name.to_string()).unwrap()).collect();
        let before = figure(&host, &below, "bytes read");
        let mut reads: Vec<_> =
            devices.iter().map(|device| Box::pin(device.read_exact_at(5, vec![0; 10]))).collect();
        begin(&host, &mut reads);
        drop(reads.pop());
        for read in reads {
            assert!(host.block_on(read).unwrap() == bytes[5..15]);
        }
        // The next request waits behind the cancelled one.
        let next = archive.open("4").unwrap();
        assert!(host.block_on(next.read_exact_at(5, vec![0; 10])).unwrap() == bytes[5..15]);
        let read = figure(&host, &below, "bytes read") - before;
        assert!(read < 5 * (8 << 20), "{read}");
    });
}

#[test]
fn names_that_would_take_much_memory_are_refused() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let hidden = |bytes: &[u8], what: &str| {
            let url = write(folder.path(), "x", bytes);
            let archive = host.open(&format!("{url} | archive")).unwrap();
            let refused = host.block_on(archive.refused()).unwrap();
            assert!(refused.len() == 1 && refused[0].reason == what, "{refused:?}");
            let error = host.open(&format!("{url} | archive?strict=true")).unwrap_err();
            assert_eq!(error.code(), Some(Code::CORRUPT), "{error}");
            assert!(error.to_string().contains(what) && error.to_string().len() < 500, "{error}");
        };
        let (deep, long) = (format!("{}x", "a/".repeat(30_000)), "x".repeat(5000));
        for name in [deep.as_bytes(), deep.replace('/', "\\").as_bytes()] {
            hidden(&made(&[Member::stored(name, b"")], b"", 0), "it is longer than 4096 bytes");
        }
        let deep = "a\\".repeat(200) + "x";
        hidden(&made(&[Member::stored(deep.as_bytes(), b"")], b"", 0), "it is in more than 128 folders");
        let refused = |bytes: &[u8], what: &str| {
            let error = host.open(&format!("{} | archive", write(folder.path(), "x", bytes))).unwrap_err();
            assert_eq!(error.code(), Some(Code::CORRUPT), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        };
        refused(&vpk(&[(&long, 0, 0, 0)], b""), "it has a text of more than 255 bytes");
        let mut archive = vpk(&[], b"");
        let tree = [b" \0", long.as_bytes(), &[0; 3]].concat();
        archive.splice(8.., [&(tree.len() as u32).to_le_bytes()[..], &tree].concat());
        refused(&archive, "it has a text of more than 4096 bytes");
        // A table with more names than are kept, in a file without bytes on the disk.
        let path = folder.path().join("many.pak");
        let len = ((1u32 << 24) + 1) * 64;
        fs::write(&path, [&b"PACK"[..], &12u32.to_le_bytes(), &len.to_le_bytes()].concat()).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(u64::from(len) + 12).unwrap();
        let error = host.open(&format!("file:{} | archive", path.display())).unwrap_err();
        assert!(error.to_string().contains("it has more than 16777216 names"), "{error}");
    });
}

#[test]
fn entries_that_are_bad_are_hidden_and_reported_and_the_others_are_there() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let member = |name: &'static [u8], bytes: &'static [u8]| Member::stored(name, bytes);
        // Names as they occur in packs of games.
        let archive = made(
            &[
                member(b"../CREDITS", b"credits"),
                member(b"maps/a", b"first"),
                member(b"maps/a", b"second"),
                member(b"x\0y", b""),
                member(b"", b""),
                member(b"both", b"file"),
                member(b"both/inner", b"inner"),
                member(b"/etc/passwd", b""),
                member(b"end", b"end"),
            ],
            b"",
            0,
        );
        let url = write(folder.path(), "a.zip", &archive);
        let tree = host.open(&format!("{url} | archive")).unwrap();
        let names = |of: &str| -> Vec<String> {
            host.block_on(tree.list(of)).unwrap().iter().map(|entry| entry.name.to_string()).collect()
        };
        assert_eq!(
            (names(""), names("maps"), names("both")),
            (vec!["both".into(), "end".into(), "maps".into()], vec!["a".into()], vec!["inner".into()])
        );
        assert_eq!(read_all(&host, &tree.open("maps/a").unwrap()).unwrap(), b"second", "the last one counts");
        for name in ["../CREDITS", "CREDITS", "both", "etc/passwd"] {
            assert!(tree.open(name).is_err(), "{name}");
        }
        let refused = host.block_on(tree.refused()).unwrap();
        let reasons: Vec<_> =
            refused.iter().map(|refused| (refused.name.as_bytes(), refused.reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                (&b"../CREDITS"[..], "it would lie outside of the archive"),
                (b"x\0y", "it has a zero byte"),
                (b"", "a part of it is empty or '.'"),
                (b"/etc/passwd", "it would lie outside of the archive"),
                (b"maps/a", "a later entry has the same name"),
                (b"both", "a folder has the same name"),
            ]
        );
        assert_eq!(figure(&host, &tree, "hidden entries"), 6);
        let error = host.open(&format!("{url} | archive?strict=true")).unwrap_err();
        assert!(error.to_string().contains("its entry '../CREDITS' is refused"), "{error}");
        // Through a filter, and in many answers.
        let many: Vec<String> = (0..5000).map(|number| format!("../{number:0100}")).collect();
        let members: Vec<_> = many.iter().map(|name| Member::stored(name.as_bytes(), b"")).collect();
        let url = write(folder.path(), "b.zip", &made(&members, b"", 0));
        let tree = host.open(&format!("{url} | archive | stats")).unwrap();
        let refused = host.block_on(tree.refused()).unwrap();
        assert!(
            refused.iter().map(|refused| refused.name.to_str().unwrap()).eq(&many),
            "{} entries",
            refused.len()
        );
    });
}

#[test]
fn what_tools_of_other_systems_write_is_understood() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let open = |bytes: &[u8]| host.open(&format!("{} | archive", write(folder.path(), "x.zip", bytes)));
        let names = |archive: &Device| -> Vec<(String, bool)> {
            let listed = host.block_on(archive.list("")).unwrap();
            listed.iter().map(|entry| (entry.name.to_string(), entry.is_folder())).collect()
        };
        // A folder by its attribute alone.
        let mut bytes = made(&[Member::stored(b"folder", b""), Member::stored(b"x", b"x")], b"", 0);
        let entries = find(&bytes, b"PK\x01\x02");
        bytes[entries[0] + 38] = 0x10;
        bytes[entries[1] + 38] = 0x10;
        let archive = open(&bytes).unwrap();
        assert_eq!(
            names(&archive),
            [("folder".to_owned(), true), ("x".to_owned(), false)],
            "a file with bytes is none"
        );
        // Info-ZIP's name in UTF-8, which is used only if its check sum is that of the written name.
        let field = |crc: u32, name: &str| {
            let len = (5 + name.len()) as u16;
            [&0x7075u16.to_le_bytes()[..], &len.to_le_bytes(), &[1], &crc.to_le_bytes(), name.as_bytes()]
                .concat()
        };
        let (right, wrong) = (field(crc32(b"gr\xf6\xdfe"), "größe"), field(1, "other"));
        let one = Member { extra: [b"", &right], ..Member::stored(b"gr\xf6\xdfe", b"1") };
        let two = Member { extra: [b"", &wrong], ..Member::stored(b"plain", b"2") };
        let archive = open(&made(&[one, two], b"", 0)).unwrap();
        assert_eq!(names(&archive), [("größe".to_owned(), false), ("plain".to_owned(), false)]);
        assert_eq!(read_all(&host, &archive.open("größe").unwrap()).unwrap(), b"1");
        // The longer form (zip64), also behind a program that unpacks it.
        let short = made(&[Member::stored(b"x", b"bytes"), Member::stored(b"y", b"")], b"", 0);
        let end = short.len() - 22;
        let number = |at: usize, len: usize| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(&short[at..at + len]);
            u64::from_le_bytes(bytes)
        };
        let (count, len, start) = (number(end + 8, 2), number(end + 12, 4), number(end + 16, 4));
        let mut long = short[..end].to_vec();
        long.extend(b"PK\x06\x06");
        long.extend(44u64.to_le_bytes());
        long.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        long.extend([count, count, len, start].map(u64::to_le_bytes).concat());
        long.extend(b"PK\x06\x07\0\0\0\0");
        long.extend((end as u64).to_le_bytes());
        long.extend(1u32.to_le_bytes());
        long.extend(b"PK\x05\x06\0\0\0\0");
        long.extend([0xff; 12]);
        long.extend([0; 2]);
        for front in [&b""[..], b"#!/bin/sh a program in front", &[7; 300_000]] {
            for archive in [&short, &long] {
                let archive = open(&[front, archive].concat()).unwrap();
                assert_eq!(read_all(&host, &archive.open("x").unwrap()).unwrap(), b"bytes");
                assert_eq!(names(&archive).len(), 2);
            }
        }
    });
}

#[test]
fn the_bytes_of_another_version_are_never_handed_out() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let path = folder.path().join("a.zip");
        let url = format!("file:{} | archive", path.display());
        let pack = |random: &mut fastrand::Rng| {
            let (short, long) = (words(random, 30_000), words(random, 12_000_000));
            let all = [
                ("stored", CompressionMethod::Stored, &short[..]),
                ("deflated", CompressionMethod::Deflated, &short),
                ("long", CompressionMethod::Deflated, &long),
                ("unread", CompressionMethod::Stored, &short),
            ];
            (zipped(&all, false), short.clone(), long.clone())
        };
        // In place, as `cp` of the system writes: the same file, with other bytes of the same length.
        let replace = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
        for round in 0..6 {
            let (first, short, long) = pack(&mut random);
            replace(&first);
            // The pause is longer than a tick of the file system's clock.
            std::thread::sleep(std::time::Duration::from_millis(30));
            let archive = host.open(&url).unwrap();
            let open = |name: &str| archive.open(name).unwrap();
            let (stored, deflated, packed) = (open("stored"), open("deflated"), open("long"));
            assert!(
                host.block_on(stored.read_exact_at(100, vec![0; 1000])).unwrap() == short[100..1100],
                "{round}"
            );
            assert!(
                host.block_on(packed.read_exact_at(0, vec![0; 1000])).unwrap() == long[..1000],
                "{round}"
            );
            let (second, ..) = pack(&mut random);
            match round % 3 {
                0 => replace(&second),
                1 => replace(&second[..second.len() / 2]),
                // Only bytes change: the size of the file stays the same.
                _ => {
                    let mut changed = first.clone();
                    changed[40..].iter_mut().for_each(|byte| *byte ^= 1);
                    replace(&changed);
                }
            }
            let code =
                |result: Result<Vec<u8>, pactio::Error>| result.map(|_| ()).map_err(|error| error.code());
            for _ in 0..2 {
                let read = stored.read_exact_at(100, vec![0; 1000]);
                assert_eq!(code(host.block_on(read)), Err(Some(Code::CHANGED)), "{round}");
                assert_eq!(code(read_all(&host, &deflated)), Err(Some(Code::CHANGED)), "{round}");
                let read = packed.read_exact_at(8_000_000, vec![0; 1000]);
                assert_eq!(code(host.block_on(read)), Err(Some(Code::CHANGED)), "{round}");
            }
            match archive.open("unread") {
                Err(error) => assert_eq!(error.code(), Some(Code::CHANGED), "{error}"),
                Ok(device) => assert_eq!(code(read_all(&host, &device)), Err(Some(Code::CHANGED))),
            }
            // A file that is moved over the archive is another file: the open file does not change.
            replace(&first);
            let archive = host.open(&url).unwrap();
            fs::write(folder.path().join("new"), &second).unwrap();
            fs::rename(folder.path().join("new"), &path).unwrap();
            assert!(read_all(&host, &archive.open("stored").unwrap()).unwrap() == short, "{round}");
        }
    });
}

#[test]
fn stored_files_have_the_check_sum_of_the_directory() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 500_000);
        let member = |crc: u32| Member { crc, ..Member::stored(b"x", &bytes) };
        let right = write(folder.path(), "right.zip", &made(&[member(crc32(&bytes))], b"", 0));
        let wrong = write(folder.path(), "wrong.zip", &made(&[member(1)], b"", 0));
        for (url, fine) in [(right, true), (wrong, false)] {
            let open = || host.open(&format!("{url} | archive | /x")).unwrap();
            // All of it at once.
            assert_eq!(
                read_all(&host, &open()).map_err(|error| error.code()),
                if fine { Ok(bytes.clone()) } else { Err(Some(Code::CORRUPT)) }
            );
            // In blocks, from front to back and in any order, several at once.
            for shuffled in [false, true] {
                let device = open();
                let mut starts: Vec<usize> = (0..bytes.len()).step_by(7_777).collect();
                if shuffled {
                    random.shuffle(&mut starts);
                }
                let tasks: Vec<_> = starts
                    .iter()
                    .map(|&start| {
                        let (device, len) = (device.clone(), 7_777.min(bytes.len() - start));
                        host.spawn(async move { device.read_exact_at(start as u64, vec![0; len]).await })
                    })
                    .collect();
                let failed = tasks
                    .into_iter()
                    .filter(|_| true)
                    .map(|task| host.block_on(task))
                    .filter(Result::is_err)
                    .count();
                assert_eq!(failed > 0, !fine, "shuffled: {shuffled}");
                // A file that was found corrupt remains corrupt.
                let again = host.block_on(device.read_exact_at(0, vec![0; 10]));
                assert_eq!(again.is_ok(), fine);
            }
        }
    });
}

#[test]
fn a_long_file_may_be_of_many_frames_that_end_where_blocks_do() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 9 << 20);
        let (_, crc) = packed(CompressionMethod::Stored, &bytes);
        for frame in [1 << 20, 1 << 19, (1 << 20) + 1] {
            let frames: Vec<u8> =
                bytes.chunks(frame).flat_map(|frame| packed(CompressionMethod::Zstd, frame).0).collect();
            let stored = Member::stored(b"x", &frames);
            let archive = made(&[Member { method: 93, size: bytes.len(), crc, ..stored }], b"", 0);
            let url = format!("{} | archive | /x", write(folder.path(), "a.zip", &archive));
            assert!(read_all(&host, &host.open(&url).unwrap()).unwrap() == bytes, "{frame}");
        }
    });
}

#[test]
fn what_fails_below_keeps_its_code_when_an_archive_or_a_file_is_opened() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 3000);
        // Directories that are too long to be read at once, with the archive behind other bytes.
        let names: Vec<String> = (0..3000).map(|number| format!("{number:060}")).collect();
        let members: Vec<_> =
            names.iter().map(|name| Member::stored(name.as_bytes(), &bytes[..10])).collect();
        let behind = [b"something else ".repeat(10_000), made(&members, b"", 0)].concat();
        let files: Vec<(&str, u32, u32)> = names[..5].iter().map(|name| (&name[5..], 12, 0)).collect();
        let all = [
            ("a.zip", made(&members, b"", 0)),
            ("b.zip", behind),
            ("c.pak", pak(&bytes, &files)),
            ("d.vpk", vpk(&[("x", 0x7fff, 0, 100)], &bytes)),
        ];
        for (name, bytes) in all {
            let file = write(folder.path(), name, &bytes);
            let (mut failed, mut opened) = (0, 0);
            let every = format!("{file} | fault?read=100&error=timed-out&seed=4 | archive");
            assert_eq!(host.open(&every).unwrap_err().code(), Some(Code::TIMED_OUT));
            for seed in 0..60 {
                let url = format!("{file} | fault?read=25&error=timed-out&seed={seed} | archive");
                match host.open(&url) {
                    Err(error) => {
                        assert_eq!(error.code(), Some(Code::TIMED_OUT), "{name}: {error}");
                        failed += 1;
                    }
                    Ok(archive) => {
                        opened += 1;
                        for name in &names[..if name.ends_with("zip") { 20 } else { 0 }] {
                            let code = archive.open(name).err().and_then(|error| error.code());
                            assert!(matches!(code, None | Some(Code::TIMED_OUT)), "{name}: {code:?}");
                        }
                    }
                }
            }
            assert!(failed > 5 && opened > 5, "{name}: {failed} failed, {opened} opened");
        }
        let nothing = format!("{} | archive", write(folder.path(), "x", &bytes));
        let error = host.open(&nothing).unwrap_err();
        assert!(error.to_string().contains("it is no archive: neither zip, nor PAK, nor VPK"), "{error}");
    });
}

#[test]
fn what_the_format_of_zip_allows_works_and_what_misleads_is_refused() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let open = |bytes: &[u8]| host.open(&format!("{} | archive", write(folder.path(), "x.zip", bytes)));
        let read = |archive: &Device, name: &str| read_all(&host, &archive.open(name).unwrap()).unwrap();
        let x = || Member::stored(b"d/x", b"bytes");
        // A folder as some tools of Windows write it.
        let archive = open(&made(&[Member::stored(b"d\\", b""), x()], b"", 0)).unwrap();
        let entries = host.block_on(archive.list("")).unwrap();
        assert!(
            entries.len() == 1 && entries[0].is_folder() && read(&archive, "d/x") == b"bytes",
            "{entries:?}"
        );
        // Texts of the maximum length.
        let (long, name) = (vec![b'?'; 65_535], vec![b'n'; 4096]);
        let texts = Member { extra: [&long, &long], comment: &long, ..Member::stored(&name, b"long") };
        let archive = open(&made(&[x(), texts, Member::stored(b"y", b"y")], b"", 0)).unwrap();
        assert!(
            read(&archive, std::str::from_utf8(&name).unwrap()) == b"long" && read(&archive, "y") == b"y"
        );
        // Comments that look like the end of a directory.
        let zeros = [&b"see PK\x05\x06"[..], &[0; 18]].concat();
        let text = b"an end begins with PK\x05\x06, PK\x05\x06 and PK\x05\x06, as 4.3.16 says".to_vec();
        for comment in [zeros, text, b"PK\x05\x06".repeat(10), vec![b' '; 65_535]] {
            let archive = open(&made(&[x()], &comment, 0)).unwrap();
            assert!(read(&archive, "d/x") == b"bytes", "a comment of {} bytes", comment.len());
        }
        // If an archive is broken, an archive that is stored in it is not opened instead.
        let mut broken = made(&[Member::stored(b"in.zip", &made(&[x()], b"", 0))], b"", 0);
        let end = *find(&broken, b"PK\x05\x06").last().unwrap();
        broken[end + 12..end + 20].copy_from_slice(&[1; 8]);
        assert_eq!(open(&broken).unwrap_err().code(), Some(Code::CORRUPT));
        // The names in the header and in the directory may differ; other differences are errors.
        for header_name in [&b"d/y"[..], b"d/xx", b"d/x/..", b"d\\x"] {
            let archive = open(&made(&[Member { header_name, ..x() }], b"", 0)).unwrap();
            assert!(read(&archive, "d/x") == b"bytes", "{header_name:?}");
        }
        let whole = made(&[x()], b"", 0);
        for (at, to) in [(8, 8u8), (14, 1), (18, 4), (22, 6)] {
            let mut bytes = whole.clone();
            bytes[at] = to;
            let error = open(&bytes).unwrap().open("d/x").unwrap_err();
            assert_eq!(error.code(), Some(Code::CORRUPT), "{error}");
            assert!(error.to_string().contains("say different things"), "{error}");
        }
        // The last part of a split archive, and the first.
        for part in [made(&[x()], b"", 1), b"PK\x07\x08PK\x03\x04 and so on".to_vec()] {
            let error = open(&part).unwrap_err();
            assert!(
                error.to_string().contains("a part of a split archive; put the parts together"),
                "{error}"
            );
        }
    });
}

#[test]
fn files_that_overlap_in_other_archives_are_refused_too() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let open = |bytes: &[u8]| host.open(&format!("{} | archive", write(folder.path(), "x", bytes)));
        let refused = |bytes: &[u8], at: u64| {
            let error = open(bytes).unwrap_err();
            assert_eq!(error.code(), Some(Code::CORRUPT), "{error}");
            assert!(error.to_string().contains(&format!("files in it overlap at {at:#x}")), "{error}");
        };
        let bytes = [7; 100];
        assert!(open(&pak(&bytes, &[("a", 12, 50), ("b", 62, 50), ("c", 30, 0)])).is_ok());
        refused(&pak(&bytes, &[("a", 12, 50), ("b", 61, 50)]), 61);
        refused(&pak(&bytes, &[("a", 11, 50)]), 11);
        refused(&pak(&bytes, &[("a", 12, 101)]), 112);
        // Several files may share a whole range, and equal ranges of different parts do not overlap.
        let here = |offset, len| (0x7fff, offset, len);
        let with = |first: (u16, u32, u32), second: (u16, u32, u32)| {
            vpk(&[("a", first.0, first.1, first.2), ("b", second.0, second.1, second.2)], &bytes)
        };
        assert!(open(&with(here(0, 50), here(0, 50))).is_ok());
        assert!(open(&with(here(0, 50), here(50, 50))).is_ok());
        assert!(open(&with((1, 0, 50), (2, 10, 50))).is_ok());
        let data = (with(here(0, 50), here(0, 50)).len() - bytes.len()) as u64;
        refused(&with(here(0, 50), here(49, 50)), data + 49);
        refused(&with((1, 0, 50), (1, 10, 50)), 10);
    });
}

#[test]
fn opening_costs_few_requests_below() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        let names: Vec<String> = (0..60_000).map(|number| format!("folder/{number:030}")).collect();
        let (deflated, crc) = packed(CompressionMethod::Deflated, b"bytes");
        let members: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| match index % 2 {
                0 => Member::stored(name.as_bytes(), b"bytes"),
                _ => Member { method: 8, size: 5, crc, ..Member::stored(name.as_bytes(), &deflated) },
            })
            .collect();
        let file = write(folder.path(), "a.zip", &made(&members, b"", 0));
        let archive = host.open(&format!("{file} | stats | archive")).unwrap();
        let below = archive.below().unwrap().clone();
        let reads = || figure(&host, &below, "reads");
        // The directory has 5 MiB.
        assert!(reads() <= 12, "{}", reads());
        for name in [&names[100], &names[101]] {
            // The first open reads the header, in one request; later opens do not.
            let before = reads();
            let first = archive.open(name).unwrap();
            assert_eq!(reads() - before, 1);
            let second = archive.open(name).unwrap();
            drop((first, second));
            let device = archive.open(name).unwrap();
            assert_eq!(reads() - before, 1);
            assert!(read_all(&host, &device).unwrap() == b"bytes", "{name}");
        }
    });
}

#[test]
fn who_reads_on_needs_no_memory_and_who_waits_is_served() {
    in_time(|| {
        let (folder, host, mut random) = (tempfile::tempdir().unwrap(), archive_host(), random());
        let bytes = words(&mut random, 9_000_000);
        for method in [CompressionMethod::Deflated, CompressionMethod::Zstd] {
            let file = write(folder.path(), "a.zip", &zipped(&[("x", method, &bytes)], false));
            for cache in ["0", "1MiB", "3MiB"] {
                let archive = host.open(&format!("{file} | archive?cache={cache}")).unwrap();
                let device = archive.open("x").unwrap();
                for (number, piece) in bytes.chunks(100_000).enumerate() {
                    let read = device.read_exact_at(number as u64 * 100_000, vec![0; piece.len()]);
                    assert!(host.block_on(read).unwrap() == piece, "{number}");
                }
                let decoded = figure(&host, &archive, "bytes decoded");
                assert_eq!(decoded, bytes.len() as u64, "{method}, {cache}");
            }
        }
        // One reader is far ahead, and another one is behind it.
        let (deflated, bytes, crc) = deflated(&mut random, 40 << 20);
        let member = Member { method: 8, size: bytes.len(), crc, ..Member::stored(b"x", &deflated) };
        let file = write(folder.path(), "b.zip", &made(&[member], b"", 0));
        let archive = host.open(&format!("{file} | delay?latency=20ms | archive?cache=0")).unwrap();
        let device = archive.open("x").unwrap();
        let read = |block: u64| Box::pin(device.read_exact_at(block << 20, vec![0; 10]));
        host.block_on(read(10)).unwrap();
        let before = figure(&host, &archive, "decoded");
        let mut reads: Vec<_> = [11, 0].into_iter().chain(12..40).map(read).collect();
        begin(&host, &mut reads);
        host.block_on(reads.remove(1)).unwrap();
        let decoded = figure(&host, &archive, "decoded") - before;
        assert!(decoded < 20, "{decoded} blocks were made before the first");
        for read in reads {
            host.block_on(read).unwrap();
        }
    });
}

#[test]
fn a_part_of_a_vpk_that_is_missing_is_named() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), archive_host());
        write(folder.path(), "x_dir.vpk", &vpk(&[("a", 3, 0, 10)], b""));
        let archive =
            host.open(&format!("file:{} | archive?file=x_dir.vpk", folder.path().display())).unwrap();
        let error = archive.open("a").unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_FOUND), "{error}");
        assert!(
            error.to_string().contains("'x_003.vpk', which has its bytes, cannot be opened: "),
            "{error}"
        );
    });
}
